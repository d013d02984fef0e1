"""A training that is interrupted, by whatever it may be, goes on as if it had not been."""

import errno
import json
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

from helpers import training
from helpers.losses import BatchAllTripletLoss
from helpers.sampling import BalancedBatches
from helpers.training import Backup

try:
    import resource
except ImportError:  # Windows
    resource = None

ROOT = Path(__file__).resolve().parents[1]

# Killed


class Training:
    """`interrupted_training.py` in a process of its own."""

    def __init__(self, folder, seed=None):
        # One thread, so that sums are always taken in the same order and two trainings can be equal bit by bit.
        environment = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "TF_NUM_INTRAOP_THREADS": "1",
            "OMP_NUM_THREADS": "1",
            "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false",
        }
        self.process = subprocess.Popen(
            [sys.executable, str(ROOT / "tests/interrupted_training.py"), str(folder)],
            env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        )  # fmt: skip
        self.epochs = []  # those that were begun

    def run(self, until=None):
        """Read what it tells, until a certain epoch and batch, or to the end; the last line."""
        batch, line = None, ""
        for line in self.process.stdout:
            word, _, value = line.strip().partition(" ")
            if word == "epoch":
                self.epochs.append(int(value))
            elif word == "batch":
                batch = int(value)
            if until is not None and self.epochs and (self.epochs[-1], batch) == until:
                break
        return line

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        self.run()  # what it had still told before it died
        self.process.stdout.close()


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="Windows has no kill -9")
def test_a_training_killed_again_and_again_ends_as_if_it_had_not_been(tmp_path):
    # What differs between the backends one kill shows as well as three.
    kills = 3 if keras.backend.backend() == "tensorflow" else 1
    undisturbed = Training(tmp_path / "undisturbed")
    seed = random.randrange(10**6)
    rng = random.Random(seed)
    first, begun = 0, []
    for _ in range(kills):
        killed = Training(tmp_path / "killed")
        moment = (first + rng.randrange(3), rng.randrange(10))  # of 9 epochs, each of 12 batches
        killed.run(moment)
        killed.kill()
        begun += killed.epochs
        assert killed.epochs[0] == first, f"seed {seed}: epoch {first} was begun, and not completed"
        first = killed.epochs[-1]
    last = Training(tmp_path / "killed")
    result, expected = json.loads(last.run()), json.loads(undisturbed.run())
    assert last.epochs == list(range(first, 9)), f"seed {seed}"
    assert len(begun + last.epochs) <= 9 + kills, f"seed {seed}: more than one epoch lost by a kill"
    assert expected["recall"] > 0.5
    assert abs(result["recall"] - expected["recall"]) <= 0.005, f"seed {seed}"
    assert result == expected, (
        f"seed {seed}: steps, weights and the state of the batches are equal, bit by bit"
    )
    assert not (tmp_path / "killed").exists()


# Stopped in the same process


IMAGES = np.random.default_rng(0).random((24, 4), dtype="float32")
LABELS = np.repeat(np.arange(3), 8)


def task(folder, seed=0, dtype=None, **kwargs):
    """A tiny model with its batches and the backup of both."""
    keras.utils.set_random_seed(0)
    rate = 0.0 if keras.backend.backend() == "torch" else 0.2  # PyTorch drops out by a generator of its own
    layers = [
        keras.layers.Dense(3, dtype=dtype),
        keras.layers.Dropout(rate),
        keras.layers.Dense(2, dtype=dtype),
    ]
    model = keras.Sequential([keras.Input((4,)), *layers])
    # Eagerly: sooner than compiled, for so few steps
    model.compile(keras.optimizers.Adam(0.01), BatchAllTripletLoss(), run_eagerly=True)
    batches = BalancedBatches(IMAGES, LABELS, 3, 4, batches=3, seed=seed)
    return model, batches, Backup(folder, batches, **kwargs)


def train(model, batches, *callbacks, epochs=4):
    begun = keras.callbacks.LambdaCallback(on_epoch_begin=lambda epoch, logs: epochs_begun.append(epoch))
    epochs_begun = []
    try:
        model.fit(batches, epochs=epochs, verbose=0, callbacks=[begun, *callbacks])
    except PowerCut:
        pass
    return epochs_begun


class PowerCut(BaseException):
    pass


class CutIn(keras.callbacks.Callback):
    """Stop everything in the middle of an epoch."""

    def __init__(self, epoch):
        super().__init__()
        self.epoch = epoch

    def on_epoch_begin(self, epoch, logs=None):
        self.now = epoch

    def on_train_batch_end(self, batch, logs=None):
        if (self.now, batch) == (self.epoch, 1):
            raise PowerCut


