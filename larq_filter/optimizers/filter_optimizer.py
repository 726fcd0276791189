"""The optimizer: gradient -> filter -> flip rule -> binary weight.

``FilterOptimizer`` trains the binary kernels of a Larq model without latent weights and hands every
other variable to an ordinary Keras optimizer. It is a new-style ``tf.keras.optimizers.Optimizer``
that splits the variables in ``apply_gradients``. The alternative, an entry for Larq's
``CaseOptimizer``, was rejected: that class takes only legacy optimizers, maps variables by a
process-wide id (a loaded model stops training without a word) and loses its state in every format.

``arguments`` checks what users pass, ``rates`` holds the numbers that change during training,
``states`` what is remembered of each kernel; ``steps`` changes the kernels, ``saving`` names all
that a file has to hold. Here they meet Keras.
"""

import re
import warnings

from larq_filter import binary, filters, flips, serialization
from larq_filter._keras import keras, tf
from larq_filter._validation import validate_choice, validate_flag
from larq_filter.optimizers import fusion, layout, nonfinite
from larq_filter.optimizers.arguments import (
    refuse_late_build,
    refuse_misplaced,
    validate_clipping,
    validate_default_optimizer,
    validate_name,
    validate_warm_start,
    value_of,
    without_empty_gradients,
)
from larq_filter.optimizers.defaults import default_filter
from larq_filter.optimizers.rates import Rates
from larq_filter.optimizers.states import KernelStates
from larq_filter.optimizers.steps import KernelSteps
from larq_filter.serialization import revive

for _value in (*vars(filters).values(), *vars(flips).values()):
    if isinstance(_value, type) and issubclass(_value, filters.Value):
        keras.utils.register_keras_serializable(package="larq_filter")(_value)


_SERIALIZED = ("gradient_filter", "flip_rule", "default_optimizer", "warm_start")
_FIXED = (*_SERIALIZED, "skipped_steps", "on_nonfinite", "jit_compile")
_CLIPPING = ("clipnorm", "clipvalue", "global_clipnorm")  # read when a step is traced
_NOT_HERE = ("weight_decay", "use_ema", "ema_momentum", "ema_overwrite_frequency")
_EXCLUDED = "excluded_from_weight_decay"  # in configs
_SAVED_MODEL = "in_saved_model"  # in configs


