"""The models of larq-zoo by name; the only module that imports larq_zoo."""

from collections.abc import Sequence
from typing import Any

from larq_filter.models._shapes import image_shape
from larq_filter.models._zoo_layers import portable

SOTA = ("QuickNet", "QuickNetSmall", "QuickNetLarge")
LITERATURE = (
    "BinaryAlexNet",
    "BiRealNet",
    "BinaryResNetE18",
    "BinaryDenseNet28",
    "BinaryDenseNet37",
    "BinaryDenseNet37Dilated",
    "BinaryDenseNet45",
    "DoReFaNet",
    "MeliusNet22",
    "RealToBinaryNet",
    "XNORNet",
)

# Smallest height and width, and what they must be multiples of; from the strides and paddings.
_SIZES = {
    "QuickNet": (29, 1),
    "QuickNetSmall": (29, 1),
    "QuickNetLarge": (29, 1),
    "BinaryAlexNet": (57, 1),
    "BinaryResNetE18": (32, 32),
    "BinaryDenseNet28": (29, 1),
    "BinaryDenseNet37": (29, 1),
    "BinaryDenseNet37Dilated": (5, 1),
    "BinaryDenseNet45": (29, 1),
    "DoReFaNet": (44, 1),
    "XNORNet": (217, 1),
}
_ANY = (1, 1)


def zoo_model(
    name: str,
    input_shape: Sequence[int] = (224, 224, 3),
    num_classes: int = 1000,
    weights: str | None = None,
) -> Any:
    """Builds a model of larq-zoo.

    It computes what larq-zoo's does; a few of its layers are exchanged for ones that a `.keras`
    file can bring back (`larq_filter.models._zoo_layers`).

    Args:
        name: one of `SOTA` and `LITERATURE`.
        input_shape: (height, width, channels), of a size that the model can take.
        num_classes: number of classes.
        weights: None for fresh weights, "imagenet" for pretrained ones (downloaded by larq-zoo;
            224x224x3 images and 1,000 classes), or the path of a weights file.

    Returns:
        `tf.keras.Model` that ends in a float32 softmax.

    Raises:
        ImportError: the extra `zoo` is not installed.
        ValueError: unknown name, or a size that the model cannot take.
    """
    factory, shape = _factory(name), image_shape(input_shape)
    try:
        model = factory(input_shape=shape, num_classes=num_classes, weights=weights)
    except ValueError as error:
        smallest, step = _SIZES.get(name, _ANY)
        if all(size >= smallest and size % step == 0 for size in shape[:2]):
            raise
        takes = f"multiples of {step}" if step > 1 else f"{smallest} and more"
        size = -(-max(smallest, *shape[:2]) // 32) * 32
        raise ValueError(
            f"{name} cannot be built for {shape[0]}x{shape[1]} images: height and width must be "
            f"{takes}; load the data with image_size={size}"
        ) from error
    return portable(model)


def smallest_image(name):
    """The smallest square image, in pixels a side, that a model of larq-zoo takes."""
    return _SIZES.get(name, _ANY)[0]


def _factory(name):
    if name not in SOTA + LITERATURE:
        raise ValueError(f"larq-zoo has no {name!r}: one of {', '.join(SOTA + LITERATURE)}")
    try:
        import larq_zoo
    except ImportError as error:
        raise ImportError(
            f'{name} is a model of larq-zoo: pip install "larq_filter[zoo]"'
        ) from error
    return getattr(larq_zoo.sota if name in SOTA else larq_zoo.literature, name)
