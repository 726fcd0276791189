"""The optimizer: gradient -> filter -> flip rule -> binary weight.

``FilterOptimizer`` trains the binary kernels of a Larq model without latent weights and hands every
other variable to an ordinary Keras optimizer. It is a new-style ``tf.keras.optimizers.Optimizer``
that splits the variables in ``apply_gradients``. The alternative, an entry for Larq's
``CaseOptimizer``, was rejected: that class takes only legacy optimizers, maps variables by a
process-wide id (a loaded model stops training without a word) and loses its state in every format.

``arguments`` checks what users pass, ``rates`` holds the numbers that change during training,
``states`` what is remembered of each kernel; ``steps`` changes the kernels, ``saved_layout`` names
all that a file has to hold, ``saving`` is Keras' protocol of it. Here they meet Keras.
"""

from collections.abc import Callable, Sequence
from typing import Any

from larq_filter import binary, filters, flips, serialization
from larq_filter._keras import keras, tf
from larq_filter._validation import validate_choice, validate_flag
from larq_filter.optimizers import fusion, nonfinite, saved_layout, watching
from larq_filter.optimizers.arguments import (
    checked_gradients,
    refuse_late_build,
    refuse_misplaced,
    refuse_variables,
    validate_default_optimizer,
    validate_warm_start,
    value_of,
)
from larq_filter.optimizers.attributes import PARTS, Attributes
from larq_filter.optimizers.defaults import default_filter
from larq_filter.optimizers.rates import Rates
from larq_filter.optimizers.saving import SavedByName
from larq_filter.optimizers.states import KernelStates
from larq_filter.optimizers.steps import KernelSteps

for _value in (*vars(filters).values(), *vars(flips).values()):
    if isinstance(_value, type) and issubclass(_value, filters.Value):
        keras.utils.register_keras_serializable(package="larq_filter")(_value)


