"""Image classification data: `load` gives training, validation and test images of a set by name.

sources       where images come from: scikit-learn's digits, sets of TensorFlow Datasets
splits        which of them train, which choose, which are only tested
image_data    what `load` gives
pipelines     batches, their order and their augmentation
"""

from larq_filter.datasets.image_data import ImageData
from larq_filter.datasets.pipelines import Augmentation
from larq_filter.datasets.sources import load

__all__ = ["Augmentation", "ImageData", "load"]
