"""Files: what goes on as if it had never stopped, and what is refused by name."""

import copy
import json
import zipfile

import h5py
import numpy as np
import pytest
from saved import write as fixtures

import saving_cases
from larq_filter import binary, filters, flips, latent_rules
from larq_filter._keras import keras, tf
from larq_filter.optimizers import FilterOptimizer, LatentOptimizer

import larq as lq

FILTER = filters.CascadedEMA(alpha=0.1, gamma=0.2)


def trained(optimizer):
    return saving_cases.train(saving_cases.build(optimizer), 0, 1)


def built(optimizer):
    return saving_cases.built(lambda: optimizer)


def kernels_of(model):
    return [variable for _, variable in binary.binary_kernels(model)]


# All formats --------------------------------------------------------------------------------------


HDF5 = "ignore:You are saving your model as an HDF5:UserWarning"
STARTS_ANEW = "ignore:Keras loads no optimizer state from a SavedModel:UserWarning"


@pytest.fixture(scope="module")
def interrupted():
    """By name: a model after its first part, and where it ends if it is never stopped."""
    results = {}

    def of(name):
        if name not in results:
            kept, other = saving_cases.first_part(name), saving_cases.first_part(name)
            before = [k.latent_variable.numpy() for k in kernels_of(other)]
            results[name] = kept, saving_cases.uninterrupted(name, other)
            after = [k.latent_variable.numpy() for k in kernels_of(other)]
            flipped = [np.any(a != b) for a, b in zip(before, after, strict=True)]
            assert all(flipped), "nothing flips in this training, so it would prove nothing"
        return results[name]

    return of


@pytest.mark.slow
@pytest.mark.filterwarnings(HDF5, STARTS_ANEW)
@pytest.mark.parametrize("format", saving_cases.FORMATS)
def test_goes_on_as_if_it_had_never_stopped(format, interrupted, tmp_path):
    model, expected = interrupted("warm start, a number")
    saving_cases.write("warm start, a number", format, tmp_path / "case", model)
    assert saving_cases.differences(expected, saving_cases.go_on(tmp_path / "case")) is None


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:FilterOptimizer goes on with the rates:UserWarning")
@pytest.mark.parametrize("format", [".weights.h5", "Checkpoint, read before build"])
def test_rates_that_were_set_come_from_the_file(format, interrupted, tmp_path):
    model, expected = interrupted("set by a callback")
    saving_cases.write("set by a callback", format, tmp_path / "case", model)
    assert saving_cases.differences(expected, saving_cases.go_on(tmp_path / "case")) is None


@pytest.mark.slow
@pytest.mark.filterwarnings(HDF5)
def test_goes_on_in_a_new_process(interrupted, tmp_path):
    name, formats = "warm start, a number", [".keras", ".h5", ".weights.h5", "Checkpoint"]
    model, expected = interrupted(name)
    for number, format in enumerate(formats):
        saving_cases.write(name, format, tmp_path / str(number), model)
    saving_cases.in_a_new_process(tmp_path)
    for number, format in enumerate(formats):
        result = saving_cases.result_of(tmp_path / str(number))
        assert saving_cases.differences(expected, result) is None, format


@pytest.mark.slow
def test_a_saved_model_says_that_its_state_waits(tmp_path):
    saving_cases.first_part("quist2023").save(tmp_path / "saved")
    with pytest.warns(UserWarning, match=r"model\.load_weights with the same path"):
        keras.models.load_model(tmp_path / "saved")
    keras.models.load_model(tmp_path / "saved", compile=False)  # nothing lost, nothing said


@pytest.mark.slow
@pytest.mark.filterwarnings(HDF5)
@pytest.mark.parametrize("format", saving_cases.KERAS_FILES)
def test_the_scale_of_the_loss_is_lost_by_name(format, tmp_path):
    model = saving_cases.first_part("loss scale")
    with pytest.warns(UserWarning, match="leave out the current scale"):
        saving_cases.write("loss scale", format, tmp_path / "case", model)


