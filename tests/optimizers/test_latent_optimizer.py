"""Latent kernels and the rest, each beside the Keras optimizer that trains it alone."""

import copy
import json

import numpy as np
import pytest

from larq_filter import binary
from larq_filter._keras import keras, tf
from larq_filter.latent_rules import AdaptiveClipping, Clip
from larq_filter.optimizers.latent_optimizer import LatentOptimizer
from latent import (
    KERNEL,
    RULES,
    data,
    fit,
    gradients_of,
    latent_model,
    make,
    optimizers,
    split,
    split_pairs,
    values,
)

import larq  # isort: skip


@pytest.mark.parametrize("kernel", KERNEL)
def test_each_part_is_trained_as_by_its_optimizer_alone(kernel):
    model, twin = latent_model(), latent_model()
    optimizer, alone = make(kernel), (KERNEL[kernel](), optimizers.Adam(3e-3))
    variables, (kernels, _) = model.trainable_variables, split(model.trainable_variables)
    assert len(kernels) == 2
    for gradients in gradients_of(variables, 20):
        optimizer.apply_gradients(zip(gradients, variables, strict=True))
        for own, part in zip(alone, split_pairs(gradients, twin.trainable_variables), strict=True):
            own.apply_gradients(part)
    for mine, theirs in zip(values(variables), values(twin.trainable_variables), strict=True):
        np.testing.assert_array_equal(mine, theirs)
    assert np.abs(values(kernels)[0]).max() <= 1  # the layer's own constraint
    assert int(optimizer.iterations) == int(optimizer.kernel_optimizer.iterations) == 20


def test_the_global_norm_is_that_of_all_gradients():
    model, twin = latent_model(), latent_model()
    optimizer, own = make(global_clipnorm=0.1), make()
    (gradients,) = gradients_of(model.trainable_variables, 1)
    clipped, _ = tf.clip_by_global_norm(gradients, 0.1)
    optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
    own.apply_gradients(zip(clipped, twin.trainable_variables, strict=True))
    for mine, theirs in zip(values(model.weights), values(twin.weights), strict=True):
        np.testing.assert_array_equal(mine, theirs)


@pytest.fixture(scope="module")
def interrupted():
    """With rules or without: where a model starts, it after 8 steps, and what 16 steps end at."""
    results = {}

    def of(rules):
        if len(rules) not in results:
            model, whole = (latent_model(magnitude=0.05) for _ in range(2))
            start = values(split(whole.trainable_variables)[0])
            for each in (model, whole):
                each.compile(make("adam", rules=rules), "sparse_categorical_crossentropy")
                if rules:
                    each.optimizer.decay_0 = 0.2  # rates that are set come from the file
            fit(model, 2)
            fit(whole, 4)
            for before, after in zip(start, values(split(whole.weights)[0]), strict=True):
                assert np.any(np.sign(before) != np.sign(after))  # each binary layer has learned
            end = values(whole.weights + whole.optimizer.variables)
            results[len(rules)] = model, end
        return results[len(rules)]

    return of


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file")
@pytest.mark.parametrize("form", ["keras", "h5", "checkpoint", "early checkpoint", "saved_model"])
@pytest.mark.parametrize("rules", [(), RULES], ids=["plain", "rules"])
def test_a_saved_model_goes_on_as_if_it_had_not_stopped(rules, form, interrupted, tmp_path):
    model, end = interrupted(rules)
    if "checkpoint" in form:
        path = tf.train.Checkpoint(model=model, optimizer=model.optimizer).save(tmp_path / "c")
        loaded = latent_model()
        loaded.compile(make("adam", rules=rules), "sparse_categorical_crossentropy")
        saved = tf.train.Checkpoint(model=loaded, optimizer=loaded.optimizer)
        if form == "checkpoint":
            loaded.optimizer.build(loaded.trainable_variables)
            saved.restore(path).assert_consumed()
        else:
            saved.restore(path)
    elif form == "saved_model":
        model.save(tmp_path / "model")
        with pytest.warns(UserWarning, match="this LatentOptimizer begins anew"):
            loaded = keras.models.load_model(tmp_path / "model")
        loaded.optimizer.build(loaded.trainable_variables)
        loaded.load_weights(tmp_path / "model")
    else:
        model.save(tmp_path / f"model.{form}")
        loaded = keras.models.load_model(tmp_path / f"model.{form}")
    assert int(loaded.optimizer.iterations) == 8
    assert loaded.optimizer.rules == tuple(rules)
    fit(loaded, 4, first=2)
    ours = values(loaded.weights + loaded.optimizer.variables)
    for mine, other in zip(ours, end, strict=True):
        np.testing.assert_array_equal(mine, other)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file")
