"""Measures how fast larq_filter is, beside what one would use in its place, in one run.

    python benchmarks/benchmark.py
    python benchmarks/benchmark.py --parts=update,step --repeats=15 --output_dir=runs/again
    python benchmarks/benchmark.py --parts=step --profile

| part | what is measured |
|---|---|
| update | one optimizer step on 13 M binary weights in 16 kernels |
| small | the same weights in 300 kernels |
| step | a training step of Bi-Real ResNet-20; what FlipMonitor adds |
| input | the input pipeline alone, the network alone, and the network fed by the pipeline |
| cpu | what helps to train on a CPU and what does not |
| training | the same network and rule in PyTorch, where torch is installed |
| memory | the most memory that an optimizer step takes |
| scaling | time and memory against the number of weights and the order of the filter |

Other work on a machine, and clocks that change, move all times and few ratios. So in each turn all
peers take one step, in random order; a round is CALLS turns, its result the median of each peer; a
ratio is formed within each round. The tables give the median of the rounds' ratios and, in
brackets, their 10th and 90th percentile. Times are comparable within a part only.

The output folder gets results.json (with every round), table.md, scaling.png and trace/. The parts
that are asked for are measured anew; the others stay, if they are of the same settings, versions
and machine. So an interrupted run continues with the --parts that are missing.
"""

import dataclasses
import datetime
import functools
import os
import pathlib
import shlex
import statistics
import sys
import time

import numpy as np
from absl import flags, logging

import peers  # first: it makes sure that tf.keras is Keras 2
from larq_filter import callbacks, plots
from larq_filter.cli import command_line
from larq_filter.experiments import bare_steps, timing
from larq_filter.experiments.run_folder import setting
from larq_filter.experiments.timing import bound, ratio, result, rows_of, timed

import tensorflow as tf

FLAGS = flags.FLAGS
MEMORY = (
    "Bytes per weight, resident, above what the process takes before. Between steps: weight, "
    "gradient (4 each), state and the process's own growth. Temporary: what a step takes beyond "
    "that. The first step also traces and compiles. Measured with an allocator that returns what "
    "is freed; TensorFlow's own keeps it for later."
)


@dataclasses.dataclass(frozen=True)
class Settings:
    """What the numbers depend on; each is a flag of the same name."""

    repeats: int = setting(7, "Rounds. More of them narrow the ratios.")
    calls: int = setting(5, "Steps of each peer in a round, where steps are short.")
    weights: int = setting(bare_steps.WEIGHTS, "Binary weights of update, small and memory, about.")
    variables: int = setting(300, "Kernels of the part small.")
    largest: int = setting(
        100_000_000, "Binary weights of scaling, at most; a multiple of 10,000.", 10_000
    )
    batch_size: int = setting(128, "Images per training step.")
    width: int = setting(16, "Channels of the network's first stage.")
    image_size: int = setting(32, "Pixels a side, a multiple of 4.", 8)
    dataset: str = setting("random", "Of the part input: random, or as in train.py.")
    data_dir: str | None = setting(None, "Folder of tensorflow-datasets' prepared data sets.")
    train_examples: int | None = setting(
        None, "Use only so many images. Default: all; 50,000 random ones."
    )
    threads: int = setting(2, "Threads of TensorFlow and of PyTorch, each.")
    seed: int = setting(0, "Of weights, gradients, images, turns.", 0)

    def __post_init__(self):
        for name, unit in (("largest", 10_000), ("image_size", 4)):
            if (value := getattr(self, name)) % unit:
                raise ValueError(f"--{name}={value}; it must be a multiple of {unit:,}.")


def define_flags() -> None:
    command_line.define_flags(Settings)
    flags.DEFINE_list("parts", "all", f"all, or some of: {', '.join(PARTS)}.")
    flags.DEFINE_bool("profile", False, "Also write a TensorBoard trace of 5 training steps.")
    flags.DEFINE_string("output_dir", "runs/benchmark", "Folder of results.json and table.md.")


# Parts: the optimizer -----------------------------------------------------------------------------