@pytest.mark.slow
def test_rates_of_a_file_that_are_others_are_said(tmp_path):
    def make(alpha, learning_rate):
        default = keras.optimizers.Adam(learning_rate)
        return FilterOptimizer(filters.EMA(alpha), default_optimizer=default)

    model = trained(make(0.1, 1e-2))
    model.save_weights(tmp_path / "w.weights.h5")
    model.optimizer.alpha = 0.05
    model.save(tmp_path / "m.keras")
    other, same = built(make(1e-3, 1e-5)), built(make(0.1, 1e-2))
    with pytest.warns(UserWarning, match="alpha 0.1, not 0.001; learning_rate 0.01, not 1e-05. To"):
        other.load_weights(tmp_path / "w.weights.h5")
    assert float(other.optimizer.learning_rate) == pytest.approx(1e-2)
    same.load_weights(tmp_path / "w.weights.h5")  # warnings are errors
    scheduled = built(make(keras.optimizers.schedules.CosineDecay(0.2, 9), 1e-2))
    scheduled.load_weights(tmp_path / "w.weights.h5")
    loaded = keras.models.load_model(tmp_path / "m.keras")
    assert float(loaded.optimizer.alpha) == pytest.approx(0.05)


def ended_schedule():
    """One that is at 0 from the second step on."""
    return keras.optimizers.schedules.PolynomialDecay(0.1, 1, 0.0)


def rate_of_latent(limit):
    rules = [latent_rules.Clip(limit)]
    return LatentOptimizer("sgd", "adam", rules=rules), "limit_0"


@pytest.mark.slow
@pytest.mark.parametrize(
    "make",
    [
        lambda rate: (FilterOptimizer(filters.EMA(rate), jit_compile=False), "alpha"),
        rate_of_latent,
    ],
)
@pytest.mark.parametrize("suffix", ["", ".weights.h5", "checkpoint"])
def test_what_a_schedule_left_is_nothing_for_a_constant(suffix, make, tmp_path):
    """As a learning rate of Keras: else alpha is 0 for good after a training to the end."""
    (kept, name), (there, _) = make(0.1), make(ended_schedule())
    model, other = trained(there), built(kept)
    setattr(kept, name, 0.05)
    path = str(tmp_path / f"w{suffix}")
    if suffix == "checkpoint":
        path = tf.train.Checkpoint(model).save(path)
        saving_cases.checked(tf.train.Checkpoint(other).restore(path))
    else:
        model.save_weights(path)
        other.load_weights(path)
    assert float(getattr(there, name)) == 0 < int(there.iterations) == int(kept.iterations)
    saving_cases.train(other, 1, 2)  # in a graph, before anybody has looked
    assert float(getattr(kept, name)) == pytest.approx(0.05)


@pytest.mark.slow
def test_a_constant_is_kept_until_it_is_set_or_written(tmp_path):
    model = trained(FilterOptimizer(filters.EMA(ended_schedule())))
    other = built(FilterOptimizer(filters.EMA(0.1)))
    for number, rate in enumerate([0.1, 0.02]):
        model.save_weights(tmp_path / "w")
        other.load_weights(tmp_path / "w")
        assert other.optimizer.rate_values() == {"alpha": pytest.approx(rate)}, number
        assert copy.deepcopy(other.optimizer).rate_values() == {"alpha": pytest.approx(rate)}
        other.load_weights(tmp_path / "w")  # nobody has looked at it when it is written
        other.save_weights(tmp_path / "again")
        other.optimizer.alpha = 0.02
        assert float(other.optimizer.alpha) == pytest.approx(0.02)
        third = built(FilterOptimizer(filters.EMA(0.3)))
        third.load_weights(tmp_path / "again")
        assert float(third.optimizer.alpha) == pytest.approx(rate)


@pytest.mark.slow
def test_set_weights_says_which_rates_it_changes():
    model = trained(FilterOptimizer(filters.EMA(ended_schedule())))
    other = built(FilterOptimizer(filters.EMA(0.1)))
    with pytest.warns(UserWarning, match=r"rates that were loaded: alpha 0, not 0\.1"):
        other.optimizer.set_weights([v.numpy() for v in model.optimizer.variables])


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Keras' files .keras and .weights.h5 leave out:UserWarning")
@pytest.mark.parametrize(
    "make", [lambda: FilterOptimizer(FILTER), lambda: LatentOptimizer("adam", "sgd")]
)
def test_files_of_mixed_precision_load_without_the_policy(make, tmp_path):
    kernel = {"kernel_quantizer": "ste_sign", "kernel_constraint": "weight_clip"}
    keras.mixed_precision.set_global_policy("mixed_float16")
    model = saving_cases.train(saving_cases.build(make(), **kernel), 0, 1)
    model.save(tmp_path / "model.keras")
    model.save_weights(tmp_path / "all.weights.h5")
    keras.mixed_precision.set_global_policy("float32")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    other = saving_cases.build(make(), **kernel)
    other.optimizer.build(other.trainable_variables)
    other.load_weights(tmp_path / "all.weights.h5")
    for found in (loaded, other):
        assert type(found.optimizer) is type(model.optimizer.inner_optimizer)
        for ours, theirs in zip(values_of(found), values_of(model), strict=True):
            np.testing.assert_array_equal(ours, theirs)


