"""No code runs from a config or a model file, and none of the sources could run it."""

import ast
import contextlib
import json
import os
import zipfile

import numpy as np
import pytest

from larq_filter import filters, models, serialization
from larq_filter._keras import keras, tf
from larq_filter.filters import EMA, Cascade
from larq_filter.optimizers import FilterOptimizer
from paths import ROOT

import larq as lq

FOLDERS = ("larq_filter", "examples", "benchmarks", "paper")
SOURCES = sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))

# Sources ------------------------------------------------------------------------------------------

MODULES = {"pickle", "cPickle", "_pickle", "marshal", "shelve", "dill", "cloudpickle", "joblib"}
CALLS = {"eval", "exec", "compile", "execfile", "os.system", "os.popen", "tempfile.mktemp"}
CALLS |= {"yaml.load", "yaml.unsafe_load", "yaml.full_load", "enable_unsafe_deserialization"}
SWITCHES = {"allow_pickle": True, "shell": True, "safe_mode": False}


def dotted(node) -> str:
    """``a.b.c`` of a name or attribute."""
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def dangers(source: str) -> list[str]:
    """What in a source may run code that it was not written with."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [alias.name for alias in node.names]
            roots = names if isinstance(node, ast.Import) else [node.module or "", *names]
            found += [f"line {node.lineno}: {n}" for n in roots if n.split(".")[0] in MODULES]
        if isinstance(node, ast.Name | ast.Attribute):
            name = dotted(node)
            if name in CALLS or name.rpartition(".")[2] in CALLS - {"compile", "eval", "exec"}:
                found.append(f"line {node.lineno}: {name}")
        if isinstance(node, ast.Call):
            for keyword in node.keywords:
                value = getattr(keyword.value, "value", "not a constant")
                if keyword.arg in SWITCHES and value != (not SWITCHES[keyword.arg]):
                    found.append(f"line {node.lineno}: {keyword.arg}")
    return found


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_no_source_runs_what_it_reads(path):
    assert dangers(path.read_text()) == []


@pytest.mark.parametrize(
    "source",
    [
        "eval('1')",
        "f = exec",
        "import pickle",
        "from marshal import loads",
        "import joblib.memory",
        "import os\nos.system('ls')",
        "import yaml\nyaml.load('')",
        "np.load(path, allow_pickle=True)",
        "np.load(path, allow_pickle=flag)",
        "subprocess.run('ls', shell=True)",
        "tempfile.mktemp()",
        "keras.models.load_model(path, safe_mode=False)",
        "keras.config.enable_unsafe_deserialization()",
    ],
)
def test_the_search_finds(source):
    assert len(dangers(source)) == 1


def test_the_search_lets_pass():
    assert dangers("model.compile(a)\nnp.load(p, allow_pickle=False)\nre.compile('a')") == []


def test_models_are_loaded_in_one_place():
    """Keras' own loaders take formats that hold code."""
    users = {
        path.relative_to(ROOT).as_posix()
        for path in SOURCES
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute) and dotted(node).endswith("keras.models.load_model")
    }
    # Of files that the program itself has written a moment before.
    own_files = {f"benchmarks/{name}.py" for name in ("checking", "methods", "models")}
    assert users == {"larq_filter/serialization.py"} | own_files


def test_modules_are_imported_by_a_name_that_is_typed_only():
    """Whoever imports by a name that no constant is."""
    users = {
        path.relative_to(ROOT).as_posix()
        for path in SOURCES
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call)
        and dotted(node.func).rpartition(".")[2] in ("import_module", "__import__", "run_path")
        and not isinstance(node.args[0], ast.Constant)
    }
    of_our_own = {f"larq_filter/{name}.py" for name in ("cli/__main__", "plots/style")}
    assert users == {"larq_filter/cli/user_code.py"} | of_our_own


# Files --------------------------------------------------------------------------------------------


@pytest.fixture
def marker(tmp_path):
    """A file that a test must not find written."""
    path = tmp_path / "written by the model"
    yield path
    assert not path.exists()