def update(s: Settings, folder) -> dict:
    """One optimizer step on binary weights."""
    gradients = bare_steps.random_gradients(bare_steps.kernel_shapes(s.weights), s.seed)
    names = [*bare_steps.OPTIMIZERS, *bare_steps.preset_names()]
    steps = {name: bare_steps.OptimizerStep(name, gradients) for name in names}
    rounds, first = timed(steps, s)
    columns = {
        name: {"state bytes/weight": step.bytes_per_weight(), **first[name]}
        for name, step in steps.items()
    }
    most = {"filter / Adam": 0.5, "filter / Larq Bop": 0.7, "preset equal_bits / legacy Adam": 10}
    bounds = [
        bound(what, ratio(*(rounds[name] for name in what.split(" / "))), limit)
        for what, limit in most.items()
    ]
    rows = rows_of(rounds, ["Adam", "Larq Bop", "legacy Adam"], columns)
    return result(rounds, rows, bounds, [f"{steps['filter'].weights:,} weights in 16 kernels"])


def small(s: Settings, folder) -> dict:
    """The same weights in many kernels."""
    few = bare_steps.kernel_shapes(s.weights)
    many = bare_steps.small_shapes(sum(map(np.prod, few)), s.variables)
    labels = {f"in {len(few)}": few, f"in {len(many)}": many}
    names, steps = ("filter", "legacy Adam", "Larq Bop"), {}
    for label, shapes in labels.items():
        gradients = bare_steps.random_gradients(shapes, s.seed)
        steps |= {f"{name}, {label}": bare_steps.OptimizerStep(name, gradients) for name in names}
    rounds, columns = timed(steps, s)
    one, other = labels
    grown = {n: ratio(rounds[f"{n}, {other}"], rounds[f"{n}, {one}"]) for n in names}
    for name, value in grown.items():
        columns[f"{name}, {other}"][f"time / same {one}"] = value
        columns[f"{name}, {one}"][f"time / same {one}"] = None
    bounds = [bound(f"filter {other} / {one}", grown["filter"], 1.5)]
    weights = [sum(int(np.prod(shape)) for shape in shapes) for shapes in labels.values()]
    note = f"{weights[0]:,} and {weights[1]:,} weights"
    return result(rounds, rows_of(rounds, (), columns), bounds, [note])


def memory(s: Settings, folder) -> dict:
    """Memory of an optimizer step on binary weights, in a process for each."""
    names = ["filter", "filter, no XLA", "legacy Adam", "Adam", "Larq Bop", "SGD"]
    shapes = bare_steps.kernel_shapes(s.weights)
    rows = [{"peer": name, **memory_columns(name, shapes, s)} for name in names]
    return result({}, rows, notes=[MEMORY])


def memory_columns(optimizer: str, shapes, s: Settings) -> dict:
    arguments = {"optimizer": optimizer, "shapes": shapes, "threads": s.threads}
    found = peers.child("peak_memory", peers.RETURNS_MEMORY, **arguments)
    timing.say(f"{optimizer}: {found['peak']:.1f} bytes per weight")
    return {
        "state": found["state"],
        "between steps": found["held"],
        "temporary": found["peak"] - found["held"],
        "peak": found["peak"],
        "peak of the first step": found["first_peak"],
    }


# Parts: training ----------------------------------------------------------------------------------


def step(s: Settings, folder) -> dict:
    """A training step of the network on a constant batch."""
    batch, network = peers.random_batch(s.batch_size, s.image_size, s.seed), (s.width, s.image_size)
    names = {"filter": "filter", "SGD": "sgd", "Adam": "adam", "Larq Bop": "larq_bop"}
    names |= {"frozen": "frozen", "filter, FlipMonitor": "filter"}
    models = {name: peers.compiled(method, *network) for name, method in names.items()}
    monitor = callbacks.FlipMonitor()
    monitor.set_model(models["filter, FlipMonitor"])  # as fit does
    steps = {name: peers.training_step(model, batch) for name, model in models.items()}
    rounds, columns = timed(steps, s)
    bounds = [
        bound("filter / SGD", ratio(rounds["filter"], rounds["SGD"]), 1.0, within_spread=True),
        bound("FlipMonitor", ratio(rounds["filter, FlipMonitor"], rounds["filter"]), 1.03),
    ]
    images = dict.fromkeys(steps, s.batch_size)
    return result(rounds, rows_of(rounds, ["SGD", "filter"], columns, images), bounds)


