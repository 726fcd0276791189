"""The code of a user's own layers, quantizers and functions: what it does, not how it is written.

With it counts what it calls of his own, and the numbers and texts that it reads: arguments,
attributes, closures, constants of its modules. Comments, docstrings, lines and names of local
variables don't count. Lists, dicts and arrays are not looked into: they may change while it runs.

Rejected: the source, in which comments count, and which may have been edited since the code was
imported.
"""

import dis
import inspect
import sys
import types
from collections.abc import Iterable

import numpy as np

from larq_filter._keras import keras, tf

_LIBRARIES = {"keras", "tf_keras", "tensorflow", "larq", "larq_filter", "larq_zoo", "numpy"}
_PLAIN = (bool, int, float, str, type(None))


def of(things: Iterable) -> list:
    """Of those that are a user's own, the code in lists of texts and numbers, each part once.

    Args:
        things: functions and objects, those of libraries too.
    """
    seen = set()
    return [_described(each, seen) for each in things if _is_own(inspect.unwrap(each))]


def _is_own(thing) -> bool:
    """Whether a function or class is of no library, or an object of no library's class."""
    home = thing if isinstance(thing, types.FunctionType | type) else type(thing)
    return _is_own_module(str(home.__module__))


def _is_own_module(name: str) -> bool:
    root = name.partition(".")[0]
    return root not in _LIBRARIES and (root == "__main__" or root not in sys.stdlib_module_names)


def _described(thing, seen: set):
    """What is known of a value: of own functions, classes and objects the code, once.

    Args:
        thing: any value.
        seen: by id, what was described before.
    """
    thing = inspect.unwrap(thing)  # of tf.custom_gradient
    if isinstance(thing, _PLAIN):
        return thing
    if isinstance(thing, np.generic | tf.DType):
        return repr(thing)
    if isinstance(thing, tuple):
        return [_described(each, seen) for each in thing]
    if not isinstance(thing, types.FunctionType | type):
        kind = type(thing)
        return [_described(kind, seen), _attributes(thing, seen) if _is_own(kind) else None]
    if not _is_own(thing) or id(thing) in seen:
        return thing.__qualname__
    seen.add(id(thing))
    return _class(thing, seen) if isinstance(thing, type) else _function(thing, seen)


def _attributes(thing, seen: set) -> dict:
    """The attributes that are neither Keras' own nor layers or variables."""
    found = vars(thing).items() if hasattr(thing, "__dict__") else ()
    of_keras = vars(keras.layers.Layer()) if isinstance(thing, keras.layers.Layer) else ()
    return {
        name: _described(value, seen)
        for name, value in found
        if name not in of_keras and not isinstance(value, tf.Module | tf.Variable)
    }


def _class(kind: type, seen: set) -> list:
    """Methods and class attributes, those of its own bases too."""
    found = []
    for each in filter(_is_own, kind.__mro__):
        for name, entry in sorted(vars(each).items()):
            entry = getattr(entry, "__func__", getattr(entry, "fget", entry))
            if isinstance(entry, types.FunctionType) or not name.startswith("__"):
                found.append((name, _described(entry, seen)))
    return found


def _function(function: types.FunctionType, seen: set) -> list:
    """What it does, with which defaults and closed-over values, and what it reads of its module."""
    cells = [_content(cell) for cell in function.__closure__ or ()]
    given = (*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values(), *cells)
    names, outside = _names(function.__code__), function.__globals__
    read = [(name, outside[name]) for name in sorted(names) if name in outside]
    for _, module in [pair for pair in read if isinstance(pair[1], types.ModuleType)]:
        if _is_own_module(module.__name__):
            attributes = sorted(name for name in names if hasattr(module, name))
            read += [(name, getattr(module, name)) for name in attributes]
    known = [(name, _described(value, seen)) for name, value in read]
    return [_steps(function.__code__), _described(given, seen), known]


def _content(cell):
    try:
        return cell.cell_contents
    except ValueError:  # not filled yet
        return None


def _names(code: types.CodeType) -> set:
    inner = (each for each in code.co_consts if isinstance(each, types.CodeType))
    return {*code.co_names}.union(*map(_names, inner))


def _steps(code: types.CodeType) -> list:
    """The instructions, without the lines they stand on and the names of local variables."""
    found = []
    for step in dis.get_instructions(code):
        value = step.argval
        if step.opcode in (*dis.haslocal, *dis.hasfree):
            value = step.arg
        elif isinstance(value, types.CodeType):
            value = _steps(value)
        elif isinstance(value, frozenset):  # in another order in each process
            value = sorted(map(repr, value))
        else:
            value = repr(value)
        found.append((step.opname, value))
    return found
