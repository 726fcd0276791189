"""Damaged and foreign files, full disks and read-only folders: named, and nothing good is lost."""

import contextlib
import dataclasses
import errno
import json
import random
import resource
import shutil

import numpy as np
import pytest

import interrupted
from larq_filter._keras import tf
from larq_filter.experiments import comparison, files, run_data, run_folder, training
from larq_filter.experiments.checkpoints import Checkpoints
from larq_filter.experiments.comparison import settings

SMALL = run_folder.Config(model="mlp", width=16, epochs=4, train_examples=300)
FLAGS = ["--model=mlp", "--width=16", "--epochs=4", "--train_examples=300", "--control=no"]


# Checkpoints alone --------------------------------------------------------------------------------


class Saved:
    """Two variables with checkpoints of their own."""

    def __init__(self, folder, owner=None):
        self.a, self.b = tf.Variable(tf.zeros([50])), tf.Variable(0)
        owner = {"method": "filter", "epochs": 9} if owner is None else owner
        self.checkpoints = Checkpoints(folder, owner, a=self.a, b=self.b)

    def save(self, number):
        self.a.assign(tf.range(50.0) * number)
        self.b.assign(number)
        self.checkpoints.save(number)

    def values(self):
        return [*self.a.numpy(), self.b.numpy()]


@pytest.fixture
def saved(tmp_path):
    saved = Saved(tmp_path / "checkpoints")
    for number in range(1, 6):
        saved.save(number)
    return saved


def is_restored(saved, number):
    return saved.values() == [*(np.arange(50, dtype=np.float32) * number), number]


def test_the_last_three_are_kept_and_nothing_else(saved):
    folder = saved.checkpoints.folder
    names = {f"ckpt-{n}.{end}" for n in (3, 4, 5) for end in ("index", "data-00000-of-00001")}
    assert {path.name for path in folder.iterdir()} == names | {"checkpoint"}
    assert tf.train.latest_checkpoint(str(folder)) == str(folder / "ckpt-5")
    again = Saved(folder)
    assert again.checkpoints.restore() == 5 and is_restored(again, 5)


def test_without_a_folder_there_is_nothing_to_restore(tmp_path):
    assert Saved(tmp_path / "none").checkpoints.restore() == 0


@pytest.mark.parametrize("harm", interrupted.HARMS)
@pytest.mark.parametrize("file", ["ckpt-5.index", "ckpt-5.data-00000-of-00001", "checkpoint"])
def test_the_newest_that_is_whole_is_restored(file, harm, saved, said):
    folder, rng = saved.checkpoints.folder, random.Random(0)
    good = {path.name: path.read_bytes() for path in folder.iterdir()}
    for _ in range(20):
        interrupted.HARMS[harm](folder / file, rng)
        again = Saved(folder)
        number = again.checkpoints.restore()
        text = " ".join(said)
        said.clear()
        assert number in (4, 5) and is_restored(again, number)
        if file == "checkpoint":  # only TensorFlow's own function goes by it
            assert number == 5
        elif not (file, harm) == ("ckpt-5.index", "removed"):  # then there is no such checkpoint
            assert (number == 4) == ("ckpt-5 can't be read" in text), text
        if harm != "bit-flipped":  # a flipped bit in the padding of an index harms nothing
            assert number == (5 if file == "checkpoint" else 4)
        for name, content in good.items():
            (folder / name).write_bytes(content)


def test_every_bit_of_the_data_is_covered_by_a_checksum(saved):
    """Of the index, too, but for padding: whatever is accepted has the same values."""
    folder = saved.checkpoints.folder
    for name in ("ckpt-5.index", "ckpt-5.data-00000-of-00001"):
        good = (folder / name).read_bytes()
        for place in range(len(good)):
            interrupted.flip(folder / name, place, place % 8)
            if saved.checkpoints.flaw(5) is None:
                assert name == "ckpt-5.index" and place > len(good) - 100
                again = Saved(folder)
                assert again.checkpoints.restore() == 5 and is_restored(again, 5)
            (folder / name).write_bytes(good)


