"""What a file holds of a ``FilterOptimizer``, by name, and whether it fits the one that reads it.

Keras matches optimizer variables by their number, TensorFlow's checkpoints by their position, so
the state of another filter with as many arrays would load without a word. Here every value has the
name of what it is, and parts without a value (a flip rule that remembers nothing) have an entry as
well; a list of all names and shapes, the layout, is compared before anything is assigned. Files of
Keras hold the entries themselves, a checkpoint and a SavedModel the layout beside the variables.

Rejected: other names for the variables themselves. Neither format compares them.

Settings are not compared: another threshold or schedule may go on from the same state, and a
constant rate comes from the file, as the rest of the state, unless a schedule gave it there.
"""

import concurrent.futures
import json
import warnings

import numpy as np

from larq_filter._keras import tf
from larq_filter.filters import Value
from larq_filter.optimizers import nested
from larq_filter.optimizers.file_kernels import KERNELS, NAME, SIGNATURE, FileKernels
from larq_filter.optimizers.rates import Rates
from larq_filter.optimizers.states import KernelStates

_LEARNING_RATE = "default_optimizer.learning_rate"  # in files of Keras, beside the entries
SCHEDULED = "scheduled_rates"  # their names, beside the entries
_COUNTS = ("gradient_filter", "flip_rule", "default_optimizer", KERNELS)


def structure(value: Value) -> str:
    """Class and nested classes, without numbers: ``Cascade(EMA, Limiter, EMA)``."""
    config = value.get_config().values()
    entries = [e for item in config for e in (item if isinstance(item, list | tuple) else [item])]
    parts = [structure(entry) for entry in entries if isinstance(entry, Value)]
    return type(value).__name__ + (f"({', '.join(parts)})" if parts else "")


def _kind(optimizer) -> str:
    """Class of a Keras optimizer, and those of its settings that change what it remembers."""
    flags = ("amsgrad", "centered", "use_ema")  # others change the number of variables too
    given = [name for name in flags if getattr(optimizer, name, False)]
    return type(optimizer).__name__ + (f"({', '.join(given)})" if given else "")


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


def _is_entry(name: str) -> bool:
    """Whether a name in a file of Keras is that of an entry, and nothing beside them."""
    beside = name.startswith("kernel_") and name.endswith((".signs", ".name"))
    return name not in (_LEARNING_RATE, SCHEDULED) and not beside


def write_scheduled(store, rates: Rates) -> None:
    """Notes which rates a schedule gives, in a mapping that is written: an HDF5 group."""
    if names := rates.scheduled():
        store[SCHEDULED] = np.frombuffer(json.dumps(names).encode(), np.uint8)


def expect_scheduled(store, rates: Rates) -> None:
    """Prepares ``rates`` for values of which ``write_scheduled`` noted where they are from."""
    noted = np.asarray(store[SCHEDULED][()]).tobytes() if SCHEDULED in store else b"[]"
    rates.expect(json.loads(noted.decode()))


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
        "Compile the model with the filter, flip rule and warm_start it was saved with, the same "
        "kind of default_optimizer and the same layers trainable (.keras and .weights.h5 leave out "
        "those frozen since). For its weights alone load them into a model that is not compiled, "
        "and copy them with set_weights."
    )


