"""Image classification data: training, validation and test images of a set, ready for `fit`.

load            a set by name, a folder of images by class, an `.npz` file
from_arrays     images and labels in NumPy arrays
from_datasets   any `tf.data.Dataset` of (image, label)

sources       where images come from by name or path
folders       which files of a folder are of which class and part
image_files   those files, looked at and decoded
arrays        what arrays must be
given         images that a program has already
splits        which of them train, which choose, which are only tested
image_data    what all of them give
preparation   what a trained network needs of them later
pipelines     batches, their order and their augmentation
"""

from larq_filter.datasets.given import from_arrays, from_datasets
from larq_filter.datasets.image_data import ImageData
from larq_filter.datasets.pipelines import Augmentation
from larq_filter.datasets.preparation import Preparation
from larq_filter.datasets.sources import load

__all__ = ["Augmentation", "ImageData", "Preparation", "from_arrays", "from_datasets", "load"]
