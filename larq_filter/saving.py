"""What a file holds of a ``FilterOptimizer``, by name, and whether it fits the one that reads it.

Keras matches optimizer variables by their number, TensorFlow's checkpoints by their position, so
the state of another filter with as many arrays would load without a word. Here every value has the
name of what it is, and parts without a value (a flip rule that remembers nothing) have an entry as
well; a list of all names and shapes, the layout, is compared before anything is assigned. Files of
Keras hold the entries themselves, a checkpoint holds the layout beside the variables.

Settings are not compared: another threshold, rate or schedule may go on from the same state.
"""

import json

from larq_filter._keras import tf
from larq_filter.filters import Value

KERNELS = "kernels"
_COUNTS = ("gradient_filter", "flip_rule", "default_optimizer", KERNELS)


def structure(value: Value) -> str:
    """Class and nested classes, without numbers: ``Cascade(EMA, Limiter, EMA)``."""
    config = value.get_config().values()
    entries = [e for item in config for e in (item if isinstance(item, list | tuple) else [item])]
    parts = [structure(entry) for entry in entries if isinstance(entry, Value)]
    return type(value).__name__ + (f"({', '.join(parts)})" if parts else "")


def layout_of(entries) -> dict[str, str]:
    """What each entry is, in words: a count, or an array of a shape.

    Args:
        entries: a mapping of names to variables, arrays, HDF5 data sets or counts.
    """
    return {name: _describe(name, entries[name]) for name in entries.keys()}  # noqa: SIM118


def _describe(name: str, value) -> str:
    if name.split(".")[0] in _COUNTS:
        return str(int(value if isinstance(value, int) else value[()]))
    return f"shape {tuple(value.shape)}"


def is_before_first_step(layout: dict) -> bool:
    """Whether the optimizer had no states yet."""
    return layout.get(KERNELS) == "0"


def without_states(layout: dict) -> dict:
    """The part of a layout that is there before the first step."""
    states = ("kernel_", "default_optimizer.")
    kept = {name: text for name, text in layout.items() if not name.startswith(states)}
    default = {name: "" for name in layout if name.startswith("default_optimizer.")}
    return {**kept, **default, KERNELS: "0"}


def check(found: dict, expected: dict, name: str) -> None:
    """Raises ``ValueError`` unless a file's layout is that of the optimizer ``name``."""
    if found == expected:
        return
    holds = [_show(key, text) for key, text in found.items() if expected.get(key) != text]
    lacks = [_show(key, text) for key, text in expected.items() if found.get(key) != text]
    raise ValueError(
        f"The file does not fit {name}. It holds {_list(holds)}; expected is {_list(lacks)}. "
        "Compile the model with the filter, flip rule and warm_start it was saved with, and the "
        "same kind of default_optimizer. For its weights alone load them into a model that is not "
        "compiled, and copy them with set_weights."
    )


def _show(name: str, text: str) -> str:
    head = name.split(".")[0]
    if head == KERNELS:
        return f"{text} kernels"
    if head in _COUNTS:
        return f"{name} ({text} variables)"
    return f"{name} ({text})"


def _list(items: list[str]) -> str:
    if not items:
        return "nothing else"
    return ", ".join(items[:6]) + (f" and {len(items) - 6} more" if len(items) > 6 else "")


class Layout(tf.train.experimental.PythonState):
    """The layout inside of a TensorFlow checkpoint, which restores it before any variable.

    Args:
        current: a function that returns the layout to be saved.
        expect: a function that is given the layout of a checkpoint, and may raise.
    """

    def __init__(self, current, expect):
        self._current, self._expect = current, expect

    def serialize(self) -> str:
        return json.dumps(self._current())

    def deserialize(self, string_value) -> None:
        self._expect(json.loads(string_value))
