"""The one fit loop: a config in, a run folder and a result out.

A run folder holds all that is needed to find the run again and to go on with it:

    config.json     the config, the versions of the packages, the command line
    classes.json    the names of the classes, in the order of the model's outputs
    model.images.json   how the model takes images: size, classes, mean, deviation
    metrics.csv     one row an epoch
    flips.csv       one row an epoch and binary layer
    tensorboard/    the same for TensorBoard, if that is installed
    checkpoints/    model, optimizer and epoch, written after each epoch; the last three are kept
    model.keras     the trained model
    result.json     the result; its presence says that the run is finished
    step1/, teacher/   the whole run of a first stage, for methods that have one, with its own in it
    backup/         in place of checkpoints/ for a run of several machines (``strategies``)

``run`` on a folder that holds an unfinished run of the same config continues it from the last good
checkpoint; on a finished one it returns the result without training. Data order and augmentation
depend on seed and epoch only, so a continued run sees what the uninterrupted one would have seen.

``tf.train.Checkpoint`` was chosen over a ``.keras`` file an epoch: it holds the state of Larq's
``CaseOptimizer`` too, and its checksums tell a damaged file from a good one (``checkpoints``). The
tables are part of each checkpoint, so that a continued run has no row twice and lacks none.
"""

import contextlib
import dataclasses
import functools
import logging
import os
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

from larq_filter import binary, callbacks, datasets, serialization
from larq_filter._keras import keras
from larq_filter._validation import shown
from larq_filter.conversion import to_latent_free
from larq_filter.experiments import (
    files,
    finished_runs,
    memory,
    methods,
    outcome,
    progress,
    run_data,
    run_folder,
    strategies,
    user_inputs,
)
from larq_filter.experiments.checkpoints import Tables
from larq_filter.experiments.epoch_lines import EpochLines
from larq_filter.optimizers import FilterOptimizer

import larq  # isort: skip

logger = logging.getLogger(__name__)

Config, Result = run_folder.Config, run_folder.Result  # what users of this module name


@dataclasses.dataclass(frozen=True)
class _Way:
    """How a run is made, which is no part of its config: the arguments of ``run``."""

    verbose: int | str
    report: Callable | None
    strategy: Any
    synchronized: bool
    test: bool
    data: Any = None
    model: Any = None
    callbacks: tuple = ()
    described: dict | None = None  # of a stage: what ``user_inputs.describe`` says

    @property
    def scale(self) -> dict | None:
        """What config.json says of the strategy."""
        return strategies.describe(self.strategy, self.synchronized)

    def write_config(self, folder: pathlib.Path, config: run_folder.Config, data) -> None:
        """Writes config.json and classes.json, once for all machines."""
        if strategies.is_chief(self.strategy):
            images = data.preparation()
            run_folder.write_config(folder, config, self.scale, self.described, images)

    def alone(self, folder: pathlib.Path):
        """``run_folder.alone``; workers but the first write elsewhere."""
        chief = strategies.is_chief(self.strategy)
        return run_folder.alone(folder) if chief else contextlib.nullcontext()

    def of_first_stage(self) -> "_Way":
        """Nobody chooses a first stage by its test, and nobody waits for its epochs."""
        return dataclasses.replace(self, report=None, test=False, callbacks=())


