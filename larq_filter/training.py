"""The one fit loop: a config in, a run folder and a result out.

A run folder holds all that is needed to find the run again and to go on with it:

    config.json     the config, the versions of the packages, the command line
    metrics.csv     one row an epoch
    flips.csv       one row an epoch and binary layer
    tensorboard/    the same for TensorBoard
    checkpoints/    model, optimizer and epoch, written after each epoch; the last three are kept
    model.keras     the trained model
    result.json     the result; its presence says that the run is finished
    step1/, teacher/   the whole run of a first stage, for methods that have one
    backup/         in place of checkpoints/ for a run of several machines (``strategies``)

``run`` on a folder that holds an unfinished run of the same config continues it from the last good
checkpoint; on a finished one it returns the result without training. Data order and augmentation
depend on seed and epoch only, so a continued run sees what the uninterrupted one would have seen.

``tf.train.Checkpoint`` was chosen over a ``.keras`` file an epoch: it holds the state of Larq's
``CaseOptimizer`` too, and its checksums tell a damaged file from a good one (``checkpoints``). The
tables are part of each checkpoint, so that a continued run has no row twice and lacks none.
"""

import contextlib
import csv
import dataclasses
import functools
import pathlib
import sys
import time

from larq_filter import (
    binary,
    callbacks,
    datasets,
    distillation,
    files,
    methods,
    models,
    runs,
    saved_models,
    strategies,
)
from larq_filter._keras import keras, tf
from larq_filter.checkpoints import Checkpoints, Tables
from larq_filter.conversion import to_latent_free
from larq_filter.latent_optimizer import LatentOptimizer
from larq_filter.optimizers import FilterOptimizer

import larq  # isort: skip


DATA = ("dataset", "data_dir", "download", "train_examples", "validation_examples", "image_size")


def run(
    config: runs.Config,
    output_dir,
    verbose: int | str = "auto",
    report=None,
    strategy=None,
    synchronized: bool = True,
    test: bool = True,
) -> runs.Result:
    """Trains, or continues, or looks up the run of ``config`` in ``output_dir``.

    Args:
        config: what to train.
        output_dir: the run folder; created if need be.
        verbose: as in ``Model.fit``; "auto" is a progress bar on a terminal, else a line an epoch.
        report: called as ``report(epoch, logs)`` once an epoch's checkpoint is written; what it
            raises ends the training, and the folder can be continued. A first stage isn't reported.
        strategy: of ``strategies.make``: the replicas that share each batch. It is no part of the
            config, but config.json holds it, and a run is continued under the one it began with.
            With several machines each calls this function, and all see the folder.
        synchronized: whether batch normalisation takes its statistics from all replicas.
        test: whether the test images are read after the last epoch. No for runs that one is chosen
            from.

    Returns:
        The result, read from the folder if the run was finished before.

    Raises:
        runs.RunExists: the folder holds a run of another config.
        ValueError, FileNotFoundError: an argument of the config can't be met; see there.
        RuntimeError: the folder has checkpoints and none can be used.
        files.NotWritable: the disk is full or the folder read-only; what was saved is intact.
    """
    strategies.require_even(strategy, config.batch_size)
    folder = pathlib.Path(output_dir)
    if verbose == "auto":
        verbose = 1 if sys.stdout.isatty() else 2
    scale = strategies.describe(strategy, synchronized)
    runs.refuse_other_run(folder, config, scale)
    result = runs.read_result(folder)
    if result is not None:
        print(f"{folder} holds the finished run of this config: nothing to train.")
        return result
    strategies.wait_for_all(strategy)  # all have read the folder before one of them writes
    stage = methods.first_stage(config.method, config.knobs, config.epochs)
    data = load_data(config)
    steps_per_epoch(config, data)  # before anything is written
    scaled = {"strategy": strategy, "synchronized": synchronized}
    with files.plain_errors(folder):
        return _run(config, stage, data, folder, verbose, report, scaled, test)


