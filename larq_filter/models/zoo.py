"""The models of larq-zoo by name; the only module that imports larq_zoo."""

from larq_filter.models._checks import image_shape

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


def zoo_model(name, input_shape=(224, 224, 3), num_classes=1000, weights=None):
    """Builds a model of larq-zoo.

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
        return factory(input_shape=shape, num_classes=num_classes, weights=weights)
    except ValueError as error:
        size = None if _builds(factory, shape) else _larger(factory, shape)
        if size is None:
            raise
        raise ValueError(
            f"{name} cannot be built for {shape[0]}x{shape[1]} images; the smallest larger square "
            f"tried that works is {size}x{size}: load the data with image_size={size}"
        ) from error


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


def _larger(factory, shape):
    """The smallest multiple of 32 above `shape`, up to 224, for which the model can be built."""
    sizes = range(32 * (max(shape[:2]) // 32 + 1), 225, 32)
    return next((size for size in sizes if _builds(factory, (size, size, shape[2]))), None)


def _builds(factory, shape):
    try:
        factory(input_shape=shape, num_classes=2, weights=None)
    except ValueError:
        return False
    return True