def small_model():
    inputs = keras.Input((2,))
    return keras.Model(inputs, keras.layers.Dense(2, name="dense")(inputs))


def with_layer(path, layer: dict):
    """A ``.keras`` file of a small model with one more layer in its config."""
    small_model().save(path)
    with zipfile.ZipFile(path) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    config = json.loads(files["config.json"])
    config["config"]["layers"].append(layer)
    files["config.json"] = json.dumps(config).encode()
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def write_file(marker, name="io.write_file"):
    """A layer that writes a file while Keras rebuilds the model, in its safe mode too."""
    return {
        "class_name": "TFOpLambda",
        "module": "keras.src.layers.core.tf_op_layer",
        "registered_name": "TFOpLambda",
        "config": {"name": "w", "trainable": True, "dtype": "float32", "function": name},
        "name": "w",
        "inbound_nodes": [["_CONSTANT_VALUE", -1, str(marker), {"contents": "x"}]],
    }


def function(module, name, argument="x"):
    """A function of Python's library in place of a layer."""
    nodes = [[["_CONSTANT_VALUE", -1, argument, {}]]]
    names = {"class_name": "function", "config": name, "module": module, "registered_name": name}
    return {**names, "name": "f", "inbound_nodes": nodes}


def a_class(module, name, registered_name=None, config=None):
    names = {"class_name": name, "module": module, "registered_name": registered_name or name}
    return {**names, "config": config or {}, "name": "c", "inbound_nodes": []}


FOREIGN = {
    "writes a file": (write_file, ["io.write_file", "more than a computation"]),
    "writes a file, as of old": (
        lambda m: write_file(m, "compat.v1.write_file"),
        ["compat.v1.write_file", "layer class of your own"],
    ),
    "runs Python": (lambda m: write_file(m, "compat.v1.py_func"), ["compat.v1.py_func"]),
    "system": (
        lambda m: function("os", "system", f"touch '{m}'"),
        ["'system'", "'os'", "register"],
    ),
    "exec": (lambda m: function("builtins", "exec", f"open({str(m)!r}, 'w')"), ["'exec'"]),
    "keras' own loader": (lambda m: a_class("keras.models", "load_model"), ["'load_model'"]),
    "downloads": (lambda m: a_class("keras.utils", "get_file"), ["'get_file'"]),
    "any module": (lambda m: a_class("antigravity", "Sky"), ["'Sky'", "'antigravity'"]),
    "any class": (lambda m: a_class("subprocess", "Popen"), ["'Popen'", "'subprocess'"]),
    "a lambda": (lambda m: a_class("builtins", "__lambda__"), ["__lambda__", "may run code"]),
    "an unknown name": (lambda m: a_class("mine", "Layer", "mine>Layer"), ["'Layer'", "import"]),
}


@pytest.mark.parametrize("kind", FOREIGN)
def test_a_model_file_that_names_more_than_a_model(kind, tmp_path, marker):
    layer, words = FOREIGN[kind]
    path = with_layer(tmp_path / "model.keras", layer(marker))
    with pytest.raises(ValueError) as error:
        serialization.load_model(path)
    assert not [word for word in [*words, "model.keras"] if word not in str(error.value)]


COMPUTATIONS = {
    "pad": lambda x: tf.pad(x, [[0, 0], [0, 0], [0, 0], [2, 2]]),
    "shuffle": lambda x: tf.reshape(
        tf.transpose(tf.reshape(x, [-1, 4, 4, 2, 2]), [0, 1, 2, 4, 3]), [-1, 4, 4, 4]
    ),
    "permute": lambda x: keras.backend.permute_dimensions(x, [0, 2, 1, 3]),
    "gather": lambda x: tf.gather(x, [1, 0, 2, 3], axis=-1),
    "squeeze": lambda x: tf.squeeze(tf.expand_dims(x, 1), 1),
    "shape": lambda x: tf.reshape(x, [tf.shape(x)[0], 4, 4, 4]),
    "norm": lambda x: x / tf.norm(x, axis=-1, keepdims=True),
    "where": lambda x: tf.where(x > 0, x, tf.zeros_like(x)),
    "halves": lambda x: tf.concat(tf.split(x, 2, axis=-1)[::-1], axis=-1),
}


