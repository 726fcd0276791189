"""Trains a network by several methods from several seeds, and compares what came out.

    larq-filter compare --dataset=digits --methods=all --seeds=5
    larq-filter compare --methods=filter,adam,frozen --model=mlp --epochs=5
    larq-filter compare --dataset=FOLDER --image_size=64 --model=mymodels:build
    larq-filter compare --dataset=cifar10 --data_dir=DIR --epochs=6 --steps_per_epoch=50

Every method gets the same network, images, order of the images and budget; its own hyperparameters
come from larq_filter/cli/settings.json, which says where each was found. The last line above
compares the training losses after 300 steps: the last epoch's loss is the mean of steps 251 to 300.

The same command again continues an interrupted comparison, and runs only what is missing; given at
the same time in another terminal it shares the work (the folder needs working file locks; network
file systems of old have none). The folder gets comparison.html, the whole result on a page, and its
parts: table.md, summary.csv (one row a method), runs.csv (one row a run), learning_curves.png and
flip_ratio.png.
"""

import pathlib
import sys

from absl import flags

from larq_filter import plots
from larq_filter.cli import command_line, run_flags, user_code
from larq_filter.experiments import comparison, files, methods, tables
from larq_filter.experiments.comparison import pages, report, settings, summaries

import tensorflow as tf

FLAGS = flags.FLAGS
flags.adopt_module_key_flags(run_flags)  # else --help would not show them
flags.adopt_module_key_flags(user_code)
HYPERPARAMETERS = pathlib.Path(__file__).with_name("settings.json")

FLAGS.set_default("epochs", 10)  # of digits enough to tell a method from a control

flags.DEFINE_list(
    "methods",
    "all",
    f"Methods, or groups of them: {', '.join(methods.GROUPS)}; listed below.",
)
flags.DEFINE_integer("seeds", 5, "Runs of each method: seeds 0 to SEEDS - 1.", 1)
command_line.define_path("output_dir", None, "Results folder. Default: runs/compare-DATASET-MODEL.")
command_line.define_path("results", None, "What --output_dir was called before.")
flags.mark_flags_as_mutual_exclusive(["output_dir", "results"])
command_line.define_path(
    "hyperparameters", str(HYPERPARAMETERS), "JSON file: section, method, knobs and their reason."
)
flags.DEFINE_string("section", None, "Section of that file. Default: the data set's name.")
flags.DEFINE_bool(
    "train", True, "Train what is missing; no: only write the tables of what is there."
)
flags.DEFINE_bool(
    "wait",
    True,
    "Wait for runs of other processes, and take over those that they leave unfinished.",
)


def choose_settings() -> tuple[dict[str, settings.Setting], str]:
    """The methods with their hyperparameters, and the line that says where these come from."""
    names = settings.choose_methods(FLAGS.methods)
    section = FLAGS.section or run_flags.dataset_name()
    chosen = settings.load_settings(FLAGS.hyperparameters, section, names)
    file = pathlib.Path(FLAGS.hyperparameters).name
    if chosen is not None:
        given = {name: FLAGS[name].value for name in settings.TUNED_FOR}
        source = f"Hyperparameters: {file}, section {section}."
        more = settings.caveats(FLAGS.hyperparameters, section, names, given)
        if more:
            source += f" {more}"
            print(source)
        return chosen, source
    if FLAGS.section:
        raise ValueError(
            f"{FLAGS.hyperparameters} has no section {section}. Choose another --section, or leave "
            "the flag out for the one of the data set."
        )
    source = f"Hyperparameters: the methods' defaults ({file} has no section {section})."
    print(source)
    return dict.fromkeys(names, settings.Setting()), source


def write_tables(compared: comparison.Comparison, source: str) -> tuple[str, bool]:
    """Writes the files of the results folder; returns the table, and whether a run failed."""
    outcomes = compared.outcomes()
    summed = summaries.summarize(outcomes)
    title = f"{run_flags.description()}, seeds 0 to {FLAGS.seeds - 1}"
    notes = [source, *summaries.versions(outcomes)]
    table = report.markdown(summed, title, notes)
    files.write_whole(compared.folder / "table.md", table)
    context = {"hyperparameters": source}
    tables.write_csv(compared.folder / "runs.csv", report.run_rows(outcomes, context))
    tables.write_csv(compared.folder / "summary.csv", report.summary_rows(summed, context))
    figures, why = draw([each for each in summed if each.results])
    for name, figure in figures.items():
        with files.whole(compared.folder / name) as part:
            figure.savefig(part)
    captions = {CAPTIONS[name]: figure for name, figure in figures.items()}
    page = pages.page(summed, title, notes, captions, why)
    files.write_whole(compared.folder / "comparison.html", page)
    return table, any(each.status == "failed" for each in outcomes)


CAPTIONS = {
    "learning_curves.png": "Learning curves, epoch by epoch.",
    "flip_ratio.png": "Share of the binary weights that flip in a step.",
}


def draw(summed: list[summaries.Summary]) -> tuple[dict, str]:
    """The figures by name, of finished runs; and why there are none."""
    if not summed:
        return {}, "No run is finished."
    accuracy, loss, flip = (
        {each.method: summaries.curves(each, quantity) for each in summed}
        for quantity in ("val_accuracy", "cross_entropy", "flip_ratio")
    )
    learning = {"validation accuracy": accuracy, "training loss (nats)": loss}
    ratio = {"flip ratio per step": flip}
    try:
        return {
            "learning_curves.png": plots.learning_curves(learning, log=["training loss (nats)"]),
            "flip_ratio.png": plots.learning_curves(ratio, log=list(ratio)),
        }, ""
    except ImportError as error:
        print(f"No figures. {error}")
        return {}, str(error)


def main():
    for gpu in tf.config.list_physical_devices("GPU"):  # else the first process takes all memory
        tf.config.experimental.set_memory_growth(gpu, True)
    base = run_flags.config()
    chosen, source = choose_settings()
    names = "compare", run_flags.dataset_name(), base.model
    if FLAGS.results:
        print("--results is --output_dir now.")
    folder = run_flags.output_folder(FLAGS.output_dir or FLAGS.results, *names)
    jobs = comparison.make_jobs(base, chosen, FLAGS.seeds)
    compared = comparison.Comparison(folder, jobs, model=user_code.load())
    if FLAGS.train:
        compared.train(wait=FLAGS.wait)
    with compared.alone(), files.plain_errors(compared.folder):
        table, failed = write_tables(compared, source)
    print(f"\n{table}\nThe whole result on a page: {folder / 'comparison.html'}")
    if failed:
        sys.exit(
            f"Some runs failed; see {folder}/errors. When their cause is mended the same command "
            "tries them again."
        )


def start() -> None:
    """Reads the command line and runs."""
    command_line.start(main, "The same command continues.")
