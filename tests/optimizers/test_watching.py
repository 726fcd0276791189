"""Kernels that somebody else changes: training goes on from the weights that are there."""

import warnings

import numpy as np
import pytest

import networks
import saving_cases
from larq_filter import binary, filters, flips, presets
from larq_filter._keras import keras, tf
from larq_filter.filters import Filter, odd_states
from larq_filter.optimizers import FilterOptimizer

import larq as lq  # isort: skip

HDF5 = "ignore:You are saving your model as an HDF5:UserWarning"
CHANGED = "weights of .* binary kernels had been changed from outside"


def kernels_of(model):
    return [variable for _, variable in binary.binary_kernels(model)]


def values(model):
    return [binary.latent(binary.replicas(k)[0]).numpy() for k in kernels_of(model)]


def optimizer_of(model):
    return getattr(model.optimizer, "inner_optimizer", model.optimizer)


def zero_step(model):
    """A step whose gradients are all 0: whatever flips in it, an old signal has asked for."""
    pairs = [(tf.zeros(v.shape), v) for v in model.trainable_variables]
    tf.function(optimizer_of(model).apply_gradients)(pairs)


def slow(**kwargs):
    """Without momentum: a gradient of 0 flips nothing."""
    return FilterOptimizer(filters.EMA(1e-2), **kwargs)


def moved(optimizer=None, steps=1):
    """A model, its weights early in training, and with them undone by further training."""
    model = saving_cases.train(saving_cases.build(optimizer or slow()), 0, 1)
    early = model.get_weights()
    saving_cases.train(model, 1, 1 + steps)
    return model, early


# Before the first step ----------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("start", [None, 0.3])
def test_what_becomes_of_weights_loaded_before_the_first_step_is_said(start):
    """Without a warm start there is nothing to turn: the first gradients decide, and it says so."""
    trained = [np.where(w < 0, -1, 1) for w in values(moved()[0])]
    model = saving_cases.build(slow(warm_start=start))
    model.optimizer.build(model.trainable_variables)
    for kernel, value in zip(kernels_of(model), trained, strict=True):
        kernel.assign(value.astype("float32"))
    words = "has been turned with them" if start else "remembered nothing of them.*load them again"
    with pytest.warns(UserWarning, match=f"{CHANGED}.*{words}"):
        saving_cases.train(model, 0, 1)
    kept = np.mean([np.mean(a == b) for a, b in zip(values(model), trained, strict=True)])
    assert kept > 0.95 if start else kept < 0.8


# How weights come back ----------------------------------------------------------------------------


def by_set_weights(model, early, folder):
    model.set_weights(early)


def by_h5(model, early, folder):
    other = saving_cases.build(slow())
    other.set_weights(early)
    other.save_weights(folder / "w.h5")
    model.load_weights(folder / "w.h5")


def by_weights_h5_without_optimizer(model, early, folder):
    other = keras.Sequential.from_config(model.get_config())
    other.set_weights(early)
    other.save_weights(folder / "w.weights.h5")
    model.reset_metrics()
    model.compiled_loss = model.compiled_metrics = None  # their variables are not in the file
    with pytest.warns(UserWarning, match="no state for FilterOptimizer"):
        model.load_weights(folder / "w.weights.h5")


def by_assign(model, early, folder):
    for variable, value in zip(model.weights, early, strict=True):
        variable.assign(value)


def by_assign_add(model, early, folder):
    for variable, value in zip(model.weights, early, strict=True):
        variable.assign_add(value - variable.numpy())


def by_assign_sub(model, early, folder):
    for variable, value in zip(model.weights, early, strict=True):
        variable.assign_sub(variable.numpy() - value)


def by_scatter(model, early, folder):
    for variable, value in zip(model.weights, early, strict=True):
        rows = tf.range(len(value))
        binary.stored(variable).scatter_nd_update(rows[:, None], value)


def by_slices(model, early, folder):
    for variable, value in zip(model.weights, early, strict=True):
        for row in range(len(value)):
            binary.stored(variable)[row].assign(value[row])


