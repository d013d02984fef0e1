"""What stands around `model.fit`: the device, the input, the learning rate, Recall@K while training, a backup."""

import contextlib
import hashlib
import io
import json
import os
import re
import sys
import tempfile
import warnings
from pathlib import Path

import keras
import numpy as np

from helpers.metrics import recall_at_k
from helpers.networks import check_images, embed
from helpers.sampling import check_labels


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


def leave_input_untuned():
    """Let no data set that Keras makes for `fit` or `predict` tune itself, from now on in this Python process.

    tf.data tunes itself in a thread that sleeps longer each time, and an epoch that is over may have to wait until it
    wakes: in the worst case for as long again as the epoch took. There is little to tune where a batch takes 0.2 ms, as
    it does when images lie in memory. What is drawn, and in which order, stays the same.

    Keras ends with `tf.data.Dataset.prefetch` whatever it is handed, so this replaces that method by one that turns
    tuning off: for your own data sets too. On other backends it does nothing, and a second call neither.
    """
    if keras.backend.backend() != "tensorflow":
        return
    data = sys.modules["tensorflow"].data  # Keras has imported it
    prefetch = data.Dataset.prefetch
    if prefetch.__name__ == "prefetch_untuned":
        return

    def prefetch_untuned(data_set, buffer_size, name=None):
        """`tf.data.Dataset.prefetch`, for a data set that does not tune itself."""
        options = data.Options()
        options.autotune.enabled = False
        return prefetch(data_set, buffer_size, name).with_options(options)

    data.Dataset.prefetch = prefetch_untuned


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

    Raises (at once, or before the first epoch, when the network is known):
        ValueError: images, labels and K that do not fit together, or do not fit the network: see `embed`.
    """

    def __init__(self, images, labels, k=1, embedding=None):
        super().__init__()
        labels = check_labels(images, labels)
        if not isinstance(k, (int, np.integer)) or isinstance(k, bool) or not 1 <= k < len(labels):
            raise ValueError(
                f"k must be an integer from 1 to {len(labels) - 1}, the other images, not {k!r}."
            )
        self.images, self.labels, self.k, self.embedding = images, labels, int(k), embedding

    def on_train_begin(self, logs=None):
        check_images(self.embedding or self.model, self.images)

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

    A training is complete when its last epoch is, or when a callback such as `EarlyStopping` ends it. One that ends in
    NaN or infinity (by `TerminateOnNaN`, or without anybody noticing) is not: such a state is never saved, and the last
    finite one stays, with a warning that names it.

    Args:
        folder: where to keep the backup, for this training alone. It is made if it is missing.
        batches: the `BalancedBatches` that the training draws from, or anything else with `get_state()` and
            `set_state(state)`; `None` backs up the network and its optimiser only.
        delete: remove the backup when the training is complete, and the folder if nothing else is in it.

    Raises (when the training starts, or at the end of an epoch):
        OSError: the backup cannot be written: the disk is full, say, or the folder is read-only.
        ValueError: the backup is damaged, or belongs to another training.
    """

    def __init__(self, folder, batches=None, delete=True):
        super().__init__()
        self.folder, self.batches, self.delete = Path(folder), batches, delete
        self.epochs_kept = 0
        self._is_finite = True
        # Keras may draw a few batches to look at before it trains: the training starts from this state all the same.
        self._first_state = None if batches is None else batches.get_state()

    def on_train_begin(self, logs=None):
        self.epochs_kept, self._is_finite = 0, True
        if self._record_path.is_file():
            self.epochs_kept = self._restore()
        elif self.batches is not None:
            self.batches.set_state(self._first_state)
        try:  # now, not after the first epoch
            self.folder.mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=self.folder).close()
        except OSError as error:
            raise self._cannot_write(error) from error
        self.model._initial_epoch = self.epochs_kept  # `fit` has no public place for it

    def on_epoch_begin(self, epoch, logs=None):
        self.model._initial_epoch = None  # `fit` has read it: the next training is another one

    def on_epoch_end(self, epoch, logs=None):
        variables = [_to_numpy(variable) for variable in self._variables()]
        ended_by_nan = self.model.stop_training and not np.isfinite((logs or {}).get("loss", 0.0))
        self._is_finite = not ended_by_nan and all(np.isfinite(variable).all() for variable in variables)
        if not self._is_finite:
            return  # what is kept is better
        progress = {
            "epochs": epoch + 1,
            "batches": None if self.batches is None else self.batches.get_state(),
        }
        file = io.BytesIO()  # whole in memory first: HDF5, for one, crashes Python when the disk is full
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
        for other in self._own_files():
            if other not in (path, self._record_path):
                other.unlink()

    def on_train_end(self, logs=None):
        self.model._initial_epoch = None
        if not self._is_finite:
            kept = (
                f"of epoch {self.epochs_kept} stays in {self.folder}"
                if self.epochs_kept
                else "does not exist"
            )
            warnings.warn(
                f"The training ended in NaN or infinity, so it is not complete: the last finite state {kept}.",
                stacklevel=2,
            )
        elif self.delete:
            self._record_path.unlink(missing_ok=True)  # first: without the record there is no backup
            for path in self._own_files():
                path.unlink()
        if self.delete or not self._is_finite:
            with contextlib.suppress(OSError):  # the folder is not empty
                self.folder.rmdir()

    def _own_files(self):
        """What this class has written to the folder, and nothing else that may lie there."""
        names = re.compile(r"(epoch_\d{4,}\.npz|backup\.json)(\.unfinished)?")
        return [path for path in self.folder.iterdir() if names.fullmatch(path.name) and path.is_file()]

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
        if self.batches is not None:
            if progress["batches"] is None:
                raise ValueError(f"The backup in {self.folder} was made without batches. {cure}")
            self.batches.set_state(progress["batches"])
        for variable, array in zip(variables, arrays, strict=True):
            variable.assign(array)
        return progress["epochs"]

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
