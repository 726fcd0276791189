"""Training through latent weights with an optimizer of their own.

Larq's latent kernels and the real-valued rest of a network (batch normalisation, the first and the
last layer) need not be trained alike, and a comparison of methods for binary kernels must not be
one of optimizers for the rest. ``LatentOptimizer`` splits the variables as ``FilterOptimizer``
does. Rejected: Larq's ``CaseOptimizer``, which takes legacy optimizers only and loses its state in
every format.

``rule_steps`` says in which order rules, optimizer and constraints come, ``rule_files`` what a file
holds of the rules.
"""

from collections.abc import Sequence
from typing import Any

from larq_filter import binary, filters, latent_rules, serialization
from larq_filter._keras import keras, tf
from larq_filter.optimizers import forgotten_scope, nested, wrapped_files
from larq_filter.optimizers.arguments import (
    CLIPPING,
    checked_gradients,
    validate_clipping,
    validate_default_optimizer,
)
from larq_filter.optimizers.delegating import Delegating
from larq_filter.optimizers.rates import Rates
from larq_filter.optimizers.rule_files import RulesInFiles
from larq_filter.optimizers.rule_steps import RuleSteps
from larq_filter.optimizers.saved_layout import no_states_yet
from larq_filter.quantizers import connecting

for _value in vars(latent_rules).values():
    if isinstance(_value, type) and issubclass(_value, latent_rules.Rule):
        keras.utils.register_keras_serializable(package="larq_filter")(_value)

_IN_CHECKPOINTS = "_rules"  # the name of what names the rules
_NOT_HERE = ("weight_decay", "use_ema", "ema_momentum", "ema_overwrite_frequency", "jit_compile")
_OF_THE_PARTS = (
    "Weight decay, averages of weights and all else but clipping are those of kernel_optimizer and "
    "default_optimizer; the learning rates are called kernel_learning_rate and learning_rate."
)