def by_a_function(model, early, folder):
    @tf.function
    def restore():
        for variable, value in zip(model.weights, early, strict=True):
            variable.assign(value)

    restore()


WAYS = [by_set_weights, by_h5, by_weights_h5_without_optimizer, by_assign, by_a_function]
WAYS += [by_assign_add, by_assign_sub, by_scatter, by_slices]


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS)
def test_restored_weights_stay(way, tmp_path):
    model, early = moved()
    late = values(model)
    way(model, early, tmp_path)
    restored = values(model)
    assert any(np.any(a != b) for a, b in zip(late, restored, strict=True))
    zero_step(model)
    for a, b in zip(values(model), restored, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.slow
def test_early_stopping_and_further_training():
    """The weights of the best epoch are the ones that training goes on from."""
    model, _ = moved()
    found = []

    class Keep(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            found.append(values(self.model))
            logs["rising"] = float(epoch)  # the first epoch is the best

    stop = keras.callbacks.EarlyStopping("rising", patience=3, restore_best_weights=True)
    x = np.random.default_rng(5).normal(size=(160, 8)).astype("float32")
    fit = {"x": x, "y": np.arange(160) % 3, "batch_size": 8, "verbose": 0}
    model.fit(**fit, epochs=6, callbacks=[Keep(), stop])  # says nothing: no step came after
    assert any(np.any(a != b) for a, b in zip(found[-1], found[0], strict=True))
    for then in (values(model), (zero_step(model), values(model))[1]):
        for a, b in zip(then, found[0], strict=True):
            np.testing.assert_array_equal(a, b)
    with pytest.warns(UserWarning, match=CHANGED):
        model.fit(**fit)


# Optimizers that take turns -----------------------------------------------------------------------


def compile_and_train(model, optimizer):
    model.compile(optimizer, "sparse_categorical_crossentropy")
    return values(saving_cases.train(model, 0, 1))


@pytest.mark.slow
@pytest.mark.parametrize(
    "make", [slow, lambda: keras.optimizers.Adam(0.3)], ids=["FilterOptimizer", "Adam"]
)
def test_training_by_another_optimizer_is_not_undone(make):
    model, first = saving_cases.build(slow()), slow()
    before = compile_and_train(model, first)
    between = compile_and_train(model, make())
    signs = [np.where(kernel < 0, -1, 1) for kernel in between]
    assert any(np.any(a != b) for a, b in zip(before, signs, strict=True))
    model.compile(first, "sparse_categorical_crossentropy")
    zero_step(model)
    for one, other in zip(values(model), signs, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.slow
@pytest.mark.parametrize("jit_compile", [False, True])
@pytest.mark.parametrize("in_function", [False, True])
def test_two_optimizers_in_turn_follow_numpy(in_function, jit_compile):
    """A flip that one of them makes turns what the other remembers of the weight."""
    kernel, alphas, random = networks.kernel((6, 5)), (0.5, 0.125), np.random.default_rng(0)
    optimizers, steps = [], []
    for alpha in alphas:
        optimizer = slow(default_optimizer=None, jit_compile=jit_compile)
        optimizer.alpha = alpha
        optimizer.build([kernel])
        optimizers.append(optimizer)
    for optimizer in optimizers:

        def step(gradient, optimizer=optimizer):
            optimizer.apply_gradients([(gradient, kernel)])

        steps.append(tf.function(step) if in_function else step)
    weight, memory = binary.latent(kernel).numpy(), np.zeros((2, 6, 5), np.float32)
    for _ in range(60):
        mine = random.integers(2)
        gradient = random.normal(size=(6, 5)).astype(np.float32)
        memory[mine] += np.float32(alphas[mine]) * (gradient - memory[mine])
        flipped = weight * memory[mine] > 0
        weight = np.where(flipped, -weight, weight)
        memory[1 - mine] *= np.where(flipped, -1, 1)
        steps[mine](tf.constant(gradient))  # a warning would be an error
        np.testing.assert_array_equal(binary.latent(kernel), weight)


@pytest.mark.slow
@pytest.mark.parametrize("jit_compile", [False, True])
def test_two_optimizers_in_turn_on_replicas(jit_compile, strategy):
    optimizers = []
    with strategy.scope():
        kernel = networks.kernel((6, 5))
        for alpha in (0.5, 0.125):
            optimizer = slow(default_optimizer=None, jit_compile=jit_compile)
            optimizer.alpha = alpha
            optimizer.build([kernel])
            optimizers.append(optimizer)
    steps = [networks.step_on_replicas(strategy, each, [kernel]) for each in optimizers]
    random, gradients = np.random.default_rng(0), np.zeros((2, 6, 5), np.float32)
    for turn in (0, 1, 1, 1, 0):
        before = values_of(kernel)
        gradients[0] = random.normal(size=(6, 5))
        memory = [optimizer.state_variables()[0] for optimizer in optimizers]
        other = [copy.numpy() for copy in binary.replicas(memory[1 - turn])]
        steps[turn](tf.constant(gradients))
        after = values_of(kernel)
        assert np.any(before[0] != after[0])
        for was, one, two, copy in zip(
            other, before, after, binary.replicas(memory[1 - turn]), strict=True
        ):
            np.testing.assert_array_equal(copy, np.where(one == two, was, -was))


def values_of(kernel):
    return [binary.latent(copy).numpy() for copy in binary.replicas(kernel)]


# What a restored weight remembers -----------------------------------------------------------------

ODD = [name for name in presets.PRESETS if name not in ("prob_bop", "equal_bits")]


def preset(name):
    if name == "diode":
        return presets.diode(beta1=0.9, beta2=0.9, default_optimizer=None, jit_compile=False)
    if name == "lopsided":
        return FilterOptimizer(Lopsided(), default_optimizer=None, jit_compile=False)
    more = {"rate": 0.05} if name == "dqt" else {}
    return presets.PRESETS[name](default_optimizer=None, jit_compile=False, **more)


def stepped(optimizer, kernel, seed, steps):
    """Steps with random gradients; a binary kernel and its signs after each."""
    random = np.random.default_rng(seed)
    for _ in range(steps):
        gradient = tf.constant(random.normal(size=kernel.shape), tf.float32)
        optimizer.apply_gradients([(gradient, kernel)])
    return binary.latent(kernel).numpy()


@pytest.mark.parametrize("name", ODD)
def test_a_turned_kernel_mirrors_the_one_left_alone(name):
    """Turned as a whole it goes on against gradients of the other sign as it would have."""
    ends = []
    for sign in (1.0, -1.0):
        kernel = networks.kernel((6, 5))
        optimizer = preset(name)
        optimizer.build([kernel])
        stepped(optimizer, kernel, 0, 20)
        kernel.assign(sign * binary.latent(kernel))
        random, path = np.random.default_rng(1), []
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for _ in range(20):
                gradient = tf.constant(sign * random.normal(size=(6, 5)), tf.float32)
                optimizer.apply_gradients([(gradient, kernel)])
                path.append(sign * binary.latent(kernel).numpy())
        ends.append(np.stack(path))
    assert np.any(ends[0][0] != ends[0][-1])
    np.testing.assert_array_equal(*ends)


def test_ranks_hold_what_was_restored():
    """Balanced compares weights with each other, so a mirrored memory would not."""
    kernel = networks.kernel((20, 7))
    optimizer = FilterOptimizer(filters.EMA(0.05), flips.Balanced(), default_optimizer=None)
    optimizer.build([kernel])
    early, late = stepped(optimizer, kernel, 0, 10), stepped(optimizer, kernel, 1, 30)
    assert np.count_nonzero(early != late) > 20
    kernel.assign(early)
    with pytest.warns(UserWarning, match=CHANGED):
        optimizer.apply_gradients([(tf.zeros(kernel.shape), kernel)])
    np.testing.assert_array_equal(binary.latent(kernel), early)


@pytest.mark.parametrize(
    "name", ["quist2023", "bop_second_order", "bold", "sgdat", "equal_bits", "lopsided"]
)
def test_turned_over_and_back_is_nothing(name):
    """Weights swapped for validations, as averages are: not a bit differs after it."""
    ends = []
    for swap in (False, True):
        kernel = networks.kernel((6, 5))
        optimizer = preset(name)
        optimizer.build([kernel])
        for seed in (0, 1, 2):
            mine = stepped(optimizer, kernel, seed, 8)  # a warning would be an error
            if swap:
                random = np.random.default_rng(9)
                for _ in range(3):
                    kernel.assign(random.normal(size=(6, 5)))  # averages are no signs
                kernel.assign(mine)
        ends.append([binary.latent(kernel).numpy(), *(v.numpy() for v in optimizer.variables)])
    for one, other in zip(*ends, strict=True):
        np.testing.assert_array_equal(one, other)


def test_values_that_are_no_signs_count_by_their_sign():
    kernel = networks.kernel((6, 5))
    optimizer = FilterOptimizer(filters.EMA(0.1), default_optimizer=None)
    optimizer.build([kernel])
    stepped(optimizer, kernel, 0, 20)
    average = np.random.default_rng(9).normal(size=(6, 5)).astype("float32")
    kernel.assign(average)
    with pytest.warns(UserWarning, match=CHANGED):
        optimizer.apply_gradients([(tf.zeros((6, 5)), kernel)])
    np.testing.assert_array_equal(binary.latent(kernel), np.where(average < 0, -1, 1))


@pytest.mark.parametrize("name", presets.PRESETS)
def test_setting_what_is_there_changes_nothing(name):
    more = {"steps_per_epoch": 10} if name == "prob_bop" else {}
    kernel = networks.kernel((6, 5))
    optimizer = presets.PRESETS[name](default_optimizer=None, **more)
    optimizer.build([kernel])
    stepped(optimizer, kernel, 0, 5)
    before = [v.numpy() for v in optimizer.variables]
    kernel.assign(binary.latent(kernel))
    for one, other in zip(before, optimizer.variables, strict=True):
        np.testing.assert_array_equal(one, other)


class Lopsided(Filter):
    """Hears positive gradients only; so its memory has no opposite."""

    order = 1

    def get_config(self):
        return {}

    def step(self, x, state, rates, xp):
        y = state[0] + 0.1 * (xp.maximum(x, xp.zeros_like(x)) - state[0])
        return y, (y,)


def test_a_filter_without_an_opposite_starts_again_for_these_weights():
    kernel = networks.kernel((6, 5))
    optimizer = FilterOptimizer(Lopsided(), default_optimizer=None)
    optimizer.build([kernel])
    before = stepped(optimizer, kernel, 0, 20)
    remembered = optimizer.state_variables()[0].numpy()
    other = before * np.where(np.arange(30).reshape(6, 5) % 2, -1, 1)
    kernel.assign(other)
    expected = np.where(other == before, remembered, 0)
    for path in ([], [-other, before, other]):  # nothing is lost on the way
        for weights in path:
            kernel.assign(weights)
        np.testing.assert_array_equal(optimizer.state_variables()[0], expected)
    with pytest.warns(UserWarning, match="starts at zero"):
        optimizer.apply_gradients([(tf.zeros((6, 5)), kernel)])


CASES = {
    "EMA": (filters.EMA(0.1), (True,)),
    "compensated": (filters.EMA(1e-6), (True, True)),
    "sections": (filters.butterworth(order=2, cutoff=0.1), (True, True)),
    "Kalman": (filters.Kalman(), (True, False)),
    "mean square": (filters.NormalizedEMA(alpha=0.1, sigma=0.1), (True, False)),
    "corrected": (
        filters.NormalizedEMA(alpha=0.1, sigma=0.1, bias_correction=True),
        (True, False, False, False),
    ),
    "reset": (filters.ResettingIntegrator(0.1), (True, False)),
    "limited": (
        filters.Cascade([filters.EMA(0.1), filters.Limiter(), filters.EMA(0.1)]),
        (True, True),
    ),
    "taps": (filters.FIR([1.0, 0.5, 0.25]), (True, True)),
    "none": (filters.Limiter(), ()),
    "lopsided": (Lopsided(), None),
}


@pytest.mark.parametrize("name", CASES)
def test_which_states_are_odd(name):
    gradient_filter, expected = CASES[name]
    assert odd_states(gradient_filter) == expected


# Where there is nothing to do ---------------------------------------------------------------------


def test_a_file_read_into_a_trained_model_is_no_change(tmp_path):
    """Kernels and states come from the file together, over others that the model has by now."""
    model = saving_cases.first_part("quist2023")
    model.save_weights(tmp_path / "then.weights.h5")
    expected = saving_cases.everything(saving_cases.train(model, 1, 2))
    model.load_weights(tmp_path / "then.weights.h5")
    again = saving_cases.everything(saving_cases.train(model, 1, 2))
    assert saving_cases.differences(expected, again) is None


def test_a_restored_checkpoint_is_no_change(tmp_path):
    model = saving_cases.first_part("quist2023")
    model.save_weights(tmp_path / "then")
    expected = saving_cases.everything(saving_cases.train(model, 1, 2))
    model.load_weights(tmp_path / "then").assert_existing_objects_matched()
    again = saving_cases.everything(saving_cases.train(model, 1, 2))
    assert saving_cases.differences(expected, again) is None


@pytest.mark.slow
@pytest.mark.parametrize("name", ["quist2023", "bop", "equal_bits"])
@pytest.mark.parametrize("first", ["kernels", "states"])
def test_kernels_and_states_may_be_set_in_either_order(first, name):
    """A copy of both, taken in memory: training goes on from it as it did the first time."""
    model = saving_cases.first_part(name)
    kernels, states = model.get_weights(), [v.numpy() for v in model.optimizer.variables]
    expected = saving_cases.everything(saving_cases.train(model, 1, 2))
    if first == "kernels":
        model.set_weights(kernels)
    model.optimizer.set_weights(states)
    if first == "states":
        model.set_weights(kernels)
    again = saving_cases.everything(saving_cases.train(model, 1, 2))
    assert saving_cases.differences(expected, again) is None


def test_other_kernels_than_those_of_the_states_stay():
    model, early = moved()
    model.optimizer.set_weights([v.numpy() for v in model.optimizer.variables])
    model.set_weights(early)
    restored = values(model)
    zero_step(model)
    for a, b in zip(values(model), restored, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.filterwarnings(HDF5)
def test_other_kernels_than_those_of_an_h5_stay(tmp_path):
    """They are on the sides of the signals mostly, and yet others than the file's."""
    gradient = tf.constant(np.random.default_rng(0).normal(size=(6, 4)), tf.float32)
    layer = lq.layers.QuantDense(4, kernel_quantizer="ste_sign", use_bias=False)
    model = keras.Sequential([keras.Input((6,)), layer])
    rule = flips.Threshold(0.5)
    optimizer = FilterOptimizer(filters.EMA(0.1), rule, default_optimizer=None, jit_compile=False)
    model.compile(optimizer, "mse")
    optimizer.build([layer.kernel])
    stay = tf.where(tf.abs(gradient) > 0.5, -tf.sign(gradient), tf.sign(gradient))
    layer.kernel.assign(stay)
    optimizer.set_filter_state(layer.kernel, [gradient])
    model.save(tmp_path / "model.h5")
    loaded = keras.models.load_model(tmp_path / "model.h5")
    flat = np.where(np.abs(gradient) > 0.5, stay, -stay)
    flat.flat[np.argmax(np.abs(gradient))] *= -1
    loaded.set_weights([flat])
    zero_step(loaded)
    np.testing.assert_array_equal(values(loaded)[0], flat)


@pytest.mark.slow
@pytest.mark.filterwarnings(HDF5)
@pytest.mark.parametrize("late", [False, True], ids=["saved", "loaded"])
@pytest.mark.parametrize("format", [".keras", ".h5", ".weights.h5", "Checkpoint"])
def test_restored_weights_stay_through_a_file(format, late, tmp_path):
    """Restored before the model is saved, or after it is loaded again."""
    model, early = moved()
    late or model.set_weights(early)
    write, read = saving_cases.FORMATS[format]
    write(model, tmp_path)
    loaded = read(tmp_path, slow)
    if late:
        loaded.set_weights(early)
    restored = values(loaded)
    zero_step(loaded)
    for a, b in zip(values(loaded), restored, strict=True):
        np.testing.assert_array_equal(a, b)


# Where training runs ------------------------------------------------------------------------------


def told(model):
    with pytest.warns(UserWarning, match=CHANGED) as caught:
        saving_cases.train(model, 0, 1)
    assert len([w for w in caught if "from outside" in str(w.message)]) == 1
    saving_cases.train(model, 0, 1)  # told once


@pytest.mark.slow
@pytest.mark.parametrize("eagerly", [False, True])
@pytest.mark.parametrize("jit_compile", [False, True])
def test_it_is_told_once(jit_compile, eagerly):
    model, early = moved(slow(jit_compile=jit_compile))
    model.run_eagerly = eagerly
    model.set_weights(early)
    told(model)


@pytest.mark.slow
def test_mixed_precision():
    keras.mixed_precision.set_global_policy("mixed_float16")
    model, early = moved(keras.mixed_precision.LossScaleOptimizer(slow(), initial_scale=1.0))
    model.set_weights(early)
    restored = values(model)
    zero_step(model)
    for a, b in zip(values(model), restored, strict=True):
        np.testing.assert_array_equal(a, b)
    told(model)


@pytest.mark.slow
def test_replicas(strategy):
    x = np.random.default_rng(0).normal(size=(160, 8)).astype("float32")
    fit = {"x": x, "y": np.argmax(x[:, :3], axis=1), "batch_size": 8, "verbose": 0}
    with strategy.scope():
        model = networks.small_network(keras.layers.LayerNormalization)
        model.compile(slow(), "sparse_categorical_crossentropy")
    model.fit(**fit)
    early = model.get_weights()
    model.fit(**fit)
    before, old = [v.numpy() for v in model.optimizer.state_variables()], values(model)
    model.set_weights(early)
    for state, was, one, other in zip(
        model.optimizer.state_variables(), before, old, values(model), strict=True
    ):
        assert np.any(one != other)
        for copy in binary.replicas(state):
            np.testing.assert_array_equal(copy, np.where(one == other, was, -was))
    with pytest.warns(UserWarning, match=CHANGED):
        model.fit(**fit)
    for kernel in kernels_of(model):
        one, other = (binary.latent(copy).numpy() for copy in binary.replicas(kernel))
        np.testing.assert_array_equal(one, other)


@pytest.mark.slow
def test_an_optimizer_is_not_kept_alive_by_kernels():
    import gc
    import weakref

    model, early = moved()
    states = weakref.ref(model.optimizer._states)
    model.compile(slow(), "sparse_categorical_crossentropy")
    saving_cases.train(model, 0, 1)
    keras.backend.clear_session()
    gc.collect()
    assert states() is None
    model.set_weights(early)  # the new one hears it
    told(model)


# A cold start -------------------------------------------------------------------------------------


@pytest.mark.parametrize("warm_start", [None, 0.3, keras.initializers.RandomNormal(0, 1, seed=1)])
def test_reset_filters_is_a_new_optimizer_at_the_same_kernels(warm_start):
    def make():
        return presets.sgdat(default_optimizer=None, warm_start=warm_start)

    kernel, other = networks.kernel((6, 5)), networks.kernel((6, 5))
    optimizer, new = make(), make()
    optimizer.build([kernel])
    other.assign(stepped(optimizer, kernel, 0, 20))
    new.build([other])
    optimizer.reset_filters()
    ends = [stepped(each, k, 1, 10) for each, k in ((optimizer, kernel), (new, other))]
    np.testing.assert_array_equal(*ends)
    for one, two in zip(optimizer.state_variables(), new.state_variables(), strict=True):
        np.testing.assert_array_equal(one, two)


def test_reset_filters_needs_filters():
    with pytest.raises(ValueError, match=r"optimizer\.build"):
        FilterOptimizer().reset_filters()
