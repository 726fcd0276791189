"""Attention of a teacher, against NumPy, and the chain of teachers that learns it."""

import csv
import dataclasses
import itertools
import json

import numpy as np
import pytest

from larq_filter import binary, models, serialization
from larq_filter._keras import keras, tf
from larq_filter.experiments import methods, progress, run_folder, training, user_inputs
from larq_filter.experiments.methods import Knobs, attention

import larq as lq

CLASSES, SIZE = 10, 8


def network(blocks=4, strides=1):
    """Blocks with a shortcut on 8x8 images, the last two on smaller ones if strides is 2."""
    image = keras.Input((SIZE, SIZE, 1))
    x = keras.layers.Conv2D(4, 3, padding="same")(image)
    for block in range(blocks):
        if block == blocks - 2 and strides > 1:
            x = keras.layers.AveragePooling2D(strides)(x)
        y = lq.layers.QuantConv2D(
            *(4, 3),
            padding="same",
            input_quantizer="approx_sign",
            kernel_quantizer="ste_sign",
            kernel_constraint="weight_clip",
            use_bias=False,
        )(x)
        y = keras.layers.BatchNormalization(momentum=0.9)(y)
        x = keras.layers.PReLU(shared_axes=[1, 2])(keras.layers.Add()([y, x]))
    x = keras.layers.GlobalAveragePooling2D()(x)
    x = keras.layers.Dense(CLASSES, kernel_initializer="random_uniform")(x)  # no class is sure yet
    return keras.Model(image, keras.layers.Activation("softmax", dtype="float32")(x), name="blocks")


def images(count=6):
    return np.random.default_rng(0).normal(size=(count, SIZE, SIZE, 1)).astype("float32")


def map_of(activations):
    """The definition, for each image."""
    energy = np.mean(np.square(activations.astype("float64")), axis=-1)
    energy = energy.reshape(len(energy), -1)
    return energy / energy.max(axis=1, keepdims=True)


def maps_of(model, x):
    """Of the second and the fourth block."""
    ends = [layer for layer in model.layers if isinstance(layer, keras.layers.PReLU)][1::2]
    outputs = keras.Model(model.input, [end.output for end in ends])(x)
    return [map_of(each.numpy()) for each in outputs]


def test_a_map_is_the_mean_square_over_the_largest():
    activations = np.random.default_rng(1).normal(size=(5, 3, 4, 7)).astype("float32")
    found = attention.attention(tf.constant(activations))
    np.testing.assert_allclose(found, map_of(activations), rtol=1e-5)
    by_hand = attention.attention(tf.constant([[[[1.0, 3.0]], [[2.0, 0.0]]]]))  # 5 and 2
    np.testing.assert_allclose(by_hand, [[1.0, 0.4]])


def test_a_map_of_zeros_has_neither_nan_nor_gradient():
    zeros = tf.zeros((2, 3, 3, 4))
    with tf.GradientTape() as tape:
        tape.watch(zeros)
        found = attention.attention(zeros)
    np.testing.assert_array_equal(found, np.zeros((2, 9)))
    np.testing.assert_array_equal(tape.gradient(found, zeros), np.zeros((2, 3, 3, 4)))


@pytest.mark.parametrize("strides", [1, 2])
def test_the_loss_is_the_sum_of_its_three_parts(strides):
    teacher, student, x = network(strides=strides), network(strides=strides), images()
    labels = np.array([3, 0, 9, 1, 1, 7])
    data = tf.data.Dataset.from_tensor_slices((x, labels)).batch(6)
    assert methods.dataset_for("adam", data) is data
    ((seen, targets),) = methods.dataset_for("distilled_tanh", data, teacher)
    model, loss, metrics = attention.taught(student, attention.Lessons(3.0, 30.0))
    outputs = model(seen)
    p, q = teacher(x).numpy().astype("float64"), student(x).numpy().astype("float64")
    pairs = zip(maps_of(teacher, x), maps_of(student, x), strict=True)
    distances = [np.mean((a - b) ** 2, axis=1) for a, b in pairs]
    distance = np.mean(distances, axis=0)
    assert len(distances) == 2 and np.all(distance > 1e-3)
    cross_entropy = -np.log(q[np.arange(6), labels])
    expected = cross_entropy + 3 * np.sum(p * np.log(p / q), axis=1) + 30 * distance
    np.testing.assert_allclose(loss.call(targets, outputs), expected, rtol=1e-4)
    assert float(loss(targets, outputs)) == pytest.approx(expected.mean(), rel=1e-4)
    found = {metric.__name__: metric(targets, outputs).numpy() for metric in metrics}
    np.testing.assert_allclose(found["attention"], distance, rtol=1e-4)
    np.testing.assert_allclose(found["cross_entropy"], cross_entropy, rtol=1e-4)
    np.testing.assert_array_equal(found["accuracy"], q.argmax(1) == labels)