def test_a_damaged_one_changes_no_variable(saved):
    """The first tensor is good, a later one is not: TensorFlow itself would assign the first."""
    folder = saved.checkpoints.folder
    for number in (3, 4, 5):
        path = folder / f"ckpt-{number}.data-00000-of-00001"
        interrupted.flip(path, path.stat().st_size - 1)
    again = Saved(folder)
    with pytest.raises(RuntimeError, match="No checkpoint in .* can be read"):
        again.checkpoints.restore()
    assert is_restored(again, 0)


def test_one_of_another_run_is_told_by_its_config(saved, tmp_path, said):
    folder = saved.checkpoints.folder
    other = Saved(tmp_path / "other", {"method": "bop", "epochs": 9})
    other.save(5)
    for path in (tmp_path / "other").glob("ckpt-5*"):
        shutil.copy(path, folder)
    again = Saved(folder)
    assert again.checkpoints.restore() == 4 and is_restored(again, 4)
    text = " ".join(said)
    assert "ckpt-5 is of another run (method: 'bop' there, 'filter' now)" in text


def test_one_that_no_run_has_made(saved, said):
    folder = saved.checkpoints.folder
    tf.train.Checkpoint(a=saved.a, b=saved.b).write(str(folder / "ckpt-6"))
    again = Saved(folder)
    assert again.checkpoints.restore() == 5 and is_restored(again, 5)
    assert "ckpt-6 is of no run" in " ".join(said)


def test_other_variables_than_the_model_has_are_an_error(saved):
    again = Saved(saved.checkpoints.folder)
    again.checkpoints._checkpoint.c = tf.Variable(1.0)
    with pytest.raises(RuntimeError, match="ckpt-5 is of this run.*other versions"):
        again.checkpoints.restore()


@pytest.mark.parametrize("left", [["data"], ["data", "index"], ["temp"]])
def test_what_a_kill_leaves_of_an_unfinished_one_is_removed(left, saved):
    folder = saved.checkpoints.folder
    files_before = sorted(path.name for path in folder.iterdir())
    for number in (2, 1):  # they were being removed, too
        (folder / f"ckpt-{number}.data-00000-of-00001").write_bytes(b"old")
    (folder / "ckpt-2.index").write_bytes(b"old")  # its removal had not begun
    newest = (folder / "checkpoint").read_bytes()
    (folder / "checkpoint").write_bytes(newest.replace(b"ckpt-5", b"ckpt-4"))
    for kind in left:
        if kind == "temp":
            (folder / "writing_temp").mkdir()
            (folder / "writing_temp" / "part").write_bytes(b"x")
        else:
            (folder / f"writing.{kind}{'-00000-of-00001' * (kind == 'data')}").write_bytes(b"x")
    again = Saved(folder)
    assert again.checkpoints.restore() == 5
    assert sorted(path.name for path in folder.iterdir()) == files_before
    assert (folder / "checkpoint").read_bytes() == newest


def test_a_kill_in_the_very_first_save_starts_again(tmp_path):
    (tmp_path / "ckpt-1.data-00000-of-00001").write_bytes(b"x")
    assert Saved(tmp_path).checkpoints.restore() == 0
    (tmp_path / "ckpt-2.data-00000-of-00001").write_bytes(b"x")
    with pytest.raises(RuntimeError, match="No checkpoint"):
        Saved(tmp_path).checkpoints.restore()


# Runs ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """The folder of an uninterrupted run and that of one which has crashed after three epochs."""
    folder = tmp_path_factory.mktemp("runs")
    training.run(SMALL, folder / "whole", verbose=0)
    with pytest.raises(interrupted.Stop):
        training.run(SMALL, folder / "crashed", verbose=0, report=interrupted.stop_after(3))
    return folder


def assert_continues_to_the_same_end(folder, both):
    training.run(SMALL, folder, verbose=0)
    expected = interrupted.left_behind(both / "whole")
    assert interrupted.difference(expected, interrupted.left_behind(folder)) is None


@pytest.fixture
def crashed(both, tmp_path):
    return shutil.copytree(both / "crashed", tmp_path / "crashed")


