"""A filter and a flip rule written by a user, outside the package: training, saving, resuming."""

import importlib
import json
import subprocess
import sys
import types

import numpy as np
import pytest

from larq_filter import analysis, binary, callbacks
from larq_filter._keras import keras, tf
from larq_filter.optimizers import FilterOptimizer

import larq as lq

MODULE = "users_own_rules"
SOURCE = '''
"""What a user writes: a median of the last three gradients, and a rule with a rest period."""

import dataclasses

import larq_filter as lf
import tensorflow as tf

register = tf.keras.utils.register_keras_serializable(package="users_own_rules")


@register
@dataclasses.dataclass(frozen=True, eq=False)
class MedianOfThree(lf.filters.Filter):
    """y = gain * median of the last three gradients."""

    gain: lf.filters.Rate = 1.0

    def rates(self):
        return {"gain": self.gain}

    @property
    def order(self):
        return 2

    def step(self, x, state, rates, xp):
        a, b = state
        median = xp.maximum(xp.minimum(a, b), xp.minimum(xp.maximum(a, b), x))
        return rates["gain"] * median, (b, x)


@register
@dataclasses.dataclass(frozen=True, eq=False)
class RestingSign(lf.flips.FlipRule):
    """Sign, but a weight that has flipped rests for some steps."""

    rest: lf.filters.Rate

    intervals = {"rest": lf.filters.Interval(0.0, 1e6)}

    @property
    def state_size(self):
        return 1

    def flip(self, weight, signal, state, rates, xp):
        waiting = state[0]
        flipped = (weight * signal > 0) & (waiting <= 0)
        left = xp.maximum(waiting - 1, xp.zeros_like(waiting))
        return flipped, (xp.where(flipped, rates["rest"] * xp.ones_like(waiting), left),)
'''
FIT = {"batch_size": 8, "shuffle": False, "verbose": 0}


@pytest.fixture
def own_folder(tmp_path):
    """A folder with the user's module."""
    folder = tmp_path / "own"
    folder.mkdir()
    (folder / f"{MODULE}.py").write_text(SOURCE)
    return folder


@pytest.fixture
def own(own_folder):
    """The user's module, imported from a file; forgotten again afterwards."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(own_folder)
        module = importlib.import_module(MODULE)
    yield module
    forget()


def forget():
    """As in a process that never imported the module."""
    sys.modules.pop(MODULE, None)
    registered = keras.utils.get_custom_objects()
    for name in [name for name in registered if name.startswith(MODULE)]:
        del registered[name]


def make_model(own):
    quantized = {"kernel_quantizer": lq.quantizers.NoOp(precision=1), "use_bias": False}
    model = keras.Sequential(
        [
            keras.Input((8,)),
            lq.layers.QuantDense(12, **quantized),
            keras.layers.BatchNormalization(scale=False),
            keras.layers.Dense(3, activation="softmax"),
        ]
    )
    optimizer = FilterOptimizer(
        own.MedianOfThree(keras.optimizers.schedules.PolynomialDecay(1.0, 100, 0.5)),
        own.RestingSign(5.0),
    )
    model.compile(optimizer, "sparse_categorical_crossentropy")
    return model


def toy_data():
    x = np.random.default_rng(0).normal(size=(400, 8)).astype("float32")
    return x, np.argmax(x[:, :3], axis=1)


def everything(model):
    return [variable.numpy() for variable in model.variables + model.optimizer.variables]


def assert_same(ours, theirs):
    assert len(ours) == len(theirs)
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(a, b)


def kernel_of(model):
    ((_, variable),) = binary.binary_kernels(model)
    return variable


@pytest.mark.slow
def test_trains_and_resumes_from_a_keras_file(own, tmp_path):
    """20 steps, .keras, 30 steps: as without stopping, and the kernel flips before and after."""
    x, y = toy_data()
    model = make_model(own)
    start = np.sign(binary.latent(kernel_of(model)).numpy())
    model.fit(x[:160], y[:160], **FIT)
    middle = binary.latent(kernel_of(model)).numpy()
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert loaded.optimizer.gradient_filter == model.optimizer.gradient_filter
    assert loaded.optimizer.flip_rule == own.RestingSign(5.0)
    for candidate in (model, loaded):
        candidate.fit(x[160:], y[160:], **FIT)
    assert_same(everything(model), everything(loaded))
    assert np.any(middle != start)
    assert np.any(binary.latent(kernel_of(model)).numpy() != middle)


@pytest.mark.slow
def test_resumes_from_a_checkpoint(own, tmp_path):
    x, y = toy_data()
    model = make_model(own)
    model.fit(x[:160], y[:160], **FIT)
    path = tf.train.Checkpoint(model=model, optimizer=model.optimizer).save(tmp_path / "state")
    fresh = make_model(own)
    fresh.optimizer.build(fresh.trainable_variables)
    checkpoint = tf.train.Checkpoint(model=fresh, optimizer=fresh.optimizer)
    checkpoint.restore(path).assert_existing_objects_matched()
    for candidate in (model, fresh):
        candidate.fit(x[160:], y[160:], **FIT)
    assert_same(everything(model), everything(fresh))


IN_NEW_PROCESS = """
import sys
import numpy as np
import larq_filter
from larq_filter._keras import keras
if sys.argv[1]:
    sys.path.insert(0, sys.argv[1])
    import users_own_rules
