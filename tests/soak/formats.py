"""Every optimizer through every format into a new process: 60 further steps, bit for bit.

A ``LossScaleOptimizer`` in a file of Keras is to say at saving that its scale is lost.
"""

import pathlib
import sys
import warnings

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "helpers"))

import saving_cases


def every_format(names):
    """A case: one new process goes on with all files of these optimizers."""

    def case(folder, seed):
        expected, whole, unsaid = {}, {}, {}
        for index, name in enumerate(names):
            model = saving_cases.first_part(name)
            for number, format in enumerate(saving_cases.FORMATS):
                path = folder / f"{index}_{number}"
                unsaid[path] = _write(name, format, path, model)
            expected[name] = saving_cases.uninterrupted(name, model)
            whole[name] = saving_cases.uninterrupted(name, model, "BackupAndRestore")
        saving_cases.in_a_new_process(folder)
        for index, name in enumerate(names):
            for number, format in enumerate(saving_cases.FORMATS):
                path = folder / f"{index}_{number}"
                wanted = (whole if format == "BackupAndRestore" else expected)[name]
                lost = unsaid[path] or _lost(name, format, wanted, saving_cases.result_of(path))
                yield lost and f"{name} in {format}: {lost}"

    return case


def _write(name, format, path, model) -> str | None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        saving_cases.write(name, format, path, model)
    said = any("LossScaleOptimizer" in str(each.message) for each in caught)
    if name == "loss scale" and format in saving_cases.KERAS_FILES and not said:
        return "the scale is left out without a warning"
    return None


def _lost(name, format, wanted, found) -> str | None:
    if name == "loss scale" and format == ".h5":
        return None  # all of it, as the warning says
    if name == "loss scale" and format in saving_cases.KERAS_FILES:
        wanted, found = ([*values[:-3], values[-1]] for values in (wanted, found))
    return saving_cases.differences(wanted, found)


_NAMES = list(saving_cases.OPTIMIZERS)
CASES = {
    f"formats, optimizers {start + 1} to {min(start + 8, len(_NAMES))}": every_format(
        _NAMES[start : start + 8]
    )
    for start in range(0, len(_NAMES), 8)
}