@pytest.mark.parametrize("form", ["keras", "h5"])
@pytest.mark.parametrize("kernels", [False, True], ids=["whole", "kernels"])
def test_a_model_frozen_after_training_is_loaded(kernels, form, tmp_path):
    model = latent_model()
    model.compile(make("adam"), "sparse_categorical_crossentropy")
    fit(model, 1)
    for layer in [layer for layer, _ in binary.binary_kernels(model)] if kernels else [model]:
        layer.trainable = False
    model.save(tmp_path / f"model.{form}")
    if form == "keras":
        with pytest.warns(UserWarning, match="the state of kernel_optimizer .*, which begins anew"):
            loaded = keras.models.load_model(tmp_path / "model.keras")
    else:
        loaded = keras.models.load_model(tmp_path / "model.h5")
    for mine, theirs in zip(values(loaded.weights), values(model.weights), strict=True):
        np.testing.assert_array_equal(mine, theirs)
    if kernels:
        with pytest.raises(ValueError, match="found no latent kernel among"):
            fit(loaded, 1)
    loaded.trainable = True
    loaded.compile(make("adam"), "sparse_categorical_crossentropy")
    fit(loaded, 1)


@pytest.mark.slow
@pytest.mark.parametrize("part", ["kernel_optimizer", "default_optimizer"])
def test_an_optimizer_whose_state_is_left_out_begins_anew(part, tmp_path):
    model = latent_model()
    model.compile(make("adam"), "sparse_categorical_crossentropy")
    fit(model, 1)
    latent, *_ = (layer for layer, _ in binary.binary_kernels(model))
    real = next(layer for layer in model.layers if layer.trainable_weights and layer is not latent)
    (latent if part == "kernel_optimizer" else real).trainable = False
    model.save(tmp_path / "model.keras")
    with pytest.warns(UserWarning, match=rf"the state of {part} \(Adam\), which begins anew"):
        loaded = keras.models.load_model(tmp_path / "model.keras")
    optimizer, variables = loaded.optimizer, loaded.trainable_variables
    kernels, rest = split(variables)
    those = kernels if part == "kernel_optimizer" else rest
    before = values(those)
    optimizer.apply_gradients([(tf.fill(v.shape, 1e-2), v) for v in variables])
    rate = float(getattr(optimizer, part).learning_rate)
    for old, new in zip(before, values(those), strict=True):
        np.testing.assert_allclose(old - new, rate, rtol=1e-3)
    taken = {name: int(each.iterations) for name, each in optimizer._nested().items()}
    assert taken == dict.fromkeys(taken, 5) | {part: 1} and int(optimizer.iterations) == 5


def test_counters_that_differ_move_along_by_as_much():
    """One of an Adam that has trained before; between the steps one that a loss scale skips."""
    variables, optimizer = latent_model().trainable_variables, make("adam")
    optimizer.kernel_optimizer.iterations.assign(7)
    pairs = [(tf.fill(v.shape, 1e-2), v) for v in variables]
    optimizer.build(variables)
    for skips in (0, 1, 2):
        optimizer.iterations.assign_add(skips)
        optimizer.apply_gradients(pairs)
    taken = {name: int(each.iterations) for name, each in optimizer._nested().items()}
    assert taken == {"kernel_optimizer": 13, "default_optimizer": 6}
    assert int(optimizer.iterations) == 6


@pytest.mark.slow
def test_a_loss_scale_that_a_file_leaves_out_is_named(tmp_path):
    model = latent_model()
    scaled = keras.mixed_precision.LossScaleOptimizer(make("adam"))
    model.compile(scaled, "sparse_categorical_crossentropy")
    fit(model, 1)
    with pytest.warns(UserWarning, match="leave out the current scale of LossScaleOptimizer"):
        model.save(tmp_path / "model.keras")


def test_what_is_excluded_from_weight_decay_stays_excluded():
    adamw = keras.optimizers.AdamW(1e-3, weight_decay=0.1)
    optimizer = LatentOptimizer(keras.optimizers.AdamW(1e-3, weight_decay=0.1), adamw)
    bias = tf.Variable([1.0], name="bias")
    optimizer.exclude_from_weight_decay(var_list=[bias], var_names=["gamma"])
    again = LatentOptimizer.from_config(json.loads(json.dumps(optimizer.get_config())))
    names = ["bias", "gamma", "kernel", "other_bias"]
    for part in (again.kernel_optimizer, again.default_optimizer):
        part.build([])
        decays = [part._use_weight_decay(tf.Variable([1.0], name=name)) for name in names]
        assert decays == [False, False, True, True]


