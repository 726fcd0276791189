"""The kernels of a file that holds more of them than there are now: some were frozen since.

A file of Keras counts the kernels of the training, not those of the model that reads it. Which is
which is told here: by the shapes of what is remembered, the signs, the name and the order, in this
order. None of them is enough alone: the variables of a model from a ``.keras`` file are all called
``kernel``, and two kernels may have the same signs.

A whole model in ``.h5`` comes as a list of variables, without signs, but under their names.
"""

import re

import numpy as np

KERNELS = "kernels"
SIGNATURE, NAME = "kernel_{}.signs", "kernel_{}.name"  # beside what is remembered of a kernel
_IN_HDF5 = re.compile(r"(?:^|/)kernel_(\d+)_(started|(?:filter|flip)_\d+)/(.*)")


class FileKernels:
    """All kernels of a file of Keras: signatures, names, and what is remembered of each.

    Args:
        store: a mapping of names to values, as ``saved_layout`` writes it.
    """

    def __init__(self, store):
        self.signatures, self.names, self.parts = [], [], []
        for index in range(int(store[KERNELS][()])):
            prefix, beside = f"kernel_{index}.", (SIGNATURE.format(index), NAME.format(index))
            keys = [key for key in store.keys() if key.startswith(prefix) and key not in beside]  # noqa: SIM118
            self.parts.append({key.removeprefix(prefix): store[key][()] for key in keys})
            self.names.append(np.asarray(store[beside[1]][()]).tobytes().decode())
            self.signatures.append(int(store[beside[0]][()]) if beside[0] in store else None)
        self._shapes = [
            {part: np.shape(value) for part, value in parts.items()} for parts in self.parts
        ]

    @property
    def has_signatures(self) -> bool:
        """Whether the signs are known: not in ``.h5``."""
        return None not in self.signatures

    def described(self, index: int) -> str:
        """Name and shape, for people."""
        return " ".join([self.names[index], *map(str, [*self._shapes[index].values()][:1])])

    def of_shapes(self, shapes: dict) -> list[int]:
        """The kernels of which parts of these shapes are remembered."""
        return [index for index, each in enumerate(self._shapes) if each == shapes]

    def is_doubtful(self, index: int, name: str, others: list[int]) -> bool:
        """Whether the kernel ``name``, taken for number ``index``, may be one of ``others``."""
        alike = set(self.of_shapes(self._shapes[index])) & set(others)
        signs = self.signatures[index]
        return self.names[index] != name and any(self.signatures[each] == signs for each in alike)

    def match(self, wanted: dict[int, tuple]) -> dict[int, int]:
        """Tells which kernel of the file each one is; those that are none of it are left out.

        Args:
            wanted: name, shapes of the parts, and signature, by position. Without a signature a
                kernel is told only where all that look like it are there as well.

        Returns:
            A different number for each position.
        """
        found = {}
        for by_name in (True, False):
            fits = {
                position: [
                    index
                    for index in self.of_shapes(shapes)
                    if signature is None or self.signatures[index] == signature
                    if not by_name or self.names[index] == name
                    if index not in found.values()
                ]
                for position, (name, shapes, signature) in sorted(wanted.items())
                if position not in found
            }
            for position, those in fits.items():
                alike = sum(each == those for each in fits.values())
                if wanted[position][2] is None and alike != len(those):
                    continue
                free = [index for index in those if index not in found.values()]
                before = max((found[p] for p in found if p < position), default=-1)
                if free:
                    found[position] = next((i for i in free if i > before), free[0])
        return found


def is_of_hdf5(weights) -> bool:
    """Whether Keras read these from a whole model in ``.h5``, whose kernels are there by now."""
    return len(weights) > 0 and all(hasattr(weight, "file") for weight in weights)


def store_of_hdf5(weights, own: dict) -> dict:
    """The variables of an optimizer in ``.h5`` by name, as other files of Keras hold them.

    Args:
        weights: the data sets, in the order of the variables: numbers, kernels, and those of the
            default optimizer, which are counted only.
        own: the entries of the optimizer that reads them, of the same configuration.
    """
    store = {name: np.int64(value) for name, value in own.items() if isinstance(value, int)}
    numbers = [name for name, value in own.items() if not isinstance(value, int)]
    numbers = [name for name in numbers if not name.startswith("kernel_")]
    store.update(zip(numbers, weights, strict=False))
    store[KERNELS], rest = np.int64(0), weights[len(numbers) :]
    found = [(each, match) for each in rest if (match := _IN_HDF5.search(each.name))]
    for weight, match in found:
        index, part, name = match.groups()
        store[f"kernel_{index}.{part}"] = weight
        store[NAME.format(index)] = np.frombuffer(name.encode(), np.uint8)
        store[KERNELS] = np.maximum(store[KERNELS], np.int64(index) + 1)
    for name in own:
        if name.startswith("default_optimizer."):
            store[name] = np.int64(len(rest) - len(found))
    return store