def _run(
    config: runs.Config, stage, data, folder, verbose, report, scaled: dict, test: bool
) -> runs.Result:
    """All stages of a run; ``scaled``: the arguments ``strategy`` and ``synchronized``."""
    if stage is None:
        teacher = _teacher(config)
        return _train(config, data, teacher, folder, verbose, report, test=test, **scaled)
    first = dataclasses.replace(config, method=stage.method, knobs=stage.knobs, epochs=stage.epochs)
    _new_model(config, data)  # a wrong argument is found before the first stage, not after it
    _write_config(folder, config, **scaled)
    print(f"First stage, {stage.name}: {methods.METHODS[stage.method].summary}.")
    before, earlier = _first_stage(first, folder / stage.name, verbose, scaled)
    print(f"Now {config.method}: {methods.METHODS[config.method].summary}.")
    own = dataclasses.replace(config, epochs=stage.own_epochs)
    return _train(own, data, earlier, folder, verbose, report, before, test=test, **scaled)


def _first_stage(config: runs.Config, folder, verbose, scaled: dict):
    """The result of a first stage and its model."""
    result = run(config, folder, verbose, test=False, **scaled)
    try:
        return result, saved_models.load_model(folder / "model.keras")
    except (ValueError, FileNotFoundError) as error:
        print(f"{error} It is made again from the last checkpoint.")
    (folder / "result.json").unlink()
    result = run(config, folder, verbose, test=False, **scaled)
    return result, saved_models.load_model(folder / "model.keras")


def _write_config(folder, config: runs.Config, strategy, synchronized: bool) -> None:
    if strategies.is_chief(strategy):
        runs.write_config(folder, config, strategies.describe(strategy, synchronized))


def steps_per_epoch(config: runs.Config, data: datasets.ImageData) -> int:
    """Steps of an epoch of ``config`` on ``data``.

    Raises:
        ValueError: a batch larger than the data, or more steps than there are full batches.
    """
    available = data.steps_per_epoch(config.batch_size)
    steps = config.steps_per_epoch or available
    if steps > available:
        raise ValueError(
            f"steps_per_epoch is {steps}, but {data.train_examples} training images make "
            f"{available} full batches of {config.batch_size}. Choose at most {available}, or "
            "smaller batches."
        )
    return steps


def load_data(config: runs.Config) -> datasets.ImageData:
    """The data of a run; the last ones loaded are kept for the next run that asks for the same."""
    return _data(**{name: getattr(config, name) for name in DATA})


@functools.lru_cache(maxsize=1)
def _data(dataset: str, **arguments) -> datasets.ImageData:
    return datasets.load(dataset, **arguments)


def _train(
    config: runs.Config,
    data,
    earlier,
    folder,
    verbose,
    report,
    before=None,
    strategy=None,
    synchronized=True,
    test=True,
) -> runs.Result:
    """The stage of ``config`` in its folder; ``before``: the result of the stage before it."""
    keras.backend.clear_session()  # layers get the names they have in a process of their own
    keras.utils.set_random_seed(config.seed)
    steps = steps_per_epoch(config, data)
    with contextlib.nullcontext() if strategy is None else strategy.scope():
        model = _compiled_model(config, data, steps, earlier)
    strategies.prepare(model, strategy, synchronized)
    if before is None:
        # Only now: a wrong argument leaves nothing behind.
        _write_config(folder, config, strategy, synchronized)
    own = strategies.own_folder(folder, strategy)
    tables = Tables([own / "metrics.csv", own / "flips.csv"])
    monitor = callbacks.FlipMonitor(own / "flips.csv", own / "tensorboard" / "flips")
    watchers = [monitor] if binary.binary_kernels(model, trainable_only=False) else []
    for watcher in watchers:
        watcher.attach(model)
    if strategies.workers(strategy) == 1:
        progress = _Progress(model, monitor.counters, tables, folder, runs.as_json(config))
    else:
        progress = strategies.Backup(model, monitor.counters, tables, folder)
    first_epoch = progress.restore()
    if first_epoch:
        print(f"Continues the run in {folder} after epoch {first_epoch} of {config.epochs}.")
    else:
        tables.remove()  # rows of an epoch that was not saved
    if first_epoch < config.epochs:  # else only the model and the result are still to be written
        train_data = data.train(
            config.batch_size,
            seed=config.seed,
            augment=config.augment,
            first_epoch=first_epoch,
            epochs=config.epochs,
            steps_per_epoch=steps,
        )
        if methods.METHODS[config.method].distils:
            train_data = distillation.with_soft_targets(train_data, earlier)
        model.fit(
            strategies.sharded(train_data, strategy),
            initial_epoch=first_epoch,
            epochs=config.epochs,
            steps_per_epoch=steps,
            validation_data=strategies.sharded(data.validation(config.batch_size), strategy),
            callbacks=[
                *watchers,
                keras.callbacks.CSVLogger(str(own / "metrics.csv"), append=first_epoch > 0),
                keras.callbacks.TensorBoard(str(own / "tensorboard"), write_graph=False),
                progress,
                *([] if report is None else [_Report(report)]),
            ],
            verbose=verbose,
        )
    tested = {}
    if test:
        images = strategies.sharded(data.test(config.batch_size), strategy)
        tested = model.evaluate(images, verbose=0, return_dict=True)
    return _finish(config, folder, own, model, monitor, float(progress.seconds), before, tested)