model = keras.models.load_model("model.keras")
data = np.load("data.npz")
model.fit(data["x"], data["y"], batch_size=8, shuffle=False, verbose=0)
np.savez("after.npz", *[v.numpy() for v in model.variables + model.optimizer.variables])
"""


def run_in_new_process(folder, own_folder):
    """``own_folder``: where the user's module lies, which the process imports; None: neither."""
    return subprocess.run(
        [sys.executable, "-c", IN_NEW_PROCESS, str(own_folder or "")],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=300,
    )


@pytest.mark.slow
def test_a_new_process_goes_on_and_says_what_it_misses(own, own_folder, tmp_path):
    """With the user's module imported: the same bits. Without: an error that names the class."""
    x, y = toy_data()
    model = make_model(own)
    model.fit(x[:160], y[:160], **FIT)
    model.save(tmp_path / "model.keras")
    np.savez(tmp_path / "data.npz", x=x[160:], y=y[160:])
    model.fit(x[160:], y[160:], **FIT)
    result = run_in_new_process(tmp_path, own_folder)
    assert result.returncode == 0, result.stderr
    after = np.load(tmp_path / "after.npz")
    assert_same(everything(model), [after[name] for name in after.files])
    forgotten = run_in_new_process(tmp_path, None)
    assert forgotten.returncode != 0
    assert "MedianOfThree" in forgotten.stderr
    assert MODULE in forgotten.stderr
    assert "import the file that holds it" in forgotten.stderr


def test_loading_imports_no_module_and_says_what_is_missing(own, own_folder, tmp_path, monkeypatch):
    """A file doesn't choose what is imported: not even a module that lies within reach."""
    make_model(own).save(tmp_path / "model.keras")
    forget()
    monkeypatch.syspath_prepend(own_folder)
    with pytest.raises(ValueError, match=f"MedianOfThree.*{MODULE}.*import the file that holds it"):
        keras.models.load_model(tmp_path / "model.keras")
    assert MODULE not in sys.modules
    monkeypatch.setitem(sys.modules, MODULE, types.ModuleType(MODULE))  # as for __main__
    with pytest.raises(ValueError, match="MedianOfThree.*register_keras_serializable"):
        keras.models.load_model(tmp_path / "model.keras")
    monkeypatch.delitem(sys.modules, MODULE)
    importlib.import_module(MODULE)
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert type(loaded.optimizer.gradient_filter).__name__ == "MedianOfThree"


@pytest.mark.slow
def test_a_flip_monitor_watches_it(own):
    """No sections: the rates are logged, a time constant and a prediction are not."""
    x, y = toy_data()
    model = make_model(own)
    monitor = callbacks.FlipMonitor()
    logs = model.fit(x, y, callbacks=[monitor], **FIT).history
    assert logs["flip_ratio"][0] > 0
    assert logs["gain"][0] == pytest.approx(1 - 0.5 * 49 / 100)
    assert logs["rest"] == [5.0]
    assert np.isfinite(logs["signal"][0])
    assert "time_constant" not in logs
    assert "predicted_flip_ratio" not in logs
    with pytest.raises(ValueError, match="MedianOfThree is not linear"):
        analysis.time_constant(model.optimizer.gradient_filter)


def test_its_rates_are_attributes_and_its_config_is_json(own):
    optimizer = FilterOptimizer(own.MedianOfThree(), own.RestingSign(2.0))
    optimizer.gain = 0.25
    assert optimizer.rate_values() == {"gain": 0.25, "rest": 2.0}
    config = json.loads(json.dumps(optimizer.get_config()))
    again = FilterOptimizer.from_config(config)
    assert again.gradient_filter == own.MedianOfThree() != own.MedianOfThree(2.0)
    with pytest.raises(ValueError, match="MedianOfThree can't be started from a given output"):
        FilterOptimizer(own.MedianOfThree(), warm_start=1.0)


def test_the_rule_in_numpy(own):
    """By hand: after a flip at step 0 the weight rests for two steps and flips at step 3."""
    rule = own.RestingSign(2.0)
    weight, state, path = np.ones(1), rule.zero_state(np.ones(1), np), []
    for _ in range(5):
        flipped, state = rule.flip(weight, weight, state, rule.rates(), np)
        weight = np.where(flipped, -weight, weight)
        path.append(bool(flipped[0]))
    assert path == [True, False, False, True, False]
