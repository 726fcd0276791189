"""Optimizers on bare binary weights: what their steps cost, without a network around them."""

import math

from larq_filter import filters, presets
from larq_filter._keras import keras, tf
from larq_filter.optimizers import FilterOptimizer

import larq  # isort: skip

STAGES = ((512, 4), (256, 4), (128, 8))  # channels and number of the 3x3 kernels
WEIGHTS = sum(number * 9 * channels**2 for channels, number in STAGES)  # 13 M


def two_emas(**kwargs) -> FilterOptimizer:
    """The default filter at constant rates."""
    own = filters.CascadedEMA(alpha=1e-3, gamma=0.1)
    return FilterOptimizer(own, default_optimizer=None, **kwargs)


OPTIMIZERS = {
    "legacy Adam": lambda: keras.optimizers.legacy.Adam(1e-3),
    "Adam": lambda: keras.optimizers.Adam(1e-3),
    "SGD": lambda: keras.optimizers.SGD(1e-2),
    "Larq Bop": lambda: larq.optimizers.Bop(threshold=1e-8, gamma=1e-4),
    "Adam, XLA": lambda: keras.optimizers.Adam(1e-3),
    "Larq Bop, XLA": lambda: larq.optimizers.Bop(threshold=1e-8, gamma=1e-4),
    "filter": lambda: two_emas(jit_compile=True),
    "filter, no XLA": lambda: two_emas(jit_compile=False),
}
"""The optimizers by name; ``make_optimizer`` knows the presets and the orders too.

Those with XLA in the name, which Keras does not use on a CPU, have their whole step compiled.
"""


def preset_names() -> list[str]:
    """The presets, as ``make_optimizer`` takes them."""
    return [f"preset {name}" for name in presets.PRESETS]


def make_optimizer(name: str):
    """An optimizer by its name: of ``OPTIMIZERS``, ``preset NAME``, or ``order N``.

    The last is a cascade of N equal moving averages.
    """
    kind, _, rest = name.partition(" ")
    if kind == "preset":
        more = {"steps_per_epoch": 500} if rest == "prob_bop" else {}  # it has no default
        return presets.PRESETS[rest](default_optimizer=None, **more)
    if kind == "order":
        cascade = filters.Cascade([filters.EMA(0.1)] * int(rest))
        return FilterOptimizer(cascade, default_optimizer=None)
    return OPTIMIZERS[name]()


def kernel_shapes(weights: int = WEIGHTS) -> list[tuple]:
    """Shapes of 16 kernels as of a residual network, about ``weights`` in all."""
    scale = math.sqrt(weights / WEIGHTS)
    sides = [max(1, round(channels * scale)) for channels, number in STAGES for _ in range(number)]
    return [(3, 3, side, side) for side in sides]


def small_shapes(weights: int, number: int) -> list[tuple]:
    """Shapes of ``number`` kernels of two neighbouring sizes, about ``weights`` in all."""
    side = max(1, math.isqrt(weights // (9 * number)))
    missing = weights - number * 9 * side**2
    larger = min(number, max(0, round(missing / (9 * (2 * side + 1)))))
    sides = [side + 1] * larger + [side] * (number - larger)
    return [(3, 3, side, side) for side in sides]


def equal_shapes(weights: int, number: int = 10) -> list[tuple]:
    """Shapes of ``number`` equal kernels; ``weights`` is a multiple of ``10 * number``."""
    return [(10, weights // (10 * number))] * number


def random_gradients(shapes, seed: int) -> list:
    """A tensor of normal noise for each shape."""
    return [tf.random.stateless_normal(shape, (seed, i)) for i, shape in enumerate(shapes)]


class OptimizerStep:
    """One step of an optimizer on weights of its own with the same gradients each time.

    Args:
        name: as ``make_optimizer`` takes it.
        gradients: a list of tensors, one a kernel.
    """

    def __init__(self, name: str, gradients):
        self.optimizer = make_optimizer(name)
        signs = [tf.where(gradient < 0, 1.0, -1.0) for gradient in gradients]
        self.variables = [tf.Variable(each) for each in signs]
        self.weights = sum(int(tf.size(gradient)) for gradient in gradients)
        if isinstance(self.optimizer, FilterOptimizer):
            quantizer = larq.quantizers.NoOp(precision=1)
            self.variables = [
                larq.quantized_variable.QuantizedVariable.from_variable(v, quantizer, precision=1)
                for v in self.variables
            ]
        if hasattr(self.optimizer, "build"):  # the legacy ones build themselves
            self.optimizer.build(self.variables)

        @tf.function(jit_compile=name.endswith(", XLA") or None)
        def step():
            self.optimizer.apply_gradients(zip(gradients, self.variables, strict=True))

        self._step = step

    def __call__(self):
        self._step()

    def bytes_per_weight(self) -> float:
        """What the optimizer keeps from step to step, scalars left out."""
        variables = self.optimizer.variables
        variables = variables() if callable(variables) else variables
        arrays = [v for v in variables if v.shape.rank]
        return sum(v.shape.num_elements() * v.dtype.size for v in arrays) / self.weights
