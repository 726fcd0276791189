"""Storages: what can be opened, what is refused, and no password in any message."""

import sys
import threading

import pytest

from larq_filter.experiments.sweeps import storages, studies
from sweeping import SWEEP


@pytest.mark.parametrize(
    ("url", "secret"),
    [
        ("postgresql+psycopg2://me:s3cret@host:5432/db", "s3cret"),
        ("mysql+pymysql://me:s3cret@host/db?charset=utf8", "s3cret"),
        ("postgresql://me:s3cret%40@host/db", "s3cret@"),
        ("postgresql://me:s3cret@s3cret@host/db", "s3cret@s3cret"),
        ("postgresql://:s3cret@host/db", "s3cret"),
        ("postgresql://me@host/db?password=s3cret&sslmode=require", "s3cret"),
        ("postgresql://host/db?sslmode=require&password=s3cret", "s3cret"),
    ],
)
def test_no_password_is_shown(url, secret):
    for text in (url, f"--storage={url}", f"can't reach {url}: timeout"):
        assert "s3cret" not in storages.masked(text)
        assert "***" in storages.masked(text)
        assert "host" in storages.masked(text)
        assert storages.masked(storages.masked(text)) == storages.masked(text)
    text = storages.without_secrets(f"wrong password {secret} for {url}", url)
    assert text.startswith("wrong password *** for ")
    assert "s3cret" not in text


def test_what_holds_no_password_is_left_alone():
    for text in ("postgresql://me@host/db", "runs/a@b", "sqlite:///a.db", "--alpha=1:2:log"):
        assert storages.masked(text) == text


@pytest.mark.extras
@pytest.mark.parametrize(
    ("storage", "error", "words"),
    [
        ("nosuch://me:s3cret@host/db", studies.StudyError, "neither a file nor a database URL"),
        ("postgresql+psycopg2://me:s3@s3:cret@host/db", studies.StudyError, "neither a file nor"),
        ("mssql+pymssql://me:s3cret@host/db", ImportError, "not installed"),
        ("sqlite:////nowhere/deep/db", studies.StudyError, "unable to open"),
    ],
)
def test_unusable_storage(tmp_path, storage, error, words):
    pytest.importorskip("optuna")
    with pytest.raises(error, match=words) as raised:
        studies.work(SWEEP, tmp_path, 1, storage, "s")
    assert not any(part in str(raised.value) for part in ("s3cret", "s3:", "cret@"))
    assert raised.value.__cause__ is None


@pytest.mark.extras
def test_a_file_of_something_else_is_refused_and_left_alone(tmp_path):
    optuna = pytest.importorskip("optuna")
    journal, foreign = tmp_path / "study.journal", tmp_path / "thesis.txt"
    storage = optuna.storages.JournalStorage(
        optuna.storages.journal.JournalFileBackend(str(journal))
    )
    optuna.create_study(storage=storage, study_name="s")
    foreign.write_text("all my work")
    for path in (journal, foreign):
        content = path.read_bytes()
        with pytest.raises(studies.StudyError, match="is no SQLite file.*copy_study") as raised:
            studies.work(SWEEP, tmp_path, 1, str(path), "s")
        assert str(raised.value).startswith(str(path))
        assert path.read_bytes() == content


@pytest.mark.extras
def test_a_process_that_ended_before_its_first_sign_of_life_is_known(tmp_path):
    """In a file whose name is no URL."""
    optuna = pytest.importorskip("optuna")
    study = optuna.create_study(storage=storages.open_storage(str(tmp_path / "a {b}%41"), 1))
    assert (tmp_path / "a {b}%41").exists()
    with pytest.warns(UserWarning, match="Heartbeat"):
        trial = study.ask()
    value = trial.suggest_float("alpha", 0, 1)
    storages.retry_dead(study, grace=60)
    assert [each.state.name for each in study.trials] == ["RUNNING"]
    storages.retry_dead(study, grace=0)
    assert [each.state.name for each in study.trials] == ["FAIL", "WAITING"]
    with pytest.warns(UserWarning, match="Heartbeat"):
        again = study.ask()
    assert again.suggest_float("alpha", 0, 1) == value
    again.set_user_attr(storages.BEGUN, again.number)
    storages.retry_dead(study, grace=0)
    assert [each.state.name for each in study.trials] == ["FAIL", "RUNNING"]


@pytest.mark.extras
def test_a_question_mark_in_a_path_is_no_query(tmp_path):
    """SQLAlchemy 2.0 reads one there, and would make another file."""
    sqlalchemy = pytest.importorskip("sqlalchemy")
    path = tmp_path / "a?b=1"
    if sqlalchemy.__version__.startswith("2.0"):
        with pytest.raises(storages.StudyError, match="without a question mark, or SQLAlchemy 2.1"):
            storages.open_storage(str(path), 1)
        assert not list(tmp_path.iterdir())
    else:
        storages.open_storage(str(path), 1)
        assert [each.name for each in tmp_path.iterdir()] == [path.name]


@pytest.mark.extras
def test_a_queued_trial_is_taken_once(tmp_path, monkeypatch):
    """Two processes that look at it at the same time, here two threads."""
    optuna = pytest.importorskip("optuna")
    one, other = (storages.open_storage(str(tmp_path / "file"), 1) for _ in range(2))
    study = optuna.create_study(storage=one)
    study.enqueue_trial({})
    (trial,) = study.trials
    took, threads = [], []

    def take(storage):
        took.append(storage.set_trial_state_values(trial._trial_id, trial.state.RUNNING))

    def meanwhile(*_):
        threads.append(threading.Thread(target=take, args=(other,)))
        threads[0].start()
        threads[0].join(0.3)

    monkeypatch.setattr(one, "check_trial_is_updatable", meanwhile)
    take(one)
    threads[0].join()
    assert sorted(took) == [False, True]


def test_without_optuna(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(ImportError, match=r"larq_filter\[sweep\]"):
        studies.work(SWEEP, tmp_path, 1, str(tmp_path / "file"), "s")