def input_pipeline(s: Settings, folder) -> dict:
    """The input pipeline with augmentation, and the network with it and without."""
    data = peers.image_data(s.dataset, s.data_dir, s.train_examples, s.image_size, s.seed)
    most = data.steps_per_epoch(s.batch_size)
    alone, fed = (
        data.train(s.batch_size, seed=s.seed, steps_per_epoch=min(n, most)) for n in (100, 10)
    )
    size, _, channels = data.input_shape
    model = peers.compiled("filter", s.width, size, channels, data.num_classes)
    constant, fed_step = peers.training_step(model, next(iter(fed))), peers.Fed(model, fed)
    steps = {
        "pipeline alone": lambda: [None for _ in alone],
        "network alone": lambda: [constant() for _ in range(len(fed))],
        "network on the pipeline": fed_step,
    }
    timing.first_calls(steps, warm_up=1)
    fed_step.clear()
    rounds = timing.interleave(steps, s.repeats, 1, s.seed)
    batches = dict(zip(steps, (len(alone), len(fed), len(fed)), strict=True))
    images = {name: number * s.batch_size for name, number in batches.items()}
    rows = rows_of(rounds, ["network alone"], images=images)
    faster = ratio(
        np.divide(rounds["network alone"], images["network alone"]),
        np.divide(rounds["pipeline alone"], images["pipeline alone"]),
    )
    wait = f"{1e3 * statistics.median(fed_step.waits):.2f} ms"
    share = f"{100 * sum(fed_step.waits) / fed_step.seconds:.2f} %"
    notes = [
        f"{data.name}: {data.train_examples:,} images of {data.input_shape}",
        f"A step waits {wait} for its batch (median); all waits, starts of the pipeline included: "
        f"{share} of the time, with the pipeline started anew every {len(fed)} steps.",
    ]
    bounds = [bound("pipeline / network (images/s)", faster, least=5)]
    return result(rounds, rows, bounds, notes)


def cpu(s: Settings, folder) -> dict:
    """What a setting does to the training speed on this CPU."""
    steps, images = cpu_steps(s)
    rounds, columns = timed(steps, s, calls=1, warm_up=2)
    base = f"batch {s.batch_size}"
    rows = rows_of(rounds, [base], columns, images)
    without, with_it = "oneDNN off, own process", "oneDNN on, own process"
    alone = {without: [], with_it: []}
    for _ in range(2):  # a process for each, so rounds are dear
        for name, value in ((without, "0"), (with_it, "1")):
            names = ("width", "image_size", "batch_size", "threads")
            own = {"method": "filter", "steps": 10, **{n: getattr(s, n) for n in names}}
            found = peers.child("seconds_per_step", {"TF_ENABLE_ONEDNN_OPTS": value}, **own)
            alone[name].append(found)
            timing.say(f"{name}: {found:.3f} s")
    rows += rows_of(alone, [with_it], images=dict.fromkeys(alone, s.batch_size))
    return result(rounds | alone, rows)


def cpu_steps(s: Settings) -> tuple[dict, dict]:
    """The peers of the part cpu, and the images that each takes in a call."""
    batches = {n: peers.random_batch(n, s.image_size, s.seed) for n in batch_sizes(s)}
    make = functools.partial(peers.compiled, "filter", s.width, s.image_size)
    steps = {f"batch {n}": peers.training_step(make(), batch) for n, batch in batches.items()}
    images = {f"batch {n}": n for n in batches}
    batch = batches[s.batch_size]
    steps["whole step in XLA"] = peers.training_step(make(), batch, jit_compile=True)
    tf.keras.mixed_precision.set_global_policy("mixed_bfloat16")
    steps["mixed_bfloat16"] = peers.training_step(make(), batch)
    tf.keras.mixed_precision.set_global_policy("float32")
    images |= dict.fromkeys(("whole step in XLA", "mixed_bfloat16"), s.batch_size)
    for number in (1, 10):
        name = f"fit, steps_per_execution={number}"
        steps[name] = peers.fit(make(), batch, number, 10)
        images[name] = 10 * s.batch_size
    return steps, images