@serialization.register
class FilterOptimizer(Attributes, SavedByName):
    """Trains binary kernels by filtering their gradients; the rest with ``default_optimizer``.

    For every kernel with a 1-bit quantizer, at each step, with gradient g and weight w in {-1, +1}:

        signal, state = gradient_filter.step(g, state)
        flipped, flip_state = flip_rule.flip(w, signal, flip_state)
        w = -w where flipped

    The kernels are found by themselves: latent-free ones (``NoOp(precision=1)``) and ordinary Larq
    ones whose quantizer gives -1 and +1 back and passes the gradient (``ste_sign``,
    ``magnitude_aware_sign``); others are refused, and the error says what to do. ``build`` sets
    them to their signs.

    Weights that somebody else turns over (``set_weights``, ``load_weights``, Keras'
    ``EarlyStopping``) are gone on from: what the filter remembers of such a weight is turned with
    it, so that it is as settled as it was on its other side. ``watching`` says how that is noticed.

    Args:
        gradient_filter: a filter from ``larq_filter.filters``; None is ``default_filter()``.
        flip_rule: a rule from ``larq_filter.flips``; None is ``flips.Sign()``.
        default_optimizer: a new-style Keras optimizer, its name or its config, for all other
            variables; None only if there are none. Its ``weight_decay`` and ``use_ema`` work as
            always, on its own variables.
        warm_start: None starts the filter at zero, so that the first step sets ``w = -sign(g)``
            whatever w was: right for training from scratch. A number c > 0 keeps trained binary
            weights: the filter starts at ``-c * rms(g) * w``, with rms(g) the root mean square of
            the first gradient of that kernel that is not all zero. docs/using.md says how large. A
            Keras initializer gives the magnitudes themselves, in units of the signal: the filter
            starts at ``-abs(initializer(shape)) * w``.
        clipnorm: clip the gradients of all variables before anything else.
        clipvalue: likewise.
        global_clipnorm: likewise; the norm is over binary and real-valued variables together.
        on_nonfinite: what a step does whose gradients, of any variable and summed over replicas,
            hold NaN, Inf or numbers whose sum of squares overflows (beyond a norm of 1.8e19), or
            for which a rate is outside its interval (0 is allowed: schedules end there).
            "skip": only ``skipped_steps`` changes, no kernel, state, counter, or variable of the
            default optimizer; ``fit`` warns of it when it ends. "raise":
            ``tf.errors.InvalidArgumentError`` with the variable's name, before anything is changed;
            where XLA compiles the whole training step, which drops assertions, ``fit`` raises
            ``RuntimeError`` when it ends. Neither undoes what the forward pass has written: a batch
            normalisation that saw NaN keeps it in its moving statistics. Under a dynamic
            ``LossScaleOptimizer`` Keras skips such steps before they come here: it counts them in
            ``iterations``, halves the loss scale, and tells nobody. A weight for which a filter
            makes NaN or Inf of finite gradients keeps its state and side, and is counted; with
            "raise" ``fit`` raises when it ends.
        jit_compile: compile the updates of binary kernels with XLA (``fusion`` says how), unless
            the flip rule is faster without; where there is no XLA a warning says so, once. A filter
            or flip rule of your own that XLA can't compile needs False.
        rate_aliases: further names of rates, such as those of a publication:
            ``{"gamma": "alpha", "beta1": "1 - alpha_0"}``. Presets give them.
        name: name of the optimizer.

    Attributes:
        learning_rate: the default optimizer's; Keras' callbacks for the learning rate move it.
        alpha, gamma, ...: every rate of filter and flip rule by name. A constant one is a variable
            that may be set (``optimizer.alpha = 1e-4``; Larq's ``HyperparameterScheduler``); a
            scheduled one reads as its value at the last step and refuses to be set. Other names
            are refused, and the error lists those that there are.
        iterations: steps so far; where you move it, the default optimizer's counter follows.
        skipped_steps: steps not taken because a gradient was not finite or a rate outside its
            interval; a variable, saved.

    Raises:
        TypeError: an argument of the wrong kind.
        ValueError: a number outside its interval; at ``build``: no binary kernel, a kernel whose
            quantizer spoils -1 and +1, real-valued variables without a default optimizer.

    Source: Quist, Li and van Gemert, ICLR 2023, arXiv 2303.02452.
    """

    _PARTS = PARTS

    def __init__(
        self,
        gradient_filter: filters.Filter | None = None,
        flip_rule: flips.FlipRule | None = None,
        default_optimizer: Any = "adam",
        *,
        warm_start: float | keras.initializers.Initializer | None = None,
        clipnorm: float | None = None,
        clipvalue: float | None = None,
        global_clipnorm: float | None = None,
        on_nonfinite: str = "skip",
        jit_compile: bool = True,
        rate_aliases: dict[str, str] | None = None,
        name: str = "FilterOptimizer",
        **kwargs: Any,
    ) -> None:
        refuse_misplaced(kwargs)
        jit_compile = validate_flag("jit_compile", jit_compile)
        self._jit_compile_argument = jit_compile  # Keras keeps what this machine makes of it
        super().__init__(
            name, clipnorm, clipvalue, global_clipnorm, jit_compile=jit_compile, **kwargs
        )
        self.gradient_filter = value_of(
            "gradient_filter", gradient_filter, filters.Filter, default_filter
        )
        self.flip_rule = value_of("flip_rule", flip_rule, flips.FlipRule, flips.Sign)
        self.warm_start = validate_warm_start(warm_start, self.gradient_filter)
        self.default_optimizer = validate_default_optimizer(default_optimizer)
        self.on_nonfinite = validate_choice("on_nonfinite", on_nonfinite, nonfinite.CHOICES)
        with tf.init_scope():
            self.skipped_steps = self.add_variable([], dtype=tf.int64, name="skipped_steps")
        self._tally = nonfinite.Tally()
        self.nothing_to_train = False  # so far; for loading
        self._device = None  # of kernels and states, where they are compiled together
        taken = dir(self)
        self._rates = Rates(
            self.gradient_filter, self.flip_rule, self.add_variable, taken, rate_aliases
        )
        self._rate_aliases = self._no_dependency(rate_aliases)
        self._states = KernelStates(
            self.gradient_filter,
            self.flip_rule,
            self.warm_start,
            self._var_key,
            self.add_variable_from_reference,
            lambda: self.iterations,
        )
        self._steps = KernelSteps(
            self.gradient_filter,
            self.flip_rule,
            self._rates,
            self._states,
            lambda: self.iterations,
            None if filters.stays_finite(self.gradient_filter) else self._tally.kept.assign_add,
        )
        self._layout = saved_layout.Contents(self, self._rates, self._states)  # name in checkpoints
        self._count()

    def finalize_variable_values(self, var_list: Any) -> None:
        """Ends a training, as ``fit`` does: the default optimizer's (``use_ema``), then a report.

        Warns:
            RuntimeWarning: steps have been skipped because of gradients that were not finite or of
                rates outside their intervals; a filter has made NaN or Inf of finite gradients.
            UserWarning: kernels had been changed from outside before steps were taken.

        Raises:
            RuntimeError: the same, if they were to raise.
        """
        real = [variable for variable in var_list if not binary.is_binary(variable)]
        if self.default_optimizer is not None and real:
            self.default_optimizer.finalize_variable_values(real)
        self._report_changes()
        self._tally.report(
            self.on_nonfinite,
            int(self.skipped_steps.numpy()),
            lambda: self._rates.complaints(self.iterations),
        )

    def _report_changes(self):
        watching.report(*self._states.take_changes(), self._states.keeps_memory)

    # Building -------------------------------------------------------------------------------------

    def build(self, var_list: Any) -> None:
        """Creates the states and sets every binary kernel to its signs, on every replica.

        Args:
            var_list: all trainable variables of the model; none, of a frozen one, do nothing, nor
                do those without a kernel for an optimizer made from a config, as of a model whose
                kernels were frozen before it was saved. The first step refuses them.

        Raises:
            ValueError: no binary kernel among them, a kernel whose quantizer or constraint spoils
                -1 and +1, real-valued variables without a default optimizer, or a variable that
                an earlier call did not know.
        """
        var_list = list(var_list)
        if getattr(self, "_built", False):
            self._refuse_new(var_list)
            self._start_again(var_list)
            return
        self._layout.require_usable()
        kernels = [variable for variable in var_list if binary.is_binary(variable)]
        if not (var_list and (kernels or not self._comes_from_config)):
            self.nothing_to_train = True  # its kernels were frozen before the model was saved
            self._after_build()
            return
        real = [variable for variable in var_list if not binary.is_binary(variable)]
        refuse_variables(kernels, real, self.default_optimizer)
        super().build(var_list)
        # Keras compiles where there is a GPU only.
        wanted = (
            self._jit_compile_argument
            and self.flip_rule.gains_from_xla
            and filters.stays_finite(self.gradient_filter)  # what is kept is counted outside XLA
        )
        compiles = wanted and fusion.is_available()
        self._states.create(kernels)
        self._trained = self._no_dependency(var_list)
        if self.default_optimizer is not None and real:
            self.default_optimizer.build(real)
        if compiles and not tf.distribute.has_strategy():
            self._device = fusion.device_of([*map(binary.stored, kernels), *self._variables])
            compiles = self._device is not None
        super(Attributes, self).__setattr__("jit_compile", compiles)  # nobody else may set it
        self._layout.check_awaited()
        self._built = True
        self._after_build()

    def _start_again(self, variables) -> None:
        """Does what ``build`` does, for kernels whose first values came from a file after it."""
        if not self._states.unstarted:
            return
        self._states.start_again(variables)
        # Averages of weights begin at the weights; Keras gives no other access to them.
        averages = getattr(self.default_optimizer, "_model_variables_moving_average", ())
        real = [variable for variable in variables if not binary.is_binary(variable)]
        for average, variable in zip(averages, real, strict=bool(averages)):
            for copy in binary.replicas(average):
                copy.assign(variable)

    def set_filter_state(self, variable: Any, state: Sequence[Any]) -> None:
        """Starts the filter of one kernel where another training stopped, on every replica.

        For a start against the current weights ``warm_start`` is enough; this one takes any state,
        such as that of translated latent weights.

        Args:
            variable: a binary kernel the optimizer was built with.
            state: ``gradient_filter.state_size`` arrays, shaped as those of its ``zero_state``.

        Raises:
            ValueError: an unknown variable, or arrays of another number or shape, or not finite.
        """
        self._states.set_filter_state(variable, state)

    def reset_filters(self) -> None:
        """Forgets all gradients: filters and flip rules start as they did before the first step.

        The kernels stay, for as long as ``warm_start`` lets them: without it the first step sets
        each weight against its gradient. Rates and counters of steps stay as they are.

        Raises:
            ValueError: the optimizer is not built.
        """
        if not len(self._states):
            raise ValueError(
                f"{self.name} has no filters yet to reset: call "
                "optimizer.build(model.trainable_variables) first."
            )
        self._states.reset()

    def observe_signals(self, observer: Callable[[int, Any], None] | None) -> None:
        """Has ``observer(position, signal)`` called in the graph of every step traced from now on.

        Args:
            observer: a function, or None for nobody; ``position`` counts the binary kernels in the
                order of the variables the optimizer was built with.
        """
        self._steps.observe(observer)

    def position_of(self, variable: Any) -> int | None:
        """The ``position`` of a kernel for observers; None for one the optimizer does not train."""
        state = self._states.of(variable)
        return None if state is None else state.position

    def state_variables(self) -> list:
        """What filter and flip rule remember of all binary kernels, kernel by kernel."""
        return [array for state in self._states for array in (*state.filter, *state.flip)]

    def rate_values(self) -> dict[str, float]:
        """Every rate of filter and flip rule by its name, as it was at the last step."""
        return self._rates.values()

    def current_filter(self) -> filters.Filter:
        """``gradient_filter`` with constant rates as callbacks have set them.

        Raises:
            ValueError: a callback has set a rate to a value that no such filter has.
        """
        return self._rates.current_filter()

    # Stepping -------------------------------------------------------------------------------------

    def compute_gradients(self, loss: Any, var_list: Any, tape: Any = None) -> Any:
        """As in Keras; a callable loss is evaluated at kernels that are already binary."""
        if callable(loss) and not callable(var_list):
            with tf.init_scope():
                self.build(var_list)
        return super().compute_gradients(loss, var_list, tape)

    def apply_gradients(
        self,
        grads_and_vars: Any,
        name: str | None = None,
        skip_gradients_aggregation: bool = False,
        **kwargs: Any,
    ) -> Any:
        """Takes one step.

        Args:
            grads_and_vars: pairs of gradient and variable. Gradients that are None are left out;
                ``tf.IndexedSlices`` count as zero where they have no row.
            name: name scope of the operations.
            skip_gradients_aggregation: the gradients are already summed over replicas.
            **kwargs: ``experimental_aggregate_gradients``, Keras' older word for the opposite.

        Returns:
            The variable ``iterations``.

        Raises:
            RuntimeError: eager first step whose gradients were taken while kernels were not -1 or
                +1; call ``build`` before the first forward pass.
            ValueError: no gradient at all, one of another shape, or what ``build`` raises.
            tf.errors.InvalidArgumentError: with ``on_nonfinite="raise"``: a gradient is not finite,
                a rate is outside its interval.
        """
        aggregate = kwargs.pop("experimental_aggregate_gradients", True)
        pairs = list(grads_and_vars)
        if not pairs:
            return self.iterations
        variables = [variable for _, variable in pairs]
        ready = getattr(self, "_built", False) and not self._states.unstarted
        if tf.executing_eagerly() and not ready:
            refuse_late_build(variables)
        with tf.name_scope(name or self.name):
            with tf.init_scope():
                self.build(variables)
            if not getattr(self, "_built", False):
                refuse_variables([], variables, self.default_optimizer)
            pairs = checked_gradients(pairs)
            if aggregate and not skip_gradients_aggregation:
                pairs = self.aggregate_gradients(pairs)
            variables = [variable for _, variable in pairs]
            nonfinite.step_if_finite(
                [gradient for gradient, _ in pairs],
                lambda: self._rates.are_allowed(self.iterations),
                lambda gradients: self._step(gradients, variables),
                lambda gradients: self._skip(gradients, variables),
            )
        if tf.executing_eagerly() and not tf.distribute.has_strategy():
            self._report_changes()
        return self.iterations

    def _step(self, gradients, variables):
        """Takes a step with gradients that are finite."""
        pairs = list(zip(self._clip_gradients(gradients), variables, strict=True))
        self._follow()
        if self.default_optimizer is not None:
            real = [pair for pair in pairs if not binary.is_binary(pair[1])]
            self._step_with(self.default_optimizer, real)
        self._rates.advance(self.iterations)
        self._internal_apply_gradients([pair for pair in pairs if binary.is_binary(pair[1])])
        self._counters_are_right()

    def _skip(self, gradients, variables):
        """Leaves everything as it is but the counter of such steps; or raises."""
        failure, allowed = [], self._rates.are_allowed(self.iterations)
        if self.on_nonfinite == "raise":
            names = [variable.name for variable in variables]
            failure = nonfinite.refuse(gradients, names, allowed, self._rates.at(self.iterations))
        with tf.control_dependencies(failure):
            self.skipped_steps.assign_add(1)
            self._tally.note_skip(allowed)

    def _internal_apply_gradients(self, pairs):
        if not self._fuses():
            return super()._internal_apply_gradients(pairs)
        with self._states.telling_others(pairs):
            self._steps.together(pairs, self._device)
        return self.iterations.assign_add(1)

    def _distributed_apply_gradients_fn(self, distribution, grads_and_vars, **kwargs):
        # Keras calls it once for all replicas.
        pairs = list(grads_and_vars)
        with self._states.telling_others(pairs):
            return super()._distributed_apply_gradients_fn(distribution, pairs, **kwargs)

    def _fuses(self) -> bool:
        """Whether updates are compiled together; under a strategy each is compiled by itself."""
        return self.jit_compile and not tf.distribute.has_strategy()

    def _update_step_xla(self, gradient, variable, key):
        # Keras calls it for each kernel of each replica.
        self._steps.compiled(gradient, variable, key)

    def update_step(self, gradient, variable):
        """One step of one kernel: the two lines of the class docstring."""
        self._steps.plain(gradient, variable)
