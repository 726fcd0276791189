"""Statistics taken anew, against numpy."""

import numpy as np
import pytest

from larq_filter import callbacks, filters
from larq_filter._keras import keras, tf
from larq_filter.optimizers import FilterOptimizer

import larq as lq

RANDOM = np.random.default_rng(0)
X = RANDOM.normal(1.0, 2.0, (90, 6, 6, 2)).astype("float32")
Y = np.argmax(X.mean((1, 2)), axis=1)
BATCH = 16


def batches(labels=True):
    return tf.data.Dataset.from_tensor_slices((X, Y) if labels else X).batch(BATCH)


def model_of(**options):
    """Normalises maps (fused) and vectors (not fused)."""
    kernel = {"kernel_quantizer": "ste_sign", "kernel_constraint": "weight_clip"}
    model = keras.Sequential(
        [
            keras.Input((6, 6, 2)),
            keras.layers.BatchNormalization(momentum=0.9, name="maps", **options),
            lq.layers.QuantConv2D(4, 3, input_quantizer="ste_sign", **kernel),
            keras.layers.GlobalAveragePooling2D(name="pooled"),
            keras.layers.BatchNormalization(momentum=0.8, epsilon=1e-3, name="vectors"),
            keras.layers.Dense(2, activation="softmax"),
        ]
    )
    rate = filters.EMA(alpha=0.1)
    model.compile(FilterOptimizer(rate), "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def statistics(model, name):
    layer = model.get_layer(name)
    return layer.moving_mean.numpy(), layer.moving_variance.numpy()


def maps_variance(x):
    """Within the batches, with Bessel's correction as TensorFlow's fused layer, and between."""
    parts = [x[start : start + BATCH].reshape(-1, 2) for start in range(0, len(x), BATCH)]
    squares = sum(len(part) * (part.var(0, ddof=1) + part.mean(0) ** 2) for part in parts)
    return squares / (36 * len(x)) - x.mean((0, 1, 2)) ** 2


def pooled(model):
    """What the second normalisation sees in training: by batch, its inputs normalised by numpy."""
    maps = model.get_layer("maps")
    scale, shift = maps.gamma.numpy(), maps.beta.numpy()
    rest = keras.Sequential(model.layers[1:3])
    found = []
    for start in range(0, len(X), BATCH):
        x = X[start : start + BATCH]
        mean, variance = x.mean((0, 1, 2)), x.var((0, 1, 2))
        normalised = (x - mean) / np.sqrt(variance + maps.epsilon) * scale + shift
        found.append(rest.predict(normalised, verbose=0))
    return np.concatenate(found)


@pytest.mark.parametrize("labels", [True, False])
def test_statistics_are_those_of_all_batches(labels):
    keras.utils.set_random_seed(0)
    model = model_of()
    model.fit(X, Y, batch_size=32, epochs=2, verbose=0)
    kept = [variable.numpy() for variable in (*model.trainable_variables,)]
    state = [variable.numpy() for variable in model.optimizer.variables]
    callbacks.estimate_batch_norm(model, batches(labels), steps=100)
    mean, variance = statistics(model, "maps")
    np.testing.assert_allclose(mean, X.mean((0, 1, 2)), rtol=1e-5)
    np.testing.assert_allclose(variance, maps_variance(X), rtol=1e-5)
    mean, variance = statistics(model, "vectors")
    expected = pooled(model)
    np.testing.assert_allclose(mean, expected.mean(0), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(variance, expected.var(0), rtol=1e-4, atol=1e-6)
    for variable, value in zip(model.trainable_variables, kept, strict=True):
        np.testing.assert_array_equal(variable.numpy(), value)
    for variable, value in zip(model.optimizer.variables, state, strict=True):
        np.testing.assert_array_equal(variable.numpy(), value)
    assert [model.get_layer(name).momentum for name in ("maps", "vectors")] == [0.9, 0.8]


def test_as_many_batches_as_asked_for():
    model = model_of()
    callbacks.estimate_batch_norm(model, batches().repeat(), steps=2)
    expected = maps_variance(X[: 2 * BATCH])
    np.testing.assert_allclose(statistics(model, "maps")[1], expected, rtol=1e-5)


def test_each_validation_of_a_training_sees_its_own_statistics():
    """`fit` validates like `evaluate` on a copy whose statistics are taken by hand."""
    seen = []

    class Copy(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            copy = model_of()
            copy.set_weights(self.model.get_weights())
            copy.get_layer("maps").moving_mean.assign(X.mean((0, 1, 2)))
            copy.get_layer("maps").moving_variance.assign(maps_variance(X))
            expected = pooled(self.model)
            copy.get_layer("vectors").moving_mean.assign(expected.mean(0))
            copy.get_layer("vectors").moving_variance.assign(expected.var(0))
            seen.append((logs["val_loss"], copy.evaluate(X, Y, verbose=0)[0]))

    keras.utils.set_random_seed(0)
    model = model_of()
    precise = callbacks.PreciseBatchNorm(batches(), steps=6)
    model.fit(
        X, Y, batch_size=BATCH, epochs=3, validation_data=(X, Y), verbose=0,
        callbacks=[precise, Copy()],
    )  # fmt: skip
    found, expected = np.array(seen).T
    np.testing.assert_allclose(found, expected, rtol=1e-4)
    assert model.optimizer.iterations == 3 * 6


def test_training_is_the_same_with_and_without():
    weights = []
    for watchers in ([], [callbacks.PreciseBatchNorm(batches(), steps=3)]):
        keras.utils.set_random_seed(0)
        model = model_of()
        data = {"x": X, "y": Y, "batch_size": BATCH, "validation_data": (X, Y), "shuffle": False}
        model.fit(**data, epochs=3, verbose=0, callbacks=watchers)
        weights.append([variable.numpy() for variable in model.trainable_variables])
    for one, other in zip(*weights, strict=True):
        np.testing.assert_array_equal(one, other)


def test_replicas_share_each_batch(strategy):
    with strategy.scope():
        model = model_of()
    callbacks.estimate_batch_norm(model, batches().take(5))
    halves = X[: 5 * BATCH].reshape(-1, BATCH // 2 * 36, 2)  # what a replica sees of each batch
    mean = halves.mean(1).reshape(-1, 2, 2).mean(1)
    variance = halves.var(1, ddof=1).mean(0) + mean.var(0)
    np.testing.assert_allclose(statistics(model, "maps")[0], mean.mean(0), rtol=1e-5)
    np.testing.assert_allclose(statistics(model, "maps")[1], variance, rtol=1e-5)
    precise = callbacks.PreciseBatchNorm(batches(), steps=5)
    model.fit(batches(), validation_data=batches(), verbose=0, callbacks=[precise])
    np.testing.assert_allclose(statistics(model, "maps")[1], variance, rtol=1e-5)


class Counts(keras.layers.Layer):
    """Counts its calls in training."""

    def build(self, shape):
        self.count = self.add_weight("count", (), trainable=False, initializer="zeros")

    def call(self, inputs, training=None):
        if training:
            self.count.assign_add(1.0)
        return inputs


def test_what_else_a_forward_pass_changes_is_set_back():
    model = keras.Sequential([keras.Input((6, 6, 2)), *model_of().layers, Counts()])
    model.layers[-1].count.assign(7.0)
    frozen = model.get_layer("vectors")
    frozen.trainable = False
    start = statistics(model, "vectors")
    callbacks.estimate_batch_norm(model, batches(), steps=4)
    assert model.layers[-1].count == 7.0
    for now, then in zip(statistics(model, "vectors"), start, strict=True):
        np.testing.assert_array_equal(now, then)
    assert not np.array_equal(statistics(model, "maps")[0], [0, 0])


def test_images_that_fail_leave_the_layers_as_they_were():
    model = model_of()

    def images():
        yield X[:BATCH]
        raise OSError("a file is gone")

    spec = tf.TensorSpec((None, 6, 6, 2))
    failing = tf.data.Dataset.from_generator(images, output_signature=spec)
    with pytest.raises(tf.errors.UnknownError, match="a file is gone"):
        callbacks.estimate_batch_norm(model, failing)
    with pytest.raises(ValueError, match="`images` has no batch"):
        callbacks.estimate_batch_norm(model, batches().take(0))
    assert model.get_layer("maps").momentum == 0.9
    np.testing.assert_array_equal(statistics(model, "maps"), [[0, 0], [1, 1]])


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ((X,), TypeError, "must be a tf.data.Dataset of batches"),
        ((batches(), 0), ValueError, r"`steps` is 0; it must lie in \[1, inf\)"),
        ((batches(), 2.5), TypeError, "`steps` must be an integer"),
    ],
)
def test_other_arguments_are_refused(arguments, error, words):
    with pytest.raises(error, match=words):
        callbacks.PreciseBatchNorm(*arguments)
    with pytest.raises(error, match=words):
        callbacks.estimate_batch_norm(model_of(), *arguments)


def test_a_model_without_batch_normalisation_is_refused_before_it_trains():
    for model in (
        keras.Sequential([keras.Input((6, 6, 2)), keras.layers.Flatten(), keras.layers.Dense(2)]),
        model_of(renorm=True),
    ):
        for layer in model.layers[1:]:
            layer.trainable = False
        with pytest.raises(ValueError, match="has no trainable BatchNormalization"):
            callbacks.PreciseBatchNorm(batches()).set_model(model)


@pytest.mark.parametrize("nested", [False, True])
def test_a_layer_that_is_called_twice_is_refused(nested):
    """Only the statistics of its last call could be read."""
    shared = keras.layers.BatchNormalization(name="twice")
    call = keras.Sequential([keras.Input((6, 6, 2)), shared]) if nested else shared
    x = keras.Input((6, 6, 2))
    model = keras.Model(x, call(call(x) + 1.0))
    with pytest.raises(ValueError, match="twice is called more than once in "):
        callbacks.PreciseBatchNorm(batches()).set_model(model)
    once = keras.Model(x, call(x))  # the layer is called elsewhere too
    callbacks.estimate_batch_norm(once, batches())
    np.testing.assert_allclose(shared.moving_mean.numpy(), X.mean((0, 1, 2)), rtol=1e-5)