def batch_sizes(s: Settings) -> list[int]:
    """A quarter, half, one and two of the batch size."""
    return sorted({max(1, s.batch_size * quarters // 4) for quarters in (1, 2, 4, 8)})


def training(s: Settings, folder) -> dict:
    """The network and the rule here and in PyTorch."""
    batch = peers.random_batch(s.batch_size, s.image_size, s.seed)
    model = peers.compiled("filter", s.width, s.image_size)
    steps = {"larq_filter": peers.training_step(model, batch)}
    rows, notes = [], []
    try:
        import torch_peer
    except ImportError as error:
        rows.append({"peer": "PyTorch", "ms": "not installed"})
        notes.append(f"{error}: pip install torch")
    else:
        arrays = [part.numpy() for part in batch]
        for name, last in (("contiguous", False), ("channels_last", True)):
            own = torch_peer.training_step(model, *arrays, channels_last=last, threads=s.threads)
            steps[f"PyTorch, {name}"] = own
    rounds, _ = timed(steps, s)
    images = dict.fromkeys(steps, s.batch_size)
    return result(rounds, rows_of(rounds, ["larq_filter"], images=images) + rows, notes=notes)


# Part: scaling ------------------------------------------------------------------------------------


def scaling(s: Settings, folder) -> dict:
    """Time and memory against weights and order."""
    sizes = [s.largest // 100, s.largest // 10, s.largest]
    orders = [1, 2, 4, 8]
    cases = {f"{size:,} weights": ("filter", size) for size in sizes}
    cases |= {f"order {n}": (f"order {n}", sizes[1]) for n in orders}
    shapes = {size: bare_steps.equal_shapes(size) for size in sizes}
    gradients = {size: bare_steps.random_gradients(shapes[size], s.seed) for size in sizes}
    steps = {n: bare_steps.OptimizerStep(own, gradients[size]) for n, (own, size) in cases.items()}
    rounds, _ = timed(steps, s)
    steps.clear()
    gradients.clear()  # the processes that follow need the room
    columns = {}
    for name, (own, size) in cases.items():
        columns[name] = {"ns/weight": 1e9 * statistics.median(rounds[name]) / size}
        columns[name] |= memory_columns(own, shapes[size], s)
    rows = rows_of(rounds, (), columns)
    notes = [f"Ten equal kernels; the orders at {sizes[1]:,} weights.", MEMORY]
    notes.append(draw_scaling(rows, sizes, orders, folder / "scaling.png"))
    return result(rounds, rows, notes=notes)


def draw_scaling(rows: list[dict], sizes, orders, path: pathlib.Path) -> str:
    """Draws time and memory over weights and order; returns a line that says so, or why not."""
    try:
        figure, axes = plots.panels("ab;cd", 4.6)
    except ImportError as error:
        return f"No scaling.png: {error}"
    millions = [size / 1e6 for size in sizes]
    equal = f"{sizes[1] / 1e6:g} million weights"
    columns = (
        ("ac", "weights, second order", "weights (millions)", millions, rows[: len(sizes)], sizes),
        ("bd", equal, "order of the filter", orders, rows[len(sizes) :], [sizes[1]] * len(orders)),
    )
    for (above, below), title, label, x, own, weights in columns:
        megabytes = [row["peak"] * n / 1e6 for row, n in zip(own, weights, strict=True)]
        draw = draw_proportion if x is millions else draw_line
        draw(axes[above], x, [row["ms"] for row in own])
        draw(axes[below], x, megabytes)
        axes[above].set_title(title)
        axes[below].set_xlabel(label)
        plots.legend(axes[above])
    axes["a"].set_ylabel("ms per step")
    axes["c"].set_ylabel("peak memory (MB)")
    figure.savefig(path)
    return "scaling.png draws them."


def draw_proportion(axes, x, y) -> None:
    """Numbers over x, both logarithmic, beside the line of proportion through the last of them."""
    draw_points(axes, x, y, np.multiply(y[-1] / x[-1], x), "proportional")
    plots.logarithmic(axes)
    axes.set(xscale="log")
    axes.set_xticks(x, [f"{value:g}" for value in x])
    axes.set_xticks([], minor=True)
    axes.yaxis.set_major_formatter("{x:g}")


def draw_line(axes, x, y) -> None:
    """Numbers over x beside the straight line that is nearest to them."""
    draw_points(axes, x, y, np.polynomial.Polynomial.fit(x, y, 1)(np.array(x)), "straight line")
    axes.set_ylim(bottom=0)
    axes.set_xticks(x)


def draw_points(axes, x, y, reference, name: str) -> None:
    axes.plot(x, y, "o-", color=plots.COLOURS[1], label="measured")
    axes.plot(x, reference, "--", color="0.45", label=name)


PARTS = {
    "update": update,
    "small": small,
    "step": step,
    "input": input_pipeline,
    "cpu": cpu,
    "training": training,
    "memory": memory,
    "scaling": scaling,
}


# The run ------------------------------------------------------------------------------------------


def chosen_parts(asked: list[str]) -> list[str]:
    unknown = [name for name in asked if name not in (*PARTS, "all")]
    if unknown or not asked:
        raise ValueError(
            f"--parts={','.join(asked)}: {', '.join(unknown) or 'nothing'} is no part; choose all "
            f"or some of {', '.join(PARTS)}."
        )
    return list(PARTS) if "all" in asked else [name for name in PARTS if name in asked]


def measure(name: str, s: Settings, folder: pathlib.Path) -> dict:
    """One part; an error is a result too, so that the others go on."""
    print(f"{name}: {PARTS[name].__doc__}", flush=True)
    tf.keras.backend.clear_session()
    tf.keras.utils.set_random_seed(s.seed)
    start = time.perf_counter()
    try:
        found = PARTS[name](s, folder)
    except Exception as error:  # whatever it is, the other parts are worth having
        logging.exception("%s failed", name)
        found = {"error": str(error) or type(error).__name__}
    return {
        "title": PARTS[name].__doc__,
        "command": shlex.join(["python", *sys.argv]),
        "date": datetime.datetime.now().isoformat(timespec="seconds"),
        "wall_seconds": time.perf_counter() - start,
        **found,
    }


def profile(s: Settings, folder: pathlib.Path) -> None:
    """Writes a trace of five training steps for TensorBoard."""
    batch = peers.random_batch(s.batch_size, s.image_size, s.seed)
    step = peers.training_step(peers.compiled("filter", s.width, s.image_size), batch)
    timing.first_calls({"profile": step})
    with tf.profiler.experimental.Profile(str(folder)):
        for number in range(5):
            with tf.profiler.experimental.Trace("train", step_num=number, _r=1):
                step()
    print(f"Trace: tensorboard --logdir={folder} (needs tensorboard-plugin-profile)")


def run(s: Settings, names: list[str], folder: pathlib.Path) -> dict:
    """Measures the parts and writes the folder after each of them."""
    folder.mkdir(parents=True, exist_ok=True)
    results = timing.open_results(folder / "results.json", dataclasses.asdict(s))
    load = os.getloadavg()[0]  # later it is our own
    if load > 0.5:
        print(f"Warning: other programs are running, load {load:.1f}: expect wide spreads.")
    for name in names:
        parts = results["parts"] | {name: measure(name, s, folder) | {"load_before": load}}
        results["parts"] = {each: parts[each] for each in PARTS if each in parts}
        timing.write(folder, results)
    return results


def main():
    logging.set_verbosity(logging.ERROR)  # absl would show notes of Larq
    tf.get_logger().setLevel("ERROR")  # and TensorFlow that each peer is traced
    folder = pathlib.Path(FLAGS.output_dir)
    s = Settings(**{f.name: FLAGS[f.name].value for f in dataclasses.fields(Settings)})
    names = chosen_parts(FLAGS.parts)
    timing.set_threads(s.threads)
    results = run(s, names, folder)
    if FLAGS.profile:
        profile(s, folder / "trace")
    print(f"\n{timing.markdown(results)}\nTables: {folder}")
    # A bound that fails is a finding; a part that could not be measured is a failure.
    failed = [name for name in names if "error" in results["parts"][name]]
    if failed:
        sys.exit(f"error: failed: {', '.join(failed)}.")


if __name__ == "__main__":
    define_flags()
    command_line.start(main, "Finished parts are kept: ask for the others.")
