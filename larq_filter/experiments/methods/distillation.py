"""Knowledge distillation: a network learns the class distribution of a teacher.

The teacher's outputs travel beside the labels, in one array of shape (batch, classes + 1): its
distribution, then the label. Loss and metrics below read from it what they need, and plain labels,
as validation has them, all the same. So the ordinary ``fit`` trains, with the teacher seeing the
same augmented images. Rejected: a model class with a ``train_step`` of its own, which would have to
be unwrapped to be saved, exported or watched.
"""

from larq_filter._keras import keras, tf


def require_teacher(method: str, model, teacher) -> None:
    """Raises unless there is a teacher of the same inputs and classes.

    Raises:
        ValueError: none, or another one.
    """
    if teacher is None:
        raise ValueError(
            f"The method {method} needs a teacher: train one with the method real and pass it as "
            "`earlier`, or name a saved model by the knob teacher."
        )
    if teacher.output_shape != model.output_shape or teacher.input_shape != model.input_shape:
        raise ValueError(
            f"The teacher maps {teacher.input_shape} to {teacher.output_shape}, the network "
            f"{model.input_shape} to {model.output_shape}: they must agree."
        )


def with_soft_targets(dataset, teacher):
    """``dataset`` of (images, labels) with the teacher's distribution beside each label.

    Args:
        dataset: a ``tf.data.Dataset`` of batches: images, integer labels of shape (batch,).
        teacher: a Keras model that ends in a softmax, or one that ``attention`` watches.

    Returns:
        A dataset of (images, targets), targets float32 of shape (batch, classes + 1), or more.
    """

    def teach(images, labels):
        distribution = tf.cast(teacher(images, training=False), tf.float32)
        labels = tf.cast(tf.reshape(labels, [-1, 1]), tf.float32)
        return images, tf.concat([distribution, labels], axis=-1)

    return dataset.map(teach, num_parallel_calls=1)


def has_teacher(targets, outputs) -> bool:
    """Whether the targets hold a teacher's answer beside the labels."""
    return len(targets.shape) == 2 and targets.shape[-1] == outputs.shape[-1] + 1


def _labels(targets):
    """The last column, of however many."""
    return targets[:, -1] if len(targets.shape) == 2 else targets


@keras.utils.register_keras_serializable(package="larq_filter")
def distributional_loss(targets, outputs):
    """``sum_c p_c log(p_c / q_c)``: teacher p, outputs q, in nats per image, shape (batch,).

    For plain labels, the cross-entropy. Source: Martinez et al., "Training binary neural networks
    with real-to-binary convolutions", ICLR 2020, arXiv 2003.11535; Liu et al., "ReActNet",
    ECCV 2020, arXiv 2003.03488, equation 6.
    """
    if has_teacher(targets, outputs):
        return keras.losses.kl_divergence(targets[:, :-1], outputs)
    return cross_entropy(targets, outputs)


@keras.utils.register_keras_serializable(package="larq_filter")
def cross_entropy(targets, outputs):
    """``-log q_label``, in nats per image, shape (batch,)."""
    return keras.losses.sparse_categorical_crossentropy(_labels(targets), outputs)


@keras.utils.register_keras_serializable(package="larq_filter")
def accuracy(targets, outputs):
    """1 where the most likely class is the label, else 0, shape (batch,)."""
    return keras.metrics.sparse_categorical_accuracy(_labels(targets), outputs)