@pytest.mark.parametrize("name", COMPUTATIONS)
def test_a_model_that_computes_by_functions_of_tensorflow(name, tmp_path):
    image = keras.Input((4, 4, 4))
    model = keras.Model(image, COMPUTATIONS[name](image))
    model.save(tmp_path / "model.keras")
    x = np.random.default_rng(0).normal(size=(2, 4, 4, 4)).astype(np.float32)
    loaded = serialization.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded(x), COMPUTATIONS[name](tf.constant(x)))


@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file")
@pytest.mark.parametrize("name", ["model.h5", "model.keras", "folder"])
def test_a_lambda_does_not_run(name, tmp_path, marker):
    touch = keras.layers.Lambda(lambda x: (open("LAMBDA RAN", "w").close(), x)[1])
    directory = os.getcwd()
    os.chdir(tmp_path)
    try:
        keras.Sequential([keras.Input((2,)), touch]).save(tmp_path / name)
        (tmp_path / "LAMBDA RAN").unlink()
        with pytest.raises(ValueError, match=r"no \.keras file|lambda"):
            serialization.load_model(tmp_path / name)
    finally:
        os.chdir(directory)
    assert not (tmp_path / "LAMBDA RAN").exists()


def test_keras_alone_writes_the_file(tmp_path):
    """What the check is for: if this fails, Keras has learnt to refuse it."""
    path = with_layer(tmp_path / "model.keras", write_file(tmp_path / "marker"))
    with contextlib.suppress(Exception):  # it trips later, over what the layer gave
        keras.models.load_model(path, compile=False)
    assert (tmp_path / "marker").exists()


@pytest.mark.parametrize("content", [b"", b"PK", b"not a model"])
def test_what_is_no_model(content, tmp_path):
    path = tmp_path / "model.keras"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="model.keras can't be read as a Keras model"):
        serialization.load_model(path)


def test_a_config_of_any_depth_is_refused(tmp_path):
    for depth, word in ((400, "250 deep"), (100_000, "can't be read")):
        path = tmp_path / f"{depth}.keras"
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("config.json", "[" * depth + "]" * depth)
        with pytest.raises(ValueError, match=word):
            serialization.load_model(path)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["birealnet20", "mlp", "resnet18_cifar", "binarynet"])
def test_own_models_load(name, tmp_path):
    model = models.build(name, input_shape=(32, 32, 3), num_classes=3, width=16)
    model.compile(FilterOptimizer(Cascade([EMA(0.5), filters.butterworth(2, 0.1)])), "mse")
    model.save(tmp_path / "model.keras")
    again = serialization.load_model(tmp_path / "model.keras")
    for one, other in zip(model.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_tensorflows_functions_between_layers_load(tmp_path):
    inputs = keras.Input((4, 4, 2))
    x = lq.layers.QuantConv2D(2, 3, kernel_quantizer="ste_sign", kernel_constraint="weight_clip")(
        inputs
    )
    x = keras.backend.relu(x * 2.0 + 1.0)
    model = keras.Model(inputs, x)
    model.save(tmp_path / "model.keras")
    images = np.random.default_rng(0).normal(size=(2, 4, 4, 2)).astype(np.float32)
    again = serialization.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(model(images), again(images))


# Configs ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", FOREIGN)
def test_a_config_of_an_optimizer_that_names_something_else(kind, marker):
    foreign = FOREIGN[kind][0](marker)
    for part in ("gradient_filter", "flip_rule", "default_optimizer", "warm_start"):
        config = {**FilterOptimizer().get_config(), part: foreign}
        with pytest.raises(ValueError, match="The config of"):
            FilterOptimizer.from_config(config)
    with pytest.raises(ValueError, match="The config"):
        EMA.from_config({"alpha": foreign})
