"""Export to Larq Compute Engine (LCE), which runs binary networks on ARM processors.

    findings = lf.export.lint(model)       # before training: what LCE will not run on bits
    flatbuffer = lf.export.convert(model)  # the content of a .tflite file
    report = lf.export.verify(model, flatbuffer, inputs, labels)
    report.ok; print(report)

    conversions, engine      a Keras model to a file, a file to outputs
    linting, kernels         checks before; a new one of a layer is a rule in ``linting``
    verification, diagnosis  claims about a file, a new one of which is a function in
                             ``verification``; which layer is wrong
    graphs, reports, causes  layers and their calls; texts

Why verify: LCE falls back silently. One zero in a kernel, and the layer is a float convolution of
32 times the size. Zero padding on a map smaller than the kernel, and the default kernel of LCE 0.16
computes something else. Neither is an error or a warning there; both are here.

The package larq_compute_engine is an extra, ``pip install "larq_filter[lce]"``; ``lint`` does
without it.
"""

from larq_filter.export.conversions import convert, float32_copy, to_float_flatbuffer
from larq_filter.export.diagnosis import Diagnosis, diagnose
from larq_filter.export.engine import Interpreter
from larq_filter.export.linting import FLOAT, SLOW, WRONG, LintFinding, lint
from larq_filter.export.reports import ALLOWABLE, Claim, Report
from larq_filter.export.verification import refused, verify

__all__ = [
    "ALLOWABLE",
    "FLOAT",
    "SLOW",
    "WRONG",
    "Claim",
    "Diagnosis",
    "Interpreter",
    "LintFinding",
    "Report",
    "convert",
    "diagnose",
    "float32_copy",
    "lint",
    "refused",
    "to_float_flatbuffer",
    "verify",
]
