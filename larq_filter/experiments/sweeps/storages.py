"""Where a study lives: a file that several processes append to, or a database.

The file is Optuna's journal. Of its locks none was taken, see ``locks``. Rejected for the default:
SQLite, which Optuna itself advises against for more than one process.
"""

import contextlib
import pathlib
import threading
import time
from collections.abc import Callable

from larq_filter.experiments.locks import FileLock, drop_torn_line
from larq_filter.experiments.sweeps import _optuna, urls

# Repeats of a trial in a row whose process ended before the trial had reported another epoch; one
# more would likely end its process too. Epochs of a first stage are not reported.
MAX_REPEATS = 3
STUCK, EPOCHS = "repeats_in_vain", "epochs_at_start"  # attributes of a trial


class StudyError(RuntimeError):
    """A storage that can't be used, a study of something else, trials that all fail."""


def open_storage(storage: str, heartbeat: int, say: Callable):
    """The opened storage, and for a file the gate that its processes pass one by one.

    Args:
        storage: path of a file, or a database URL as SQLAlchemy reads it.
        heartbeat: seconds between two signs of life in a database.
        say: prints a line.

    Raises:
        ImportError: the driver of the database is not installed.
        StudyError: the file holds something else.
    """
    if urls.is_url(storage):
        return _open_database(storage, heartbeat), None
    path = pathlib.Path(storage)
    path.parent.mkdir(parents=True, exist_ok=True)
    locks = path.with_name(f"{path.name}.locks")
    optuna, lock = _optuna.load(), FileLock(locks / "journal")
    with lock:
        if drop_torn_line(path):
            say(f"{path} ended in half a record, left by a full disk or a power failure: removed.")
    try:
        backend = optuna.storages.journal.JournalFileBackend(str(path), lock_obj=lock)
        return optuna.storages.JournalStorage(backend), FileLock(locks / "gate")
    except (ValueError, KeyError, TypeError) as error:  # its reader's for a file of something else
        raise StudyError(f"{path} is no study file of Optuna: {error}") from None


def _open_database(url: str, heartbeat: int):
    """The database, its tables created; several processes may do so at the same time."""
    import sqlalchemy

    try:
        sqlalchemy.engine.make_url(url).get_dialect()
    except ImportError:
        _refuse_without_driver(url)
    except (ValueError, sqlalchemy.exc.ArgumentError):  # may quote parts of a password
        raise StudyError(
            f"The storage {urls.masked(url)} is neither a file nor a database URL that SQLAlchemy "
            "reads: DIALECT+DRIVER://USER@HOST:PORT/DATABASE; in a password write @ as %40, : as "
            "%3A, / as %2F."
        ) from None
    options = {}
    if url.startswith(("postgresql", "mysql")):
        options = {"connect_args": {"connect_timeout": 10}, "pool_pre_ping": True}
    for left in reversed(range(5)):
        try:
            with _optuna.experimental():
                return _optuna.load().storages.RDBStorage(
                    url,
                    engine_kwargs=options,
                    heartbeat_interval=heartbeat,
                    heartbeat_stale_trial_callback=again(),
                )
        except ImportError:
            _refuse_without_driver(url)
        except (sqlalchemy.exc.IntegrityError, sqlalchemy.exc.ProgrammingError):
            if not left:
                raise
        except sqlalchemy.exc.OperationalError as error:
            if not left or "exists" not in str(error):
                raise
        time.sleep(0.5)  # another process creates the tables just now


def _refuse_without_driver(url: str):
    raise ImportError(
        f"The driver of {urls.masked(url)} is not installed. For PostgreSQL type: pip install "
        '"larq_filter[distributed]", and begin the URL with postgresql+psycopg2://; for MySQL: '
        "pip install pymysql, and mysql+pymysql://"
    ) from None


def again():
    """A function of study and trial that queues a trial again whose process has ended.

    With its knobs, and what it had reported; not if it has been repeated too often in vain.
    """
    with _optuna.experimental():
        queue = _optuna.load().storages.RetryHeartbeatStaleTrialCallback(
            inherit_intermediate_values=True
        )

    def put_back(study, trial):
        if not is_given_up(trial):
            queue(study, trial)

    return put_back


def is_given_up(trial) -> bool:
    """Whether a trial whose process has ended is not to be repeated any more."""
    told = trial.user_attrs
    in_vain = told.get(EPOCHS) == len(trial.intermediate_values)
    return in_vain and told.get(STUCK, 0) >= MAX_REPEATS


def count_repeat(trial, epochs: int) -> None:
    """Notes at the start of a trial how often it has been repeated in vain.

    Args:
        trial: which brings the attributes of the one that it repeats, if it does.
        epochs: how many it has reported, or brings.
    """
    before = trial.user_attrs.get(EPOCHS)
    stuck = trial.user_attrs.get(STUCK, 0) + 1 if before == epochs else 0
    trial.set_user_attr(STUCK, stuck)
    trial.set_user_attr(EPOCHS, epochs)


def forgive(trial) -> None:
    """Lets the next repeat of a trial count as the first: somebody stopped it on purpose."""
    trial.set_user_attr(EPOCHS, None)


@contextlib.contextmanager
def errors_in_one_line(storage: str):
    """Turns a storage's errors into StudyError: the cause and the cure, without a password."""
    import sqlalchemy.exc

    kinds = (_optuna.load().exceptions.StorageInternalError, sqlalchemy.exc.SQLAlchemyError)
    try:
        with _silent_threads(kinds):
            yield
    except (*kinds, UnboundLocalError) as error:
        # The last is Optuna's, if the storage goes away while it writes a result.
        cause = next((each for each in _chain(error) if isinstance(each, kinds[1])), None)
        if cause is None:
            raise
        reason = str(getattr(cause, "orig", None) or cause).strip().splitlines()[0]
        text = (
            f"The storage {urls.masked(storage)} can't be used: {reason}. Repair it and give the "
            "same command again; what it holds is kept."
        )
        raise StudyError(urls.without_secrets(text, storage)) from None


def _chain(error: BaseException | None):
    """The error and all that it came from."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


@contextlib.contextmanager
def _silent_threads(kinds):
    """Threads that can't give a heartbeat end without a traceback; their process says why."""
    before = threading.excepthook
    threading.excepthook = lambda args: isinstance(args.exc_value, kinds) or before(args)
    try:
        yield
    finally:
        threading.excepthook = before