@pytest.mark.slow
def test_damage_to_the_newest_checkpoint_and_all_tables(crashed, both, said):
    rng = random.Random(0)
    interrupted.HARMS["truncated"](crashed / "checkpoints" / "ckpt-3.index", rng)
    interrupted.HARMS["bit-flipped"](crashed / "checkpoints" / "ckpt-2.data-00000-of-00001", rng)
    interrupted.HARMS["emptied"](crashed / "checkpoints" / "checkpoint", rng)
    interrupted.HARMS["overwritten"](crashed / "metrics.csv", rng)
    interrupted.HARMS["removed"](crashed / "flips.csv", rng)
    assert_continues_to_the_same_end(crashed, both)
    text = " ".join(said)
    assert "ckpt-3 can't be read" in text and "ckpt-2 can't be read" in text
    assert "after epoch 1 of 4" in text


@pytest.mark.slow
def test_a_checkpoint_of_a_filter_with_the_same_variables(crashed, both, tmp_path, said):
    other = dataclasses.replace(SMALL, knobs=training.methods.Knobs(gamma=0.5))
    with pytest.raises(interrupted.Stop):
        training.run(other, tmp_path / "other", verbose=0, report=interrupted.stop_after(3))
    before = interrupted.tensors(crashed / "checkpoints" / "ckpt-3")
    for path in (tmp_path / "other" / "checkpoints").glob("ckpt-3*"):
        shutil.copy(path, crashed / "checkpoints")
    after = interrupted.tensors(crashed / "checkpoints" / "ckpt-3")
    assert {n: len(v) for n, v in before.items() if "py_state" not in n} == {
        n: len(v) for n, v in after.items() if "py_state" not in n
    }
    assert_continues_to_the_same_end(crashed, both)
    text = " ".join(said)
    assert "ckpt-3 is of another run" in text and "after epoch 2 of 4" in text


@pytest.mark.parametrize("harm", ["truncated", "emptied", "overwritten"])
def test_a_damaged_config_is_an_error_that_names_it(harm, crashed):
    interrupted.HARMS[harm](crashed / "config.json", random.Random(1))
    with pytest.raises(run_folder.RunExists, match="config.json is damaged.*output_dir"):
        training.run(SMALL, crashed, verbose=0)


@pytest.mark.parametrize("text", ["[]", '{"config": 3}', "{}", "3"])
def test_a_config_of_another_form(text, crashed):
    (crashed / "config.json").write_text(text)
    with pytest.raises(run_folder.RunExists, match="config.json is damaged"):
        training.run(SMALL, crashed, verbose=0)


def test_a_damaged_result_is_made_again(both, tmp_path, said):
    folder = shutil.copytree(both / "whole", tmp_path / "run")
    interrupted.HARMS["truncated"](folder / "result.json", random.Random(0))
    assert_continues_to_the_same_end(folder, both)
    assert "result.json is damaged" in " ".join(said)
    whole = json.loads((folder / "result.json").read_text())
    no_number = json.dumps({**whole, "accuracy": "high"})
    for text in ("", "[]", "{}", '{"flipped_layers": 3}', no_number):
        (folder / "result.json").write_text(text)
        assert run_folder.read_result(folder) is None


def test_a_lost_model_is_saved_again_from_the_last_checkpoint(both, tmp_path, said, monkeypatch):
    def gone(config):
        raise FileNotFoundError("moved")

    folder = shutil.copytree(both / "whole", tmp_path / "run")
    model, images = folder / "model.keras", folder / "model.images.json"
    expected = images.read_bytes()
    for harm in ("truncated", "emptied"):
        interrupted.HARMS[harm](model, random.Random(0))
        interrupted.HARMS[harm](images, random.Random(0))
        assert_continues_to_the_same_end(folder, both)
        assert images.read_bytes() == expected
    text = " ".join(said)
    assert "model.keras is missing or damaged. It is made again" in text
    assert "model.images.json is damaged" in text
    images.unlink()  # alone
    with monkeypatch.context() as patch:
        patch.setattr(run_data, "load", gone)
        assert training.run(SMALL, folder, verbose=0) == run_folder.read_result(folder)
    assert "model.images.json can't be made again without the images: moved" in said[-2]
    training.run(SMALL, folder, verbose=0)
    assert images.read_bytes() == expected
    model.unlink()
    shutil.rmtree(folder / "checkpoints")
    result = training.run(SMALL, folder, verbose=0)
    assert result == run_folder.read_result(folder) and not model.exists()
    assert "Put it back from a copy" in said[-2]