@pytest.mark.parametrize("shape", [(6,), (6, 1)])
def test_plain_labels_have_no_teacher(shape):
    model, loss, metrics = attention.taught(network(), attention.Lessons(3.0, 30.0))
    labels, outputs = np.array([3, 0, 9, 1, 1, 7]), model(images())
    expected = -np.log(outputs.numpy()[np.arange(6), labels])
    given = tf.constant(labels.reshape(shape))
    np.testing.assert_allclose(loss.call(given, outputs), expected, rtol=1e-5)
    found = {metric.__name__: metric(given, outputs).numpy() for metric in metrics}
    np.testing.assert_allclose(found["cross_entropy"], expected, rtol=1e-5)
    assert np.all(np.isnan(found["attention"]))


@pytest.mark.parametrize("weight", [0.0, 30.0])
def test_attention_adds_its_gradient_to_that_of_the_distribution(weight):
    """Central differences in a parameter that comes before all blocks."""
    teacher, student, x = network(), network(), images()
    for net in (teacher, student):  # real-valued, so that the loss is smooth
        for layer in net.layers:
            if isinstance(layer, lq.layers.QuantConv2D):
                layer.input_quantizer = layer.kernel_quantizer = None
    model, loss = attention.watched(student), attention.LessonLoss(CLASSES, 1.0, weight)
    targets = tf.concat([attention.watched(teacher)(x), np.zeros((6, 1), "float32")], axis=-1)
    bias = student.layers[1].bias
    with tf.GradientTape() as tape:
        total = loss(targets, model(x))
    gradient = tape.gradient(total, bias).numpy()
    numeric, start, step = [], bias.numpy(), 1e-3
    for direction in np.eye(4, dtype="float32"):
        ends = []
        for sign in (1, -1):
            bias.assign(start + sign * step * direction)
            ends.append(float(loss(targets, model(x))))
        numeric.append((ends[0] - ends[1]) / (2 * step))
    np.testing.assert_allclose(gradient, numeric, rtol=0.05, atol=2e-3)


@pytest.mark.parametrize(("name", "count"), [("birealnet20", 9), ("resnet18_cifar", 8)])
def test_the_blocks_of_a_network(name, count):
    model = models.build(name, input_shape=(16, 16, 3), num_classes=4, width=2)
    ends = attention.block_outputs(model)
    assert len(ends) == count
    owners = [layer for layer in model.layers if any(layer.output is end for end in ends)]
    assert [type(layer) for layer in owners] == [keras.layers.PReLU] * count
    assert owners[-1] is model.get_layer(owners[-1].name)
    assert ends[-1] is [e for e in model.layers if isinstance(e, keras.layers.PReLU)][-1].output


def test_a_sum_without_activation_is_the_end_of_its_block():
    image = keras.Input((4, 4, 2))
    first = keras.layers.Add()([image, image])
    second = keras.layers.Add()([first, image])
    outputs = keras.layers.GlobalAveragePooling2D()(keras.layers.Add()([second, first]))
    (end,) = attention.block_outputs(keras.Model(image, outputs))
    assert end is second


def test_a_network_without_blocks_is_refused():
    mlp = models.build("mlp", input_shape=(8, 8, 1), num_classes=CLASSES, width=8)
    for method in ("real_to_binary", "distilled_activations", "distilled_tanh"):
        with pytest.raises(ValueError, match=r"mlp has 0 of them.*birealnet20"):
            methods.compile_for(method, mlp, Knobs(), 10, mlp)
    unsized = keras.Input((None, None, 2))
    sums = [keras.layers.Add()([unsized, unsized]) for _ in range(2)]
    with pytest.raises(ValueError, match="has 2 of them with maps of a fixed size"):
        attention.block_outputs(keras.Model(unsized, sums))