def run(
    config: run_folder.Config,
    output_dir: str | os.PathLike[str],
    verbose: int | str = "auto",
    report: Callable[[int, dict], Any] | None = None,
    strategy: Any = None,
    synchronized: bool = True,
    test: bool = True,
    data: datasets.ImageData | None = None,
    model: Any = None,
    callbacks: Sequence[Any] = (),
) -> run_folder.Result:
    """Trains, or continues, or looks up the run of ``config`` in ``output_dir``.

    Which of these it does is logged, and damage is as a warning; ``logging.basicConfig(level=
    logging.INFO)`` shows all of it.

    Args:
        config: what to train.
        output_dir: the run folder; created if need be.
        verbose: "auto" logs a short line an epoch, and one every half minute within it
            (``epoch_lines``); a number is that of ``Model.fit``, and 0 is silence.
        report: called as ``report(epoch, logs)`` once an epoch's checkpoint is written; what it
            raises ends the training, and the folder can be continued. A first stage isn't reported.
        strategy: of ``strategies.make``: the replicas that share each batch. Another one of
            ``tf.distribute`` that is synchronous is taken too, and untried. It is no part of the
            config, but config.json holds it, and a run is continued under the one it began with.
            With several machines each calls this function, and all see the folder.
        synchronized: whether batch normalisation takes its statistics from all replicas.
        test: whether the test images are read after the last epoch. No for runs that one is chosen
            from.
        data: images in place of those that the config names: of ``datasets.from_arrays`` or
            ``from_datasets``. To continue the run hand the same ones over again.
        model: in place of the one that the config names: a function of ``input_shape`` and
            ``num_classes`` that makes a new one, or a Keras model, a copy of which is trained from
            its weights. It ends in a softmax. To continue the run hand it over again. It is known
            by how it is built, not by its weights: for other ones choose another folder.
        callbacks: Keras callbacks, loggers among them; they come after the flip counter, whose
            numbers they see in ``logs``, and before the tables and the checkpoint. What they keep
            in memory is in no checkpoint: one that decides on the training (``EarlyStopping``)
            begins anew in a continued run. A first stage has none.

    Returns:
        The result, read from the folder if the run was finished before.

    Raises:
        run_folder.RunExists: the folder holds a run of another config.
        ValueError, FileNotFoundError: an argument of the config can't be met; see there.
        RuntimeError: the folder has checkpoints and none can be used.
        files.NotWritable: the disk is full or the folder read-only; what was saved is intact.
    """
    config = user_inputs.named(config, data, model)
    strategies.require_even(strategy, config.batch_size)
    if verbose not in ("auto", 0, 1, 2):
        raise ValueError(f'`verbose` is {shown(verbose)}; it must be "auto", 0, 1 or 2.')
    callbacks = _validated(callbacks)
    way = _Way(verbose, report, strategy, synchronized, test, data, model, callbacks)
    # A layer call that raised leaves Larq's scope open, in which latent weights read as signs.
    with memory.graphs_forgotten(), larq.context.quantized_scope(False):
        return _run(config, pathlib.Path(output_dir), way)


def _validated(callbacks) -> tuple:
    wrong = [each for each in callbacks if not isinstance(each, keras.callbacks.Callback)]
    if wrong:
        raise TypeError(f"`callbacks` must be tf.keras.callbacks.Callback, not {shown(wrong[0])}.")
    return tuple(callbacks)


def _run(config: run_folder.Config, folder: pathlib.Path, way: _Way) -> run_folder.Result:
    """Looks the run up, or makes all of its stages."""
    run_folder.refuse_other_run(folder, config, way.scale)
    data = way.data
    if data is None and user_inputs.has_code(way.model):
        data = run_data.load(config)
    described = user_inputs.describe(config, data, way.model)
    run_folder.refuse_other_own(folder, described)
    result = run_folder.read_result(folder)
    if result is not None:
        if data is None and finished_runs.have_own_images(config, folder):
            data = run_data.load(config)
            described = user_inputs.describe(config, data, way.model)
            run_folder.refuse_other_own(folder, described)
        if run_folder.lacks_preparation(folder):
            write = functools.partial(way.write_config, folder, config)
            finished_runs.restore_preparation(config, folder, data, write)
        if not finished_runs.is_to_be_saved_again(config, folder, result):
            logger.info("%s holds the finished run of this config: nothing to train.", folder)
            return result
    strategies.wait_for_all(way.strategy)  # all have read the folder before one of them writes
    stage = methods.first_stage(config.method, config.knobs, config.epochs)
    if data is None:
        data = run_data.load(config)
        described = user_inputs.describe(config, data, way.model)
        run_folder.refuse_other_own(folder, described)
    way = dataclasses.replace(way, described=described)
    run_data.steps_per_epoch(config, data)  # before anything is written
    with files.plain_errors(folder):
        if stage is not None or way.model is not None:
            _refuse_unfit(config, data, way, stage is not None)
        if stage is None:
            return _train(config, data, user_inputs.teacher(config, data), folder, way)
        way.write_config(folder, config, data)
        before, earlier = _first_stage(config, stage, folder, way)
        logger.info("Now %s: %s.", config.method, methods.METHODS[config.method].summary)
        second = dataclasses.replace(config, epochs=stage.own_epochs)
        return _train(second, data, earlier, folder, way, before)


