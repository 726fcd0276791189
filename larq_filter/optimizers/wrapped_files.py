"""Files written under a ``LossScaleOptimizer``, read without one, as another policy has it.

Keras wraps an optimizer by the global policy of the process that loads, not of the one that saved.
The wrapper's file holds all values twice: by number as its own, and as those of the optimizer
inside, one level further down. The second are read. Rejected: the numbers, which say neither filter
nor rule, and with which nothing can be left out.

The other way round there is no place to help: the wrapper reads before the optimizer inside does.
"""

import warnings


def read(store, optimizer) -> bool:
    """Reads what was inside, nested optimizers too; False if ``store`` is of no wrapper.

    Args:
        store: what Keras hands to ``load_own_variables``: an HDF5 group.
        optimizer: the one without a wrapper.
    """
    inside = getattr(store, "parent", {}).get("inner_optimizer")
    if inside is None:
        return False
    optimizer.load_own_variables(inside["vars"])
    for name, nested in optimizer._nested().items():
        nested.load_own_variables(inside[name]["vars"])
        _expect_nothing(nested)
    return True


def _expect_nothing(nested) -> None:
    """Keras looks for it at the usual place next, and would say that nothing is there."""

    def load_own_variables(store):
        del nested.load_own_variables
        if store.keys():
            nested.load_own_variables(store)

    nested.load_own_variables = load_own_variables


def warn_of_wrapper(name: str) -> None:
    """Says what comes next if a file is being read, and the wrapper would not find it fitting."""
    warnings.warn(
        f"{name} is wrapped in a LossScaleOptimizer, and its config was saved without, or with "
        "other variables to train. If a file is being loaded, Keras can't read its state so "
        "(\"object has no attribute 'name'\"): call "
        'tf.keras.mixed_precision.set_global_policy("float32") before loading. Each layer keeps '
        "the policy that it was saved with.",
        stacklevel=4,
    )
