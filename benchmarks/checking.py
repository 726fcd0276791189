"""What the tables of models and of methods ask of a trained network, and how they are written.

A row is computed once: it lies in the output folder with its config, and the same command again
prints it as it is. A row that fails says why, and the others go on.
"""

import collections
import dataclasses
import json
import pathlib
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable

import numpy as np
from absl import logging

from larq_filter import binary, export  # first: tf.keras is Keras 2 then
from larq_filter._keras import keras
from larq_filter._validation import first_line
from larq_filter.experiments import files, run_data, run_folder, tables


def some_images(config: run_folder.Config, count: int) -> tuple[np.ndarray, np.ndarray]:
    """The first validation images and their labels."""
    batch = next(iter(run_data.load(config).validation(count)))
    return tuple(part.numpy() for part in batch)


def reloads(model, images) -> bool:
    """Whether a file brings the model back as it is: outputs, weights, optimizer state.

    ``model`` itself is from a file: if that had lost the state, a second one would lose no more.
    """
    optimizer = model.optimizer
    if optimizer is not None and not int(optimizer.iterations):
        return False
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "model.keras"
        model.save(path)
        again = keras.models.load_model(path)
    outputs = [each(images, training=False) for each in (model, again)]
    return np.array_equal(*outputs) and all(
        np.array_equal(binary.latent(one), binary.latent(other))
        for one, other in zip(_variables(model), _variables(again), strict=True)
    )


def _variables(model) -> list:
    optimizer = model.optimizer
    return [*model.weights, *([] if optimizer is None else optimizer.variables)]


def exported(model, images, labels) -> dict:
    """The columns about Larq Compute Engine."""
    try:
        flatbuffer = export.convert(model)
        report = export.verify(model, flatbuffer, images, labels)
    except ImportError as error:
        return {"converted": "not installed", "trouble": str(error)}
    except Exception as error:  # whatever it is, the columns before it are worth having
        return {"converted": "no", "trouble": first_line(error)}
    claims = {claim.name: claim for claim in report.claims}
    numbers = {name: claim.numbers for name, claim in claims.items()}
    failed = [f"{claim.name}: {claim.details}" for claim in report.claims if not claim.ok]
    floats = collections.Counter(report.float_layers.values())
    reasons = [f"{count} stay float ({reason})" for reason, count in floats.items()]
    bits = numbers["operators on bits"]
    return {
        "converted": f"{bits['operators']} of {bits['binary_layers']}",
        "keras_bytes": numbers["size"]["keras"],
        "lce_bytes": numbers["size"]["lce"],
        "output_difference": numbers["outputs"].get("median"),
        "top1_agreement": numbers.get("top-1", {}).get("equal"),
        "trouble": "; ".join(reasons) or (first_line(failed[0]) if failed else None),
    }


def made(folder) -> pathlib.Path:
    """The folder of the tables, there; before anything else, since what follows takes minutes."""
    folder = pathlib.Path(folder)
    with files.plain_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    return folder


def rows(name: str, configs: Iterable, row_of: Callable, folder: pathlib.Path, key: dict):
    """One row for each config, old ones from their files.

    Args:
        name: of the first column.
        configs: pairs of what stands there and the config of the run.
        row_of: ``row_of(config, folder)`` gives the row.
        folder: for the runs; it is there.
        key: what else a row depends on.
    """
    for title, config in configs:
        file = folder / title / "row.json"
        # A row of another config is not this one's; a failed one is tried again.
        own = json.loads(json.dumps({**dataclasses.asdict(config), **key}))
        if file.exists() and (found := json.loads(file.read_text()))["config"] == own:
            yield found["row"]
            continue
        try:
            row = row_of(config, folder / title)
        except files.NotWritable:  # the next one would find the disk as full
            raise
        except Exception as error:  # the table has to tell of each, whatever it raises
            logging.exception("%s failed", title)
            yield {name: title, "trouble": first_line(error)}
            continue
        files.write_json(file, {"config": own, "row": row})
        for old in (folder / title).rglob("checkpoints"):  # of no more use, and 20 GB for all
            shutil.rmtree(old, ignore_errors=True)
        yield row


def report(rows: Iterable[dict], columns: dict, title: str, reading: str, folder) -> None:
    """Prints each row as it comes, and writes both tables again; exit status 1 if one failed."""
    logging.set_verbosity(logging.ERROR)  # absl would show notes of Larq and on checkpoints
    folder, table = pathlib.Path(folder), []
    for row in rows:
        table.append(row)
        text = f"{title}\n\n{tables.markdown(table, columns)}\n\n{reading}"
        files.write_whole(folder / "table.md", text)
        tables.write_csv(folder / "table.csv", table, columns)
        print(", ".join(f"{columns[key]} {tables.text_of(row[key])}" for key in row), flush=True)
    print(f"\n{tables.markdown(table, columns)}\n\nTables: {folder}")
    # A claim that fails is a finding; one that could not be trained is a failure.
    if any("loss" not in row for row in table):
        sys.exit("Some failed. The same command tries them again.")