def assert_same_weights(a, b):
    for x, y in zip(a.get_weights(), b.get_weights(), strict=True):
        np.testing.assert_array_equal(x, y)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    model, batches, backup = task(tmp_path_factory.mktemp("undisturbed"))
    train(model, batches, backup)
    return model


@pytest.mark.parametrize("cut", [0, 1, 3])
def test_resumed_training_ends_with_the_same_weights(tmp_path, undisturbed, cut):
    model, batches, backup = task(tmp_path / "b")
    assert train(model, batches, backup, CutIn(cut)) == list(range(cut + 1))
    # Where there is a backup, the state of the batches comes from it, whatever they were seeded with.
    model, batches, backup = task(tmp_path / "b", seed=7 if cut else 0)
    assert train(model, batches, backup) == list(range(cut, 4))
    assert_same_weights(model, undisturbed)
    assert int(model.optimizer.iterations) == 12


def test_a_complete_training_removes_its_backup_and_begins_anew(tmp_path):
    model, batches, backup = task(tmp_path / "b")
    assert train(model, batches, backup) == train(model, batches, backup) == [0, 1, 2, 3]
    assert not (tmp_path / "b").exists()


def test_a_kept_backup_has_nothing_left_to_do(tmp_path, undisturbed):
    model, batches, backup = task(tmp_path / "b", delete=False)
    train(model, batches, backup)
    assert sorted(path.name for path in (tmp_path / "b").iterdir()) == ["backup.json", "epoch_0004.npz"]
    model, batches, backup = task(tmp_path / "b", delete=False)
    assert train(model, batches, backup) == []
    assert_same_weights(model, undisturbed)
    assert train(model, batches, backup, epochs=6) == [4, 5]


def test_without_batches_the_network_alone_is_kept(tmp_path):
    model, _, _ = task(tmp_path)
    model.fit(IMAGES, LABELS, verbose=0, callbacks=[Backup(tmp_path / "b", delete=False)])
    again, _, _ = task(tmp_path)
    again.fit(IMAGES, LABELS, epochs=1, verbose=0, callbacks=[Backup(tmp_path / "b")])
    assert_same_weights(model, again)


def test_bfloat16_weights_are_kept(tmp_path):
    model, batches, backup = task(tmp_path / "b", dtype="bfloat16", delete=False)
    train(model, batches, backup)
    again, batches, backup = task(tmp_path / "b", dtype="bfloat16", delete=False)
    assert train(again, batches, backup) == []
    assert again.weights[0].dtype == "bfloat16"
    for a, b in zip(again.weights, model.weights, strict=True):
        np.testing.assert_array_equal(
            *(keras.ops.convert_to_numpy(keras.ops.cast(v, "float32")) for v in (a, b))
        )


def test_only_its_own_files_are_removed(tmp_path):
    """The folder may hold what somebody else put there."""
    folder = tmp_path / "b"
    (folder / "photos").mkdir(parents=True)
    others = ["best.keras", "photos/1.jpg", "epoch_best.npz", "epoch_0002.npz.old", "my_epoch_0001.npz"]
    for name in others:
        (folder / name).write_text("mine", encoding="utf-8")
    (folder / "epoch_0001.npz.unfinished").write_text("of a power cut", encoding="utf-8")
    model, batches, backup = task(folder)
    train(model, batches, CutIn(2), backup)
    assert (folder / "backup.json").exists()
    model, batches, backup = task(folder)
    assert train(model, batches, backup) == [2, 3]
    left = [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]
    assert sorted(left) == sorted(others)


# A training that ends in NaN, one that is ended, one that begins after another


class Diverge(keras.callbacks.Callback):
    """Make the network, or its optimiser alone, not finite when an epoch begins."""

    def __init__(self, at, value=np.nan, part="network"):
        super().__init__()
        self.at, self.value, self.part = at, value, part

    def on_epoch_begin(self, epoch, logs=None):
        if epoch == self.at:
            variables = self.model if self.part == "network" else self.model.optimizer
            weights = next(v for v in variables.variables if len(v.shape) == 2)
            weights.assign(np.full(weights.shape, self.value, "float32"))


@pytest.mark.parametrize("delete", [True, False])
@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("watched", [True, False])
def test_a_state_that_is_not_finite_never_replaces_one_that_is(tmp_path, undisturbed, watched, value, delete):
    model, batches, backup = task(tmp_path / "b", delete=delete)
    watch = [keras.callbacks.TerminateOnNaN()] if watched else []
    message = r"^The training ended in NaN or infinity, so it is not complete: the last finite state of epoch 2 stays"
    with pytest.warns(UserWarning, match=message):
        train(model, batches, Diverge(2, value), *watch, backup)
    assert sorted(path.name for path in (tmp_path / "b").iterdir()) == ["backup.json", "epoch_0002.npz"]
    model, batches, backup = task(tmp_path / "b")
    assert train(model, batches, backup) == [2, 3]
    assert_same_weights(model, undisturbed)


