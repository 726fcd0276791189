"""Attention matching: a network learns where in an image its teacher has large activations.

    a(A)  = flatten(mean_c A^2) / max           places of one image, in [0, 1]
    L_att = mean_l mean_p (a_student - a_teacher)^2         blocks l, places p
    L     = -log q_label + m KL(p || q) + w L_att           teacher p, student q

The blocks are matched by position: the first of the teacher with the first of the student. Source:
Martinez et al., "Training binary neural networks with real-to-binary convolutions", ICLR 2020,
arXiv 2003.11535; the maximum and the mean over places and blocks are those of Larq Zoo.

The maps travel as the teacher's distribution does (``distillation``). ``watched`` is a network with
more columns in its output: behind the distribution those of ``BesideAttention``. Those of the
teacher come with the targets. A student trains as the watched network, which shares all layers with
it, and is saved as it was (``network_of``). Validation has plain labels and no teacher.

Rejected: ``add_loss`` in a model of teacher and student. Each checkpoint would hold the teacher, a
distribution strategy would have to make it, and validation would wait for it. And the maps as
further outputs with losses of their own: every metric and every reader of the tables would have to
know of them.
"""

import collections
import dataclasses
import math

from larq_filter import binary
from larq_filter._keras import keras, tf
from larq_filter.experiments.methods import distillation
from larq_filter.models import RPReLU

_ACTIVATIONS = (
    keras.layers.Activation,
    keras.layers.ELU,
    keras.layers.LeakyReLU,
    keras.layers.PReLU,
    keras.layers.ReLU,
    RPReLU,
)


@dataclasses.dataclass(frozen=True)
class Lessons:
    """What a student learns from its teacher beside the labels.

    Attributes:
        distribution: m, weight of the relative entropy of the distributions.
        attention: w, weight of ``L_att``; at 0 no maps are made.
    """

    distribution: float
    attention: float = 0.0


def attention(activations):
    """``flatten(mean_c A^2) / max`` for each image; zeros where all activations are 0.

    Args:
        activations: shape (batch, height, width, channels).

    Returns:
        float32, shape (batch, height * width), in [0, 1].
    """
    energy = tf.reduce_mean(tf.square(tf.cast(activations, tf.float32)), axis=-1)
    energy = tf.reshape(energy, [-1, math.prod(energy.shape[1:])])
    return tf.math.divide_no_nan(energy, tf.reduce_max(energy, axis=-1, keepdims=True))


@keras.utils.register_keras_serializable(package="larq_filter")
class BesideAttention(keras.layers.Layer):
    """``[q, a_1 / sqrt(L P_1), ..., a_L / sqrt(L P_L)]`` of a distribution q and L activations.

    ``P_l`` is the number of places of map l. So the squared differences of two networks add up to
    ``L_att``. Inputs: (batch, classes), and L of shape (batch, height, width, channels).
    """

    def __init__(self, **kwargs):
        super().__init__(**{"dtype": "float32", **kwargs})

    def call(self, inputs):
        distribution, *activations = inputs
        maps = [attention(each) for each in activations]
        scaled = [each / math.sqrt(len(maps) * each.shape[-1]) for each in maps]
        return tf.concat([distribution, *scaled], axis=-1)


def block_outputs(model) -> list:
    """The symbolic outputs of every second block with a shortcut, in the network's order.

    A block ends in an ``Add``, or in the activation that alone takes its sum. Binary networks have
    a shortcut around each convolution; two such blocks are one of the publication.

    Raises:
        ValueError: fewer than two blocks, or maps of no fixed size.
    """
    nodes = binary.nodes_of(model) if getattr(model, "_is_graph_network", False) else []
    takers = collections.defaultdict(list)
    for node in nodes:
        for tensor in tf.nest.flatten(node.keras_inputs):
            takers[id(tensor)].append(node)
    ends = []
    for node in nodes:
        if isinstance(node.layer, keras.layers.Add):
            after = takers[id(node.outputs)]
            is_activated = len(after) == 1 and isinstance(after[0].layer, _ACTIVATIONS)
            ends.append(after[0].outputs if is_activated else node.outputs)
    found = ends[1::2]
    if not found or any(end.shape.rank != 4 or None in end.shape[1:3] for end in found):
        raise ValueError(
            f"Attention is matched at the blocks of a network that end in an Add, and {model.name} "
            f"has {len(ends)} of them with maps of a fixed size; it takes 2. Choose a network with "
            "shortcuts, such as birealnet20 or resnet18_cifar."
        )
    return found