def _refuse_unfit(config: run_folder.Config, data, way: _Way, stages: bool) -> None:
    """Raises, before the first stage, if a later one or the saving at the end would fail.

    Warns in the log if commands could not open what is saved. A function of its own, so that its
    model is gone while another one is trained.
    """
    model = user_inputs.build(config, data, way.model)
    file_config = serialization.file_config(model)
    try:
        serialization.refuse_foreign(file_config, f"The model {model.name}")
    except ValueError as error:
        if stages:
            raise ValueError(f"{error} The method's second stage begins with its file.") from error
        logger.warning("%s No command will open the model.keras of this run.", error)
    if stages:
        methods.METHODS[config.method].needs(model, user_inputs.teacher(config, data))


def _first_stage(config: run_folder.Config, stage, folder: pathlib.Path, way: _Way):
    """The result of a first stage and its model."""
    logger.info("First stage, %s: %s.", stage.name, methods.METHODS[stage.method].summary)
    first = dataclasses.replace(config, method=stage.method, knobs=stage.knobs, epochs=stage.epochs)
    folder, way = folder / stage.name, way.of_first_stage()
    result = _run(first, folder, way)
    try:
        return result, serialization.load_model(folder / "model.keras")
    except (ValueError, FileNotFoundError) as error:
        logger.warning("%s It is made again from the last checkpoint.", error)
    (folder / "result.json").unlink()
    return _run(first, folder, way), serialization.load_model(folder / "model.keras")


def _train(
    config: run_folder.Config, data, earlier, folder: pathlib.Path, way: _Way, before=None
) -> run_folder.Result:
    """The stage of ``config`` in its folder; ``before``: the result of the stage before it."""
    keras.backend.clear_session()  # layers get the names they have in a process of their own
    keras.utils.set_random_seed(config.seed)
    with contextlib.nullcontext() if way.strategy is None else way.strategy.scope():
        model = _compiled_model(config, data, way, earlier)
    strategies.prepare(model, way.strategy, way.synchronized)
    if before is None:
        way.write_config(folder, config, data)  # only now: what is wrong leaves nothing behind
    with way.alone(folder):
        return _train_alone(config, data, earlier, model, folder, way, before)


def _train_alone(config: run_folder.Config, data, earlier, model, folder, way: _Way, before):
    """``_train`` once nobody else trains in the folder."""
    mine = strategies.own_folder(folder, way.strategy)
    tables = Tables([mine / "metrics.csv", mine / "flips.csv"])
    board = mine / "tensorboard" if callbacks.has_tensorboard() else None
    if board is None:
        logger.info("Without TensorBoard's files: pip install larq_filter[tensorboard] for them.")
    monitor = callbacks.FlipMonitor(mine / "flips.csv", board and board / "flips")
    watchers = [monitor] if binary.binary_kernels(model, trainable_only=False) else []
    for watcher in watchers:
        watcher.attach(model)
    saver = progress.saver(model, monitor.counters, tables, folder, run_folder.as_json(config))
    first_epoch = saver.restore()
    if first_epoch:
        logger.info(
            "Continues the run in %s after epoch %d of %d.", folder, first_epoch, config.epochs
        )
    else:
        tables.remove()  # rows of an epoch that was not saved
    epochs = first_epoch
    if first_epoch < config.epochs:  # else only the model and the result are still to be written
        loggers = [
            *watchers,
            *way.callbacks,
            keras.callbacks.CSVLogger(str(mine / "metrics.csv"), append=first_epoch > 0),
            *([] if board is None else [keras.callbacks.TensorBoard(board, write_graph=False)]),
            saver,
            *([EpochLines()] if way.verbose == "auto" else []),
            *([] if way.report is None else [_Report(way.report)]),
        ]
        epochs = _fit(config, data, earlier, model, way, first_epoch, loggers)
    # Callbacks may change the weights at the end: `EarlyStopping` restores the best ones.
    validated = _evaluated(model, data.validation, config, way) if way.callbacks else {}
    tested = _evaluated(model, data.test, config, way) if way.test else {}
    config = dataclasses.replace(config, epochs=epochs)  # a callback may have ended it
    seconds = float(saver.seconds)
    return _finish(config, folder, model, monitor, seconds, before, validated, tested)