def test_an_optimiser_that_is_not_finite_counts_too(tmp_path):
    model, batches, backup = task(tmp_path / "b")
    with pytest.warns(UserWarning, match="of epoch 1 stays"):
        train(model, batches, Diverge(1, part="optimizer"), backup)


def test_nothing_is_left_of_a_training_that_was_never_finite(tmp_path):
    model, batches, backup = task(tmp_path / "b")
    with pytest.warns(UserWarning, match="the last finite state does not exist"):
        train(model, batches, Diverge(0), keras.callbacks.TerminateOnNaN(), backup)
    assert not (tmp_path / "b").exists()


def test_early_stopping_completes_a_training(tmp_path):
    model, batches, backup = task(tmp_path / "b")
    stop = keras.callbacks.EarlyStopping(monitor="loss", min_delta=100, patience=1)
    assert train(model, batches, stop, backup) == [0, 1]
    assert not (tmp_path / "b").exists()


@pytest.mark.parametrize("delete", [True, False])
def test_the_next_training_without_a_backup_begins_at_the_beginning(tmp_path, delete):
    model, batches, backup = task(tmp_path / "b", delete=delete)
    train(model, batches, backup, CutIn(1))
    _, _, backup = task(tmp_path / "b", delete=delete)
    assert train(model, batches, backup, CutIn(2)) == [1, 2]  # resumed, and interrupted again
    assert train(model, batches, epochs=3) == [0, 1, 2]


