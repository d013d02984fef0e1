"""What stands around `model.fit`: the device, the learning-rate schedule, Recall@K while training."""

import os

import keras

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
