"""Checks of the arguments of ``FilterOptimizer``: received, allowed, what to do."""

import re

from larq_filter import binary
from larq_filter._keras import keras, tf
from larq_filter._validation import (
    NOT_NEGATIVE,
    POSITIVE,
    is_number,
    shown,
    validate_number,
    validate_rate,
    validate_seed,
)
from larq_filter.serialization import refuse_foreign

_SCOPE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.\\/>-]{0,199}")


def refuse_misplaced(kwargs: dict) -> None:
    """Errors for arguments that people expect here and that live elsewhere; drops harmless ones."""
    kwargs.pop("is_legacy_optimizer", None)
    homes = {
        "learning_rate": "the default optimizer: default_optimizer=tf.keras.optimizers.Adam(1e-3)",
        "alpha": "the filter: larq_filter.filters.CascadedEMA(alpha=..., gamma=...). Presets name "
        "their knobs as the publications do: Bop's rate is gamma there",
        "gamma": "the filter: larq_filter.filters.CascadedEMA(alpha=..., gamma=...)",
        "threshold": "the flip rule: flip_rule=larq_filter.flips.Threshold(...)",
        "lr": "the default optimizer: default_optimizer=tf.keras.optimizers.Adam(1e-3)",
        "momentum": "the filter, as gamma = 1 - momentum: CascadedEMA(alpha=..., gamma=0.1)",
        "nesterov": "the default optimizer, or to larq_filter.hyperparameters.filter_from_sgd",
        "decay": "schedules: of alpha in the filter, of the learning rate in default_optimizer",
        "ema_momentum": "default_optimizer, beside use_ema",
        "ema_overwrite_frequency": "default_optimizer, beside use_ema",
        "weight_decay": "default_optimizer: it would pull -1 and +1 towards 0",
        "use_ema": "default_optimizer: the average of -1 and +1 is neither",
    }
    for name, home in homes.items():
        value = kwargs.pop(name, None)
        switched_off = name in ("weight_decay", "use_ema") and not value
        if value is not None and not switched_off:
            raise ValueError(
                f"FilterOptimizer takes no `{name}` (received {shown(value)}). "
                f"It belongs to {home}."
            )
    if kwargs:
        raise TypeError(
            f"FilterOptimizer takes no `{next(iter(kwargs))}`. It takes gradient_filter, "
            "flip_rule, default_optimizer, warm_start, clipnorm, clipvalue, global_clipnorm, "
            "on_nonfinite, jit_compile, rate_aliases and name; presets take knobs of their own "
            "besides."
        )


def value_of(name: str, argument, kind: type, default):
    """``argument`` if it is a value of ``kind``, ``default()`` for None."""
    if argument is None:
        return default()
    if isinstance(argument, kind):
        return argument
    module = kind.__module__.removeprefix("larq_filter.").split(".")[0]
    raise TypeError(
        f"`{name}` must be a {kind.__name__} from larq_filter.{module}, such as {default()!r}, "
        f"not {shown(argument)} ({type(argument).__name__})."
    )


def validate_warm_start(warm_start, gradient_filter):
    """``warm_start`` as a float in (0, inf) or an initializer; None stays None.

    Any but None needs a filter that can start at a given output.
    """
    value = _magnitudes(warm_start)
    if value is not None:
        try:
            gradient_filter.state_from_output(tf.zeros([]), tf)
        except ValueError as error:
            raise ValueError(f"`warm_start` must be None: {error}") from None
        if not gradient_filter.state_size:
            raise ValueError(
                f"`warm_start` must be None: {gradient_filter!r} remembers nothing, so that there "
                "is nothing to start."
            )
    return value


def _magnitudes(warm_start):
    if isinstance(warm_start, keras.initializers.Initializer):
        config = warm_start.get_config()
        if "seed" in config:
            validate_seed("warm_start.seed", config["seed"])
            config["seed"] = 0  # without one the draw below would change those of the program
        try:
            type(warm_start).from_config(config)((2, 2), "float32")
        except Exception as error:  # whatever an initializer of wrong arguments runs into
            raise ValueError(
                f"`warm_start` is {shown(warm_start)}, which makes no magnitudes: {error}"
            ) from error
        return warm_start
    if warm_start is None:
        return None
    if not is_number(warm_start):
        raise TypeError(
            "`warm_start` must be None, a number > 0 or a Keras initializer of magnitudes, not "
            f"{shown(warm_start)}."
        )
    return validate_rate("warm_start", warm_start, POSITIVE)


CLIPPING = ("clipnorm", "clipvalue", "global_clipnorm")


def validate_clipping(name: str, value):
    """``value`` as a float in [0, inf); None stays None, both None and 0 clip nothing."""
    if value is None:
        return None
    return validate_number(name, value, NOT_NEGATIVE)