def test_a_backup_of_other_images_leaves_the_network_as_it_was(folder):
    model, _, _ = task(folder)
    weights = model.get_weights()
    other = BalancedBatches(IMAGES, LABELS // 2, 2, 4)
    with pytest.raises(ValueError, match="This state was taken from other images or labels"):
        train(model, other, Backup(folder, other))
    for before, after in zip(weights, model.get_weights(), strict=True):
        np.testing.assert_array_equal(before, after)


def test_a_backup_without_batches_is_refused_for_a_training_with_them(tmp_path):
    model, batches, backup = task(tmp_path / "b")
    model.fit(batches, verbose=0, callbacks=[Backup(tmp_path / "b", delete=False)])
    with pytest.raises(ValueError, match=r"^The backup in .*b was made without batches\. Delete the folder "):
        train(model, batches, backup)


# A save that does not succeed


@pytest.fixture(scope="module")
def before(tmp_path_factory):
    """The files of a backup: the training was cut in its third epoch."""
    folder = tmp_path_factory.mktemp("cut")
    model, batches, backup = task(folder)
    train(model, batches, backup, CutIn(2))
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture
def folder(tmp_path, before):
    """A folder of one's own with that backup."""
    folder = tmp_path / "b"
    folder.mkdir()
    for name, content in before.items():
        (folder / name).write_bytes(content)
    return folder


def assert_intact(folder, before):
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


@pytest.mark.parametrize("step", ["write", "fsync", "replace"])
@pytest.mark.parametrize("call", [0, 1])
def test_a_save_cut_short_leaves_the_backup_before_it(folder, before, monkeypatch, undisturbed, step, call):
    calls = []
    original = {"fsync": os.fsync, "replace": os.replace}

    def cut(*args):
        calls.append(args)
        if len(calls) > call:
            raise PowerCut
        return original[step](*args)

    class HalfWritten:
        def __init__(self, file):
            self.file = file

        def __enter__(self):
            return self

        def __exit__(self, *args):
            self.file.close()

        def __getattr__(self, name):
            return getattr(self.file, name)

        def write(self, content):
            calls.append(content)
            if len(calls) > call:
                self.file.write(content[: len(content) // 2])
                self.file.close()
                raise PowerCut
            return self.file.write(content)

    model, batches, backup = task(folder)
    with monkeypatch.context() as patch:
        if step == "write":
            patch.setattr(training, "open", lambda *args: HalfWritten(open(*args)), raising=False)
        else:
            patch.setattr(training.os, step, cut)
        assert train(model, batches, backup) == [2]
    assert len(calls) == call + 1
    for name, content in before.items():
        assert (folder / name).read_bytes() == content
    model, batches, backup = task(folder)
    assert train(model, batches, backup) == [2, 3]
    assert_same_weights(model, undisturbed)


@pytest.mark.skipif(resource is None, reason="Windows has no such limit")
def test_a_full_disk_is_a_clear_error_and_the_backup_intact(folder, before, undisturbed):
    model, batches, backup = task(folder)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    # The system refuses to write more, to root as well.
    resource.setrlimit(resource.RLIMIT_FSIZE, (500, hard))
    try:
        with pytest.raises(OSError, match=message("File too large", 2)):
            train(model, batches, backup)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert_intact(folder, before)
    model, batches, backup = task(folder)
    assert train(model, batches, backup) == [2, 3]
    assert_same_weights(model, undisturbed)


def message(reason, epoch):
    kept = f"The one of epoch {epoch} is intact" if epoch else "There is none yet"
    return rf"^The backup in .* cannot be written \({reason}\)\. {kept}\. Make room, or choose a folder that may be .*"


@pytest.mark.parametrize(
    "number", [errno.ENOSPC, errno.EROFS, errno.EACCES], ids=["full", "read-only", "forbidden"]
)
@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_whatever_the_system_refuses_is_told(folder, before, monkeypatch, number, step):
    model, batches, backup = task(folder)

    def refuse(*args):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(training.os, step, refuse)
    with pytest.raises(OSError, match=message(os.strerror(number), 2)):
        train(model, batches, backup)
    assert_intact(folder, before)


@pytest.mark.parametrize("kept", [0, 1, 3])
def test_the_message_names_the_last_epoch_that_was_saved(tmp_path, monkeypatch, kept):
    """Of this training, not of the one that it went on from."""
    model, batches, backup = task(tmp_path / "b")
    original, saved = training.os.replace, []

    def replace(*names):
        if len(saved) == 2 * kept:
            raise OSError(errno.ENOSPC, "full")
        saved.append(names)
        original(*names)

    monkeypatch.setattr(training.os, "replace", replace)
    with pytest.raises(OSError, match=message("full", kept)):
        train(model, batches, backup)


def test_a_folder_that_cannot_be_made_is_told_before_the_first_epoch(tmp_path):
    (tmp_path / "file").write_text("a file stands where a folder should", encoding="utf-8")
    model, batches, backup = task(tmp_path / "file/b")
    begun = []
    diary = keras.callbacks.LambdaCallback(on_epoch_begin=lambda epoch, logs: begun.append(epoch))
    with pytest.raises(OSError, match=message("Not a directory", 0)):
        train(model, batches, diary, backup)
    assert begun == []


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_folder_is_told_before_the_first_epoch(folder, before):
    folder.chmod(0o555)
    try:
        model, batches, backup = task(folder)
        with pytest.raises(OSError, match=message("Permission denied", 2)):
            train(model, batches, backup)
    finally:
        folder.chmod(0o755)
    assert_intact(folder, before)


# A backup that cannot be used


@pytest.mark.parametrize("damage", ["truncated", "flipped bit", "empty", "missing", "another file"])
@pytest.mark.parametrize("name", ["epoch_0002.npz", "backup.json"])
def test_a_damaged_backup_is_refused_with_the_cure(folder, name, damage):
    path = folder / name
    content = bytearray(path.read_bytes())
    if damage == "missing":
        path.unlink()
    else:
        flipped = content.copy()
        flipped[len(flipped) // 2] ^= 0x80
        path.write_bytes(
            {"truncated": content[:-2], "flipped bit": flipped, "empty": b"", "another file": b"[1, 2]"}[
                damage
            ]
        )
    model, batches, backup = task(folder)
    if (name, damage) == ("backup.json", "missing"):
        assert train(model, batches, backup) == [0, 1, 2, 3]  # no record, no backup
        return
    with pytest.raises(
        ValueError, match=r"^The backup in .*b is damaged\. Delete the folder .*b to begin again"
    ):
        train(model, batches, backup)


def test_a_backup_of_another_network_is_refused(folder):
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    model.compile(keras.optimizers.Adam(0.01), BatchAllTripletLoss())
    _, batches, backup = task(folder)
    with pytest.raises(ValueError, match=r"is of another network or optimiser\. Delete the folder"):
        train(model, batches, backup)


def test_a_backup_never_unpickles(folder, tmp_path):

    class Trap:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "sprung"),)

    path = folder / "epoch_0002.npz"
    np.savez(path, progress=np.array([Trap()], dtype=object))
    record = json.loads((folder / "backup.json").read_text(encoding="utf-8"))
    record["sha256"] = training.hashlib.sha256(path.read_bytes()).hexdigest()
    (folder / "backup.json").write_text(json.dumps(record), encoding="utf-8")
    model, batches, backup = task(folder)
    with pytest.raises(ValueError, match="allow_pickle=False"):
        train(model, batches, backup)
    assert not (tmp_path / "sprung").exists()
