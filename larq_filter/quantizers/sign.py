"""The quantizer of the family: a transform, a sign with a surrogate gradient, a scale.

    z = transform.apply(x)
    q = scale.of(z) * sign(z),  sign(0) = +1
    dq/dz = surrogate.slope(z), times the scale unless the gradient is "straight"

TensorFlow differentiates the transform. Surrogates that change over the training, and random signs,
read the optimizer's own counter of steps, which ``connect`` hands over. So they are right under
``steps_per_execution``, in loops of one's own, after a resume and under strategies. As for batch
normalisation, a training step is a call with ``training=True``. Rejected: a counter in the
quantizer, which is called several times a step; a callback, which comes late under
``steps_per_execution`` and not at all in a loop of one's own.
"""

from larq_filter import serialization, stateless_random
from larq_filter._keras import keras, tf
from larq_filter._validation import shown, validate_choice, validate_flag
from larq_filter.quantizers.parts import Scale, Surrogate, Transform
from larq_filter.quantizers.surrogates import Straight
from larq_filter.quantizers.transforms import Identity, Standardize

import larq

GRADIENTS = ("scaled", "straight", "exact")
_NEED_STEPS = ("progress", "uniform")


@serialization.register
class SignQuantizer(larq.quantizers._BaseQuantizer):
    """``q = scale * sign(transform(x))`` for kernels and activations; ``lf.quantizers.Sign``.

    Args:
        transform: what happens before the sign; None is nothing.
        surrogate: the derivative in place of the sign's; None is ``Straight(1.0)``.
        scale: the size of -1 and +1; None is 1.
        gradient: "scaled": the scale is a constant, and the gradient is multiplied by it.
            "straight": it is not, as most publications' code has it; before a batch normalisation
            this is "scaled" with a gain of 1 / scale. "exact": the scale is differentiated too.
        **kwargs: of a Keras layer, and Larq's ``metrics``.

    Raises:
        TypeError, ValueError: a part of another kind, an unknown gradient.
        RuntimeError: in training, if a part follows it and ``connect`` was not called.
    """

    precision = 1

    def __init__(self, transform=None, surrogate=None, scale=None, gradient="scaled", **kwargs):
        super().__init__(**kwargs)
        self.transform = _part("transform", transform, Transform, Identity())
        self.surrogate = _part("surrogate", surrogate, Surrogate, Straight())
        self.scale = _part("scale", scale, Scale, None)
        self.gradient = validate_choice("gradient", gradient, GRADIENTS)
        self._buffers, self._steps = {}, None

    @property
    def parts(self) -> tuple:
        """Transform, surrogate, and the scale if there is one."""
        return tuple(p for p in (self.transform, self.surrogate, self.scale) if p is not None)

    @property
    def follows_training(self) -> bool:
        """Whether a part changes over the training or is random, and needs ``connect``."""
        return any(name in part.inputs for part in self.parts for name in _NEED_STEPS)

    @property
    def follows_kernel(self) -> bool:
        """Whether a part has variables that change with the kernel, in ``after_step``."""
        return any("buffers" in part.inputs for part in self.parts)

    @property
    def is_for_one_kernel(self) -> bool:
        """Whether a second kernel would share its variables or its random numbers."""
        return self.follows_kernel or any("uniform" in part.inputs for part in self.parts)

    def connect(self, count, steps: int, position: int, counter=None) -> None:
        """Has the quantizer follow a training.

        Args:
            count: the variable that counts the steps.
            steps: how many there are in all.
            position: of this quantizer in its model; random numbers depend on it.
            counter: ``counter()`` is the variable that counts them by the time it is called, in
                which a training step must find ``count``; None for no such check.
        """
        # A function: a variable would become one of this layer's weights, and be saved with it.
        self._steps = (lambda: count), steps, position, counter

    def build(self, input_shape):
        shape = tf.TensorShape(input_shape).as_list()
        for part in self.parts:
            if "buffers" in part.inputs:
                for name, value in part.buffers_for(shape).items():
                    self._buffers[name] = self.add_weight(
                        name=name,
                        shape=value.shape,
                        initializer=lambda shape, dtype, value=value: tf.cast(value, dtype),
                        trainable=name in part.trained,
                        dtype=tf.float64 if self.compute_dtype == "float64" else tf.float32,
                        experimental_autocast=False,
                    )
        super().build(input_shape)

    @property
    def non_trainable_weights(self):
        """The variables of its parts; Larq leaves out those of its metric."""
        own = {id(variable) for variable in self._buffers.values()}
        return [v for v in keras.layers.Layer.non_trainable_weights.fget(self) if id(v) in own]

    def call(self, inputs, training=None):
        training = False if training is None else training
        # Not in float16: the derivative of 1/std is beyond its range for kernels of usual size.
        x = inputs if inputs.dtype == tf.float64 else tf.cast(inputs, tf.float32)
        given = self._given(x, training, *filter(None, (self.transform, self.scale)))
        z = self.transform.apply(x, given, tf)
        scale = tf.ones([], z.dtype) if self.scale is None else self.scale.of(z, given, tf)
        if self.gradient != "exact":
            scale = tf.stop_gradient(scale)

        def slope(upstream):
            given = self._given(x, training, self.surrogate)
            return self.surrogate.slope(z, {**given, "gradient": upstream, "scale": scale}, tf)

        if self.gradient == "straight":
            q = _signed(z, scale, slope)
        else:
            q = scale * _signed(z, tf.ones([], z.dtype), slope)
        return super().call(tf.cast(q, inputs.dtype))

    def _given(self, x, training, *parts) -> dict:
        """What ``parts`` name in ``inputs``."""
        names = {name for part in parts for name in part.inputs}
        given = {"training": training, "buffers": self._buffers}
        # In a SavedModel of a network that was loaded to be used, nobody knows of its training.
        unknown = self._steps is None and serialization.in_saved_model()
        if training is False or unknown:  # it is over, and signs are not random
            given["progress"] = tf.ones([], x.dtype)
            given["uniform"] = tf.constant(0.5, x.dtype)
            return given
        if names.isdisjoint(_NEED_STEPS):
            return given
        count, steps, position = self._training()
        if "progress" in names:
            share = tf.cast(count, tf.float64) / steps
            given["progress"] = tf.cast(tf.minimum(share, 1.0), x.dtype)
        if "uniform" in names:
            seed = self.transform.seed
            given["uniform"] = stateless_random.uniform(x.shape, seed, position, count, x.dtype)
        return given

    def _training(self) -> tuple:
        """Counter of steps, their number, and the position that ``connect`` gave."""
        call = (
            "call larq_filter.quantizers.connect(model, steps) after model.compile, with the steps "
            "of all epochs."
        )
        if self._steps is None:
            self._refuse(f"changes over the training, and does not know how long it is: {call}")
        count, steps, position, counter = self._steps
        if counter is not None and counter() is not count():
            self._refuse(
                "follows the optimizer that its model was compiled with before, whose counter "
                f"stands still: {call}"
            )
        return count(), steps, position

    def _refuse(self, what: str) -> None:
        """Raises, with Larq's scope closed, which a layer's call that raises would leave open.

        Not a ValueError: TensorFlow would read a kernel that gave one again, out of the scope.
        """
        larq.context.quantized_scope(False).__enter__()  # and never left
        raise RuntimeError(f"{self.name} {what}")

    def after_step(self, variable, optimizer) -> None:
        """Brings the variables of the parts up to the kernel that a step has changed.

        Args:
            variable: the kernel.
            optimizer: the one that has trained it.

        Raises:
            TypeError: the scale needs Adam's second moment and the optimizer has none.
        """
        if not self.follows_kernel:
            return
        x = tf.convert_to_tensor(variable.latent_variable)
        if "buffers" in self.transform.inputs:
            due = tf.equal(tf.cast(optimizer.iterations, tf.int64) % self.transform.every, 0)
            new = self.transform.after_step
            old = {name: tf.convert_to_tensor(v) for name, v in self._buffers.items()}
            changed = tf.cond(due, lambda: {**old, **new(x, self._buffers, tf)}, lambda: old)
            self._assign({k: v for k, v in changed.items() if k not in self.transform.trained})
        if self.scale is not None and "buffers" in self.scale.inputs:
            moment = second_moment(optimizer, variable)
            if moment is None:
                raise TypeError(
                    f"{type(self.scale).__name__} needs the second moment of Adam, and the latent "
                    "kernels are trained by another optimizer: LatentOptimizer("
                    "kernel_optimizer=tf.keras.optimizers.Adam(...))."
                )
            z = self.transform.apply(x, self._given(x, False), tf)
            self._assign(self.scale.after_step(z, tf.convert_to_tensor(moment), tf))

    def _assign(self, values: dict) -> None:
        for name, value in values.items():
            self._buffers[name].assign(tf.cast(value, self._buffers[name].dtype))

    def get_config(self):
        parts = {name: serialization.serialize(getattr(self, name)) for name in _PARTS}
        return {**super().get_config(), **parts, "gradient": self.gradient}

    @classmethod
    def from_config(cls, config):
        config = dict(config)
        for name in _PARTS:
            if isinstance(config.get(name), dict):
                config[name] = serialization.revive(config[name], f"The config of {name}")
        return cls(**config)