@serialization.register
class FilterOptimizer(keras.optimizers.Optimizer):
    """Trains binary kernels by filtering their gradients; the rest with ``default_optimizer``.

    For every kernel with a 1-bit quantizer, at each step, with gradient g and weight w in {-1, +1}:

        signal, state = gradient_filter.step(g, state)
        flipped, flip_state = flip_rule.flip(w, signal, flip_state)
        w = -w where flipped

    The kernels are found by themselves: latent-free ones (``NoOp(precision=1)``) and ordinary Larq
    ones whose quantizer gives -1 and +1 back and passes the gradient (``ste_sign``,
    ``magnitude_aware_sign``); others are refused with the cure. ``build`` sets them to their signs.

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
            the first gradient of that kernel that is not all zero. See the README for its size. A
            Keras initializer gives the magnitudes themselves, in units of the signal: the filter
            starts at ``-abs(initializer(shape)) * w``.
        clipnorm, clipvalue, global_clipnorm: clip the gradients of all variables before anything
            else; the global norm is over binary and real-valued variables together.
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
        iterations: steps so far; the default optimizer's counter follows it.
        skipped_steps: steps not taken because a gradient was not finite or a rate outside its
            interval; a variable, saved.

    Raises:
        TypeError: an argument of the wrong kind.
        ValueError: a number outside its interval; at ``build``: no binary kernel, a kernel whose
            quantizer spoils -1 and +1, real-valued variables without a default optimizer.

    Source: Quist, Li and van Gemert, ICLR 2023, arXiv 2303.02452.
    """

    def __init__(
        self,
        gradient_filter: filters.Filter | None = None,
        flip_rule: flips.FlipRule | None = None,
        default_optimizer="adam",
        *,
        warm_start: float | keras.initializers.Initializer | None = None,
        clipnorm: float | None = None,
        clipvalue: float | None = None,
        global_clipnorm: float | None = None,
        on_nonfinite: str = "skip",
        jit_compile: bool = True,
        rate_aliases: dict[str, str] | None = None,
        name: str = "FilterOptimizer",
        **kwargs,
    ):
        refuse_misplaced(kwargs)
        name, jit_compile = validate_name(name), validate_flag("jit_compile", jit_compile)
        self._jit_compile_argument = jit_compile  # Keras keeps what this machine makes of it
        # The scope tells `iteration` from the default optimizer's, which HDF5 files need.
        with tf.name_scope(name):
            super().__init__(
                name=name,
                weight_decay=None,
                clipnorm=validate_clipping("clipnorm", clipnorm),
                clipvalue=validate_clipping("clipvalue", clipvalue),
                global_clipnorm=validate_clipping("global_clipnorm", global_clipnorm),
                jit_compile=jit_compile,
                **kwargs,
            )
        self.gradient_filter = value_of(
            "gradient_filter", gradient_filter, filters.Filter, default_filter
        )
        self.flip_rule = value_of("flip_rule", flip_rule, flips.FlipRule, flips.Sign)
        self.warm_start = validate_warm_start(warm_start)
        if self.warm_start is not None:
            try:
                self.gradient_filter.state_from_output(tf.zeros([]), tf)
            except ValueError as error:
                raise ValueError(f"`warm_start` must be None: {error}") from None
        self.default_optimizer = validate_default_optimizer(default_optimizer)
        self.on_nonfinite = validate_choice("on_nonfinite", on_nonfinite, nonfinite.CHOICES)
        with tf.init_scope():
            self.skipped_steps = self.add_variable([], dtype=tf.int64, name="skipped_steps")
        with tf.init_scope():  # neither saved nor restored: what this process has yet to report
            self._unreported_skips = self._no_dependency(tf.Variable(0, trainable=False))
            self._bad_rates = self._no_dependency(tf.Variable(False, trainable=False))
            self._kept = self._no_dependency(tf.Variable(0, dtype=tf.int64, trainable=False))
        self.nothing_to_train = False  # so far; for loading
        self._comes_from_config = False
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
            None if filters.stays_finite(self.gradient_filter) else self._kept.assign_add,
        )
        self._layout = layout.Contents(self, self._rates, self._states)  # a name in checkpoints

    def __getattr__(self, name):
        if name in self.__dict__.get("_rates", ()):
            return self._rates.read(name)
        if name in ("learning_rate", "lr", "_learning_rate"):  # the property's own error is lost
            raise AttributeError(f"`{name}` belongs to `default_optimizer`, which is None.")
        raise AttributeError(self._no_such(name))

    def _no_such(self, name: str) -> str:
        text = f"{type(self).__name__} has no attribute {name!r}"
        if name.startswith("_") or "_rates" not in self.__dict__:
            return text
        return f"{text}; the rates of its filter and flip rule are: {self._rates}."

    def __setattr__(self, name, value):
        if name in self.__dict__.get("_rates", ()):
            self._rates.write(name, value)
        elif name in _FIXED and "_rates" in self.__dict__:
            raise AttributeError(
                f"`{name}` can't be replaced: what it needs exists already. Make a new "
                "FilterOptimizer and compile the model again."
            )
        elif self._is_unknown(name):
            raise AttributeError(f"{self._no_such(name)} Setting it would change nothing.")
        else:
            if name in _NOT_HERE and "_layout" in self.__dict__:
                refuse_misplaced({name: value})
            super().__setattr__(
                name, validate_clipping(name, value) if name in _CLIPPING else value
            )

    def _is_unknown(self, name: str) -> bool:
        """Whether setting ``name`` would make an attribute that nothing reads; a typo, mostly."""
        if type(self) is not FilterOptimizer or "_layout" not in self.__dict__:
            return False  # subclasses, and ``__init__``, may have what they like
        return not (name.startswith("_") or name in self.__dict__ or hasattr(type(self), name))

    # The default optimizer ------------------------------------------------------------------------

    @property
    def learning_rate(self):
        """The default optimizer's learning rate."""
        return self._require_default("learning_rate").learning_rate

    @learning_rate.setter
    def learning_rate(self, value):
        self._require_default("learning_rate").learning_rate = value

    @property
    def _learning_rate(self):
        # Keras' TensorBoard callback looks here for a schedule.
        return self._require_default("learning_rate")._learning_rate

    def _require_default(self, name: str):
        if self.default_optimizer is None:
            raise AttributeError(f"`{name}` belongs to `default_optimizer`, which is None.")
        return self.default_optimizer

    def exclude_from_weight_decay(self, var_list=None, var_names=None):
        """Passed on to the default optimizer, the only one that decays; saved by name."""
        names = [*(var_names or ()), *(f"^{re.escape(v.name)}$" for v in var_list or ())]
        self._require_default("weight_decay").exclude_from_weight_decay(var_names=names)

    def finalize_variable_values(self, var_list):
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
        skipped = int(self._unreported_skips.numpy())
        if skipped:
            self._unreported_skips.assign(0)
            rates = self._rates.complaints(self.iterations) if self._bad_rates.numpy() else []
            self._bad_rates.assign(False)
            nonfinite.report(skipped, int(self.skipped_steps.numpy()), self.on_nonfinite, rates)
        if kept := int(self._kept.numpy()):
            self._kept.assign(0)
            nonfinite.report_kept(kept, self.on_nonfinite)

    def _report_changes(self):
        weights, kernels = self._states.take_changes()
        if weights:
            kept = (
                "has been turned with them"
                if self._states.keeps_memory
                else "starts at zero, as this filter does not treat gradients of both signs alike"
            )
            warnings.warn(
                f"{weights:,} weights of {kernels} binary kernels had been changed from outside "
                "(set_weights, load_weights, a callback). Training has gone on from them: what the "
                f"filter remembered of these weights {kept}. optimizer.reset_filters() forgets "
                "everything instead.",
                stacklevel=3,
            )

    # Building -------------------------------------------------------------------------------------

    def build(self, var_list):
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
            self._refuse_new_variables(var_list)
            self._start_again(var_list)
            return
        self._layout.require_usable()
        kernels = [variable for variable in var_list if binary.is_binary(variable)]
        if not (var_list and (kernels or not self._comes_from_config)):
            self.nothing_to_train = True  # its kernels were frozen before the model was saved
            return
        real = [variable for variable in var_list if not binary.is_binary(variable)]
        self._refuse_variables(kernels, real)
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
        super().__setattr__("jit_compile", compiles)
        self._layout.check_awaited()
        self._built = True

    def __deepcopy__(self, memo):
        """A copy with values of its own, for the same variables: states are of certain kernels."""
        copied = type(self).from_config(self.get_config())
        memo[id(self)] = copied
        if getattr(self, "_built", False):
            copied.build(self._trained)
        for mine, other in zip(copied.variables, self.variables, strict=True):
            for one, two in zip(binary.replicas(mine), binary.replicas(other), strict=True):
                one.assign(two)
        return copied

    def _refuse_new_variables(self, variables):
        new = [v.name for v in variables if self._var_key(v) not in self._index_dict]
        if new:
            raise ValueError(
                f"The optimizer was built without {new[0]} (and {len(new) - 1} more). Variables "
                "that become trainable later need a new one: compile the model with a new "
                "FilterOptimizer; this one, compiled with again, stays as it is."
            )

    def _refuse_variables(self, kernels, real):
        if not kernels:
            raise ValueError(
                f"FilterOptimizer found no binary kernel among {len(real)} variables: "
                f"{binary.NO_BINARY_KERNEL}"
            )
        refused = [
            f"\n  {variable.name}: {problem}"
            for variable in kernels
            if (problem := binary.probe(variable))
        ]
        if refused:
            raise ValueError("FilterOptimizer can't train these kernels:" + "".join(refused))
        if real and self.default_optimizer is None:
            names = ", ".join(variable.name for variable in real[:5])
            raise ValueError(
                f"default_optimizer is None, but {len(real)} variables are not binary: {names}"
                f"{', ...' if len(real) > 5 else ''}. Pass default_optimizer='adam', or set "
                "trainable=False on their layers."
            )

    def _start_again(self, variables) -> None:
        """Does what ``build`` does, for kernels whose first values came from a file after it."""
        if not self._states.unstarted:
            return
        self._states.start_again(variables)
        # Averages of weights begin at the weights; Keras has no other door to them.
        averages = getattr(self.default_optimizer, "_model_variables_moving_average", ())
        real = [variable for variable in variables if not binary.is_binary(variable)]
        for average, variable in zip(averages, real, strict=bool(averages)):
            for copy in binary.replicas(average):
                copy.assign(variable)

    def set_filter_state(self, variable, state) -> None:
        """Starts the filter of one kernel where another training stopped, on every replica.

        For a start against the current weights ``warm_start`` is enough; this one takes any state,
        such as that of translated latent weights.

        Args:
            variable: a binary kernel the optimizer was built with.
            state: ``gradient_filter.state_size`` arrays, shaped as those of its ``zero_state``.

        Raises:
            ValueError: an unknown variable, or arrays of another number or shape.
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

    def observe_signals(self, observer) -> None:
        """Has ``observer(position, signal)`` called in the graph of every step traced from now on.

        Args:
            observer: a function, or None for nobody; ``position`` counts the binary kernels in the
                order of the variables the optimizer was built with.
        """
        self._steps.observe(observer)

    def position_of(self, variable) -> int | None:
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

    def compute_gradients(self, loss, var_list, tape=None):
        """As in Keras; a callable loss is evaluated at kernels that are already binary."""
        if callable(loss) and not callable(var_list):
            with tf.init_scope():
                self.build(var_list)
        return super().compute_gradients(loss, var_list, tape)

    def apply_gradients(
        self, grads_and_vars, name=None, skip_gradients_aggregation=False, **kwargs
    ):
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
            ValueError: no gradient at all, or what ``build`` raises.
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
                self._refuse_variables([], variables)
            pairs = without_empty_gradients(pairs)
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
        self._step_default([pair for pair in pairs if not binary.is_binary(pair[1])])
        self._rates.advance(self.iterations)
        self._internal_apply_gradients([pair for pair in pairs if binary.is_binary(pair[1])])

    def _skip(self, gradients, variables):
        """Leaves everything as it is but the counter of such steps; or raises."""
        failure, allowed = [], self._rates.are_allowed(self.iterations)
        if self.on_nonfinite == "raise":
            names = [variable.name for variable in variables]
            failure = nonfinite.refuse(gradients, names, allowed, self._rates.at(self.iterations))
        with tf.control_dependencies(failure):
            self.skipped_steps.assign_add(1)
            self._unreported_skips.assign_add(1)
            self._bad_rates.assign(self._bad_rates | ~tf.reduce_all(allowed))

    def _step_default(self, pairs):
        if self.default_optimizer is None:
            return
        # Followed, not shared: Keras keeps no two optimizers on one counter through saving.
        self.default_optimizer.iterations.assign(self.iterations)
        if pairs:
            self.default_optimizer.apply_gradients(pairs, skip_gradients_aggregation=True)
        else:
            self.default_optimizer.iterations.assign_add(1)

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

    # Saving ---------------------------------------------------------------------------------------

    @property
    def variables(self):
        """All variables: the own ones, then the default optimizer's."""
        variables = super().variables
        if self.default_optimizer is not None:
            variables.extend(self.default_optimizer.variables)
        return variables

    def set_weights(self, weights):
        """Sets all variables, in the order of ``variables``, which HDF5 files keep.

        Args:
            weights: an array for each variable; or for those of an optimizer that is not built,
                which this one then becomes again.

        Raises:
            ValueError: another number of arrays, or other shapes.
        """
        variables = self.variables
        early = self._first_variables()
        if getattr(self, "_built", False) and len(weights) == len(early) < len(variables):
            self._layout.forget_steps()
            variables = early
        shapes = [tuple(weight.shape) for weight in weights]
        wanted = [tuple(variable.shape) for variable in variables]
        if shapes != wanted:
            raise ValueError(
                f"{self.name} has {len(variables)} variables, but {len(weights)} arrays were given"
                f"{', or of other shapes' if len(shapes) == len(wanted) else ''}."
            )
        for variable, value in zip(variables, weights, strict=True):
            variable.assign(value)
        self._states.forget_changes()

    def _first_variables(self) -> list:
        """Those that are there before ``build``, in the order of ``variables``."""
        count = 2 + len(self._rates.variables())
        default = [] if self.default_optimizer is None else [self.default_optimizer.iterations]
        return [*self._variables[:count], *default]

    def _trackable_children(self, save_type="checkpoint", **kwargs):
        children = super()._trackable_children(save_type, **kwargs)
        if save_type == "savedmodel":  # which takes no Python state
            children["_layout"] = self._layout.as_variable()
        return children

    def save_own_variables(self, store):
        """Writes everything by name, which Keras does for its files.

        Warns:
            UserWarning: a ``LossScaleOptimizer`` is around this one: Keras does not save its scale.
        """
        self._warn_of_loss_scale()
        self._layout.write(store)

    def _warn_of_loss_scale(self) -> None:
        if getattr(self, "_is_wrapped_by_loss_scale_optimizer", False):
            warnings.warn(
                "Keras' files .keras and .weights.h5 leave out the current scale of "
                "LossScaleOptimizer, so that a loaded one begins with its initial_scale; of a "
                "model in .h5 Keras loads no state of a wrapped optimizer at all. "
                "tf.train.Checkpoint, and save_weights without .h5, keep everything.",
                stacklevel=3,
            )

    def load_own_variables(self, store):
        """Reads what ``save_own_variables`` wrote.

        Rates that are constant come from the file, as the rest of the state.

        Warns:
            UserWarning: the file holds nothing for an optimizer.

        Raises:
            ValueError: it was written by another filter, flip rule, kind of default optimizer or
                model, with what was found and what is expected; or this optimizer is not built.
        """
        if not store.keys():
            warnings.warn(
                f"The file holds no state for {self.name}, as its model was not compiled: only "
                "weights are loaded, and the optimizer stays as it is.",
                stacklevel=2,
            )
            return
        self._layout.read(store)

    def get_config(self) -> dict:
        """The constructor's arguments, JSON-ready. Rates set later are state, not config."""
        extra = {_EXCLUDED: list(names)} if (names := self._names_without_decay()) else {}
        if serialization.in_saved_model():
            extra[_SAVED_MODEL] = True
        else:
            self._warn_of_loss_scale()
        return {
            **{name: serialization.serialize(getattr(self, name)) for name in _SERIALIZED},
            **extra,
            "clipnorm": self.clipnorm,
            "clipvalue": self.clipvalue,
            "global_clipnorm": self.global_clipnorm,
            "on_nonfinite": self.on_nonfinite,
            "jit_compile": self._jit_compile_argument,
            **({"rate_aliases": dict(self._rate_aliases)} if self._rate_aliases else {}),
            "name": self.name,
            "is_legacy_optimizer": False,  # Keras reads it to choose the optimizer's generation
        }

    def _names_without_decay(self):
        """What ``exclude_from_weight_decay`` was told, which Keras' own configs leave out."""
        if getattr(self.default_optimizer, "_exclude_from_weight_decay", ()):
            warnings.warn(
                "The variables excluded from weight decay on default_optimizer itself are not "
                "saved. Call FilterOptimizer.exclude_from_weight_decay, whose list is.",
                stacklevel=3,
            )
        return getattr(self.default_optimizer, "_exclude_from_weight_decay_names", ())

    @classmethod
    def from_config(cls, config, custom_objects=None):
        if not isinstance(config, dict):
            raise TypeError(
                f"The config must be a dict as get_config gives it, not {filters.shown(config)}."
            )
        config = dict(config)
        if config.pop(_SAVED_MODEL, False):
            warnings.warn(
                "Keras loads no optimizer state from a SavedModel: this FilterOptimizer begins "
                "anew. To go on where it stopped call model.load_weights with the same path before "
                "training, or save as .keras.",
                stacklevel=2,
            )
        with keras.utils.custom_object_scope(custom_objects or {}):
            for name in _SERIALIZED:
                if isinstance(config.get(name), dict):
                    config[name] = revive(config[name], f"The config of {name}")
        without_decay = config.pop(_EXCLUDED, None)
        optimizer = cls(**config)
        optimizer._comes_from_config = True
        if without_decay:
            optimizer.exclude_from_weight_decay(var_names=without_decay)
        return optimizer