def values_of(model):
    """All variables of the model, of its optimizer and of those within."""
    optimizer = getattr(model.optimizer, "inner_optimizer", model.optimizer)
    parts = [optimizer.default_optimizer, getattr(optimizer, "kernel_optimizer", None)]
    variables = [v for each in (model, optimizer, *filter(None, parts)) for v in each.variables]
    return [variable.numpy() for variable in variables]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Keras' files .keras and .weights.h5 leave out:UserWarning")
@pytest.mark.filterwarnings("ignore:The file was written by an optimizer that:UserWarning")
@pytest.mark.parametrize("make", [FilterOptimizer, lambda: LatentOptimizer("adam", "sgd")])
@pytest.mark.parametrize("policies", [("float32", "mixed_float16"), ("mixed_float16",) * 2])
def test_what_keras_wrapper_can_not_load_is_explained(make, policies, tmp_path):
    """A file of another policy, and one whose layers were frozen after the training."""
    kernel = {"kernel_quantizer": "ste_sign", "kernel_constraint": "weight_clip"}
    keras.mixed_precision.set_global_policy(policies[0])
    model = saving_cases.train(saving_cases.build(make(), **kernel), 0, 1)
    model.layers[0].trainable = policies[0] != policies[1]
    model.save(tmp_path / "model.keras")
    keras.mixed_precision.set_global_policy(policies[1])
    with (
        pytest.warns(UserWarning, match="wrapped in a LossScaleOptimizer"),
        pytest.raises(AttributeError, match="name"),  # the wrapper's own end
    ):
        keras.models.load_model(tmp_path / "model.keras")
    keras.mixed_precision.set_global_policy("float32")  # as the warning says
    loaded = keras.models.load_model(tmp_path / "model.keras")
    before = [v.numpy() for v in model.layers[0].weights]
    saving_cases.train(loaded, 1, 2)
    assert loaded.optimizer.iterations == 40
    assert loaded.layers[2].compute_dtype == policies[0].removeprefix("mixed_")
    frozen = [np.array_equal(a, b) for a, b in zip(before, loaded.layers[0].weights, strict=True)]
    assert all(frozen) == (not loaded.layers[0].trainable)


def test_what_is_excluded_from_weight_decay_stays_excluded(tmp_path):
    adamw = keras.optimizers.AdamW(1e-3, weight_decay=0.1)
    model = saving_cases.build(FilterOptimizer(FILTER, default_optimizer=adamw))
    kept = [v for v in model.trainable_variables if "batch_normalization" in v.name]
    model.optimizer.exclude_from_weight_decay(var_list=kept)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    default = loaded.optimizer.default_optimizer
    excluded = [v.name for v in loaded.trainable_variables if not default._use_weight_decay(v)]
    assert excluded == [v.name for v in kept]


def test_an_exclusion_of_a_file_that_holds_one_list_stays():
    adamw = keras.optimizers.AdamW(1e-3, weight_decay=0.1)
    config = FilterOptimizer(FILTER, default_optimizer=adamw).get_config()
    optimizer = FilterOptimizer.from_config({**config, "excluded_from_weight_decay": ["gamma"]})
    optimizer.default_optimizer.build([])
    decays = optimizer.default_optimizer._use_weight_decay
    assert [decays(tf.Variable(1.0, name=name)) for name in ("gamma", "beta")] == [False, True]


def test_an_exclusion_that_can_not_be_saved_is_named(tmp_path):
    adamw = keras.optimizers.AdamW(1e-3, weight_decay=0.1)
    model = saving_cases.build(FilterOptimizer(FILTER, default_optimizer=adamw))
    adamw.exclude_from_weight_decay(var_list=model.trainable_variables[-1:])
    with pytest.warns(UserWarning, match="excluded from weight decay on default_optimizer itself"):
        model.save(tmp_path / "model.keras")


# Before the first step ----------------------------------------------------------------------------


def unstarted(**kwargs):
    """Kernels with real values until ``build`` makes them binary."""
    return saving_cases.build(FilterOptimizer(FILTER, **kwargs), "glorot_uniform")