def test_a_teacher_of_other_maps_is_refused():
    with pytest.raises(ValueError, match=r"maps of 8x8, 4x4, the network of 8x8, 8x8"):
        methods.compile_for("distilled_tanh", network(), Knobs(), 10, network(strides=2))
    with pytest.raises(ValueError, match="distilled_tanh needs a teacher"):
        methods.compile_for("distilled_tanh", network(), Knobs(), 10)


def test_the_watched_network_is_the_network(tmp_path):
    model, x = network(), images()
    watched = attention.watched(model)
    assert watched.output_shape == (None, CLASSES + 2 * SIZE * SIZE)
    assert [id(v) for v in watched.weights] == [id(v) for v in model.weights]
    again = attention.network_of(watched)
    assert attention.network_of(model) is model
    assert [layer.name for layer in again.layers] == [layer.name for layer in model.layers]
    again.save(tmp_path / "model.keras")
    loaded = serialization.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(loaded(x), watched(x)[:, :CLASSES], rtol=1e-6)


@pytest.mark.slow
def test_attention_is_learned():
    """By itself, with no weight on labels or distribution."""
    keras.utils.set_random_seed(1)
    teacher, x = network(), images(32)
    model = methods.compile_for("distilled_activations", network(), Knobs(), 40, teacher)
    data = tf.data.Dataset.from_tensor_slices((x, np.zeros(32, "int32"))).batch(32).repeat(40)

    def only(targets, outputs):
        return attention.distance(targets, outputs, CLASSES)

    model.compile(keras.optimizers.Adam(1e-2), only)
    data = methods.dataset_for("distilled_activations", data, teacher)
    losses = model.fit(data, steps_per_epoch=10, epochs=4, verbose=0).history["loss"]
    assert losses[-1] < 0.7 * losses[0]


def test_the_loss_comes_back_from_a_file():
    loss = attention.LessonLoss(CLASSES, 0.8, 30.0)
    saved = json.loads(json.dumps(keras.utils.serialize_keras_object(loss)))
    assert keras.utils.deserialize_keras_object(saved).get_config() == loss.get_config()


def test_the_chain_and_its_budget():
    """Two runs share the epochs, teachers come besides; the last run is five times as slow."""
    chain, method, knobs, epochs = [], "real_to_binary", Knobs(learning_rate=1e-2), 7
    while (stage := methods.first_stage(method, knobs, epochs)) is not None:
        method, knobs, epochs = stage.method, stage.knobs, stage.epochs
        chain.append((stage.name, method, stage.epochs, stage.own_epochs))
        assert methods.resolve(method, knobs).learning_rate == pytest.approx(5e-2)
    assert chain == [
        ("step1", "distilled_activations", 3, 4),
        ("teacher", "distilled_tanh", 3, 3),
        ("teacher", "real", 3, 3),
    ]
    named = Knobs(teacher="model.keras")
    stage = methods.first_stage("real_to_binary", named, 4)
    stage = methods.first_stage(stage.method, stage.knobs, stage.epochs)
    assert stage.knobs.teacher == "model.keras"
    assert methods.first_stage(stage.method, stage.knobs, stage.epochs) is None
    with pytest.raises(ValueError, match="at least 2; received 1"):
        methods.first_stage("real_to_binary", Knobs(), 1)


# Runs ---------------------------------------------------------------------------------------------

SMALL = run_folder.Config(
    method="real_to_binary",
    knobs=Knobs(kernel_learning_rate=2e-2, learning_rate=2e-3),
    epochs=4,
    train_examples=200,
    validation_examples=100,
    batch_size=50,
)
STAGES = ("step1/teacher/teacher", "step1/teacher", "step1", ".")


@pytest.fixture
def small_network(monkeypatch):
    monkeypatch.setattr(user_inputs, "build", lambda config, data, model=None: network(2))


@pytest.fixture(scope="module")
def chain(tmp_path_factory):
    """The folder of a whole run, and its result."""
    folder = tmp_path_factory.mktemp("chain") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(user_inputs, "build", lambda config, data, model=None: network(2))
        return folder, training.run(SMALL, folder, verbose=0)


