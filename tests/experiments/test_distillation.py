"""Learning from a teacher, against SciPy."""

import numpy as np
import pytest
from scipy import special

from larq_filter._keras import keras, tf
from larq_filter.experiments.methods import distillation


def distributions(seed, shape=(7, 4)):
    return special.softmax(np.random.default_rng(seed).normal(size=shape), axis=-1)


LABELS = np.array([0, 3, 1, 1, 2, 0, 3])


def packed():
    return np.concatenate([distributions(0), LABELS[:, None]], axis=1).astype("float32")


def test_loss_is_the_relative_entropy():
    p, q = distributions(0), distributions(1)
    loss = distillation.distributional_loss(tf.constant(packed()), tf.constant(q, tf.float32))
    np.testing.assert_allclose(loss, special.rel_entr(p, q).sum(-1), rtol=1e-5)
    assert np.all(loss.numpy() > 0)


@pytest.mark.parametrize("shape", [(7,), (7, 1)])
def test_plain_labels_give_cross_entropy_and_accuracy(shape):
    q = distributions(1)
    outputs, labels = tf.constant(q, tf.float32), tf.constant(LABELS.reshape(shape))
    expected = -np.log(q[np.arange(7), LABELS])
    for function in (distillation.distributional_loss, distillation.cross_entropy):
        np.testing.assert_allclose(function(labels, outputs), expected, rtol=1e-5)
    hits = q.argmax(-1) == LABELS
    np.testing.assert_array_equal(distillation.accuracy(labels, outputs), hits)
    np.testing.assert_array_equal(distillation.accuracy(tf.constant(packed()), outputs), hits)
    np.testing.assert_allclose(
        distillation.cross_entropy(tf.constant(packed()), outputs), expected, rtol=1e-5
    )


def test_targets_hold_the_teachers_answer_to_the_same_images():
    teacher = keras.Sequential([keras.Input((3,)), keras.layers.Dense(4, activation="softmax")])
    images = np.random.default_rng(2).normal(size=(7, 3)).astype("float32")
    data = tf.data.Dataset.from_tensor_slices((images, LABELS)).batch(4)
    seen = list(distillation.with_soft_targets(data, teacher))
    np.testing.assert_array_equal(np.concatenate([x for x, _ in seen]), images)
    targets = np.concatenate([y for _, y in seen])
    np.testing.assert_allclose(targets[:, :4], teacher(images), rtol=1e-6)
    np.testing.assert_array_equal(targets[:, 4], LABELS)


@pytest.mark.slow
def test_a_student_moves_to_its_teacher():
    """Gradient descent on the loss of one linear layer ends at the teacher's distribution."""
    make = lambda: keras.Sequential(  # noqa: E731
        [keras.Input((3,)), keras.layers.Dense(4, activation="softmax")]
    )
    teacher, student = make(), make()
    images = np.random.default_rng(2).normal(size=(64, 3)).astype("float32")
    data = tf.data.Dataset.from_tensor_slices((images, np.zeros(64, "int32"))).batch(64)
    student.compile(keras.optimizers.SGD(2.0), distillation.distributional_loss)
    student.fit(
        distillation.with_soft_targets(data, teacher).repeat(), steps_per_epoch=2000, verbose=0
    )
    np.testing.assert_allclose(student(images), teacher(images), atol=2e-3)
