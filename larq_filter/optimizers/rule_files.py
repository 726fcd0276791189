"""What files hold of the rules of a ``LatentOptimizer``, and whether that fits.

Without rules a file is what it was before there were any. With rules it names them, so that the
state of others is never taken for theirs: in a file of Keras by an entry beside the values, in a
checkpoint and a SavedModel by a text. As for ``FilterOptimizer``, numbers are not compared, and
rates that are constant come from the file, unless a schedule gave them there.

A checkpoint without rules says nothing that could be looked at, so that rules begin anew after one;
TensorFlow's ``assert_consumed`` tells. HDF5 files of whole models bring their own rules.
"""

import json
import warnings

import numpy as np

from larq_filter.latent_rules import Chain
from larq_filter.optimizers.saved_layout import (
    SCHEDULED,
    Text,
    expect_scheduled,
    structure,
    write_scheduled,
)

_RULES = "rules."
_NO_RULES = f"{_RULES}none"


class RulesInFiles(Text):
    """Rules of one optimizer, out and in. As a part of a checkpoint it is their names.

    Args:
        name: of the optimizer, for people.
        rules: the rules.
        rates: their rates, by name.
        steps: has ``states``, the variables of each kernel.
    """

    def __init__(self, name: str, rules: Chain, rates, steps):
        self._name, self._rates, self._steps = name, rates, steps
        self._size = rules.state_size
        self._key = _RULES + structure(rules) if rules.rules else _NO_RULES

    def serialize(self) -> str:
        return json.dumps({_RULES: self._key, SCHEDULED: self._rates.scheduled()})

    def deserialize(self, string_value) -> None:
        found = json.loads(np.asarray(string_value).item())
        if isinstance(found, str):  # written before it named schedules
            found = {_RULES: found, SCHEDULED: ()}
        self._refuse_others(found[_RULES])
        self._rates.expect(found[SCHEDULED])

    def _refuse_others(self, found: str) -> None:
        if found != self._key:
            raise ValueError(
                f"The file does not fit {self._name}. It holds the state of {_named(found)}; "
                f"expected is that of {_named(self._key)}. Compile the model with the rules that "
                "it was saved with. For its weights alone load them into a model that is not "
                "compiled, and copy them with set_weights."
            )

    def _entries(self) -> dict:
        """Every variable by its name."""
        states = {
            f"kernel_{position}.rules_{index}": variable
            for position, variables in enumerate(self._steps.states)
            for index, variable in enumerate(variables)
        }
        return {**self._rates.variables(), **states}

    def write(self, store) -> None:
        """Everything by name, into a mapping that is written: an HDF5 group."""
        if self._key != _NO_RULES:
            store[self._key] = np.int64(self._size)
            for name, variable in self._entries().items():
                store[name] = variable.numpy()
            write_scheduled(store, self._rates)

    def read(self, store) -> None:
        """Assigns what ``write`` wrote; nothing if it does not fit.

        Warns:
            UserWarning: it holds the states of more kernels, as some have been frozen since.

        Raises:
            ValueError: other rules; kernels of other shapes.
        """
        keys = list(store.keys())
        self._refuse_others(next((key for key in keys if key.startswith(_RULES)), _NO_RULES))
        entries = self._entries()
        found = {key: tuple(store[key].shape) for key in keys if key.startswith("kernel_")}
        own = {key: tuple(entries[key].shape) for key in entries if key.startswith("kernel_")}
        if not found:  # written before the first step
            entries = self._rates.variables()
        elif len(found) > len(own):
            entries = self._rates.variables()
            warnings.warn(
                f"The file was written by an optimizer that trained more kernels than {self._name} "
                "does: what the rules remember of kernels begins anew.",
                stacklevel=3,
            )
        elif found != own:
            raise ValueError(
                f"The file does not fit {self._name}. Its rules remember kernels of the shapes "
                f"{list(found.values())}; expected is {list(own.values())}. Load it into the model "
                "that it was saved from, with the same layers trainable."
            )
        expect_scheduled(store, self._rates)
        for name, variable in entries.items():
            variable.assign(store[name][()])


def _named(key: str) -> str:
    return "no rules" if key == _NO_RULES else f"the rules {key.removeprefix(_RULES)}"