def validate_name(name) -> str:
    """``name`` if TensorFlow takes it as the name of a scope."""
    if not isinstance(name, str) or not _SCOPE.fullmatch(name):
        raise ValueError(
            f"`name` is {shown(name)}; it must be a string of letters, digits and _ . - / >, 200 "
            "at most, that begins with a letter or digit."
        )
    return name


def _new_style(identifier):
    """A name as an optimizer: of names Keras makes legacy ones on Macs with Apple's processors."""
    kinds = {
        name.lower(): kind
        for name, kind in vars(keras.optimizers).items()
        if isinstance(kind, type) and issubclass(kind, keras.optimizers.Optimizer)
    }
    is_name = isinstance(identifier, str) and identifier.lower() in kinds
    return kinds[identifier.lower()]() if is_name else identifier


def validate_default_optimizer(identifier, name: str = "default_optimizer"):
    """A new-style Keras optimizer from an instance, a name or a config; None stays None."""
    if identifier is None:
        return None
    if isinstance(identifier, dict):
        refuse_foreign(identifier, f"The config of {name}")
    try:
        optimizer = keras.optimizers.get(_new_style(identifier))
    except Exception as error:  # Keras raises a dozen types
        reason = str(error).split("Full object config")[0].strip()[:300]
        raise ValueError(
            f"{name} is {shown(identifier)}, of which Keras makes no optimizer: {reason}"
        ) from error
    kind = type(optimizer).__name__
    if not isinstance(optimizer, keras.optimizers.Optimizer):
        is_keras = hasattr(keras.optimizers, kind)
        fix = f"Use tf.keras.optimizers.{kind}" if is_keras else "Use one of tf.keras.optimizers"
        raise TypeError(
            f"{name} must be a new-style Keras optimizer, not {type(optimizer)!r}. "
            f"{fix} in place of the legacy class."
        )
    if hasattr(optimizer, "inner_optimizer") or hasattr(optimizer, "default_optimizer"):
        raise TypeError(
            f"{name} can't be a {kind}: it trains a part of the variables, the "
            "real-valued or the latent ones. Wrap the whole "
            "optimizer in a LossScaleOptimizer if you need loss scaling."
        )
    if optimizer.global_clipnorm:
        raise ValueError(
            f"{name} has global_clipnorm={optimizer.global_clipnorm}, which would be the norm of "
            "its own variables only. Pass global_clipnorm to FilterOptimizer or LatentOptimizer."
        )
    return optimizer


def refuse_late_build(variables) -> None:
    """Raises if eager gradients were taken at kernels that only ``build`` would make binary."""
    wrong = [v.name for v in variables if binary.is_binary(v) and not binary.holds_signs(v)]
    if wrong:
        raise RuntimeError(
            f"The gradients were taken while {wrong[0]} (and {len(wrong) - 1} more) held other "
            "values than -1 and +1. In an eager loop or with run_eagerly=True call "
            "optimizer.build(model.trainable_variables) before the first forward pass, or convert "
            "the model with larq_filter.to_latent_free."
        )


def checked_gradients(pairs):
    """The pairs that have a gradient, with Keras' warning about the others.

    Raises:
        ValueError: no gradient at all, or one that is not shaped as its variable.
    """
    kept = [(gradient, variable) for gradient, variable in pairs if gradient is not None]
    missing = [variable.name for gradient, variable in pairs if gradient is None]
    if not kept:
        raise ValueError(f"No gradients provided for any variable: {missing}.")
    if missing:
        tf.get_logger().warning(
            "Gradients do not exist for variables %s when minimizing the loss.", missing
        )
    for gradient, variable in kept:
        shape = getattr(gradient, "shape", None)  # of several replicas: of each, not known here
        if not variable.shape.is_compatible_with(shape):
            raise ValueError(
                f"The gradient of {variable.name} has shape {tuple(shape)}; it must have that of "
                f"its variable, {tuple(variable.shape)}."
            )
    return kept


def refuse_variables(kernels, real, default_optimizer) -> None:
    """Raises unless there are binary kernels, all can be trained, and so can the rest."""
    problems = [
        *((variable.name, binary.probe(variable)) for variable in kernels),
        *((variable.name, binary.probe_unmarked(variable)) for variable in real),
    ]
    refused = [f"\n  {name}: {problem}" for name, problem in problems if problem]
    if refused:
        raise ValueError("FilterOptimizer can't train these kernels:" + "".join(refused))
    if not kernels:
        raise ValueError(
            f"FilterOptimizer found no binary kernel among {len(real)} variables: "
            f"{binary.NO_BINARY_KERNEL}"
        )
    if real and default_optimizer is None:
        names = ", ".join(variable.name for variable in real[:5])
        raise ValueError(
            f"default_optimizer is None, but {len(real)} variables are not binary: {names}"
            f"{', ...' if len(real) > 5 else ''}. Pass default_optimizer='adam', or set "
            "trainable=False on their layers."
        )
