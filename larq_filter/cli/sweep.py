"""Searches the hyperparameters of a training method with Optuna.

    larq-filter sweep --model=mlp --epochs=5 --trials=20
    larq-filter sweep --method=filter --knobs=alpha,gamma,alpha_schedule --trials=50
    larq-filter sweep --space="alpha=1e-4:1e-1:log,gamma=0.1|1" --fixed=learning_rate=0.01
    larq-filter sweep --summarize=runs/sweep-digits-mlp-filter,runs/sweep-digits-mlp-adam

The same command again continues a search: finished trials are kept, and one that was killed is
tried again with the same knobs, from its start, after twice --heartbeat. Given at the same time in
another terminal the command shares the work: the trials of all processes together are --trials, or
up to one more for each process. The study is an SQLite file, which must lie on a disk of the
machine. Processes on several machines share a database (pip install "larq_filter[distributed]"):

    larq-filter sweep --storage=postgresql+psycopg2://user@host/database
    larq-filter sweep --storage=mysql+pymysql://user@host/database      # pip install pymysql

Leave the password out of the command line, where others on the machine can read it: PostgreSQL
takes it from ~/.pgpass or the variable PGPASSWORD, MySQL from a file named in the URL
(...?read_default_file=/home/me/.my.cnf).

The output folder gets trials.csv, sweep.json, Optuna's pictures of the accuracy over trials and
knobs, the run folder of each trial and, for tensorboard --logdir, all trials in its HParams view.
Optuna's dashboard shows the study while it runs and afterwards (pip install optuna-dashboard):

    optuna-dashboard sqlite:///runs/sweep-digits-mlp-filter/study.sqlite
"""

import os
import pathlib
import shlex
import sys

from absl import flags, logging

from larq_filter.cli import command_line, run_flags, user_code
from larq_filter.experiments import methods
from larq_filter.experiments.sweeps import results, spaces, storages, studies

FLAGS = flags.FLAGS
flags.adopt_module_key_flags(run_flags)  # else --help would not show them
flags.adopt_module_key_flags(user_code)

# What is searched
flags.DEFINE_enum("method", "filter", list(methods.METHODS), "Who trains the binary kernels.")
flags.DEFINE_list(
    "knobs", None, "Knobs to search. Default: the numbers of the method's recipe, and a schedule."
)
flags.DEFINE_string(
    "space",
    "",
    f"Where to search. {spaces.GRAMMAR}. Default: around the recipe's value, alpha times and by "
    "30, gamma and learning_rate 10.",
)
flags.DEFINE_string("fixed", "", "Knobs that are not searched: learning_rate=0.01,gamma=0.1.")

# How
flags.DEFINE_integer(
    "trials", 20, "Completed and pruned trials in the study, of all processes and times.", 1
)
flags.DEFINE_integer("seeds", 1, "Runs per trial; their mean accuracy is the trial's.", 1)
flags.DEFINE_integer("seed", 0, "The first of these seeds.", 0)
flags.DEFINE_integer(
    "sampler_seed", 0, "Seed of the choice of the knobs, in the process that begins the study.", 0
)
flags.DEFINE_bool(
    "prune", True, "Stop trials that lag behind the median, from a quarter of their epochs on."
)
flags.DEFINE_integer("prune_after", 5, "Completed trials before pruning begins.", 1)

# Where
command_line.define_path(
    "output_dir", None, "Folder of the results. Default: runs/sweep-DATASET-MODEL-METHOD."
)
flags.DEFINE_string(
    "storage",
    None,
    "SQLite file or database URL of the study. Default: study.sqlite in output_dir.",
)
flags.DEFINE_string("study", None, "Name of the study there. Default: that of the output folder.")
flags.DEFINE_integer(
    "heartbeat",
    60,
    "Seconds between two signs of life; after twice that without one a process counts as dead, and "
    "its trial is tried again.",
    1,
)
flags.DEFINE_list(
    "summarize", None, "Output folders: print one table of their searches, and search nothing."
)


def sweep_from_flags() -> studies.Sweep:
    """What is searched."""
    fixed = spaces.parse_fixed(FLAGS.fixed, FLAGS.method)
    return studies.Sweep(
        config=run_flags.config(method=FLAGS.method, knobs=fixed, seed=FLAGS.seed),
        space=spaces.build(FLAGS.method, FLAGS.knobs, FLAGS.space, fixed),
        seeds=FLAGS.seeds,
        prune_after=FLAGS.prune_after if FLAGS.prune else None,
        sampler_seed=FLAGS.sampler_seed,
    )


def default_storage(folder: pathlib.Path) -> str:
    """An earlier version's file, which nothing reads any more, is not passed over in silence."""
    study, journal = folder / "study.sqlite", folder / "study.journal"
    return str(journal if journal.exists() and not study.exists() else study)


def search() -> None:
    model = user_code.load()
    sweep = studies.with_own(sweep_from_flags(), model=model)
    names = "sweep", run_flags.dataset_name(), FLAGS.model, FLAGS.method
    folder = run_flags.output_folder(FLAGS.output_dir, *names)
    storage, study = FLAGS.storage or default_storage(folder), FLAGS.study or folder.name
    results.refuse_other_files(folder, storage)
    print(f"Study {study} in {storages.masked(storage)}: {FLAGS.trials} trials of {FLAGS.method}")
    for knob, part in sweep.space.items():
        print(f"  {knob}: {part}")
    where = folder, FLAGS.trials, storage, study, FLAGS.heartbeat
    trials = studies.work(sweep, *where, model=model)
    about = {"study": study, "storage": storages.masked(storage), "config": sweep.fingerprint()}
    results.write(folder, trials, sweep.space, about)
    best = results.best_trial(trials)
    configs = sweep.configs(best.knobs) if best else []
    print(f"\n{results.summary(trials, configs, user_code.imports())}")
    print(f"\n{folder / 'trials.csv'}")
    try:
        print(*studies.draw(folder, storage, study), sep="\n")
    except ImportError as error:
        print(f"No picture: {error}")
    logs = shlex.quote(str(folder / "tensorboard"))
    print(f"Next: tensorboard --logdir {logs}    # its HParams view")


def main():
    os.environ.setdefault("MPLBACKEND", "agg")  # pictures go to files; there may be no screen
    logging.set_verbosity(logging.WARNING)  # absl would show TensorFlow's notes on checkpoints
    sys.argv = [storages.masked(argument) for argument in sys.argv]  # run folders keep them
    try:
        if FLAGS.summarize:
            print(results.compare(FLAGS.summarize))
        else:
            search()
    except command_line.ERRORS as error:
        raise SystemExit(f"error: {storages.masked(str(error))}") from None


def start() -> None:
    """Reads the command line and runs."""
    command_line.start(main, "The same command continues.")
