"""How a ``FilterOptimizer`` goes into files, configs and copies, and comes back.

Keras' protocol only: ``layout`` knows what a file has to hold.
"""

import warnings

from larq_filter._keras import tf
from larq_filter._validation import shown
from larq_filter.optimizers import file_kernels, nested, wrapped_files
from larq_filter.optimizers.delegating import Delegating


class SavedByName(Delegating):
    """The part of ``FilterOptimizer`` that Keras calls to save and to load."""

    @property
    def variables(self):
        """All variables: the own ones, then the default optimizer's."""
        self._rates.settle()
        variables = super().variables
        if self.default_optimizer is not None:
            variables.extend(self.default_optimizer.variables)
        return variables

    def set_weights(self, weights):
        """Sets all variables, in the order of ``variables``, which HDF5 files keep.

        The kernels that belong to them may be set before or right after, as by
        ``model.set_weights``: after, they are told by the side of the signals that they are on.
        Keras reads a whole model in ``.h5`` this way, its kernels first; what it holds of kernels
        that were frozen since is left out, and said.

        Args:
            weights: an array for each variable; or for those of an optimizer that is not built,
                which this one then becomes again.

        Warns:
            UserWarning: constant rates change with it.

        Raises:
            ValueError: another number of arrays, or other shapes.
        """
        variables, early = self.variables, self._first_variables()
        of_hdf5 = file_kernels.is_of_hdf5(weights)
        if of_hdf5 and len(weights) > len(variables):
            self._set_some(weights)
            return
        if getattr(self, "_built", False) and len(weights) == len(early) < len(variables):
            self._layout.forget_steps()
            variables = early
        with nested.rates_of_file(self._constant_rates, self.name, self._comes_from_config):
            self._assign_all(variables, weights)
        self._counters_are_right()
        if of_hdf5:
            self._states.await_kernels({})
        else:
            self._states.await_fitting(self._signal_of)

    def _set_some(self, weights) -> None:
        """Sets what there is of an optimizer in ``.h5`` that trained more than this one."""
        store = file_kernels.store_of_hdf5(weights, self._layout.entries())
        self._layout.read(store)
        self._counters_are_right()
        self._states.await_kernels({})
        default = [] if self.default_optimizer is None else self.default_optimizer.variables
        count = next((int(n) for name, n in store.items() if name.startswith("default_")), 0)
        if count == len(default):
            self._assign_all(default, weights[len(weights) - count :])

    def _signal_of(self, state, gradient):
        """What the filter would give for a gradient at the next step."""
        values = tuple(tf.convert_to_tensor(array) for array in state.filter)
        rates = self._rates.of_filter(gradient.dtype)
        return self.gradient_filter.step(gradient, values, rates, tf)[0]

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

    def load_own_variables(self, store):
        """Reads what ``save_own_variables`` wrote.

        Rates that are constant come from the file, as the rest of the state; those that followed a
        schedule there don't.

        Warns:
            UserWarning: the file holds nothing for an optimizer, or other rates than this one was
                made with.

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
        if wrapped_files.read(store, self):
            return
        with nested.rates_of_file(self._constant_rates, self.name, self._comes_from_config):
            self._layout.read(store)
        self._counters_are_right()

    def _constant_rates(self) -> dict:
        return {
            **self._rates.constant(),
            "learning_rate": nested.learning_rate_of(self.default_optimizer),
        }

    def get_config(self) -> dict:
        """The constructor's arguments, JSON-ready. Rates set later are state, not config."""
        return {
            **super().get_config(),
            "on_nonfinite": self.on_nonfinite,
            "jit_compile": self._jit_compile_argument,
            **({"rate_aliases": dict(self._rate_aliases)} if self._rate_aliases else {}),
        }

    @classmethod
    def from_config(cls, config, custom_objects=None):
        if not isinstance(config, dict):
            raise TypeError(
                f"The config must be a dict as get_config gives it, not {shown(config)}."
            )
        return super().from_config(config, custom_objects)
