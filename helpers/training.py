"""What stands around `model.fit`: the device, the learning-rate schedule, Recall@K while training, a backup."""

import hashlib
import io
import json
import os
import shutil
import tempfile
from pathlib import Path

import keras
import numpy as np

from helpers.metrics import recall_at_k
from helpers.networks import embed


def describe_device():
    """What this training will run on, in one line, for any Keras backend.

    Returns:
        For example "tensorflow backend · no GPU, 2 CPU cores · float32".
    """
    try:
        devices = keras.distribution.list_devices()
    except AttributeError:  # the torch backend has no such list
        devices = [str(keras.ops.zeros(()).device)]
    accelerators = [device for device in devices if not device.startswith("cpu")]
    cores = f"{os.cpu_count()} CPU cores"
    device = f"{', '.join(accelerators)}, {cores}" if accelerators else f"no GPU, {cores}"
    return f"{keras.backend.backend()} backend · {device} · {keras.mixed_precision.dtype_policy().name}"


def one_cycle(peak, steps):
    """A learning rate that rises from peak / 10 to `peak` in the first quarter, then falls to 0 along a cosine.

    Args:
        peak: the largest learning rate.
        steps: of the whole training, epochs × batches.

    Returns:
        A `keras.optimizers.schedules.LearningRateSchedule`.

    Source: after Smith & Topin, Super-Convergence, 2017 (arXiv 1708.07120).
    """
    warmup = steps // 4
    return keras.optimizers.schedules.CosineDecay(
        peak / 10, decay_steps=steps - warmup, warmup_target=peak, warmup_steps=warmup
    )


class RecallCallback(keras.callbacks.Callback):
    """Measure Recall@K on validation images after every epoch, leave-one-out.

    The value is added to the logs as `val_recall_at_K`, where the history and later callbacks (`ModelCheckpoint`, say)
    find it.

    Args:
        images: array (N, height, width, channels).
        labels: integers (N,) or (N, 1).
        k: K.
        embedding: the network to measure; by default the one that is being trained. Give `net.embedding` when training
            a `TripletNet`.
    """

    def __init__(self, images, labels, k=1, embedding=None):
        super().__init__()
        self.images, self.labels, self.k, self.embedding = images, labels, k, embedding

    def on_epoch_end(self, epoch, logs=None):
        embeddings = embed(self.embedding or self.model, self.images)
        recall = float(recall_at_k(embeddings, self.labels, k=self.k)[self.k])
        if logs is not None:
            logs[f"val_recall_at_{self.k}"] = recall


class Backup(keras.callbacks.Callback):
    """Save after every epoch what a training needs to go on, and go on from there when it is started again.

    It does what `keras.callbacks.BackupAndRestore` does, and keeps two promises more. A save that is cut short, by a
    power cut or a full disk, leaves the last backup as it was. And the state of `batches` is part of it, so the resumed
    training sees the same images as one that was never interrupted. Put it last in the list of callbacks; what other
    callbacks remember is not part of it.

    Args:
        folder: where to keep the backup, for this training alone. It is made if it is missing.
        batches: the `BalancedBatches` that the training draws from, or anything else with `get_state()` and
            `set_state(state)`; `None` backs up the network and its optimiser only.
        delete: remove the folder when the training is complete.

    Raises (when the training starts, or at the end of an epoch):
        OSError: the backup cannot be written: the disk is full, say, or the folder is read-only.
        ValueError: the backup is damaged, or belongs to another training.
    """

    def __init__(self, folder, batches=None, delete=True):
        super().__init__()
        self.folder, self.batches, self.delete = Path(folder), batches, delete
        self.epochs_kept = 0
        # Keras may draw a few batches to look at before it trains: the training starts from this state all the same.
        self._first_state = None if batches is None else batches.get_state()

    def on_train_begin(self, logs=None):
        state, self.epochs_kept = self._restore() if self._record_path.is_file() else (self._first_state, 0)
        try:  # now, not after the first epoch
            self.folder.mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=self.folder).close()
        except OSError as error:
            raise self._cannot_write(error) from error
        if self.batches is not None:
            self.batches.set_state(state)
        self.model._initial_epoch = self.epochs_kept  # `fit` has no public place for it

    def on_epoch_end(self, epoch, logs=None):
        progress = {
            "epochs": epoch + 1,
            "batches": None if self.batches is None else self.batches.get_state(),
        }
        file = io.BytesIO()  # whole in memory first: HDF5, for one, crashes Python when the disk is full
        variables = [_to_numpy(variable) for variable in self._variables()]
        np.savez(file, *variables, progress=np.array(json.dumps(progress)))
        content, path = file.getvalue(), self.folder / f"epoch_{epoch + 1:04d}.npz"
        record = {"file": path.name, "sha256": hashlib.sha256(content).hexdigest()}
        try:
            _write_and_replace(path, content)
            # With the record, the new backup counts.
            _write_and_replace(self._record_path, json.dumps(record).encode())
        except OSError as error:
            raise self._cannot_write(error) from error
        self.epochs_kept = epoch + 1
        for other in self.folder.glob("epoch_*.npz*"):
            if other != path:
                other.unlink()

    def on_train_end(self, logs=None):
        self.model._initial_epoch = None
        if self.delete:
            shutil.rmtree(self.folder)

    @property
    def _record_path(self):
        return self.folder / "backup.json"

    def _variables(self):
        if not self.model.optimizer.built:
            self.model.optimizer.build(self.model.trainable_variables)
        model = self.model
        return [*model.trainable_variables, *model.non_trainable_variables, *model.optimizer.variables]

    def _restore(self):
        cure = f"Delete the folder {self.folder} to begin again from the first epoch."
        try:
            record = json.loads(self._record_path.read_bytes())
            content = (self.folder / record["file"]).read_bytes()
            intact = hashlib.sha256(content).hexdigest() == record["sha256"]
        except (ValueError, KeyError, TypeError, FileNotFoundError):
            intact = False
        if not intact:
            raise ValueError(f"The backup in {self.folder} is damaged. {cure}")
        variables = self._variables()
        with np.load(io.BytesIO(content), allow_pickle=False) as stored:
            progress = json.loads(stored["progress"].item())
            arrays = [stored[name] for name in stored.files if name != "progress"]
        if [array.shape for array in arrays] != [tuple(variable.shape) for variable in variables]:
            raise ValueError(f"The backup in {self.folder} is of another network or optimiser. {cure}")
        for variable, array in zip(variables, arrays, strict=True):
            variable.assign(array)
        return progress["batches"], progress["epochs"]

    def _cannot_write(self, error):
        kept = f"The one of epoch {self.epochs_kept} is intact" if self.epochs_kept else "There is none yet"
        return OSError(
            f"The backup in {self.folder} cannot be written ({error.strerror or error}). {kept}. "
            "Make room, or choose a folder that may be written to, and start the same training again."
        )


def _to_numpy(variable):
    """The value of a Keras variable, in a dtype that NumPy can store."""
    value = keras.ops.convert_to_numpy(variable)
    return value.astype("float32") if value.dtype.name == "bfloat16" else value


def _write_and_replace(path, content):
    """Write bytes to a file so that, whatever happens, it holds either what it held before or all of `content`."""
    unfinished = path.with_name(path.name + ".unfinished")
    try:
        with open(unfinished, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())  # on the disk, not merely on its way there
        os.replace(unfinished, path)
    except OSError:
        unfinished.unlink(missing_ok=True)  # it takes room that may be missing
        raise