@pytest.mark.slow
def test_a_damaged_model_of_a_first_stage_is_made_again(tmp_path, said):
    config = dataclasses.replace(SMALL, method="two_step", epochs=2, train_examples=100)
    for name in ("whole", "crashed"):
        with contextlib.suppress(interrupted.Stop):
            stop = interrupted.stop_after(1) if name == "crashed" else None
            training.run(config, tmp_path / name, verbose=0, report=stop)
    model = tmp_path / "crashed" / "step1" / "model.keras"
    interrupted.flip(model, model.stat().st_size // 2)
    training.run(config, tmp_path / "crashed", verbose=0)
    assert "can't be read as a Keras model" in " ".join(said)
    assert not interrupted.difference(
        interrupted.left_behind(tmp_path / "whole"), interrupted.left_behind(tmp_path / "crashed")
    )


def test_a_kill_in_the_first_write_leaves_a_folder_that_can_be_used(tmp_path):
    (tmp_path / "config.part.json").write_text('{"conf')
    run_folder.refuse_other_run(tmp_path, SMALL)
    (tmp_path / "thesis.part").write_text("all my work")
    with pytest.raises(run_folder.RunExists, match="holds no run"):
        run_folder.refuse_other_run(tmp_path, SMALL)


# Full disks and read-only folders -----------------------------------------------------------------


@contextlib.contextmanager
def no_file_above(size):
    """The operating system refuses to write beyond ``size`` bytes of a file."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


# What fails with files of at most so many bytes: writing TensorBoard's, a checkpoint, the model.
@pytest.mark.slow
@pytest.mark.parametrize("size", [100, 10_000, 50_000])
def test_a_full_disk_is_an_error_that_keeps_what_was_saved(size, both, tmp_path):
    folder, limit = tmp_path / "run", contextlib.ExitStack()

    def report(epoch, logs):
        if epoch == 1:
            limit.enter_context(no_file_above(size))

    with limit, pytest.raises(files.NotWritable) as raised:
        training.run(SMALL, folder, verbose=0, report=report)
    for words in (str(folder), "File too large", "Make room", "same command"):
        assert words in str(raised.value)
    assert not list(folder.rglob("*.part*")) and not list(folder.rglob("writing*"))
    assert sorted(folder.rglob("*.index"))[-1].name == f"ckpt-{4 if size == 50_000 else 2}.index"
    assert_continues_to_the_same_end(folder, both)


def test_a_full_disk_ends_a_comparison(tmp_path, said):
    jobs = comparison.make_jobs(
        SMALL, {"filter": settings.Setting(), "adam": settings.Setting()}, 1
    )
    compared = comparison.Comparison(tmp_path, jobs)
    with no_file_above(600), pytest.raises(files.NotWritable, match="Make room"):
        compared.train()
    assert "adam" not in "".join(said)


@pytest.mark.slow
def test_the_script_in_a_read_only_folder(tmp_path):
    if not interrupted.permissions_hold(tmp_path):
        pytest.skip("here a process may write whatever the permissions say")
    tmp_path.chmod(0o555)
    options = {"preexec_fn": interrupted.obey_permissions}
    status, out, err = interrupted.output_of(
        "train.py", *FLAGS, f"--output_dir={tmp_path / 'run'}", **options
    )
    tmp_path.chmod(0o755)
    assert status == 1 and "Traceback" not in err
    (line,) = [line for line in err.splitlines() if line.startswith("error:")]
    for words in (str(tmp_path / "run"), "Permission denied", "make this one writable"):
        assert words in line


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        tf.errors.ResourceExhaustedError(None, None, "/x/part.tempstate1; No space left on device"),
        tf.errors.UnknownError(None, None, "x.v2; No space left on device"),
        RuntimeError("Unable to write (errno = 28, error message = 'No space left on device')"),
        PermissionError(errno.EACCES, "Permission denied", "/runs/a/config.part"),
        PermissionError(errno.EACCES, "Permission denied", "/runs"),
        OSError(errno.EROFS, "Read-only file system", "/runs/a/metrics.csv"),
        tf.errors.PermissionDeniedError(None, None, "/runs/a/events; Permission denied"),
        tf.errors.FailedPreconditionError(None, None, "/runs/a/events; Not a directory"),
    ],
    ids=lambda error: f"{type(error).__name__} {error}"[:60].replace("/", ":"),
)
def test_errors_of_writing_become_one_sentence(error):
    with pytest.raises(files.NotWritable, match="^/runs/a can't be written: ") as raised:
        with files.plain_errors("/runs/a"):
            raise error
    assert "\n" not in str(raised.value)
    with pytest.raises(files.NotWritable) as again, files.plain_errors("/runs"):
        raise raised.value
    assert again.value is raised.value


@pytest.mark.parametrize("continued", [True, False])
def test_only_what_can_be_continued_is_said_to_be(continued):
    error = OSError(errno.ENOSPC, "No space left on device")
    with pytest.raises(files.NotWritable) as raised:
        with files.plain_errors("/runs/a", continued):
            raise error
    assert ("continued" in str(raised.value)) == continued


@pytest.mark.parametrize(
    "error",
    [
        tf.errors.ResourceExhaustedError(None, None, "OOM when allocating tensor"),
        PermissionError(errno.EACCES, "Permission denied", "/data/images"),
        tf.errors.PermissionDeniedError(None, None, "/data/x.tfrecord; Permission denied"),
        FileNotFoundError(errno.ENOENT, "No such file or directory", "/runs/a/teacher.keras"),
        RuntimeError("No checkpoint in /runs/a can be read"),
    ],
    ids=lambda error: f"{type(error).__name__} {error}"[:60].replace("/", ":"),
)
def test_other_errors_stay_as_they_are(error):
    with pytest.raises(type(error)) as raised, files.plain_errors("/runs/a"):
        raise error
    assert raised.value is error


# Names of folders ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("parts", "name"),
    [
        (["digits", "birealnet20", "filter", 0], "digits-birealnet20-filter-0"),
        (["../../x", "m"], "_.._x-m"),
        (["..", "/"], "_-_"),
        ([".", ""], "_-_"),
        ([".."], "_"),
        (["/etc/passwd"], "_etc_passwd"),
        (["mnist:3.0.1", "a b\n\0\\"], "mnist_3.0.1-a_b___"),
        (["ziffern_größe+1"], "ziffern_größe+1"),
    ],
)
def test_a_name_stays_in_its_folder(parts, name):
    assert files.name_of(*parts) == name


@pytest.mark.slow
def test_names_from_flags_lead_nowhere_else(tmp_path):
    """compare.py creates its folder before it builds the model."""
    (tmp_path / "work" / "here").mkdir(parents=True)
    status, _, err = interrupted.output_of(
        "compare.py", "--model=x/../../../../out", "--methods=adam", cwd=tmp_path / "work" / "here"
    )
    assert status == 1 and "there is no model" in err.lower() or "unknown model" in err.lower()
    assert [path.name for path in tmp_path.iterdir()] == ["work"]
    assert [path.name for path in (tmp_path / "work").iterdir()] == ["here"]
    assert {path.name for path in (tmp_path / "work" / "here").iterdir()} <= {"runs"}


# Skipped steps ------------------------------------------------------------------------------------


@pytest.mark.slow
def test_skipped_steps_are_part_of_the_result(tmp_path, monkeypatch):
    data = dataclasses.replace(run_data.load(SMALL), mean=np.array([np.nan], np.float32))
    monkeypatch.setattr(run_data, "load", lambda config: data)
    with pytest.warns(RuntimeWarning, match="24 steps were skipped"):
        assert training.run(SMALL, tmp_path / "run", verbose=0).skipped_steps == 24
    assert training.run(SMALL, tmp_path / "run", verbose=0).skipped_steps == 24


@pytest.mark.slow
def test_the_script_reports_skipped_steps_and_reads_older_results(both, tmp_path):
    folder = shutil.copytree(both / "whole", tmp_path / "run")
    content = json.loads((folder / "result.json").read_text())
    assert content.pop("skipped_steps") == 0
    (folder / "result.json").write_text(json.dumps(content))
    assert training.run(SMALL, folder).skipped_steps == 0
    (folder / "result.json").write_text(json.dumps(content | {"skipped_steps": 3}))
    _, out, _ = interrupted.output_of("train.py", *FLAGS, f"--output_dir={folder}")
    assert "steps skipped, gradient not finite  3\n" in out