def rows(folder):
    with (folder / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def weights(folder):
    return serialization.load_model(folder / "model.keras").get_weights()


@pytest.mark.slow
def test_every_run_of_the_chain_is_there(chain):
    folder, result = chain
    epochs = [run_folder.read_result(folder / stage).epochs for stage in STAGES]
    assert epochs == [2, 4, 6, 8] and result.epochs == 8
    assert [len(rows(folder / stage)) for stage in STAGES] == [2, 2, 2, 2]
    found = [json.loads((folder / stage / "config.json").read_text()) for stage in STAGES]
    assert [each["config"]["method"] for each in found] == [
        "real",
        "distilled_tanh",
        "distilled_activations",
        "real_to_binary",
    ]
    for stage in STAGES[1:3]:
        assert all(float(row["attention"]) > 0 for row in rows(folder / stage))
    assert "attention" not in rows(folder)[0]


@pytest.mark.slow
def test_every_model_of_the_chain_is_the_plain_network(chain):
    folder, result = chain
    wanted = network(2)
    for stage in STAGES:
        model = serialization.load_model(folder / stage / "model.keras")
        assert [type(layer) for layer in model.layers] == [type(layer) for layer in wanted.layers]
        assert model.output_shape == (None, CLASSES)
        assert len(binary.binary_kernels(model)) == (2 if stage == "." else 0)
    assert result.flipped_layers == (2, 2)
    assert result.accuracy == pytest.approx(float(rows(folder)[-1]["val_accuracy"]))
    loaded = keras.models.load_model(folder / "model.keras")  # compiled, as those of all methods
    assert isinstance(loaded.loss, attention.LessonLoss)
    assert loaded.loss.attention == 0


@pytest.mark.slow
def test_a_chain_interrupted_twice_equals_the_uninterrupted_one(
    chain, small_network, tmp_path, monkeypatch
):
    expected, folder = chain[0], tmp_path / "run"
    original, saved = progress.Progress.on_epoch_end, itertools.count(1)

    def on_epoch_end(self, epoch, logs=None):
        original(self, epoch, logs)
        if next(saved) in (3, 7):  # the first of two epochs of distilled_tanh and of the last run
            raise InterruptedError

    monkeypatch.setattr(progress.Progress, "on_epoch_end", on_epoch_end)
    for _ in range(2):
        with pytest.raises(InterruptedError):
            training.run(SMALL, folder, verbose=0)
        assert not (folder / "result.json").exists()
    result = training.run(SMALL, folder, verbose=0)
    assert next(saved) == 9  # no epoch was trained twice
    for stage in STAGES:
        assert rows(folder / stage) == rows(expected / stage)
        for a, b in zip(weights(folder / stage), weights(expected / stage), strict=True):
            np.testing.assert_array_equal(a, b)
    assert dataclasses.replace(result, output_dir="", seconds=0) == dataclasses.replace(
        chain[1], output_dir="", seconds=0
    )


@pytest.mark.slow
def test_a_saved_teacher_takes_the_place_of_the_first_network(chain, small_network, tmp_path):
    first, second = (chain[0] / stage for stage in STAGES[:2])
    knobs = json.loads((second / "config.json").read_text())["config"]["knobs"]
    knobs = Knobs(**{**knobs, "teacher": str(first)})
    config = dataclasses.replace(SMALL, method="distilled_tanh", epochs=2, knobs=knobs)
    result = training.run(config, tmp_path / "run", verbose=0)
    assert result.epochs == 2
    assert not (tmp_path / "run" / "teacher").exists()
    for a, b in zip(weights(tmp_path / "run"), weights(second), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model": "mlp"}, "mlp has 0 of them"),
        ({"model": "birealnet20", "width": 2}, "The teacher has maps of 8x8, 8x8"),
    ],
)
def test_an_unfit_network_or_teacher_leaves_nothing_behind(changes, words, tmp_path):
    network().save(tmp_path / "teacher.keras")
    knobs = Knobs(teacher=str(tmp_path / "teacher.keras"))
    config = dataclasses.replace(SMALL, knobs=knobs, **changes)
    with pytest.raises(ValueError, match=words):
        training.run(config, tmp_path / "run", verbose=0)
    assert not (tmp_path / "run").exists()