def no_states_yet(name: str) -> ValueError:
    """What to say where the optimizer ``name`` is not built, and a file holds its states."""
    return ValueError(
        f"{name} has no states yet to load those of the file into. Call "
        "model.optimizer.build(model.trainable_variables) before loading."
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


def _signature(store, kernel) -> tuple | None:
    key = SIGNATURE.format(kernel.position)
    return (int(store[key][()]),) if key in store else None


class Text(tf.train.experimental.PythonState):
    """A text in a checkpoint; a subclass defines ``serialize`` and ``deserialize``."""

    _text = None

    def as_variable(self) -> tf.Variable:
        """The layout as what a SavedModel can hold; it is read as if it were this object."""
        text = self.serialize()

        def assign():
            with tf.device("CPU:0"):
                if self._text is None:
                    self._text = tf.Variable("", dtype=tf.string, trainable=False)
                self._text.assign(text)

        # In a thread of its own no strategy's scope is open: workers would have to make the
        # variable together, and TensorFlow sends no text between them.
        with concurrent.futures.ThreadPoolExecutor(max_workers=1) as thread:
            thread.submit(assign).result()
        return self._text


class Contents(Text):
    """Everything that a file has to hold of one ``FilterOptimizer``, out and in.

    As a part of a TensorFlow checkpoint it is the layout, which is restored before any variable.

    Args:
        optimizer: the one that is saved and loaded.
        rates: its rates.
        states: the states of its kernels.
    """

    def __init__(self, optimizer, rates: Rates, states: KernelStates):
        self._optimizer, self._rates, self._states = optimizer, rates, states
        self._awaited = None  # the layout of a checkpoint that was restored before ``build``
        self._refused = None  # why that did not fit

    def entries(self) -> dict:
        """Variables by name; parts without a value count their variables."""
        optimizer = self._optimizer
        entries = {
            "iterations": optimizer.iterations,
            "skipped_steps": optimizer.skipped_steps,
            **self._rates.variables(),
            f"gradient_filter.{structure(optimizer.gradient_filter)}": (
                optimizer.gradient_filter.state_size
            ),
            f"flip_rule.{structure(optimizer.flip_rule)}": optimizer.flip_rule.state_size,
            KERNELS: len(self._states),
        }
        if optimizer.default_optimizer is not None:
            kind = _kind(optimizer.default_optimizer)
            entries[f"default_optimizer.{kind}"] = len(optimizer.default_optimizer.variables)
        for kernel in self._states:
            prefix = f"kernel_{kernel.position}"
            for part in ("filter", "flip"):
                for index, array in enumerate(getattr(kernel, part)):
                    entries[f"{prefix}.{part}_{index}"] = array
            if kernel.started is not None:
                entries[f"{prefix}.started"] = kernel.started
        return entries

    def serialize(self) -> str:
        return json.dumps({**layout_of(self.entries()), SCHEDULED: self._rates.scheduled()})

    def deserialize(self, string_value) -> None:
        found = json.loads(np.asarray(string_value).item())
        scheduled = found.pop(SCHEDULED, ())
        self._expect(found)
        self._rates.expect(scheduled)

    def _expect(self, found: dict) -> None:
        """Raises unless a file with this layout fits; it is about to be read.

        Where it was written before the first step, kernels are made binary again when that comes.
        """
        self.require_usable()
        own, built = layout_of(self.entries()), len(self._states) > 0
        self._awaited = None
        self._states.forget_changes()
        if built and not is_before_first_step(found):
            check(found, own, self._optimizer.name)
            self._states.skip_start()
            return
        check(without_states(found), without_states(own), self._optimizer.name)
        if built:
            self.forget_steps()
        elif not is_before_first_step(found):
            self._awaited = found

    def check_awaited(self) -> None:
        """Once the states exist: raises unless a checkpoint restored before fits them."""
        awaited, self._awaited = self._awaited, None
        if awaited is not None:
            try:
                check(awaited, layout_of(self.entries()), self._optimizer.name)
            except ValueError as error:
                self._refused = str(error)
                raise

    def require_usable(self) -> None:
        """Raises where states exist that a checkpoint, restored before them, does not fit.

        Some of its values are in them by then, and nobody knows which.
        """
        if self._refused is not None:
            raise ValueError(
                f"{self._optimizer.name} was given a file that does not fit, and can't be used any "
                f"more: compile the model with a new optimizer. {self._refused}"
            )

    def forget_steps(self) -> None:
        """Prepares for values from before the first step.

        Raises:
            ValueError: the optimizer has taken steps, which compiled functions still hold.
        """
        taken = int(self._optimizer.iterations.numpy())
        if taken > 0:
            name = self._optimizer.name
            raise ValueError(
                f"The file was written before the first step, and {name} has taken {taken}. "
                "Compile the model with a new optimizer first."
            )
        self._states.await_start()

    def write(self, store) -> None:
        """Everything by name; Keras saves the variables of the default optimizer by itself.

        Args:
            store: a mapping that is written: an HDF5 group.
        """
        for name, value in self.entries().items():
            store[name] = np.int64(value) if isinstance(value, int) else value.numpy()
        write_scheduled(store, self._rates)
        for kernel in self._states:
            signature = self._states.signature(kernel.position)
            store[SIGNATURE.format(kernel.position)] = np.int64(signature)
            name = self._states.name(kernel.position).encode()
            store[NAME.format(kernel.position)] = np.frombuffer(name, np.uint8)
        learning_rate = nested.learning_rate_of(self._optimizer.default_optimizer)
        if learning_rate is not None:
            store[_LEARNING_RATE] = learning_rate.numpy()

    def read(self, store) -> None:
        """Assigns what ``write`` wrote; nothing if it does not fit.

        Of a file with kernels that have been frozen since, those that are left are read.

        Warns:
            UserWarning: what of the file is left out.

        Raises:
            ValueError: see ``FilterOptimizer.load_own_variables``.
        """
        found = layout_of({key: store[key] for key in store.keys() if _is_entry(key)})  # noqa: SIM118
        more = FileKernels(store) if self._holds_more(found, store) else None
        if more is not None:
            found = self._without_frozen(found, more)
        anew = self._default_left_out(found)
        self._expect(found)
        if self._awaited is not None:
            self._awaited = None
            raise no_states_yet(self._optimizer.name)
        self._warn_of_left_out(anew)
        entries = self.entries()
        expect_scheduled(store, self._rates)
        for name in found:
            if isinstance(entries.get(name), tf.Variable) and (
                more is None or not name.startswith("kernel_")
            ):
                entries[name].assign(store[name][()])
        learning_rate = nested.learning_rate_of(self._optimizer.default_optimizer)
        if _LEARNING_RATE in store and learning_rate is not None:
            learning_rate.assign(store[_LEARNING_RATE][()])
        if more is None:
            self._states.await_kernels({k.position: _signature(store, k) for k in self._states})
        else:
            self._read_some(more, entries)

    def _holds_more(self, found: dict, store) -> bool:
        """Whether a file holds more kernels than there are here, and says which is which."""
        count, own = int(found.get(KERNELS, 0)), len(self._states)
        known = all(NAME.format(i) in store for i in range(count))
        return known and count > own and (own > 0 or self._optimizer.nothing_to_train)

    def _without_frozen(self, found: dict, kernels: FileKernels) -> dict:
        """``found`` with as many kernels as there are here, each with the parts that it has."""
        kept = {name: text for name, text in found.items() if not name.startswith("kernel_")}
        for position, shapes in self._shapes().items():
            texts = iter([f"shape {shape}" for shape in shapes.values()])
            for part in kernels.parts[0]:
                kept[f"kernel_{position}.{part}"] = next(texts, "")
        return {**kept, KERNELS: str(len(self._states))}

    def _shapes(self) -> dict:
        """The shapes of what is remembered of each kernel, by position and part."""
        shapes = {kernel.position: {} for kernel in self._states}
        for name, value in self.entries().items():
            if name.startswith("kernel_"):
                kernel, part = name.split(".")
                shapes[int(kernel.removeprefix("kernel_"))][part] = tuple(value.shape)
        return shapes

    def _read_some(self, kernels: FileKernels, entries: dict) -> None:
        """Gives each kernel the state of the one in the file that it is, when it comes.

        Keras loads an optimizer before layers or after them; of ``.h5`` always after.
        """
        shapes, arrived, placed = self._shapes(), {}, {}

        def place():
            wanted = {p: (self._states.name(p), shapes[p], each) for p, each in arrived.items()}
            for position, index in kernels.match(wanted).items():
                if placed.get(position) != index:  # one that came later may know better
                    placed[position] = index
                    for part, value in kernels.parts[index].items():
                        entries[f"kernel_{position}.{part}"].assign(value)
            if len(arrived) == len(shapes):
                left = [i for i in range(len(kernels.names)) if i not in placed.values()]
                self._warn_of_left_out([kernels.described(index) for index in left])
                self._warn_of_doubt(shapes.keys() - placed.keys(), "begins anew")
                doubtful = [
                    p
                    for p, (name, *_) in wanted.items()
                    if p in placed and kernels.is_doubtful(placed[p], name, left)
                ]
                self._warn_of_doubt(doubtful, "is that of the first of them")

        def come(position, signature):
            arrived[position] = signature
            place()

        signatures = {
            position: [kernels.signatures[index] for index in kernels.of_shapes(own)]
            for position, own in shapes.items()
        }
        if kernels.has_signatures:
            self._states.await_kernels(signatures, come)
        else:
            arrived.update(dict.fromkeys(shapes))
        if not shapes or not kernels.has_signatures:
            place()

    def _warn_of_doubt(self, positions, consequence: str) -> None:
        if positions:
            names = [self._states.name(position) for position in sorted(positions)]
            warnings.warn(
                f"The file does not say which of its kernels is {_list(names)}, as others, frozen "
                f"since, look like it: what {self._optimizer.name} remembers of it {consequence}.",
                stacklevel=5,
            )

    def _warn_of_left_out(self, names: list[str]) -> None:
        if names:
            warnings.warn(
                "The file was written by an optimizer that trained more than this one: "
                f"{self._optimizer.name} leaves out the state of {_list(names)}. Weights, and the "
                "state of all else that it trains, come from the file.",
                stacklevel=4,
            )

    def _default_left_out(self, found: dict) -> list[str]:
        """Adapts ``found`` to a default optimizer that has fewer variables now."""
        default = self._optimizer.default_optimizer
        key = f"default_optimizer.{_kind(default)}"
        if (
            key not in found
            or default is None
            or not (len(self._states) or self._optimizer.nothing_to_train)
        ):
            return []
        count = len(default.variables)
        if int(found[key]) <= count:
            return []
        found[key] = str(count)
        return [f"{type(default).__name__}, which begins anew"]
