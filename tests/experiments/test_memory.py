import dataclasses

import pytest

from larq_filter._keras import tf
from larq_filter.experiments import memory, training
from larq_filter.experiments.methods import registry
from larq_filter.experiments.run_folder import Config

from tensorflow.python.framework import ops  # isort: skip

SMALL = Config(model="mlp", width=16, epochs=2, train_examples=300, batch_size=50)


def registered():
    return set(ops.gradient_registry.list())


@pytest.mark.slow
def test_a_run_leaves_no_gradient_registered(tmp_path, monkeypatch):
    stages, before = [], registered()

    def watched(method, model, *args, original=registry.compile_for):
        stages.append(method)
        return original(method, model, *args)

    monkeypatch.setattr(training.methods, "compile_for", watched)
    for method in ("filter", "two_step"):
        training.run(dataclasses.replace(SMALL, method=method), tmp_path / method, verbose=0)
    assert registered() == before
    assert stages == ["filter", "binary_activations", "two_step"]


def test_what_was_there_before_stays():
    @tf.custom_gradient
    def twice_as_steep(x):
        return x, lambda g: 2 * g

    @tf.function
    def kept(x):
        return twice_as_steep(x)

    kept.get_concrete_function(tf.TensorSpec([], tf.float32))
    with memory.graphs_forgotten():
        tf.function(lambda x: twice_as_steep(x)).get_concrete_function(tf.TensorSpec([]))
    x = tf.constant(3.0)
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = kept(x)
    assert float(tape.gradient(y, x)) == 2