def _new_model(config: runs.Config, data):
    """The latent model that every method starts from."""
    arguments = {} if config.width is None else {"width": config.width}
    return models.build(
        config.model, input_shape=data.input_shape, num_classes=data.num_classes, **arguments
    )


def _compiled_model(config: runs.Config, data, steps: int, earlier):
    """The compiled model, checked for whatever would keep the method from training it."""
    model = _new_model(config, data)
    total = steps * config.epochs
    model = methods.compile_for(config.method, model, config.knobs, total, earlier, config.seed)
    if isinstance(model.optimizer, FilterOptimizer):
        findings = binary.check(model)
        if findings:
            raise ValueError(
                "This model can't be trained latent-free:\n  "
                + "\n  ".join(str(finding) for finding in findings)
            )
    return model


def _teacher(config: runs.Config):
    """The saved model, or that of the run folder, which the knob ``teacher`` names; or None."""
    if config.knobs.teacher is None:
        return None
    path = pathlib.Path(config.knobs.teacher)
    inside = path / "model.keras"  # a run folder stands for its model
    return saved_models.load_model(inside if inside.exists() else path)


class _Progress(keras.callbacks.Callback):
    """Saves model, optimizer, epoch, tables and wall time after each epoch, and restores them."""

    def __init__(self, compiled_model, counters, tables: Tables, folder, config: dict):
        super().__init__()
        _build_optimizer(compiled_model)
        self.epoch = tf.Variable(0, dtype=tf.int64)
        self.seconds = tf.Variable(0.0, dtype=tf.float64)
        self.checkpoints = Checkpoints(
            folder / "checkpoints",
            config,
            model=compiled_model,
            optimizer=compiled_model.optimizer,
            epoch=self.epoch,
            seconds=self.seconds,
            flips=counters,
            tables=tables,
        )

    def restore(self) -> int:
        """Restores the newest good checkpoint; returns its number of epochs, 0 if there is none.

        Raises:
            RuntimeError: there are checkpoints and none of them can be used.
        """
        self.checkpoints.restore()
        return int(self.epoch)

    def on_epoch_begin(self, epoch, logs=None):
        self._began = time.monotonic()

    def on_epoch_end(self, epoch, logs=None):
        self.epoch.assign(epoch + 1)
        self.seconds.assign_add(time.monotonic() - self._began)
        self.checkpoints.save(epoch + 1)


def _build_optimizer(model) -> None:
    """Creates the optimizer's states, which would else wait for the first step to be restored.

    A run whose last epoch was saved takes no step any more. Larq's ``CaseOptimizer`` is of the
    old kind and can't be built, but its states aren't saved with the model either.
    """
    if isinstance(model.optimizer, keras.optimizers.Optimizer):
        with model.distribute_strategy.scope():
            model.optimizer.build(model.trainable_variables)