@pytest.mark.slow
@pytest.mark.filterwarnings(HDF5)
@pytest.mark.parametrize("suffix", [".keras", ".h5", ".weights.h5"])
@pytest.mark.parametrize("start", ["zero", "magnitudes", "averages"])
def test_a_file_from_before_the_first_step(start, suffix, tmp_path):
    """The first gradient is taken at binary kernels, as without the file."""

    def make():
        magnitudes = keras.initializers.RandomNormal(0.0, 1e-2, seed=4)
        return unstarted(
            default_optimizer=keras.optimizers.Adam(use_ema=start == "averages"),
            warm_start=magnitudes if start == "magnitudes" else None,
        )

    model = make()
    path = tmp_path / f"model{suffix}"
    if suffix == ".weights.h5":
        model.save_weights(path)
        loaded = make()
        loaded.set_weights([w + 0.5 for w in loaded.get_weights()])
        loaded.optimizer.build(loaded.trainable_variables)
        loaded.load_weights(path)
    else:
        model.save(path)
        loaded = keras.models.load_model(path)
    values = [saving_cases.everything(saving_cases.train(each, 0, 2)) for each in (model, loaded)]
    assert saving_cases.differences(*values) is None


def test_an_eager_first_step_at_loaded_real_values_is_refused(tmp_path):
    model = unstarted()
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    variables = loaded.trainable_variables
    pairs = [(tf.zeros(v.shape), v) for v in variables]
    with pytest.raises(RuntimeError, match="held other values than -1 and"):
        loaded.optimizer.apply_gradients(pairs)
    loaded.optimizer.build(variables)
    assert all(binary.holds_signs(kernel) for kernel in kernels_of(loaded))
    loaded.optimizer.apply_gradients(pairs)


def test_a_state_that_is_given_after_loading_stays(tmp_path):
    unstarted().save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    kernel = kernels_of(loaded)[0]
    loaded.optimizer.set_filter_state(kernel, [tf.fill(kernel.shape, 7.0)] * 2)
    loaded.optimizer.build(loaded.trainable_variables)
    assert float(tf.reduce_min(loaded.optimizer.state_variables()[0])) == 7.0


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".weights.h5", ""])
def test_an_early_file_does_not_mix_with_steps_taken(suffix, tmp_path):
    unstarted().save_weights(tmp_path / f"early{suffix}")
    model = trained(FilterOptimizer(FILTER))
    with pytest.raises(ValueError, match="before the first step, and FilterOptimizer has taken 20"):
        model.load_weights(tmp_path / f"early{suffix}")


# What does not fit --------------------------------------------------------------------------------

OTHERS = {
    "filter": (lambda: FilterOptimizer(filters.EMA(0.1)), "CascadedEMA", "EMA"),
    "filter of as many variables": (
        lambda: FilterOptimizer(filters.Cascade([filters.EMA(0.2), filters.EMA(0.1)])),
        r"gradient_filter.CascadedEMA \(2 variables\)",
        r"gradient_filter.Cascade\(EMA, EMA\) \(2 variables\)",
    ),
    "rule without a value": (
        lambda: FilterOptimizer(FILTER, flips.Balanced()),
        r"flip_rule.Sign \(0 variables\)",
        r"flip_rule.Balanced \(0 variables\)",
    ),
    "warm start": (lambda: FilterOptimizer(FILTER, warm_start=0.1), "nothing", "kernel_0.started"),
    "default optimizer": (
        lambda: FilterOptimizer(FILTER, default_optimizer=keras.optimizers.Nadam()),
        "default_optimizer.Adam",
        "default_optimizer.Nadam",
    ),
}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    model = trained(FilterOptimizer(FILTER))
    model.save_weights(folder / "all.weights.h5")
    model.save_weights(folder / "checkpoint")
    model.save(folder / "saved_model")
    return folder


@pytest.mark.parametrize("name", ["all.weights.h5", "checkpoint", "saved_model"])
@pytest.mark.parametrize("other", OTHERS)
def test_the_state_of_another_optimizer_is_refused(other, name, files):
    make, found, expected = OTHERS[other]
    model = built(make())
    with pytest.raises(ValueError, match=f"holds .*{found}.*; expected is .*{expected}"):
        model.load_weights(files / name)


@pytest.mark.parametrize("name", ["checkpoint", "saved_model"])
def test_a_checkpoint_read_before_build_is_refused_then(name, files):
    model = saving_cases.build(FilterOptimizer(filters.EMA(0.1)))
    with pytest.raises(ValueError, match="CascadedEMA"):
        model.load_weights(files / name)
    model = saving_cases.build(FilterOptimizer(FILTER, warm_start=0.1))
    model.load_weights(files / name)  # nothing known of the kernels yet
    with pytest.raises(ValueError, match="kernel_0.started"):
        model.optimizer.build(model.trainable_variables)
    # Values of the file are in some states by now, so nothing goes on with this optimizer.
    for again in (
        lambda: model.optimizer.build(model.trainable_variables),
        lambda: model.load_weights(files / name),
        lambda: model.load_weights(files / "all.weights.h5"),
    ):
        with pytest.raises(ValueError, match="compile the model with a new optimizer"):
            again()


