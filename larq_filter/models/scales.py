"""`OutputScale`: learned factors on the output of a binary convolution, as in XNOR-Net++.

XNOR-Net computes the scale of a binary convolution from its weights; XNOR-Net++ learns it together
with them, and gives the positions of the map a part in it:

    y = (sign(x) * sign(w)) . Gamma

| form | Gamma | numbers of an h x w map of c channels | case in XNOR-Net++ |
|---|---|---|---|
| `scalar` | one number | 1 | - |
| `channel` | alpha_c | c | 1 |
| `full` | alpha_chw | c h w | 2 |
| `map` | alpha_c beta_hw | c + h w | 3 |
| `factors` | alpha_c beta_h gamma_w | c + h + w | 4 |

Before a batch normalisation `scalar` and `channel` are inert while they are positive, since it
divides by them again; the other three are not. Without one no form is. Rejected: a scale inside the
kernel's quantizer. No method that trains without latent weights has one, and Gamma of a map belongs
to no kernel.

Source: Bulat and Tzimiropoulos, "XNOR-Net++", BMVC 2019, arXiv 1909.13863. All factors start at 1,
as in larq-zoo's layer of the form `factors`. The numbering of the cases and the published learning
rates are not verified.
"""

import math

from larq_filter._keras import tf
from larq_filter._validation import POSITIVE, validate_choice, validate_number

_SHAPES = {
    "scalar": lambda h, w, c: [()],
    "channel": lambda h, w, c: [(c,)],
    "full": lambda h, w, c: [(h, w, c)],
    "map": lambda h, w, c: [(c,), (h, w, 1)],
    "factors": lambda h, w, c: [(c,), (h, 1, 1), (1, w, 1)],
}


@tf.keras.utils.register_keras_serializable(package="larq_filter")
class OutputScale(tf.keras.layers.Layer):
    """`factor * Gamma * x`, Gamma learned and 1 at the start. Inputs (batch, h, w, channels).

    Args:
        form: which factors Gamma is made of: "scalar", "channel", "full", "map" or "factors".
        factor: a constant > 0.

    Raises:
        TypeError, ValueError: unknown form, `factor` not in (0, inf); when it is built: a map whose
            size is not known.
    """

    def __init__(self, form="factors", factor=1.0, **kwargs):
        super().__init__(**kwargs)
        self.form = validate_choice("form", form, _SHAPES)
        self.factor = validate_number("factor", factor, POSITIVE)

    def build(self, input_shape):
        shapes = _SHAPES[self.form](*tuple(input_shape)[1:])
        if any(size is None for shape in shapes for size in shape):
            raise ValueError(
                f"{self.name}: the form {self.form} has a factor for each position, so the map must"
                f" have a known size, not {tuple(input_shape)}. Use the form channel or scalar."
            )
        self.factors = [
            self.add_weight(name, shape=shape, initializer="ones")
            for name, shape in zip(("alpha", "beta", "gamma"), shapes, strict=False)
        ]
        super().build(input_shape)

    def call(self, inputs):
        # Together first: the map is gone through once.
        gamma = math.prod(map(tf.convert_to_tensor, self.factors), start=self.factor)
        if gamma.shape.rank < 3:
            return inputs * gamma
        # As one row: LCE 0.16 takes a constant of any shape for the scale per channel of the
        # convolution before it, and its kernel then refuses to run.
        rows = tf.reshape(inputs, (-1, math.prod(inputs.shape[1:])))
        scaled = rows * tf.reshape(gamma, (1, -1))
        return tf.reshape(scaled, (-1, *inputs.shape[1:]))

    def compute_output_shape(self, input_shape):
        return tf.TensorShape(input_shape)

    def get_config(self):
        return {**super().get_config(), "form": self.form, "factor": self.factor}