@pytest.mark.slow
def test_weights_of_a_file_take_learning_rates_along_and_need_a_built_optimizer(tmp_path):
    model, other = latent_model(), latent_model()
    for each in (model, other):
        each.compile(make("adam"), "sparse_categorical_crossentropy")
    fit(model, 1)
    model.optimizer.learning_rate, model.optimizer.kernel_learning_rate = 0.25, 0.125
    model.save_weights(tmp_path / "w.weights.h5")
    with pytest.raises(ValueError, match=r"no states yet .* Call model.optimizer.build\("):
        other.load_weights(tmp_path / "w.weights.h5")
    other.optimizer.build(other.trainable_variables)
    with pytest.warns(
        UserWarning, match="rates that were loaded: .*learning_rate 0.25, not 0.003; kern"
    ):
        other.load_weights(tmp_path / "w.weights.h5")
    rates = other.optimizer.learning_rate, other.optimizer.kernel_learning_rate
    assert [float(rate) for rate in rates] == [0.25, 0.125]
    for each in (model, other):
        fit(each, 2, first=1)
    for mine, theirs in zip(values(model.weights), values(other.weights), strict=True):
        np.testing.assert_array_equal(mine, theirs)


@pytest.mark.parametrize("rules", [(), RULES], ids=["plain", "rules"])
def test_a_copy_goes_on_as_the_original(rules):
    model = latent_model()
    optimizer = make("adam", rules=rules)
    kernels, rest = split(model.trainable_variables)
    first, second = gradients_of([*kernels, *rest], 2)
    optimizer.apply_gradients(zip(first, [*kernels, *rest], strict=True))
    copied, start = copy.deepcopy(optimizer), values(model.trainable_variables)
    ends = []
    for each in (optimizer, copied):
        for variable, value in zip(model.trainable_variables, start, strict=True):
            binary.stored(variable).assign(value)
        each.apply_gradients(zip(second, [*kernels, *rest], strict=True))
        ends.append(values([*model.trainable_variables, *each.variables]))
    for mine, theirs in zip(*ends, strict=True):
        np.testing.assert_array_equal(mine, theirs)
    assert copy.deepcopy(make()).get_config() == make().get_config()


def test_config_round_trip():
    optimizer = make("momentum", clipnorm=1.0)
    again = LatentOptimizer.from_config(optimizer.get_config())
    assert again.get_config() == optimizer.get_config()
    assert again.kernel_optimizer.momentum == 0.9
    assert LatentOptimizer("sgd").kernel_optimizer.get_config()["name"] == "SGD"
    optimizer = make("momentum", rules=RULES)
    again = LatentOptimizer.from_config(json.loads(json.dumps(optimizer.get_config())))
    assert again.rules == optimizer.rules == tuple(RULES)


def test_learning_rates_can_be_read_and_set():
    optimizer = make("adam")
    optimizer.learning_rate, optimizer.kernel_learning_rate = 0.5, 0.25
    assert float(optimizer.default_optimizer.learning_rate) == 0.5
    assert float(optimizer.kernel_optimizer.learning_rate) == 0.25


@pytest.mark.parametrize("name", ["use_ema", "weight_decay", "alpha", "kernel_optimizer"])
def test_what_would_change_nothing_can_not_be_set(name):
    optimizer = make()
    with pytest.raises(AttributeError, match=name):
        setattr(optimizer, name, True)


@pytest.mark.parametrize(
    ("build", "error", "words"),
    [
        (lambda: LatentOptimizer(use_ema=True), ValueError, ["use_ema", "default_optimizer"]),
        (lambda: LatentOptimizer(None), TypeError, ["kernel_optimizer", "None"]),
        (
            lambda: LatentOptimizer(optimizers.legacy.Adam()),
            TypeError,
            ["kernel_optimizer", "new-style", "tf.keras.optimizers.Adam"],
        ),
        (lambda: LatentOptimizer(*[optimizers.Adam()] * 2), ValueError, ["one object"]),
        (lambda: make(rules=Clip()), TypeError, ["`rules`", "list of rules: [Clip(limit=1.0)]"]),
        (lambda: make(rules=["clip"]), TypeError, ["`rules`", "latent_rules", "clip"]),
        (
            lambda: LatentOptimizer(
                optimizers.Adam(use_ema=True), rules=[AdaptiveClipping(), Clip()]
            ),
            ValueError,
            ["use_ema", "Clip(limit=1.0)", "Make it without"],
        ),
        (lambda: make(rules=[Clip()]).limit_1, AttributeError, ["limit_1", "limit_0"]),
        (
            lambda: LatentOptimizer().build([tf.Variable(1.0)]),
            ValueError,
            ["no latent kernel", "1 variables", "ste_sign"],
        ),
        (
            lambda: make().set_weights([np.zeros(3)]),
            ValueError,
            ["1 arrays were given"],
        ),
        (lambda: setattr(make(), "clipnorm", -3), ValueError, ["clipnorm", "-3", "[0, inf)"]),
        (lambda: setattr(make(), "clipvalue", "a"), TypeError, ["clipvalue", "'a'", "[0, inf)"]),
    ],
)
def test_errors(build, error, words):
    with pytest.raises(error) as raised:
        build()
    for word in words:
        assert word in str(raised.value)