def require_alike(model, teacher=None) -> None:
    """Raises unless ``model`` has blocks, and those of ``teacher`` have maps of the same sizes.

    Raises:
        ValueError: no blocks, or other maps.
    """
    sizes = [
        [tuple(end.shape[1:3]) for end in block_outputs(each)]
        for each in (model, teacher)
        if each is not None
    ]
    if sizes[0] != sizes[-1]:
        raise ValueError(
            f"The teacher has maps of {_listed(sizes[-1])}, the network of {_listed(sizes[0])}: "
            "for attention they must agree, one by one."
        )


def _listed(sizes) -> str:
    return ", ".join(f"{height}x{width}" for height, width in sizes)


def watched(model):
    """``model`` with its attention beside its distribution; all layers are shared."""
    outputs = BesideAttention(name="beside_attention")([model.output, *block_outputs(model)])
    return keras.Model(model.input, outputs, name=model.name)


def network_of(model: keras.Model) -> keras.Model:
    """The network that ``watched`` was given; ``model`` itself if it is not watched."""
    last = model.layers[-1]
    if not isinstance(last, BesideAttention):
        return model
    with model.distribute_strategy.scope():
        return keras.Model(model.input, last.input[0], name=model.name)


@keras.utils.register_keras_serializable(package="larq_filter")
class LessonLoss(keras.losses.Loss):
    """``-log q_label + m KL(p || q) + w L_att``, in nats; for plain labels the first term.

    Args:
        classes: columns of a distribution.
        distribution: m.
        attention: w, for outputs of ``BesideAttention``.
        **kwargs: of a Keras loss.
    """

    def __init__(self, classes: int, distribution: float, attention: float, **kwargs):
        super().__init__(**{"name": "lesson_loss", **kwargs})
        self.classes, self.distribution, self.attention = classes, distribution, attention

    def call(self, targets, outputs):
        student = outputs[:, : self.classes]
        loss = distillation.cross_entropy(targets, student)
        if distillation.has_teacher(targets, outputs):
            teacher = targets[:, : self.classes]
            loss += self.distribution * keras.losses.kl_divergence(teacher, student)
            loss += self.attention * distance(targets, outputs, self.classes)
        return loss

    def get_config(self):
        own = {name: getattr(self, name) for name in ("classes", "distribution", "attention")}
        return {**super().get_config(), **own}


def distance(targets, outputs, classes: int):
    """``L_att`` of each image, shape (batch,); NaN for plain labels, which have no teacher."""
    if not distillation.has_teacher(targets, outputs):
        return tf.fill(tf.shape(outputs)[:1], math.nan)
    teacher, student = targets[:, classes:-1], outputs[:, classes:]
    return tf.reduce_sum(tf.math.squared_difference(student, teacher), axis=-1)


def taught(model, lessons: Lessons) -> tuple:
    """What to train a student as: the model, the loss and the metrics to compile it with."""
    classes = model.output_shape[-1]
    loss = LessonLoss(classes, lessons.distribution, lessons.attention)
    if not lessons.attention:
        return model, loss, [distillation.accuracy, distillation.cross_entropy]

    def accuracy(targets, outputs):
        return distillation.accuracy(targets, outputs[:, :classes])

    def cross_entropy(targets, outputs):
        return distillation.cross_entropy(targets, outputs[:, :classes])

    def attention(targets, outputs):
        return distance(targets, outputs, classes)

    return watched(model), loss, [accuracy, cross_entropy, attention]