class _Report(keras.callbacks.Callback):
    """Tells ``report`` what an epoch gave."""

    def __init__(self, report):
        super().__init__()
        self.report = report

    def on_epoch_end(self, epoch, logs=None):
        self.report(epoch, dict(logs or {}))


def _finish(
    config: runs.Config, folder, own, model, monitor, seconds: float, before, tested: dict
) -> runs.Result:
    """Writes the trained model, then the result that marks the run as finished.

    ``own`` is where this process writes: ``folder``, but for the later ones of several machines.
    """
    strategy = model.distribute_strategy
    state, skipped = optimizer_bytes_per_weight(model), _skipped_steps(model)
    if config.method == "larq_bop":
        # A loaded CaseOptimizer would train nothing and say nothing: save the model without it.
        model = to_latent_free(model)
    _save_model(model, own / "model.keras")
    if own != folder:  # the first worker has the tables and writes the result
        strategies.wait_for_all(strategy)
        result = runs.read_result(folder)
        if result is None:
            raise RuntimeError(
                f"The first worker has finished, and its {folder / 'result.json'} can't be read "
                "here. All workers need one file system, on which they see this folder."
            )
        return result
    with (folder / "metrics.csv").open(newline="") as file:
        last = list(csv.DictReader(file))[-1]
    # Where there is a cross-entropy beside the loss, the loss is something else or more.
    loss = "cross_entropy" if "cross_entropy" in last else "loss"
    flipped = monitor.flipped_layers()
    result = runs.Result(
        output_dir=str(folder),
        epochs=config.epochs + (before.epochs if before else 0),
        accuracy=float(last["val_accuracy"]),
        loss=float(last[f"val_{loss}"]),
        train_accuracy=float(last["accuracy"]),
        train_loss=float(last[loss]),
        test_accuracy=tested.get("accuracy"),
        test_loss=tested.get(loss),
        flip_ratio=float(last.get("flip_ratio", 0.0)),
        flips_per_weight=monitor.flips_per_weight() if flipped else 0.0,
        flipped_layers=(sum(flipped.values()), len(flipped)),
        seconds=round(seconds + (before.seconds if before else 0.0), 1),
        optimizer_bytes_per_weight=state,
        skipped_steps=skipped + (before.skipped_steps if before else 0),
    )
    runs.write_result(folder, result)
    strategies.wait_for_all(strategy)
    return result


def _save_model(model, path: pathlib.Path) -> None:
    """Writes whole or not at all."""
    part = path.with_suffix(".part.keras")  # Keras goes by the end of the name
    try:
        model.save(part)
        files.commit(part, path)
    finally:
        part.unlink(missing_ok=True)


def _skipped_steps(model) -> int:
    optimizer = model.optimizer
    return int(optimizer.skipped_steps.numpy()) if isinstance(optimizer, FilterOptimizer) else 0


def optimizer_bytes_per_weight(model) -> float:
    """Bytes of optimizer state for each trained binary weight of a compiled model; 0 for none.

    For Keras' own optimizers, which treat all variables alike, the mean over all of them.
    """
    optimizer = model.optimizer
    kernels = [kernel for _, kernel in binary.binary_kernels(model)]
    if isinstance(optimizer, FilterOptimizer):
        arrays = optimizer.state_variables()
    elif isinstance(optimizer, LatentOptimizer):
        arrays = [v for v in optimizer.kernel_optimizer.variables if v.shape.rank]
    elif isinstance(optimizer, larq.optimizers.CaseOptimizer):
        arrays = [v for v in optimizer.optimizers[0].variables() if v.shape.rank]
    else:
        kernels = kernels and model.trainable_variables
        arrays = [v for v in optimizer.variables if v.shape.rank]
    weights = sum(int(kernel.shape.num_elements()) for kernel in kernels)
    size = sum(array.dtype.size * int(array.shape.num_elements()) for array in arrays)
    return size / weights if weights else 0.0
