"""Keras callbacks: what binary weights do in training, and validation that keeps up with them."""

from larq_filter.callbacks.batch_norm import PreciseBatchNorm, estimate_batch_norm
from larq_filter.callbacks.flip_monitor import Activity, FlipMonitor, has_tensorboard

__all__ = [
    "Activity",
    "FlipMonitor",
    "PreciseBatchNorm",
    "estimate_batch_norm",
    "has_tensorboard",
]