@pytest.mark.slow
def test_a_default_optimizer_that_remembers_something_else_is_refused(tmp_path):
    """Mean gradients and momenta are as many arrays of the same shapes."""
    rmsprop = keras.optimizers.RMSprop
    model = trained(FilterOptimizer(FILTER, default_optimizer=rmsprop(centered=True)))
    for name in ("all.weights.h5", "checkpoint"):
        model.save_weights(tmp_path / name)
        other = built(FilterOptimizer(FILTER, default_optimizer=rmsprop(momentum=0.9)))
        with pytest.raises(ValueError, match=r"RMSprop\(centered\) .*RMSprop \("):
            other.load_weights(tmp_path / name)


def test_the_layout_of_a_saved_model_is_of_one_device(strategy):
    """Workers would have to make it together, and TensorFlow sends no text between them."""
    with strategy.scope():
        layout = FilterOptimizer(FILTER)._layout.as_variable()
    assert layout.numpy().startswith(b'{"iterations"')  # a variable of replicas has no numpy()


@pytest.mark.parametrize("change", ["one kernel less", "another shape"])
def test_another_model_is_refused(change, files):
    """Keras stops at another shape of a layer; the optimizer's own check is asked alone."""
    model = built(FilterOptimizer(FILTER))
    with h5py.File(files / "all.weights.h5") as file:
        store = {key: value[()] for key, value in file["optimizer"]["vars"].items()}
    if change == "one kernel less":
        store = {key: value for key, value in store.items() if not key.startswith("kernel_1")}
        store["kernels"] -= 1
        match = "1 kernels; expected is 2 kernels, kernel_1"
    else:
        store["kernel_1.filter_0"] = np.zeros((16, 9), "float32")
        match = (
            r"kernel_1.filter_0 \(shape \(16, 9\)\); expected is kernel_1.filter_0 \(shape \(16, 8"
        )
    before = saving_cases.everything(model)
    with pytest.raises(ValueError, match=match):
        model.optimizer.load_own_variables(store)
    assert saving_cases.differences(before, saving_cases.everything(model)) is None


def test_weights_loaded_before_build_say_what_to_call(files):
    model = saving_cases.build(FilterOptimizer(FILTER))
    with pytest.raises(ValueError, match=r"optimizer\.build\(model\.trainable_variables\)"):
        model.load_weights(files / "all.weights.h5")


def test_weights_without_an_optimizer_are_loaded_with_a_warning(tmp_path):
    plain = saving_cases.build(FilterOptimizer(FILTER))
    plain.optimizer = None
    plain.save_weights(tmp_path / "plain.weights.h5")
    model = built(FilterOptimizer(FILTER))
    with pytest.warns(UserWarning, match="no state for FilterOptimizer"):
        model.load_weights(tmp_path / "plain.weights.h5")


# Frozen after training ----------------------------------------------------------------------------


def frozen(how):
    """A trained model of which a part, or all, is frozen then; what is trainable in it."""
    make = saving_cases.OPTIMIZERS["quist2023"]
    model = saving_cases.train(saving_cases.build(make()), 0, 1)
    if how == "whole":
        model.trainable = False
    else:
        model.layers[0].trainable = model.layers[1].trainable = False
    if how == "recompiled":
        model.compile(make(), "sparse_categorical_crossentropy")
        saving_cases.train(model, 1, 2)
    return model


ADAM = "ignore:The file .* leaves out the state of Adam, which begins anew:UserWarning"


@pytest.mark.slow
@pytest.mark.filterwarnings(HDF5, STARTS_ANEW, ADAM)
@pytest.mark.parametrize("name", ["model.keras", "model.h5", "saved"])
@pytest.mark.parametrize("how", ["whole", "recompiled", "not recompiled"])
def test_a_model_frozen_after_training_is_loaded(how, name, tmp_path):
    model = frozen(how)
    model.save(tmp_path / name)
    if name != "saved" and how != "recompiled":
        with pytest.warns(UserWarning, match="leaves out the state of quant_dense/kernel:0"):
            loaded = keras.models.load_model(tmp_path / name)
    else:
        loaded = keras.models.load_model(tmp_path / name)
    same = [
        np.array_equal(a, b) for a, b in zip(model.get_weights(), loaded.get_weights(), strict=True)
    ]
    assert all(same)
    if name != "saved":
        assert int(loaded.optimizer.iterations) == int(model.optimizer.iterations)
        assert loaded.optimizer.rate_values() == model.optimizer.rate_values()
    if name != "saved" and how == "not recompiled":
        ours, theirs = loaded.optimizer.state_variables(), model.optimizer.state_variables()[2:]
        for one, other in zip(ours, theirs, strict=True):
            np.testing.assert_array_equal(one, other)
    if how != "whole":
        saving_cases.train(loaded, 2, 3)
    else:
        loaded.trainable = True
        loaded.compile(FilterOptimizer(FILTER), "sparse_categorical_crossentropy")
        trained_on = saving_cases.train(loaded, 0, 1)
        assert int(trained_on.optimizer.iterations) == 20


