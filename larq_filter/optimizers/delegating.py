"""Optimizers that train some variables themselves and hand all others to ``default_optimizer``.

What ``FilterOptimizer`` and ``LatentOptimizer`` have in common: the default optimizer's learning
rate as their own, its counter of steps, clipping over all variables, configs.
"""

from larq_filter import serialization
from larq_filter._keras import keras, tf
from larq_filter.optimizers.arguments import validate_clipping, validate_name


class Delegating(keras.optimizers.Optimizer):
    """The base of both; a subclass sets ``default_optimizer``.

    Args:
        name, clipnorm, clipvalue, global_clipnorm: as in Keras, for all variables together.
        **kwargs: of ``tf.keras.optimizers.Optimizer``.
    """

    _PARTS = ("default_optimizer",)  # arguments that have configs of their own
    _comes_from_config = False

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

    def _step_with(self, optimizer, pairs) -> None:
        """One step of a nested optimizer, with gradients that are clipped and aggregated."""
        # Followed, not shared: Keras keeps no two optimizers on one counter through saving.
        optimizer.iterations.assign(self.iterations)
        if pairs:
            optimizer.apply_gradients(pairs, skip_gradients_aggregation=True)
        else:
            optimizer.iterations.assign_add(1)

    def _assign_all(self, variables, weights) -> None:
        """Sets ``variables``, in their order.

        Raises:
            ValueError: another number of arrays, or other shapes.
        """
        shapes = [tuple(weight.shape) for weight in weights]
        wanted = [tuple(variable.shape) for variable in variables]
        if shapes != wanted:
            raise ValueError(
                f"{self.name} has {len(wanted)} variables, but {len(shapes)} arrays were given"
                f"{', or of other shapes' if len(shapes) == len(wanted) else ''}. Compile with the "
                "optimizers that the file was written with."
            )
        for variable, value in zip(variables, weights, strict=True):
            variable.assign(value)

    def get_config(self) -> dict:
        """The constructor's arguments, JSON-ready."""
        return {
            **{name: serialization.serialize(getattr(self, name)) for name in self._PARTS},
            "clipnorm": self.clipnorm,
            "clipvalue": self.clipvalue,
            "global_clipnorm": self.global_clipnorm,
            "name": self.name,
            "is_legacy_optimizer": False,  # Keras reads it to choose the optimizer's generation
        }

    @classmethod
    def from_config(cls, config, custom_objects=None):
        config = dict(config)
        with keras.utils.custom_object_scope(custom_objects or {}):
            for name in cls._PARTS:
                if isinstance(config.get(name), dict):
                    config[name] = serialization.revive(config[name], f"The config of {name}")
        optimizer = cls(**config)
        optimizer._comes_from_config = True
        return optimizer
