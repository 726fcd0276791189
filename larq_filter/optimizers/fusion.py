"""The updates of all binary kernels, compiled by XLA, which TensorFlow carries.

As plain operations an update streams every array through memory a dozen times, and each small
kernel pays for a dozen launches. Compiled, every line of the update (filter stages, flip) is one
pass over its arrays, in place. The formulas stay those of ``filters`` and ``flips``: the compiler
is given what they compute, nothing is written again.

Kernels of one shape share one program, up to ``WEIGHTS`` weights and ``KERNELS`` kernels a launch:
what is compiled grows with the number of shapes, not of kernels, and small kernels are launched
together.

XLA may contract ``a + b * c`` to one rounding where the processor can, so compiled and plain
updates differ in the last digit of a state, and a tie within that rounding can fall either way.

Under a distribution strategy Keras hands kernels over one by one, and each is a program of its own.
Rejected elsewhere, since 300 kernels are 300 launches and 300 compilations. Rejected too: one
program for all (as fast, but 300 kernels take 17 s to compile, not 1.5); a compiled loop over
pieces that fit into the cache (no faster here, and it has to know which arrays of a state hold a
number for each weight). Only the update is compiled: XLA runs the convolutions of a whole training
step on a CPU three times slower.
"""

import functools
import warnings

from larq_filter._keras import tf
from larq_filter._validation import first_line

WEIGHTS = 2**20
KERNELS = 32


@functools.cache
def is_available() -> bool:
    """Whether XLA compiles here; warns once if it does not."""
    try:
        with tf.init_scope():
            tf.function(lambda x: x + x, jit_compile=True, autograph=False)(tf.constant(1.0))
    except (tf.errors.OpError, NotImplementedError, ValueError) as error:
        warnings.warn(
            f"XLA is not available here ({first_line(error)}), so the updates of binary kernels "
            "run as plain operations, about three times slower. FilterOptimizer(jit_compile=False) "
            "asks for that and silences this warning.",
            RuntimeWarning,
            stacklevel=2,
        )
        return False
    return True


def device_of(variables) -> str | None:
    """The device of all ``variables``, which a program needs; None and a warning if they differ."""
    devices = sorted({variable.device for variable in variables})
    if len(devices) == 1:
        return devices[0]
    warnings.warn(
        f"Kernels and optimizer lie on {len(devices)} devices ({', '.join(devices)}), and XLA "
        "compiles for one: the updates of binary kernels run as plain operations. Build the model "
        "and the optimizer under one tf.device, or silence this by "
        "FilterOptimizer(jit_compile=False).",
        RuntimeWarning,
        stacklevel=2,
    )
    return None


class FusedUpdates:
    """Calls ``update(*row)`` for many rows, compiled; a second call compiles nothing.

    Args:
        update: a function of a row's tensors and variables. It assigns what it changes, returns a
            tensor, and holds nothing that belongs to one row alone.
    """

    def __init__(self, update):
        self._update = update
        self._programs = {}

    def __call__(self, rows) -> list:
        """What ``update`` returns for each row.

        Args:
            rows: tuples of nested tensors and variables; a row begins with its gradient, and rows
                whose gradients have one shape and dtype are alike in all else.
        """
        results = [None] * len(rows)
        for launch in launches([row[0] for row in rows]):
            outputs = self._program(rows[launch[0]][0], len(launch))([rows[i] for i in launch])
            for index, output in zip(launch, outputs, strict=True):
                results[index] = output
        return results

    def _program(self, gradient, count):
        # One function for all signatures would make TensorFlow warn of retracing.
        key = (*_kind(gradient), count)
        if key not in self._programs:

            def run(rows):
                return [self._update(*row) for row in rows]

            self._programs[key] = tf.function(run, jit_compile=True, autograph=False)
        return self._programs[key]


def launches(gradients) -> list[list[int]]:
    """Positions of the gradients of each launch: of one shape, few enough, or one alone."""
    alike = {}
    for index, gradient in enumerate(gradients):
        alike.setdefault(_kind(gradient), []).append(index)
    found = []
    for indices in alike.values():
        size = gradients[indices[0]].shape.num_elements() or 1
        count = min(KERNELS, max(1, WEIGHTS // size))
        found += [indices[start : start + count] for start in range(0, len(indices), count)]
    return found


def _kind(gradient) -> tuple:
    """What two gradients have to share to be updated by one program."""
    return (*gradient.shape, gradient.dtype)