@pytest.mark.slow
@pytest.mark.filterwarnings(HDF5, STARTS_ANEW, ADAM)
@pytest.mark.parametrize("name", ["model.keras", "model.h5", "saved"])
def test_a_model_whose_binary_layers_are_all_frozen_is_loaded(name, tmp_path):
    """The last layers go on training: by a Keras optimizer, as there is no kernel to filter."""
    model = saving_cases.train(saving_cases.build(FilterOptimizer(FILTER)), 0, 1)
    for layer, _ in binary.binary_kernels(model):
        layer.trainable = False
    model.save(tmp_path / name)
    if name != "saved":
        with pytest.warns(UserWarning, match="leaves out the state of quant_dense/kernel:0"):
            loaded = keras.models.load_model(tmp_path / name)
        assert int(loaded.optimizer.iterations) == int(model.optimizer.iterations)
    else:
        loaded = keras.models.load_model(tmp_path / name)
    for one, other in zip(model.get_weights(), loaded.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    with pytest.raises(ValueError, match="found no binary kernel among"):
        saving_cases.train(loaded, 1, 2)
    loaded.compile("adam", "sparse_categorical_crossentropy")
    saving_cases.train(loaded, 1, 2)


@pytest.mark.slow
@pytest.mark.filterwarnings(HDF5)
@pytest.mark.parametrize("suffix", [".keras", ".h5"])
@pytest.mark.parametrize("equal", [False, True], ids=["other shapes", "equal shapes"])
def test_states_go_to_the_kernels_that_are_left(equal, suffix, tmp_path):
    layer = {"kernel_quantizer": "ste_sign", "use_bias": False}
    sizes = [8, 8, 8] if equal else [8, 4, 8]
    layers = [lq.layers.QuantDense(n, name=f"layer_{n}_{i}", **layer) for i, n in enumerate(sizes)]
    model = keras.Sequential([keras.Input((8,)), *layers])
    model.compile(FilterOptimizer(FILTER, default_optimizer=None), "mse")
    model.fit(np.ones((8, 8)) * np.arange(8), np.ones((8, 8)), verbose=0)
    expected = [v.numpy() for v in model.optimizer.state_variables()]
    layers[1].trainable = False
    model.save(tmp_path / f"model{suffix}")
    with pytest.warns(
        UserWarning, match=rf"leaves out the state of layer_{sizes[1]}_1/kernel:0 \(8,"
    ):
        loaded = keras.models.load_model(tmp_path / f"model{suffix}")
    found = [v.numpy() for v in loaded.optimizer.state_variables()]
    assert saving_cases.differences(found, expected[:2] + expected[4:]) is None
    assert int(loaded.optimizer.iterations) == 1


def with_equal_signs(x, *sizes):
    """Nothing flips in it, so that all but the last kernel are +1 everywhere; and its layers."""
    layer = {"kernel_quantizer": "ste_sign", "use_bias": False}
    starts = ["ones"] * (len(sizes) - 1) + ["glorot_uniform"]
    layers = [
        lq.layers.QuantDense(n, kernel_initializer=start, name=name, **layer)
        for n, start, name in zip(sizes, starts, "abcd", strict=False)
    ]
    outputs = [layers[0](x)]
    for each in layers[1:]:
        outputs.append(each(outputs[-1] if x.shape[1] == 2 else x))
    model = keras.Model(x, keras.layers.concatenate(outputs))
    rule, kernels = flips.Threshold(1e3), model.trainable_variables
    optimizer = FilterOptimizer(filters.EMA(0.1), rule, default_optimizer=None, jit_compile=False)
    model.compile(optimizer, "mse")
    optimizer.build(kernels)
    optimizer.apply_gradients([(tf.random.normal(kernel.shape), kernel) for kernel in kernels])
    return model, layers


@pytest.mark.parametrize(
    ("width", "sizes"), [(2, (4, 2, 4)), (4, (4, 4, 4, 4))], ids=["other shapes", "equal shapes"]
)
def test_kernels_of_equal_signs_keep_their_states(width, sizes, tmp_path):
    model, layers = with_equal_signs(keras.Input((width,)), *sizes)
    expected = [v.numpy() for v in model.optimizer.state_variables()][:-1]
    layers[-1].trainable = False
    model.save(tmp_path / "model.keras")
    with pytest.warns(UserWarning, match=f"leaves out the state of {layers[-1].name}/kernel:0"):
        loaded = keras.models.load_model(tmp_path / "model.keras")
    found = [v.numpy() for v in loaded.optimizer.state_variables()]
    assert saving_cases.differences(found, expected) is None


def test_a_kernel_that_begins_like_one_frozen_since_is_not_taken_for_it(tmp_path):
    """Before its values come, after the optimizer's, it is +1 everywhere by its initializer."""
    model, layers = with_equal_signs(keras.Input((4,)), 4, 4, 4)
    layers[1].kernel.assign(-layers[1].kernel.latent_variable)
    expected = [v.numpy() for v in model.optimizer.state_variables()]
    layers[0].trainable = layers[2].trainable = False
    model.save(tmp_path / "model.keras")
    with pytest.warns(UserWarning, match="leaves out the state of") as told:
        loaded = keras.models.load_model(tmp_path / "model.keras")
    assert "a/kernel:0 (4, 4), c/kernel:0" in str(told[-1].message)
    (found,) = (v.numpy() for v in loaded.optimizer.state_variables())
    np.testing.assert_array_equal(found, expected[1])


def test_a_kernel_like_one_frozen_since_is_known_by_its_name_or_named(tmp_path):
    model, layers = with_equal_signs(keras.Input((4,)), 4, 4, 4)
    expected = [v.numpy() for v in model.optimizer.state_variables()]
    layers[0].trainable = False
    model.save(tmp_path / "model.keras")
    with (
        pytest.warns(UserWarning, match="does not say which of its kernels is kernel:0"),
        pytest.warns(UserWarning, match="leaves out the state of b/kernel:0"),
    ):
        keras.models.load_model(tmp_path / "model.keras")
    same, others = with_equal_signs(keras.Input((4,)), 4, 4, 4)  # its variables have names
    others[0].trainable = False
    same.compile(FilterOptimizer.from_config(model.optimizer.get_config()), "mse")
    same.optimizer.build(same.trainable_variables)
    model.save_weights(tmp_path / "w.weights.h5")
    with pytest.warns(UserWarning, match="leaves out the state of a/kernel:0"):
        same.load_weights(tmp_path / "w.weights.h5")
    found = [v.numpy() for v in same.optimizer.state_variables()]
    assert saving_cases.differences(found, expected[1:]) is None


@pytest.mark.filterwarnings(HDF5)
def test_kernels_that_an_h5_can_not_tell_apart_are_named(tmp_path):
    """All kernels of a model from a ``.keras`` file have one name, and ``.h5`` has no signs."""
    layer = {"kernel_quantizer": "ste_sign", "use_bias": False}
    layers = [lq.layers.QuantDense(8, name=name, **layer) for name in "ab"]
    model = keras.Sequential([keras.Input((8,)), *layers])
    model.compile(FilterOptimizer(FILTER, default_optimizer=None), "mse")
    model.fit(np.ones((8, 8)), np.ones((8, 8)), verbose=0)
    model.save(tmp_path / "model.keras")
    model = keras.models.load_model(tmp_path / "model.keras")
    model.layers[0].trainable = False
    model.save(tmp_path / "model.h5")
    with (
        pytest.warns(UserWarning, match="does not say which of its kernels is b/kernel:0"),
        pytest.warns(UserWarning, match=r"leaves out the state of kernel:0 .*, kernel:0"),
    ):
        loaded = keras.models.load_model(tmp_path / "model.h5")
    assert int(loaded.optimizer.iterations) == 1
    assert not any(np.any(v) for v in loaded.optimizer.state_variables())


@pytest.mark.slow
@pytest.mark.filterwarnings(HDF5)
@pytest.mark.parametrize("name", ["model.keras", "model.h5"])
def test_real_valued_layers_frozen_after_training(name, tmp_path):
    model = trained(FilterOptimizer(FILTER))
    model.layers[1].trainable = False
    model.save(tmp_path / name)
    with pytest.warns(UserWarning, match="Adam, which begins anew"):
        loaded = keras.models.load_model(tmp_path / name)
    found, expected = ([v.numpy() for v in m.optimizer.state_variables()] for m in (loaded, model))
    assert saving_cases.differences(found, expected) is None
    assert int(loaded.optimizer.iterations) == int(model.optimizer.iterations) > 0
    real = [v for v in loaded.trainable_variables if not binary.is_binary(v)]
    before = [v.numpy() for v in real]
    pairs = [(tf.ones(v.shape), v) for v in loaded.trainable_variables]
    loaded.optimizer.apply_gradients(pairs)
    for variable, value in zip(real, before, strict=True):  # Adam's first step is its learning rate
        np.testing.assert_allclose(value - variable.numpy(), 1e-3, rtol=1e-3)
    again, counters = copy.deepcopy(loaded.optimizer), []
    for optimizer in (loaded.optimizer, again):
        optimizer.apply_gradients(pairs)
        counters.append((int(optimizer.iterations), int(optimizer.default_optimizer.iterations)))
    assert counters == [(int(model.optimizer.iterations) + 2, 2)] * 2


# Files of this release ----------------------------------------------------------------------------


@pytest.mark.filterwarnings(
    "ignore:FilterOptimizer goes on with the rates:UserWarning"
)  # so they were set
@pytest.mark.parametrize("format", fixtures.FORMATS)
def test_a_file_of_an_earlier_release(format):
    """Every value as it was noted when the file was written, and as many further steps on."""
    with np.load(fixtures.FOLDER / "values.npz", allow_pickle=False) as values:
        saved = {key: values[key] for key in values.files}
    model = fixtures.read(format)
    fixtures.assert_same(model, saved, "saved")
    fixtures.step(model, fixtures.STEPS, 2 * fixtures.STEPS)
    fixtures.assert_same(model, saved, "after")


def test_the_files_of_earlier_releases_are_small():
    assert (
        sum(path.stat().st_size for path in fixtures.FOLDER.iterdir() if path.is_file()) < 300_000
    )


# Code in files ------------------------------------------------------------------------------------


def tampered(path, change):
    """Rewrites the config of a ``.keras`` file."""
    with zipfile.ZipFile(path) as file:
        content = {name: file.read(name) for name in file.namelist()}
    config = json.loads(content["config.json"])
    change(config["compile_config"]["optimizer"]["config"])
    content["config.json"] = json.dumps(config).encode()
    with zipfile.ZipFile(path, "w") as file:
        for name, data in content.items():
            file.writestr(name, data)


def lambda_config(code="lambda: 1"):
    return {
        "class_name": "__lambda__",
        "config": {"value": [code, None, None]},
        "module": "builtins",
        "registered_name": None,
    }


@pytest.mark.parametrize("argument", ["gradient_filter", "flip_rule", "default_optimizer"])
def test_a_lambda_in_a_file_is_not_run(argument, tmp_path):
    path = tmp_path / "model.keras"
    saving_cases.build(FilterOptimizer(FILTER)).save(path)
    tampered(path, lambda config: config.update({argument: lambda_config()}))
    with pytest.raises(ValueError, match="may run code"):
        keras.models.load_model(path)


def test_a_lambda_layer_is_not_run(tmp_path):
    x = keras.Input((8,))
    y = keras.layers.Dense(3)(keras.layers.Lambda(lambda x: x)(x))
    keras.Model(x, y).save(tmp_path / "model.keras")
    with pytest.raises(ValueError, match="lambda"):
        keras.models.load_model(tmp_path / "model.keras")


@pytest.mark.parametrize("where", ["gradient_filter", "alpha"])
def test_an_unknown_class_in_a_file_is_refused(where, tmp_path):
    path = tmp_path / "model.keras"
    saving_cases.build(FilterOptimizer(FILTER)).save(path)
    unknown = {
        "class_name": "Unknown",
        "config": {},
        "module": None,
        "registered_name": "x>Unknown",
    }

    def change(config):
        home = config["gradient_filter"]["config"] if where == "alpha" else config
        home[where] = unknown

    tampered(path, change)
    with pytest.raises(TypeError, match="Unknown"):
        keras.models.load_model(path)


def test_a_function_in_place_of_a_filter_is_refused_and_not_called(tmp_path):
    """The module is one that exists; what it holds is no filter."""
    config = FilterOptimizer(FILTER).get_config()
    config["gradient_filter"] = {
        "class_name": "getcwd",
        "config": {},
        "module": "os",
        "registered_name": "getcwd",
    }
    with pytest.raises(ValueError, match="'getcwd' of the module 'os'"):
        FilterOptimizer.from_config(config)