@serialization.register
class LatentOptimizer(Delegating):
    """Trains latent kernels by ``kernel_optimizer`` and all other variables by another one.

    A latent kernel is one that Larq quantizes, to however many bits. Each optimizer does to its
    variables what it would do alone, constraints such as ``weight_clip`` included. Rules change
    what happens to latent kernels, and to nothing else:

        optimizer = LatentOptimizer(
            tf.keras.optimizers.Adam(3e-3),
            tf.keras.optimizers.Adam(1e-3),
            rules=[latent_rules.AdaptiveClipping(0.02), latent_rules.Clip(1.0)],
        )

    A gradient that is not finite is not looked for, as with any Keras optimizer: NaN goes through
    every rule into its weight, and a rule that takes norms spreads it over the unit. Under a
    dynamic ``LossScaleOptimizer`` Keras skips such steps, and then rules keep their state too. A
    schedule is checked where it starts, not later.

    After each step a quantizer with a method ``after_step(variable, optimizer)`` is told of its
    kernel, with the ``kernel_optimizer``: in the graph of the step, on each replica, once the
    constraint has been applied.

    Args:
        kernel_optimizer: a new-style Keras optimizer, its name or its config, for latent kernels.
        default_optimizer: the same, another object, for all other variables.
        rules: a list of rules from ``larq_filter.latent_rules``: ``before`` of each in their order,
            then the kernel optimizer, then ``after`` of each, then the layer's constraint.
        clipnorm: clip the gradients of all variables before anything else, rules included.
        clipvalue: likewise.
        global_clipnorm: likewise; the norm is over latent and other variables together.
        name: name of the optimizer.

    Attributes:
        learning_rate: the default optimizer's, as ``FilterOptimizer`` has it; Keras' callbacks for
            the learning rate move it.
        kernel_learning_rate: that of the latent kernels.
        share_0, limit_1, ...: every rate of the rules by its name and the rule's position. A
            constant one is a variable that may be set (``optimizer.limit_1 = 0.5``); a scheduled
            one reads as its value at the last step.
        rules: the rules, a tuple.
        iterations: steps so far; where you move it, the counters of both optimizers follow.

    Raises:
        TypeError: an argument of the wrong kind.
        ValueError: one object for both optimizers; an argument that belongs to one of them; a
            kernel optimizer with ``use_ema`` and a rule for weights after the step; at ``build``:
            no latent kernel.
        AttributeError: something is set that neither clips nor is a rate.
    """

    tells_quantizers = True  # of each step: ``after_step``
    _PARTS = ("kernel_optimizer", "default_optimizer")

    def __init__(
        self,
        kernel_optimizer: Any = "adam",
        default_optimizer: Any = "adam",
        rules: Sequence[latent_rules.Rule] = (),
        *,
        clipnorm: float | None = None,
        clipvalue: float | None = None,
        global_clipnorm: float | None = None,
        name: str = "LatentOptimizer",
        **kwargs: Any,
    ) -> None:
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
        self._chain = latent_rules.Chain(rules)
        self._refuse_averages()
        self._rates = Rates(filters.Value(), self._chain, self.add_variable, dir(self))
        self._steps = RuleSteps(
            self._chain, self._rates, self._var_key, self.add_variable_from_reference
        )
        files = RulesInFiles(self.name, self._chain, self._rates, self._steps)
        self._files = self._no_dependency(files)  # see _trackable_children
        self._nothing_to_train = False  # so far; for loading
        self._count()
        self._is_complete = True

    def _refuse_averages(self):
        if self._chain.has_after and self.kernel_optimizer.use_ema:
            raise ValueError(
                "kernel_optimizer has use_ema=True, which averages the kernels before rules such "
                f"as {next(rule for rule in self.rules if rule.has_after)!r} have changed them. "
                "Make it without, or leave out the rules for weights after the step."
            )

    @property
    def rules(self) -> tuple:
        """The rules for latent kernels."""
        return self._chain.rules

    def __getattr__(self, name):
        if name in self.__dict__.get("_rates", ()):
            return self._rates.read(name)
        text = f"{type(self).__name__} has no attribute {name!r}"
        if self.__dict__.get("_rates") and not name.startswith("_"):
            text = f"{text}; the rates of its rules are: {self._rates}."
        raise AttributeError(text)

    def __setattr__(self, name, value):
        if name in self.__dict__.get("_rates", ()):
            self._rates.write(name, value)
            return
        if "_is_complete" in self.__dict__ and not name.startswith("_"):
            if name in (*self._PARTS, "rules"):
                raise AttributeError(
                    f"`{name}` can't be replaced: make a new LatentOptimizer and compile the "
                    "model again."
                )
            if name in _NOT_HERE or not hasattr(self, name):
                raise AttributeError(
                    f"Setting `{name}` of a LatentOptimizer would change nothing. {_OF_THE_PARTS}"
                    f"{f' The rates of its rules are: {self._rates}.' if self.rules else ''}"
                )
        super().__setattr__(name, validate_clipping(name, value) if name in CLIPPING else value)

    @property
    def kernel_learning_rate(self):
        """The learning rate of the latent kernels."""
        return self.kernel_optimizer.learning_rate

    @kernel_learning_rate.setter
    def kernel_learning_rate(self, value):
        self.kernel_optimizer.learning_rate = value

    def build(self, var_list: Any) -> None:
        """Creates the states of both optimizers.

        Args:
            var_list: all trainable variables of the model; none, of a frozen one, do nothing, nor
                do those without a latent kernel for an optimizer made from a config, as of a model
                whose kernels were frozen before it was saved. The first step refuses them.

        Raises:
            ValueError: no latent kernel among them, a variable that an earlier call did not know,
                or two kernels with one quantizer whose variables belong to one.
        """
        variables = list(var_list)
        if getattr(self, "_built", False):
            self._refuse_new(variables)
            return
        waits = self._comes_from_config or not variables
        if waits and not any(map(binary.is_quantized, variables)):
            self._nothing_to_train = True
        else:
            self._build(variables)
        self._after_build()

    def _build(self, variables):
        if not any(map(binary.is_quantized, variables)):
            raise ValueError(
                f"LatentOptimizer found no latent kernel among {len(variables)} variables: a Larq "
                'layer has one if it is given `kernel_quantizer="ste_sign"`, for example. Any '
                "Keras optimizer trains a network without."
            )
        connecting.refuse_shared(variables)
        super().build(variables)
        for optimizer, part in self._parts(variables, lambda variable: variable):
            optimizer.build(part)
        self._steps.create(filter(binary.is_quantized, variables))
        self._trained = self._no_dependency(variables)
        self._built = True

    def _parts(self, items, variable_of):
        """Both optimizers, each with those of ``items`` whose variables are its own."""
        latent = [item for item in items if binary.is_quantized(variable_of(item))]
        rest = [item for item in items if not binary.is_quantized(variable_of(item))]
        return (self.kernel_optimizer, latent), (self.default_optimizer, rest)

    def apply_gradients(
        self,
        grads_and_vars: Any,
        name: str | None = None,
        skip_gradients_aggregation: bool = False,
        **kwargs: Any,
    ) -> Any:
        """Takes one step, as Keras' optimizers do.

        Raises:
            ValueError: no gradient at all, one of another shape, or what ``build`` raises.
        """
        forgotten_scope.close()
        aggregate = kwargs.pop("experimental_aggregate_gradients", True)
        pairs = list(grads_and_vars)
        if not pairs:
            return self.iterations
        variables = [variable for _, variable in pairs]
        with tf.name_scope(name or self.name), tf.init_scope():
            if getattr(self, "_built", False):
                self._refuse_new(variables)
            else:
                self._build(variables)
        pairs = checked_gradients(pairs)
        if aggregate and not skip_gradients_aggregation:
            pairs = self.aggregate_gradients(pairs)
        if self.clipnorm or self.clipvalue or self.global_clipnorm:
            clipped = self._clip_gradients([gradient for gradient, _ in pairs])
            pairs = [(new, variable) for new, (_, variable) in zip(clipped, pairs, strict=True)]
        (_, kernels), (_, rest) = self._parts(pairs, lambda pair: pair[1])
        self._follow()
        self._steps.step(
            kernels, self.iterations, lambda part: self._step_with(self.kernel_optimizer, part)
        )
        for _, kernel in kernels:
            if hasattr(kernel.quantizer, "after_step"):
                kernel.quantizer.after_step(kernel, self.kernel_optimizer)
        self._step_with(self.default_optimizer, rest)
        self.iterations.assign_add(1)
        self._counters_are_right()
        return self.iterations

    def finalize_variable_values(self, var_list: Any) -> None:
        """Ends a training, as ``fit`` does: for optimizers with ``use_ema``."""
        for optimizer, part in self._parts(list(var_list), lambda variable: variable):
            optimizer.finalize_variable_values(part)

    # Saving ---------------------------------------------------------------------------------------

    @property
    def variables(self):
        """The step counter and the states of both optimizers, without their own counters."""
        self._rates.settle()
        variables = super().variables
        for optimizer in (self.kernel_optimizer, self.default_optimizer):
            variables.extend(v for v in optimizer.variables if v is not optimizer.iterations)
        return variables

    def set_weights(self, weights):
        """Sets all variables, in the order of ``variables``, which HDF5 files keep.

        Warns:
            UserWarning: constant rates of the rules change with it.

        Raises:
            ValueError: another number of arrays, or other shapes.
        """
        with nested.rates_of_file(self._constant_rates, self.name, self._comes_from_config):
            self._assign_all(self.variables, weights)

    def save_own_variables(self, store):
        """Writes the counter, learning rates, and what belongs to the rules.

        Keras saves the rest of both optimizers by itself.

        Warns:
            UserWarning: a ``LossScaleOptimizer`` is around this one: Keras does not save its scale.
        """
        forgotten_scope.warn_of_signs()
        self._warn_of_loss_scale()
        store["iterations"] = self.iterations.numpy()
        nested.write(store, self._nested())
        self._files.write(store)

    def load_own_variables(self, store):
        """Reads what ``save_own_variables`` wrote.

        Warns:
            UserWarning: the states of what has been frozen since are left out; the file holds other
                rates than this one was made with.

        Raises:
            ValueError: it was written with other rules, with what was found and what is expected;
                or this optimizer is not built.
        """
        if wrapped_files.read(store, self):
            return
        if "iterations" not in store.keys():  # noqa: SIM118  its model was not compiled
            return
        taken = int(store["iterations"][()])
        if taken and not (getattr(self, "_built", False) or self._nothing_to_train):
            raise no_states_yet(self.name)
        with nested.rates_of_file(self._constant_rates, self.name, self._comes_from_config):
            self._files.read(store)
            self.iterations.assign(taken)
            self._counters_are_right()
            if taken:
                nested.read(store, self._nested(), self.name)

    def _constant_rates(self) -> dict:
        learning_rates = {
            f"{name}.learning_rate": nested.learning_rate_of(each)
            for name, each in self._nested().items()
        }
        return {**learning_rates, **self._rates.constant()}

    def _trackable_children(self, save_type="checkpoint", **kwargs):
        children = dict(super()._trackable_children(save_type, **kwargs))
        if self.rules:  # without, checkpoints are what they were before there were any
            in_saved_model = save_type == "savedmodel"  # which takes no Python state
            children[_IN_CHECKPOINTS] = self._files.as_variable() if in_saved_model else self._files
        return children

    def _lookup_dependency(self, name, *args, **kwargs):
        # Without rules too, so that a checkpoint with some is refused.
        if name == _IN_CHECKPOINTS:
            return self._files
        return super()._lookup_dependency(name, *args, **kwargs)

    def get_config(self) -> dict:
        """The constructor's arguments, JSON-ready. Rates set later are state, not config."""
        rules = {"rules": serialization.serialize(self.rules)} if self.rules else {}
        return {**super().get_config(), **rules}

    @classmethod
    def from_config(cls, config, custom_objects=None):
        config = dict(config)
        with keras.utils.custom_object_scope(custom_objects or {}):
            if isinstance(config.get("rules"), list | tuple):
                config["rules"] = [
                    serialization.revive(rule, "The config of rules")
                    if isinstance(rule, dict)
                    else rule
                    for rule in config["rules"]
                ]
        return super().from_config(config, custom_objects)
