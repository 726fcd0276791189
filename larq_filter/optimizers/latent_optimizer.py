"""Training through latent weights with an optimizer of their own.

Larq's latent kernels and the real-valued rest of a network (batch normalisation, the first and the
last layer) need not be trained alike, and a comparison of methods for binary kernels must not be
one of optimizers for the rest. ``LatentOptimizer`` splits the variables as ``FilterOptimizer``
does. Rejected: Larq's ``CaseOptimizer``, which takes legacy optimizers only and loses its state in
every format.
"""

from larq_filter import binary, serialization
from larq_filter._keras import tf
from larq_filter.optimizers.arguments import validate_default_optimizer
from larq_filter.optimizers.delegating import Delegating

import larq  # isort: skip

_NOT_HERE = ("weight_decay", "use_ema", "ema_momentum", "ema_overwrite_frequency", "jit_compile")
_OF_THE_PARTS = (
    "Weight decay, averages of weights and all else but clipping are those of kernel_optimizer and "
    "default_optimizer; the learning rates are called kernel_learning_rate and learning_rate."
)


@serialization.register
class LatentOptimizer(Delegating):
    """Trains latent kernels by ``kernel_optimizer`` and all other variables by another one.

    A latent kernel is one that Larq quantizes, to however many bits. Each optimizer does to its
    variables what it would do alone, constraints such as ``weight_clip`` included.

    Args:
        kernel_optimizer: a new-style Keras optimizer, its name or its config, for latent kernels.
        default_optimizer: the same, another object, for all other variables.
        clipnorm, clipvalue, global_clipnorm: clip the gradients of all variables before anything
            else; the global norm is over latent and other variables together.
        name: name of the optimizer.

    Attributes:
        learning_rate: the default optimizer's, as ``FilterOptimizer`` has it; Keras' callbacks for
            the learning rate move it.
        kernel_learning_rate: that of the latent kernels.
        iterations: steps so far; the counters of both optimizers follow it.

    Raises:
        TypeError: an argument of the wrong kind.
        ValueError: one object for both optimizers; an argument that belongs to one of them; at
            ``build``: no latent kernel.
        AttributeError: something is set that neither clips nor is a learning rate.
    """

    _PARTS = ("kernel_optimizer", "default_optimizer")

    def __init__(
        self,
        kernel_optimizer="adam",
        default_optimizer="adam",
        *,
        clipnorm: float | None = None,
        clipvalue: float | None = None,
        global_clipnorm: float | None = None,
        name: str = "LatentOptimizer",
        **kwargs,
    ):
        kwargs.pop("is_legacy_optimizer", None)
        for argument in kwargs:
            raise ValueError(f"LatentOptimizer takes no `{argument}`. {_OF_THE_PARTS}")
        super().__init__(name, clipnorm, clipvalue, global_clipnorm)
        if kernel_optimizer is default_optimizer and not isinstance(kernel_optimizer, str | dict):
            raise ValueError(
                "kernel_optimizer and default_optimizer are one object, which can't count the "
                "steps of two. Pass two, or compile the model with that one alone."
            )
        self.kernel_optimizer = validate_default_optimizer(kernel_optimizer, "kernel_optimizer")
        self.default_optimizer = validate_default_optimizer(default_optimizer)
        for part in self._PARTS:
            if getattr(self, part) is None:
                raise TypeError(f"`{part}` must be a Keras optimizer, not None.")
        self._is_complete = True

    def __setattr__(self, name, value):
        if "_is_complete" in self.__dict__ and not name.startswith("_"):
            if name in self._PARTS:
                raise AttributeError(
                    f"`{name}` can't be replaced: make a new LatentOptimizer and compile the "
                    "model again."
                )
            if name in _NOT_HERE or not hasattr(self, name):
                raise AttributeError(
                    f"Setting `{name}` of a LatentOptimizer would change nothing. {_OF_THE_PARTS}"
                )
        super().__setattr__(name, value)

    @property
    def kernel_learning_rate(self):
        """The learning rate of the latent kernels."""
        return self.kernel_optimizer.learning_rate

    @kernel_learning_rate.setter
    def kernel_learning_rate(self, value):
        self.kernel_optimizer.learning_rate = value

    def build(self, var_list):
        """Creates the states of both optimizers.

        Args:
            var_list: all trainable variables of the model. Without a latent kernel among them an
                optimizer made from a config waits, as of a model whose kernels were frozen before
                it was saved; the first step refuses them.

        Raises:
            ValueError: no latent kernel among them.
        """
        variables = list(var_list)
        waits = self._comes_from_config and not any(map(binary.is_quantized, variables))
        if not (waits or getattr(self, "_built", False)):
            self._build(variables)

    def _build(self, variables):
        if not any(map(binary.is_quantized, variables)):
            raise ValueError(
                f"LatentOptimizer found no latent kernel among {len(variables)} variables: a Larq "
                'layer has one if it is given `kernel_quantizer="ste_sign"`, for example. Any '
                "Keras optimizer trains a network without."
            )
        super().build(variables)
        for optimizer, part in self._parts(variables, lambda variable: variable):
            optimizer.build(part)
        self._built = True

    def _parts(self, items, variable_of):
        """Both optimizers, each with those of ``items`` whose variables are its own."""
        latent = [item for item in items if binary.is_quantized(variable_of(item))]
        rest = [item for item in items if not binary.is_quantized(variable_of(item))]
        return (self.kernel_optimizer, latent), (self.default_optimizer, rest)

    def apply_gradients(
        self, grads_and_vars, name=None, skip_gradients_aggregation=False, **kwargs
    ):
        """Takes one step, as Keras' optimizers do."""
        aggregate = kwargs.pop("experimental_aggregate_gradients", True)
        pairs = list(grads_and_vars)
        with tf.name_scope(name or self.name), tf.init_scope():
            if not getattr(self, "_built", False):
                self._build([variable for _, variable in pairs])
        pairs = [(gradient, variable) for gradient, variable in pairs if gradient is not None]
        if aggregate and not skip_gradients_aggregation:
            pairs = self.aggregate_gradients(pairs)
        if self.clipnorm or self.clipvalue or self.global_clipnorm:
            clipped = self._clip_gradients([gradient for gradient, _ in pairs])
            pairs = [(new, variable) for new, (_, variable) in zip(clipped, pairs, strict=True)]
        # A layer call that raised leaves Larq's scope open: kernels would then read as their signs,
        # and constraints would write these into the latent weights.
        with larq.context.quantized_scope(False):
            for optimizer, part in self._parts(pairs, lambda pair: pair[1]):
                self._step_with(optimizer, part)
        return self.iterations.assign_add(1)

    def exclude_from_weight_decay(self, var_list=None, var_names=None):
        """Passed on to both optimizers."""
        for optimizer in (self.kernel_optimizer, self.default_optimizer):
            optimizer.exclude_from_weight_decay(var_list, var_names)

    def finalize_variable_values(self, var_list):
        """Ends a training, as ``fit`` does: for optimizers with ``use_ema``."""
        for optimizer, part in self._parts(list(var_list), lambda variable: variable):
            optimizer.finalize_variable_values(part)

    # Saving ---------------------------------------------------------------------------------------

    @property
    def variables(self):
        """The step counter and the states of both optimizers, without their own counters."""
        variables = super().variables
        for optimizer in (self.kernel_optimizer, self.default_optimizer):
            variables.extend(v for v in optimizer.variables if v is not optimizer.iterations)
        return variables

    def set_weights(self, weights):
        """Sets all variables, in the order of ``variables``, which HDF5 files keep.

        Raises:
            ValueError: another number of arrays, or other shapes.
        """
        self._assign_all(self.variables, weights)

    def save_own_variables(self, store):
        """Writes the counter; Keras saves both optimizers by themselves."""
        store["iterations"] = self.iterations.numpy()

    def load_own_variables(self, store):
        """Reads what ``save_own_variables`` wrote."""
        if "iterations" in store.keys():  # not so for a model that was not compiled
            self.iterations.assign(store["iterations"][()])
