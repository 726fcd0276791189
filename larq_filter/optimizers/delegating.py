"""Optimizers that train some variables themselves and hand all others to ``default_optimizer``.

What ``FilterOptimizer`` and ``LatentOptimizer`` have in common: the default optimizer's learning
rate as their own, counters of steps, clipping over all variables, configs, copies.
"""

import re
import warnings

import numpy as np

from larq_filter import binary, serialization
from larq_filter._keras import keras, tf
from larq_filter.optimizers import nested, wrapped_files
from larq_filter.optimizers.arguments import validate_clipping, validate_name

_EXCLUDED = "excluded_from_weight_decay"  # in configs
_SAVED_MODEL = "in_saved_model"  # in configs
_WRAPPED = "variables_under_loss_scale"  # in configs


class Delegating(keras.optimizers.Optimizer):
    """The base of both; a subclass sets ``default_optimizer``.

    Args:
        name, clipnorm, clipvalue, global_clipnorm: as in Keras, for all variables together.
        **kwargs: of ``tf.keras.optimizers.Optimizer``.
    """

    _PARTS = ("default_optimizer",)  # arguments that have configs of their own
    _comes_from_config = False
    _wrapped_variables = None  # how many there were where that config was made, under a wrapper

    def __init__(self, name, clipnorm, clipvalue, global_clipnorm, **kwargs):
        name = validate_name(name)
        # The scope tells `iteration` from the default optimizer's, which HDF5 files need.
        with tf.name_scope(name):
            super().__init__(
                name=name,
                weight_decay=None,
                clipnorm=validate_clipping("clipnorm", clipnorm),
                clipvalue=validate_clipping("clipvalue", clipvalue),
                global_clipnorm=validate_clipping("global_clipnorm", global_clipnorm),
                **kwargs,
            )

    def _count(self) -> None:
        """At the end of a subclass's constructor."""
        self._counters = nested.Counters(*self._all_counters())

    def _all_counters(self) -> tuple:
        return self.iterations, [each.iterations for each in self._nested().values()]

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

    def _nested(self) -> dict:
        """The Keras optimizers that this one has, by the name of the argument."""
        parts = {name: getattr(self, name) for name in self._PARTS}
        kind = keras.optimizers.Optimizer
        return {name: part for name, part in parts.items() if isinstance(part, kind)}

    def exclude_from_weight_decay(self, var_list=None, var_names=None):
        """Passed on to the Keras optimizers, which alone decay; saved by name."""
        names = [*(var_names or ()), *(f"^{re.escape(v.name)}$" for v in var_list or ())]
        self._require_default("weight_decay")
        for part in self._nested().values():
            part.exclude_from_weight_decay(var_names=names)

    def _warn_of_loss_scale(self) -> None:
        if self._is_loss_scaled():
            warnings.warn(
                "Keras' files .keras and .weights.h5 leave out the current scale of "
                "LossScaleOptimizer, so that a loaded one begins with its initial_scale; of a "
                "model in .h5 Keras loads no state of a wrapped optimizer at all. "
                "tf.train.Checkpoint, and save_weights without .h5, keep everything.",
                stacklevel=3,
            )

    def _excluded(self) -> dict[str, list]:
        """What ``exclude_from_weight_decay`` was told, which Keras' own configs leave out."""
        found = {}
        for name, part in self._nested().items():
            if getattr(part, "_exclude_from_weight_decay", ()):
                kind = type(self).__name__
                warnings.warn(
                    f"The variables excluded from weight decay on {name} itself are not saved. "
                    f"Call {kind}.exclude_from_weight_decay, whose list is.",
                    stacklevel=4,
                )
            if names := getattr(part, "_exclude_from_weight_decay_names", ()):
                found[name] = list(names)
        return found

    def _follow(self) -> None:
        """Before each step."""
        self._counters.follow(*self._all_counters())

    def _counters_are_right(self) -> None:
        """After each step, and after loading from a file that holds all counters."""
        self._counters.take(*self._all_counters())

    def _refuse_new(self, variables) -> None:
        """Raises if there are variables that the optimizer was built without."""
        new = [v for v in variables if self._var_key(v) not in self._index_dict]
        if new:
            raise ValueError(
                f"The optimizer was built without {new[0].name} (and {len(new) - 1} more). "
                "Variables that become trainable later need a new one: compile the model with a "
                f"new {type(self).__name__}; this one, compiled with again, stays as it is."
            )

    def _step_with(self, optimizer, pairs) -> None:
        """One step of a nested optimizer, with gradients that are clipped and aggregated."""
        if pairs:
            optimizer.apply_gradients(pairs, skip_gradients_aggregation=True)
        else:
            optimizer.iterations.assign_add(1)

    def _assign_all(self, variables, weights) -> None:
        """Sets ``variables``, in their order.

        Raises:
            ValueError: another number of arrays, or other shapes.
        """
        shapes = [tuple(np.shape(weight)) for weight in weights]
        wanted = [tuple(variable.shape) for variable in variables]
        if shapes != wanted:
            raise ValueError(
                f"{self.name} has {len(wanted)} variables, but {len(shapes)} arrays were given"
                f"{', or of other shapes' if len(shapes) == len(wanted) else ''}. Compile with the "
                "optimizers that the file was written with."
            )
        for variable, value in zip(variables, weights, strict=True):
            variable.assign(value)

    def _after_build(self) -> None:
        """At the end of ``build``, where a file's state may come next."""
        as_saved = self._wrapped_variables == len(self.variables)
        if self._comes_from_config and self._is_loss_scaled() and not as_saved:
            wrapped_files.warn_of_wrapper(self.name)

    def _is_loss_scaled(self) -> bool:
        """Whether a ``LossScaleOptimizer`` is around this one."""
        return getattr(self, "_is_wrapped_by_loss_scale_optimizer", False)

    def __deepcopy__(self, memo):
        """A copy with values of its own, for the same variables: states are of certain kernels."""
        copied = type(self).from_config(self.get_config())
        memo[id(self)] = copied
        if getattr(self, "_built", False):
            copied.build(self._trained)
        for mine, other in zip(copied._values(), self._values(), strict=True):
            for one, two in zip(binary.replicas(mine), binary.replicas(other), strict=True):
                one.assign(two)
        return copied

    def _values(self) -> list:
        """All variables, and the counters."""
        _, counters = self._all_counters()
        return [*self.variables, *counters, *self._counters.seen]

    def get_config(self) -> dict:
        """The constructor's arguments, JSON-ready."""
        excluded, in_saved_model = self._excluded(), serialization.in_saved_model()
        if not in_saved_model:
            self._warn_of_loss_scale()
        return {
            **{name: serialization.serialize(getattr(self, name)) for name in self._PARTS},
            "clipnorm": self.clipnorm,
            "clipvalue": self.clipvalue,
            "global_clipnorm": self.global_clipnorm,
            "name": self.name,
            "is_legacy_optimizer": False,  # Keras reads it to choose the optimizer's generation
            **({_EXCLUDED: excluded} if excluded else {}),
            **({_SAVED_MODEL: True} if in_saved_model else {}),
            **({_WRAPPED: len(self.variables)} if self._is_loss_scaled() else {}),
        }

    @classmethod
    def from_config(cls, config, custom_objects=None):
        config = dict(config)
        if config.pop(_SAVED_MODEL, False):
            warnings.warn(
                f"Keras loads no optimizer state from a SavedModel: this {cls.__name__} begins "
                "anew. To go on where it stopped call model.load_weights with the same path before "
                "training, or save as .keras.",
                stacklevel=3,
            )
        wrapped_variables = config.pop(_WRAPPED, None)
        excluded = config.pop(_EXCLUDED, {})
        if isinstance(excluded, list):  # as files have it that hold one part's alone
            excluded = {"default_optimizer": excluded}
        with keras.utils.custom_object_scope(custom_objects or {}):
            for name in cls._PARTS:
                if isinstance(config.get(name), dict):
                    config[name] = serialization.revive(config[name], f"The config of {name}")
        optimizer = cls(**config)
        for name, part in optimizer._nested().items():
            if name in excluded:
                part.exclude_from_weight_decay(var_names=excluded[name])
        optimizer._comes_from_config = True
        optimizer._wrapped_variables = wrapped_variables
        return optimizer
