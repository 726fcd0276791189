"""Where a study lives: an SQLite file, or a database that several machines share.

Both are Optuna's ``RDBStorage`` and take the same way. A running trial gives a sign of life every
``heartbeat`` seconds. After twice that without one its process counts as dead: the trial is closed,
and queued again with its knobs.
"""

import contextlib
import datetime
import pathlib
import re
import threading
import time
import urllib.parse

from larq_filter.experiments.sweeps import _optuna

REPEATS = 3  # of a trial that ends its process; one more would likely do so too
BEGUN = "begun"  # attribute of a trial: its number, once it has given its first sign of life
HIDDEN = "***"  # in place of a password
_IN_USER = re.compile(r"(?<=://)([^/?#\s:]*):(\S*)@")  # greedy: a password may hold an @
_IN_QUERY = re.compile(r"([?&](?:password|passwd|sslpassword|secret|token)=)([^&\s]*)", re.I)


class StudyError(RuntimeError):
    """A storage that can't be used, a study of something else, trials that all fail."""


def open_storage(storage: str, heartbeat: int):
    """The opened storage, its tables created; several processes may do so at the same time.

    Args:
        storage: path of an SQLite file, or a database URL as SQLAlchemy reads it.
        heartbeat: seconds between two signs of life of a trial.

    Raises:
        ImportError: the driver of the database is not installed.
        StudyError: the file holds something else, the URL can't be read.
    """
    import sqlalchemy

    url = storage if "://" in storage else _url_of_file(pathlib.Path(storage))
    try:
        sqlalchemy.engine.make_url(url).get_dialect()
    except (ValueError, sqlalchemy.exc.ArgumentError):  # may quote parts of a password
        raise StudyError(
            f"The storage {masked(url)} is neither a file nor a database URL that SQLAlchemy "
            "reads: DIALECT+DRIVER://USER@HOST:PORT/DATABASE; in a password write @ as %40, : as "
            "%3A, / as %2F."
        ) from None
    for left in reversed(range(5)):
        try:
            return _connect(url, heartbeat)
        except ImportError:
            raise ImportError(
                f"The driver of {masked(url)} is not installed. For PostgreSQL type: pip install "
                '"larq_filter[distributed]", and begin the URL with postgresql+psycopg2://; for '
                "MySQL: pip install pymysql, and mysql+pymysql://"
            ) from None
        except (sqlalchemy.exc.IntegrityError, sqlalchemy.exc.ProgrammingError):
            if not left:
                raise
        except sqlalchemy.exc.OperationalError as error:
            if not left or "exists" not in str(error):
                raise
        time.sleep(0.5)  # another process creates the tables just now


def _url_of_file(path: pathlib.Path) -> str:
    """The URL of an SQLite file, whose folder is made."""
    import sqlalchemy

    path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_file():
        with path.open("rb") as file:
            if file.read(16) not in (b"", b"SQLite format 3\0"):
                raise StudyError(
                    f"{path} is no SQLite file. Journals of earlier versions can't be continued: "
                    "choose another output folder and storage, or copy the study with "
                    "optuna.copy_study from a JournalStorage into an SQLite file, and name that."
                )
    url = sqlalchemy.engine.URL.create("sqlite", database=str(path)).render_as_string()
    if sqlalchemy.engine.make_url(url).database != str(path):
        raise StudyError(
            f"{path} can't be written as a database URL by SQLAlchemy {sqlalchemy.__version__}: "
            "take a path without a question mark, or SQLAlchemy 2.1."
        )
    return url.replace("{", "{{").replace("}", "}}")  # Optuna formats it


def _connect(url: str, heartbeat: int):
    import sqlalchemy

    options, sqlite = {}, url.startswith("sqlite")
    if sqlite:
        options = {"connect_args": {"timeout": 60, "isolation_level": None}}
    elif url.startswith(("postgresql", "mysql")):
        options = {"connect_args": {"connect_timeout": 10}, "pool_pre_ping": True}
    with _optuna.experimental():
        opened = _optuna.load().storages.RDBStorage(
            url,
            engine_kwargs=options,
            heartbeat_interval=heartbeat,
            heartbeat_stale_trial_callback=_retry(),
        )
    if sqlite:
        # SQLite knows no SELECT FOR UPDATE, with which Optuna keeps two processes from taking the
        # same waiting trial. So each transaction is alone from its beginning.
        sqlalchemy.event.listen(
            opened.engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN IMMEDIATE")
        )
    return opened


def _retry():
    """Optuna's function that queues a trial again whose process has ended."""
    with _optuna.experimental():
        return _optuna.load().storages.RetryHeartbeatStaleTrialCallback(max_retry=REPEATS)


def retry_dead(study, grace: float) -> None:
    """Closes the trials of dead processes, and queues their knobs again.

    Args:
        study: of Optuna.
        grace: seconds without a sign of life after which a process counts as dead.
    """
    optuna = _optuna.load()
    states = optuna.trial.TrialState
    with _optuna.experimental():
        optuna.storages.fail_stale_trials(study)
    # Optuna overlooks a process that ended before its first sign of life.
    latest = datetime.datetime.now() - datetime.timedelta(seconds=grace)
    for trial in study.get_trials(deepcopy=False, states=(states.RUNNING,)):
        if trial.user_attrs.get(BEGUN) != trial.number and trial.datetime_start < latest:
            with contextlib.suppress(*late_errors()):  # another process has done both
                study.tell(trial.number, state=states.FAIL)
                _retry()(study, trial)


def late_errors() -> tuple:
    """Optuna's errors for a result that comes after its trial was closed."""
    return _optuna.load().exceptions.UpdateFinishedTrialError, ValueError


def is_given_up(trial) -> bool:
    """Whether a trial whose process has ended is not repeated any more."""
    with _optuna.experimental():
        retry = _optuna.load().storages.RetryHeartbeatStaleTrialCallback
        return len(retry.retry_history(trial)) >= REPEATS


def masked(text: str) -> str:
    """The text with the passwords of all URLs in it replaced by ``***``."""
    return _IN_QUERY.sub(rf"\1{HIDDEN}", _IN_USER.sub(rf"\1:{HIDDEN}@", text))


def without_secrets(text: str, url: str) -> str:
    """The text without the passwords of ``url``, as written there or decoded."""
    found = [match.group(2) for match in (_IN_USER.search(url), _IN_QUERY.search(url)) if match]
    spellings = {
        spelling for secret in found for spelling in (secret, urllib.parse.unquote(secret))
    }
    for secret in sorted(filter(None, spellings), key=len, reverse=True):
        text = text.replace(secret, HIDDEN)
    return masked(text)


@contextlib.contextmanager
def errors_in_one_line(storage: str):
    """Turns a storage's errors into StudyError: the cause and the fix, without a password."""
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
            f"The storage {masked(storage)} can't be used: {reason}. Repair it and give the "
            "same command again; what it holds is kept."
        )
        raise StudyError(without_secrets(text, storage)) from None


def _chain(error: BaseException | None):
    """The error and all that it came from."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


@contextlib.contextmanager
def _silent_threads(kinds):
    """Threads that can't give a sign of life end without a traceback; their process says why."""
    before = threading.excepthook
    threading.excepthook = lambda args: isinstance(args.exc_value, kinds) or before(args)
    try:
        yield
    finally:
        threading.excepthook = before