def _evaluated(model, images, config: run_folder.Config, way: _Way) -> dict:
    """The metrics of the model that is saved; ``images``: ``data.validation`` or ``data.test``."""
    sharded = strategies.sharded(images(config.batch_size), way.strategy)
    return model.evaluate(sharded, verbose=0, return_dict=True)


def _fit(config: run_folder.Config, data, earlier, model, way: _Way, first_epoch, loggers) -> int:
    """Trains; returns after how many epochs the training ended."""
    steps = run_data.steps_per_epoch(config, data)
    train_data = data.train(
        config.batch_size,
        seed=config.seed,
        augment=config.augment,
        first_epoch=first_epoch,
        epochs=config.epochs,
        steps_per_epoch=steps,
    )
    train_data = methods.dataset_for(config.method, train_data, earlier)
    history = model.fit(
        strategies.sharded(train_data, way.strategy),
        initial_epoch=first_epoch,
        epochs=config.epochs,
        steps_per_epoch=steps,
        validation_data=strategies.sharded(data.validation(config.batch_size), way.strategy),
        callbacks=loggers,
        verbose=0 if way.verbose == "auto" else way.verbose,
    )
    return history.epoch[-1] + 1


def _compiled_model(config: run_folder.Config, data, way: _Way, earlier):
    """The compiled model, checked for whatever would keep the method from training it."""
    model = user_inputs.build(config, data, way.model)
    trained = earlier is None and binary.is_trained(model)
    total = run_data.steps_per_epoch(config, data) * config.epochs
    model = methods.compile_for(config.method, model, config.knobs, total, earlier, config.seed)
    if trained:
        _warn_of_start(config, model.optimizer)
    if isinstance(model.optimizer, FilterOptimizer):
        findings = binary.check(model)
        errors = [str(each) for each in findings if each.severity == binary.ERROR]
        if errors:
            raise ValueError("This model can't be trained latent-free:\n  " + "\n  ".join(errors))
        for warning in findings:
            logger.warning("%s", warning)
    return model


def _warn_of_start(config: run_folder.Config, optimizer) -> None:
    """Of a model that brings trained kernels, what the method does not take them for."""
    keeps = methods.METHODS[config.method].keeps_kernels
    if keeps is None:
        keeps = getattr(optimizer, "warm_start", True) is not None
    if config.method == "frozen":
        logger.warning(
            "%s was trained before: its binary kernels are frozen as they are, not at random.",
            config.model,
        )
    elif not keeps:
        logger.warning(
            "%s was trained before, but the filters of method %s can only start at zero: its "
            "binary kernels are set anew by the first steps. Choose another method to go on.",
            *(config.model, config.method),
        )
    else:
        logger.info("%s was trained before: training goes on from its kernels.", config.model)


class _Report(keras.callbacks.Callback):
    """Tells ``report`` what an epoch gave."""

    def __init__(self, report):
        super().__init__()
        self.report = report

    def on_epoch_end(self, epoch, logs=None):
        self.report(epoch, dict(logs or {}))


def _finish(config, folder, model, monitor, seconds, before, validated, tested):
    """Writes the trained model, then the result that marks the run as finished."""
    strategy = model.distribute_strategy
    mine = strategies.own_folder(folder, strategy)
    # A loaded CaseOptimizer would train nothing and say nothing: save the model without it.
    saved = to_latent_free(model) if config.method == "larq_bop" else methods.network_of(model)
    with files.whole(mine / "model.keras") as part:
        saved.save(part)
    if mine != folder:  # the first worker has the tables and writes the result
        strategies.wait_for_all(strategy)
        result = run_folder.read_result(folder)
        if result is None:
            raise RuntimeError(
                f"The first worker has finished, and its {folder / 'result.json'} can't be read "
                "here. All workers need one file system, on which they see this folder."
            )
        return result
    result = outcome.result_of(
        folder,
        model,
        monitor,
        epochs=config.epochs,
        seconds=seconds,
        validated=validated,
        tested=tested,
        before=before,
    )
    run_folder.write_result(folder, result)
    strategies.wait_for_all(strategy)
    return result
