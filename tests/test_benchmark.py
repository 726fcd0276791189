"""The benchmark: its arithmetic, its tables, and that every part measures all of its peers."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

from larq_filter import models, presets
from larq_filter._keras import tf
from larq_filter.experiments import bare_steps, methods, timing
from larq_filter.experiments.methods.knobs import Knobs
from paths import ROOT

sys.path.append(str(ROOT / "benchmarks"))
import benchmark  # noqa: E402
import peers  # noqa: E402

TINY = benchmark.Settings(
    repeats=3,
    calls=2,
    weights=500,
    variables=3,
    largest=10_000,
    batch_size=4,
    image_size=8,
    train_examples=40,
)
OWN_PROCESS = {"peak_memory": {"held": 16.0, "peak": 20.0, "first_peak": 30.0, "state": 8.0}}


@pytest.fixture
def small_peers(monkeypatch):
    """Few kernels and a network without convolutions: what is measured, not how long it takes."""

    def compiled(method, width, image_size, channels=3, num_classes=10):
        model = models.mlp((image_size, image_size, channels), num_classes, 4)
        return methods.compile_for(method, model, Knobs(), steps=10)

    monkeypatch.setattr(peers, "compiled", compiled)
    monkeypatch.setattr(bare_steps, "kernel_shapes", lambda weights: [(3, 3, 2, 2), (3, 3, 3, 2)])
    monkeypatch.setattr(bare_steps, "equal_shapes", lambda weights: [(10, weights // 20)] * 2)
    monkeypatch.setattr(benchmark, "batch_sizes", lambda s: [2, s.batch_size])
    monkeypatch.setattr(peers, "child", lambda name, *_, **__: OWN_PROCESS.get(name, 0.5))


def measured(part, folder):
    """The part as the results file has it."""
    results = benchmark.run(TINY, [part], folder)
    assert results == json.loads((folder / "results.json").read_text())
    assert "error" not in results["parts"][part]
    return results["parts"][part]


def images(row):
    """Images of a call; 1 where images are not counted."""
    return row["ms"] * row["images/s"] if "images/s" in row else 1


def check_rounds(part):
    """All times are positive, and every ratio is that of the rounds as they were recorded."""
    by_name = {row["peer"]: row for row in part["rows"]}
    for name, row in by_name.items():
        assert (np.array(part["seconds"][name]) > 0).all()
        assert row["ms"] == pytest.approx(1e3 * np.median(part["seconds"][name]))
        for column in (each for each in row if each.startswith("time / ")):
            base = column.removeprefix("time / ")
            quotients = np.divide(part["seconds"][name], part["seconds"][base])
            low, median, high = np.percentile(quotients, [10, 50, 90])
            expected = {"median": median, "low": low, "high": high}
            factor = images(by_name[base]) / images(row)
            assert row[column] == pytest.approx({key: v * factor for key, v in expected.items()})


def names(part):
    return [row["peer"] for row in part["rows"]]


# The arithmetic -----------------------------------------------------------------------------------


def test_a_ratio_is_formed_round_by_round():
    found = timing.ratio([2.0, 30.0, 6.0], [1.0, 10.0, 4.0])  # quotients 2, 3, 1.5
    assert found == pytest.approx({"median": 2.0, "low": 1.6, "high": 2.8})


def test_interleave_lets_every_peer_take_every_turn():
    taken = []
    steps = {name: lambda name=name: taken.append(name) for name in "abc"}
    rounds = timing.interleave(steps, repeats=3, calls=5, seed=0)
    assert {name: len(each) for name, each in rounds.items()} == {"a": 3, "b": 3, "c": 3}
    turns = [taken[i : i + 3] for i in range(0, 45, 3)]
    assert all(sorted(turn) == ["a", "b", "c"] for turn in turns)
    assert len(set(map(tuple, turns))) > 1


@pytest.mark.parametrize(
    ("median", "bounds", "holds", "limit"),
    [
        (1.19, {"most": 1.2}, "yes", "<= 1.2"),
        (1.2, {"most": 1.2}, "yes", "<= 1.2"),
        (1.21, {"most": 1.2}, "NO", "<= 1.2"),
        (5.1, {"least": 5}, "yes", ">= 5"),
        (4.9, {"least": 5}, "NO", ">= 5"),
    ],
)
def test_bounds_are_judged_by_the_median(median, bounds, holds, limit):
    value = {"median": median, "low": 0.0, "high": 100.0}
    found = timing.bound("filter / SGD", value, **bounds)
    assert (found["holds"], found["limit"], found["measured"]) == (holds, limit, value)


def test_a_bound_within_the_spread_is_judged_by_the_nearer_end():
    value = {"median": 1.04, "low": 0.99, "high": 1.1}
    found = timing.bound("filter / SGD", value, most=1.0, within_spread=True)
    assert (found["holds"], found["limit"]) == ("yes", "<= 1 within its spread")
    assert timing.bound("filter / SGD", value, most=1.0)["holds"] == "NO"
    above = value | {"low": 1.01}
    assert timing.bound("filter / SGD", above, most=1.0, within_spread=True)["holds"] == "NO"
    assert timing.bound("images/s", value, least=1.1, within_spread=True)["holds"] == "yes"
    assert timing.bound("images/s", value, least=1.2, within_spread=True)["holds"] == "NO"


def test_images_per_second_and_time_per_image():
    rounds = {"one": [2.0, 2.0], "other": [1.0, 1.0]}
    one, other = timing.rows_of(rounds, ["other"], images={"one": 40, "other": 10})
    assert (one["images/s"], other["images/s"]) == (20, 10)
    assert one["time / other"]["median"] == 0.5


def test_batch_sizes_lie_around_that_of_the_settings():
    assert benchmark.batch_sizes(benchmark.Settings()) == [32, 64, 128, 256]


def test_shapes_hold_the_weights():
    assert bare_steps.WEIGHTS == 12_976_128
    full = bare_steps.kernel_shapes()
    assert full == [(3, 3, 512, 512)] * 4 + [(3, 3, 256, 256)] * 4 + [(3, 3, 128, 128)] * 8
    many = bare_steps.small_shapes(bare_steps.WEIGHTS, 300)
    assert len(many) == 300
    assert sum(map(np.prod, many)) == pytest.approx(bare_steps.WEIGHTS, rel=1e-4)
    assert sum(map(np.prod, bare_steps.equal_shapes(1_000_000))) == 1_000_000


# The parts ----------------------------------------------------------------------------------------


@pytest.mark.slow
def test_update_has_every_peer(tmp_path, small_peers):
    part = measured("update", tmp_path)
    check_rounds(part)
    assert names(part) == [
        "legacy Adam",
        "Adam",
        "SGD",
        "Larq Bop",
        "Adam, XLA",
        "Larq Bop, XLA",
        "filter",
        "filter, no XLA",
        *(f"preset {name}" for name in presets.PRESETS),
    ]
    state = {row["peer"]: row["state bytes/weight"] for row in part["rows"]}
    assert [state[n] for n in ("legacy Adam", "Adam", "Larq Bop", "filter")] == [8, 8, 4, 8]
    by_name = {row["peer"]: row for row in part["rows"]}
    assert [(b["measured"], b["limit"]) for b in part["bounds"]] == [
        (by_name["filter"]["time / Adam"], "<= 0.5"),
        (by_name["filter"]["time / Larq Bop"], "<= 0.7"),
        (by_name["preset equal_bits"]["time / legacy Adam"], "<= 10"),
    ]
    lines = (tmp_path / "table.md").read_text().splitlines()
    assert all(any(line.startswith(f"| {name} |") for line in lines) for name in by_name)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("part", "peer", "count"),
    [
        ("small", "filter, in 3", 6),
        ("step", "filter, FlipMonitor", 6),
        ("input", "network on the pipeline", 3),
        ("cpu", "mixed_bfloat16", 8),
    ],
)
def test_other_parts_have_their_peers(tmp_path, small_peers, part, peer, count):
    found = measured(part, tmp_path)
    if part != "small":  # its ratios are to the same optimizer in few kernels
        check_rounds(found)
    if part == "step":
        limits = {each["bound"]: each["limit"] for each in found["bounds"]}
        assert limits == {"filter / SGD": "<= 1 within its spread", "FlipMonitor": "<= 1.03"}
        assert "'within its spread' if the nearer end" in (tmp_path / "table.md").read_text()
    assert peer in names(found) and len(found["rows"]) == count
    assert tf.keras.mixed_precision.global_policy().name == "float32"


@pytest.mark.slow
def test_memory_and_scaling(tmp_path, small_peers):
    memory = measured("memory", tmp_path)
    assert names(memory) == ["filter", "filter, no XLA", "legacy Adam", "Adam", "Larq Bop", "SGD"]
    assert {row["temporary"] for row in memory["rows"]} == {4.0}
    scaling = measured("scaling", tmp_path)
    check_rounds(scaling)
    sizes, orders = ("100", "1,000", "10,000"), (1, 2, 4, 8)
    assert names(scaling) == [*(f"{n} weights" for n in sizes), *(f"order {n}" for n in orders)]
    assert (tmp_path / "scaling.png").exists() == ("draws them" in scaling["notes"][-1])
    assert list(json.loads((tmp_path / "results.json").read_text())["parts"]) == [
        "memory",
        "scaling",
    ]


@pytest.mark.slow
def test_peak_memory_in_a_process_of_its_own():
    shapes = [(1000, 1000)] * 8
    arguments = {"optimizer": "filter, no XLA", "shapes": shapes, "threads": 2}
    found = peers.child("peak_memory", peers.RETURNS_MEMORY, **arguments)
    assert found["state"] == 8
    assert 15 < found["held"] < 24  # 4 + 4 + 8, and noise
    assert found["peak"] > found["held"] + 4  # operation by operation needs copies
    assert found["first_peak"] > found["held"]


def test_a_process_that_fails_says_why(tmp_path, monkeypatch):
    (tmp_path / "script.py").write_text("raise KeyError('no such')")
    monkeypatch.setattr(peers, "__file__", str(tmp_path / "script.py"))
    with pytest.raises(RuntimeError, match="peak_memory.*KeyError: 'no such'"):
        peers.child("peak_memory", optimizer="no such")


@pytest.mark.slow
def test_without_torch_a_row_says_so(tmp_path, small_peers, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch_peer", None)
    part = measured("training", tmp_path)
    assert names(part) == ["larq_filter", "PyTorch"]
    assert part["rows"][1]["ms"] == "not installed" and "pip install torch" in part["notes"][0]


# The run ------------------------------------------------------------------------------------------


def test_a_part_that_fails_leaves_the_others(tmp_path, monkeypatch):
    def failing(s, folder):
        raise RuntimeError("out of luck")

    fine = {"rows": [{"peer": "a", "ms": 1.0}], "bounds": [], "notes": [], "seconds": {}}
    parts = {"update": failing, "small": lambda s, folder: fine}
    monkeypatch.setattr(benchmark, "PARTS", parts)
    results = benchmark.run(TINY, ["update", "small"], tmp_path)
    assert results["parts"]["update"]["error"] == "out of luck"
    table = (tmp_path / "table.md").read_text()
    assert "Failed: out of luck" in table and "| a | 1 |" in table


def test_parts_of_other_settings_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(benchmark, "PARTS", {})
    benchmark.run(TINY, [], tmp_path)
    timing.write(tmp_path, timing.open_results(tmp_path / "results.json", vars(TINY)))
    other = vars(TINY) | {"seed": 1}
    with pytest.raises(ValueError, match="other settings.*seed: 0 there, 1 now.*--output_dir"):
        timing.open_results(tmp_path / "results.json", other)


@pytest.mark.slow
def test_unknown_part_is_refused_with_the_list():
    command = [sys.executable, str(ROOT / "benchmarks" / "benchmark.py"), "--parts=update,speed"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 1
    assert "speed is no part" in done.stderr and ", ".join(benchmark.PARTS) in done.stderr


@pytest.mark.slow
def test_the_command_without_the_sources(tmp_path):
    command = [sys.executable, "-m", "larq_filter_cli", "benchmark", "--weights=1000"]
    few = ["--repeats=2", "--calls=1", "--peers=order 2,Adam,preset bop"]
    options = {"cwd": tmp_path, "env": os.environ | {"PYTHONPATH": str(ROOT)}}
    done = subprocess.run([*command, *few], capture_output=True, text=True, **options)
    assert done.returncode == 0, done.stderr
    rows = [line.split(" | ") for line in done.stdout.splitlines() if line.startswith("| ")]
    assert [row[0].strip("| ") for row in rows] == ["peer", "---", "order 2", "Adam", "preset bop"]
    assert "time / Adam" in rows[0] and rows[3][2] == "1.000 [1.000, 1.000]"
    assert [row[-1].strip("| ") for row in rows[2:]] == ["8", "8", "4"]
    wrong = subprocess.run([*command, "--peers=Adma"], capture_output=True, text=True, **options)
    assert wrong.returncode == 1 and wrong.stderr.startswith("error: --peers: Adma is no peer")


@pytest.mark.parametrize("setting", [{"largest": 10_001}, {"image_size": 9}])
def test_sizes_that_do_not_divide_are_refused(setting):
    with pytest.raises(ValueError, match=f"--{next(iter(setting))}=.*a multiple of"):
        benchmark.Settings(**setting)


# PyTorch ------------------------------------------------------------------------------------------


@pytest.fixture
def networks():
    """The network in Keras and in PyTorch, with equal weights that are not the initial ones."""
    torch = pytest.importorskip("torch")
    torch.set_num_threads(1)  # two wait for each other on a busy machine, for seconds
    import torch_peer

    model = models.birealnet20((8, 8, 3), 10, 4)
    rng = np.random.default_rng(0)
    for layer in model.layers:
        own = [rng.uniform(0.5, 1.5, w.shape) * np.where(w < 0, -1, 1) for w in layer.get_weights()]
        layer.set_weights(own)
    network = torch_peer.BiRealNet20(10, 4)
    network.copy_weights(model)
    return torch, model, network


@pytest.mark.parametrize("training", [False, True])
def test_the_network_in_pytorch_is_the_same(networks, training):
    torch, model, network = networks
    images = np.random.default_rng(1).normal(size=(4, 8, 8, 3)).astype("float32")
    network.train(training)
    with torch.no_grad():
        logits = network(torch.from_numpy(images.transpose(0, 3, 1, 2).copy()))
    expected = model(images, training=training)
    np.testing.assert_allclose(torch.softmax(logits, 1).numpy(), expected, rtol=1e-3, atol=1e-5)


def test_the_rule_in_pytorch_is_the_same(networks):
    torch, _, _ = networks
    import torch_peer
    from larq_filter import filters

    rng = np.random.default_rng(0)
    start = np.where(rng.normal(size=(2, 3, 3, 3)) < 0, -1.0, 1.0).astype("float32")
    kernel = torch.nn.Parameter(torch.from_numpy(start.copy()))
    rule = torch_peer.TwoEMAs([kernel], alpha=0.3, gamma=0.2)
    own, state, weight = filters.CascadedEMA(alpha=0.3, gamma=0.2), None, start
    state = own.zero_state(weight, np)
    for _ in range(20):
        gradient = rng.normal(size=start.shape).astype("float32")
        kernel.grad = torch.from_numpy(gradient)
        rule.step()
        signal, state = own.step(gradient, state, {"alpha": 0.3, "gamma": 0.2}, np)
        weight = np.where(weight * signal > 0, -weight, weight)
        np.testing.assert_array_equal(kernel.detach().numpy(), weight)


@pytest.mark.parametrize("channels_last", [False, True])
def test_a_training_step_in_pytorch_learns(networks, channels_last):
    _, model, _ = networks
    import torch_peer

    images, labels = peers.random_batch(16, 8)
    step = torch_peer.training_step(model, images.numpy(), labels.numpy(), channels_last, threads=1)
    losses = [step() for _ in range(30)]
    assert np.isfinite(losses).all() and np.mean(losses[-5:]) < losses[0]
