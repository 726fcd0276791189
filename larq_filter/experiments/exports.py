"""What an export leaves on the disk: the file if it may be had, and in every case its report.

    all claims hold                    OUTPUT.tflite           OUTPUT.report.json, .html
    those that fail are allowed        OUTPUT.unproven.tflite  OUTPUT.unproven.report.json, .html
    else, and no OUTPUT.tflite there   -                       OUTPUT.report.json, .html
    else                               -                       OUTPUT.failed.report.json, .html

A report lies beside the file that it describes and names it with its SHA-256. So one of an export
that failed never takes the name of an earlier one's, whose file is still there. Rejected: a mark in
the report alone. Files are copied without their reports, and then the name is all there is.
"""

import dataclasses
import datetime
import hashlib
import math
import pathlib
import sys
from collections.abc import Mapping, Sequence

from larq_filter import plots
from larq_filter.datasets import preparation
from larq_filter.datasets.preparation import Preparation
from larq_filter.experiments import files, html_pages, run_folder
from larq_filter.export import Report
from larq_filter.export.verification import CLOSE

PROVEN, UNPROVEN, FAILED = "proven", "unproven", "failed"
_STATES = {True: "holds", False: "FAILED", None: "not tested"}


@dataclasses.dataclass(frozen=True)
class Export:
    """A conversion, what was found out about it, and what is done without.

    Attributes:
        report: of ``export.verify``, or of ``export.refused``.
        flatbuffer: the content of the file; None if there is none.
        prepare: how the network takes its images; lies beside the file.
        allowed: names of claims that need not hold, of ``export.ALLOWABLE``.
        made: how it was made, for people: name to text.
    """

    report: Report
    flatbuffer: bytes | None
    prepare: Preparation
    allowed: Sequence[str] = ()
    made: Mapping[str, str] = dataclasses.field(default_factory=dict)

    @property
    def outcome(self) -> str:
        """``proven``, ``unproven`` or ``failed``."""
        if self.report.ok:
            return PROVEN
        has_file = self.flatbuffer is not None
        return UNPROVEN if has_file and not self.report.missing(self.allowed) else FAILED

    def verdict(self) -> list[str]:
        """What came out, in sentences."""
        failed = ", ".join(self.report.missing())
        return {
            PROVEN: ["Proven: every claim holds. The file computes what the network computes."],
            UNPROVEN: [f"Unproven: not every claim holds ({failed}), and that was allowed."],
            FAILED: [f"Failed: not every claim holds ({failed}). There is no file."],
        }[self.outcome]

    def write(self, path: pathlib.Path) -> list[pathlib.Path]:
        """Writes the report, its page, and the file if it may be had; returns what was written.

        All or nothing. The file gets its name last: one that is there has its report.

        Args:
            path: where the file belongs if all claims hold; ends in .tflite.
        """
        mark = ".unproven" * (self.outcome == UNPROVEN)
        mark += ".failed" * (self.outcome == FAILED and path.exists())
        target, report, page = (
            path.with_name(f"{path.stem}{mark}{end}")
            for end in (".tflite", ".report.json", ".report.html")
        )
        content = self._content(target.name)
        contents = {report: files.as_json(content), page: self._page(content)}
        if self.outcome != FAILED:
            images = preparation.beside(target)
            contents[images] = files.as_json(self.prepare.to_json())
            contents[target] = self.flatbuffer
        with files.plain_errors(path.parent, continued=False):
            path.parent.mkdir(parents=True, exist_ok=True)
            files.write_together(contents)
        return [target, images, report, page] if target in contents else [report, page]

    def _content(self, name: str) -> dict:
        file = None
        if self.outcome != FAILED:
            digest = hashlib.sha256(self.flatbuffer).hexdigest()
            file = {"name": name, "bytes": len(self.flatbuffer), "sha256": digest}
        return {
            "outcome": self.outcome,
            "not_proven": list(self.report.missing()),
            "allowed": list(self.allowed),
            "file": file,
            **self.report.to_dict(),
            "made": {
                **self.made,
                "command": " ".join(sys.argv),
                "time": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
                "versions": run_folder.versions("larq-compute-engine"),
            },
        }

    def _page(self, content: dict) -> str:
        claims = [
            {
                "claim": claim["name"],
                "state": _STATES[claim["ok"]],
                "what was found": claim["details"],
            }
            for claim in content["claims"]
        ]
        numbers = [
            {"claim": claim["name"], "number": name.replace("_", " "), "value": _plain(value)}
            for claim in content["claims"]
            for name, value in claim["numbers"].items()
            if isinstance(value, int | float)
        ]
        made = {**content["made"], **(content["file"] or {"name": "none"})}
        made["file"] = made.pop("name")
        versions = made.pop("versions")
        made["versions"] = ", ".join(f"{name} {version}" for name, version in versions.items())
        parts = {
            "Claims": html_pages.table(claims),
            "Pictures": html_pages.pictures(*self._figures()),
            "Numbers": html_pages.table(numbers),
            "How it was made": html_pages.table(
                [{"": name, "value": str(value)} for name, value in made.items()]
            ),
        }
        marks = {PROVEN: html_pages.GOOD, UNPROVEN: html_pages.UNSURE, FAILED: html_pages.BAD}
        title = f"Export of {self.report.model}"
        return html_pages.page(title, marks[self.outcome], self.verdict(), parts)

    def _figures(self) -> tuple[dict, str]:
        """Caption to figure; and why there are none."""
        try:
            return self._drawn(), "Nothing was measured."
        except ImportError as error:
            return {}, str(error)

    def _drawn(self) -> dict:
        numbers = {claim.name: claim.numbers for claim in self.report.claims}
        figures = {}
        outputs = numbers.get("outputs", {}).get("largest_per_output")
        if outputs:
            caption = (
                "The largest difference between Keras and the file at each output, the 20 largest. "
                f"Up to the dashed line ({CLOSE:g}) it is rounding; beyond, rounding that may "
                "have turned a sign, or a wrong layer, and the claim says which."
            )
            names = self.prepare.class_names
            names = names if len(names) == len(outputs) else range(len(outputs))
            differences = {f"output {name}": v for name, v in zip(names, outputs, strict=True)}
            label = "largest difference (of the output's spread)"
            figures[caption] = plots.bars(differences, label, bound=CLOSE, lowest=1e-8)
        names = {"keras": "Keras file", "tflite": "TFLite, floats", "lce": "LCE"}
        sizes = numbers.get("size", {})
        sizes = {text: sizes[name] / 1000 for name, text in names.items() if sizes.get(name)}
        if sizes:
            figures["The same network in three formats."] = plots.bars(sizes, "size (kB)")
        return figures


def _plain(value: float) -> str:
    """A count in full, other numbers with six digits."""
    is_whole = math.isfinite(value) and value == int(value) and abs(value) >= 1
    return f"{value:.0f}" if is_whole else f"{value:.6g}"
