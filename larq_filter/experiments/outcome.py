"""What came out of a run: the numbers of its last epoch, of its optimizer, of all its stages."""

import csv
import pathlib

from larq_filter import binary
from larq_filter.experiments.run_folder import Result
from larq_filter.optimizers import FilterOptimizer
from larq_filter.optimizers.latent_optimizer import LatentOptimizer

import larq  # isort: skip


def result_of(
    folder: pathlib.Path, model, monitor, *, epochs, seconds, validated, tested, before
) -> Result:
    """The result of a run that has just trained its last epoch.

    Args:
        folder: the run folder, with its tables.
        model: the trained, compiled model.
        monitor: its ``FlipMonitor``.
        epochs: trained by this stage.
        seconds: its wall time.
        validated: what ``evaluate`` said of the validation images; empty if the last epoch's row
            of the table holds for the model.
        tested: what ``evaluate`` said of the test images; empty if nobody asked.
        before: the result of the stage before it, or None.
    """
    with (folder / "metrics.csv").open(newline="") as file:
        last = list(csv.DictReader(file))[-1]
    # Where there is a cross-entropy beside the loss, the loss is something else or more.
    loss = "cross_entropy" if "cross_entropy" in last else "loss"
    flipped = monitor.flipped_layers()
    return Result(
        output_dir=str(folder),
        epochs=epochs + (before.epochs if before else 0),
        accuracy=validated.get("accuracy", float(last["val_accuracy"])),
        loss=validated.get(loss, float(last[f"val_{loss}"])),
        train_accuracy=float(last["accuracy"]),
        train_loss=float(last[loss]),
        test_accuracy=tested.get("accuracy"),
        test_loss=tested.get(loss),
        flip_ratio=float(last.get("flip_ratio", 0.0)),
        flips_per_weight=monitor.flips_per_weight() if flipped else 0.0,
        flipped_layers=(sum(flipped.values()), len(flipped)),
        seconds=round(seconds + (before.seconds if before else 0.0), 1),
        optimizer_bytes_per_weight=optimizer_bytes_per_weight(model),
        skipped_steps=_skipped_steps(model) + (before.skipped_steps if before else 0),
    )


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