_PARTS = ("transform", "surrogate", "scale")


def _part(name: str, value, kind: type, default):
    if value is None:
        return default
    if not isinstance(value, kind):
        raise TypeError(
            f"`{name}` must be a {kind.__name__} of larq_filter.quantizers or None, not "
            f"{shown(value)}."
        )
    return value


def _signed(z, size, slope):
    """``size * sign(z)``, whose gradient is ``slope(upstream) * upstream``."""

    @tf.custom_gradient
    def signed(z):
        def gradient(upstream):
            return upstream * slope(upstream)

        return size * larq.math.sign(z), gradient

    return signed(z)


def second_moment(optimizer, variable):
    """The running mean of squared gradients that ``optimizer`` keeps of ``variable``.

    As Adam, AdamW, Nadam and RMSprop have it: without Adam's correction for its start at zero.

    Args:
        optimizer: a Keras optimizer.
        variable: a variable that it may train.

    Returns:
        A variable shaped like ``variable``; None for one that the optimizer was not built with, and
        for an optimizer that keeps no such mean.
    """
    means = getattr(optimizer, "_velocities", None)
    positions = getattr(optimizer, "_index_dict", {})
    position = positions.get(optimizer._var_key(variable)) if means else None
    return None if position is None else means[position]


@serialization.register
class StandardizedSign(SignQuantizer):
    """``Sign(Standardize(fan_in=scaled), Straight(clip_value))``, as files have it.

    The sign of a kernel standardised per output filter: half of the bits of a filter are about +1,
    whatever the latent weights drift to. The gradient passes the sign unchanged and the
    standardisation by its derivative, so it has neither a constant nor a radial part: latent
    weights are pushed apart and not away from 0.

    Args:
        scaled: divide by ``sqrt(fan_in)``, which changes no sign and makes the gradient smaller.
        clip_value: the gradient is 0 where the standardised weight is beyond it; None for nowhere.
        **kwargs: of a Keras layer, and Larq's ``metrics``.
    """

    def __init__(self, scaled: bool = False, clip_value: float | None = None, **kwargs):
        self.scaled = validate_flag("scaled", scaled)
        self.clip_value = clip_value
        super().__init__(Standardize(fan_in=scaled), Straight(clip_value), **kwargs)

    def get_config(self):
        config = super().get_config()
        config = {k: v for k, v in config.items() if k not in (*_PARTS, "gradient")}
        return {**config, "scaled": self.scaled, "clip_value": self.clip_value}


@serialization.register
class ClipToUnit(larq.quantizers.Quantizer):
    """``clip(x, -1, 1)``: the real-valued activation whose gradient stands in for the sign's.

    A layer and not a function: Keras 2.15 gives Larq the name of a function back, not the function.
    """

    def call(self, inputs):
        return tf.clip_by_value(inputs, -1.0, 1.0)


@serialization.register
class TanhToUnit(larq.quantizers.Quantizer):
    """``tanh(x)``: a real-valued activation whose gradient fades where the sign's is cut off."""

    def call(self, inputs):
        return tf.tanh(inputs)