@pytest.mark.parametrize("rules", [(), RULES], ids=["plain", "rules"])
def test_steps_without_or_with_other_gradients_or_new_variables_change_nothing(rules, caplog):
    variables = latent_model().trainable_variables
    optimizer = make(rules=rules)
    optimizer.build(variables[1:])
    gradients = [tf.ones_like(binary.latent(variable)) for variable in variables]
    start = values(variables)
    with pytest.raises(ValueError, match="No gradients provided for any variable"):
        optimizer.apply_gradients([(None, variable) for variable in variables[1:]])
    with pytest.raises(ValueError, match=r"gradient of \S+ has shape \(1,\); it must"):
        optimizer.apply_gradients([(tf.ones(1), variables[1])])
    pairs = list(zip(gradients, variables, strict=True))
    for take in (optimizer.apply_gradients, lambda pairs: optimizer.build(variables)):
        with pytest.raises(ValueError, match="without .*and 0 more.*with a new LatentOptimizer"):
            take(pairs)
    for mine, old in zip(values(variables), start, strict=True):
        np.testing.assert_array_equal(mine, old)
    assert int(optimizer.iterations) == int(optimizer.kernel_optimizer.iterations) == 0
    with caplog.at_level("WARNING", logger="tensorflow"):
        optimizer.apply_gradients([(None, variables[1]), *pairs[2:]])
    assert variables[1].name in caplog.text and int(optimizer.iterations) == 1
    assert optimizer.apply_gradients([]) is optimizer.iterations


@pytest.mark.slow
@pytest.mark.parametrize("rules", [(), RULES], ids=["plain", "rules"])
def test_two_replicas_reach_the_kernels_of_one_device(rules, strategy):
    """Each replica sees half of the batch; equal up to the rounding of a sum."""
    x, y = data()
    trained = []
    for each in (strategy, tf.distribute.get_strategy()):
        with each.scope():
            model = latent_model(normalization=lambda: None)
            model.compile(make("momentum", rules=rules), "sparse_categorical_crossentropy")
        model.fit(x, y, 64, epochs=3, shuffle=False, verbose=0)
        kernels = split(model.trainable_variables)[0]
        for variable in [*map(binary.stored, kernels), *model.optimizer.variables]:
            first, *others = binary.replicas(variable)
            for other in others:
                np.testing.assert_array_equal(first.numpy(), other.numpy())
        trained.append(values(kernels))
    for mine, theirs in zip(*trained, strict=True):
        np.testing.assert_allclose(mine, theirs, atol=1e-5)


@pytest.mark.slow
def test_a_failed_layer_call_before_changes_no_step(tmp_path):
    """Larq leaves its quantized scope open then, in which files get signs."""
    trained, path = [], tmp_path / "all.weights.h5"
    for fails in (False, True):
        model = latent_model()
        model.compile(make("momentum"), "sparse_categorical_crossentropy")
        x, y = data()
        with larq.context.quantized_scope(False):
            if fails:
                ((layer, _), *_) = binary.binary_kernels(model)
                with pytest.raises((ValueError, tf.errors.InvalidArgumentError)):
                    layer.call(tf.zeros([2, 1]))
                assert larq.context.should_quantize()
                with pytest.warns(UserWarning, match="gets signs in place of latent weights"):
                    model.save_weights(path)
                with pytest.warns(UserWarning, match="It is closed now"):
                    model.fit(x, y, 64, epochs=2, shuffle=False, verbose=0)
                assert not larq.context.should_quantize()
                model.save_weights(path)
            else:
                model.fit(x, y, 64, epochs=2, shuffle=False, verbose=0)
        trained.append(values(model.trainable_variables))
    model.load_weights(path)
    trained.append(values(model.trainable_variables))
    for ours, *others in zip(*trained, strict=True):
        for each in others:
            np.testing.assert_array_equal(ours, each)


def test_a_checkpoint_that_names_no_schedules_is_read():
    """As rules were written at first: their names alone."""
    files = LatentOptimizer("sgd", "adam", rules=[Clip(1.0)])._files
    files.deserialize(json.dumps("rules.Chain(Clip)"))
    with pytest.raises(ValueError, match=r"holds the state of the rules Chain\(Mirror\)"):
        files.deserialize(json.dumps("rules.Chain(Mirror)"))
