"""Lesson 4's recipe, shortened, on the two devices that JAX is told to see; `test_two_devices.py` runs it.

    KERAS_BACKEND=jax XLA_FLAGS=--xla_force_host_platform_device_count=2 python tests/two_devices.py

It prints, in JSON, what it saw. With the arguments PROCESSES NUMBER PORT it is one of several processes, each with its
own devices, as it would be on several machines.
"""

import json
import sys

import jax
import keras
import numpy as np

from helpers.data import honest_split, load
from helpers.losses import BatchAllTripletLoss
from helpers.metrics import recall_at_k
from helpers.networks import embed, embedding_network
from helpers.sampling import BalancedBatches, flip_and_shift
from helpers.training import one_cycle

STEPS, EPOCHS = 40, 3


class WatchedLoss(BatchAllTripletLoss):
    """The loss of the lesson, which notes how its input lies on the devices."""

    def __init__(self):
        super().__init__(0.2)
        self.shards = set()

    def call(self, y_true, y_pred):
        jax.debug.inspect_array_sharding(
            y_pred, callback=lambda s: self.shards.add(s.shard_shape(y_pred.shape))
        )
        return super().call(y_true, y_pred)


def network_and_batches(split, seed, images_per_class=12, batches=STEPS):
    keras.utils.set_random_seed(0)  # the same weights in every process
    network = embedding_network(dimensions=32, filters=(8, 16))
    batches = BalancedBatches(
        split.x_train, split.y_train, 10, images_per_class, batches=batches, augment=flip_and_shift, seed=seed
    )
    return network, batches


def train(network, batches, loss=None):
    network.compile(keras.optimizers.Adam(one_cycle(0.01, STEPS * EPOCHS)), loss or BatchAllTripletLoss(0.2))
    return network.fit(batches, epochs=EPOCHS, verbose=0).history["loss"]


def recall(network, split):
    return recall_at_k(embed(network, split.x_valid[:2000]), split.y_valid[:2000], k=1)[1]


def one_process():
    split = honest_split(load("fashion_mnist"))
    network, batches = network_and_batches(split, seed=0)
    untrained = recall(network, split)
    whole_losses = train(network, batches)
    whole_recall = recall(network, split)

    # A batch that makes the difference plain: each half holds one class, so it has not a single triplet of its own.
    labels = np.repeat([0, 1], 60)
    images = np.concatenate([split.x_train[split.y_train == label][:60] for label in (0, 1)])
    half, loss = slice(60), BatchAllTripletLoss(0.2)

    keras.distribution.set_distribution(keras.distribution.DataParallel())
    network, batches = network_and_batches(split, seed=0)
    embeddings = np.asarray(network(images, training=True))
    watched = WatchedLoss()
    network.compile(keras.optimizers.SGD(0.0), watched)
    sharded_loss = float(network.train_on_batch(images, labels))
    network, batches = network_and_batches(split, seed=0)
    result = {
        "devices": keras.distribution.list_devices(),
        "shards": sorted(watched.shards),
        "loss of the sharded batch": sharded_loss,
        "loss of the whole batch": float(loss(labels, embeddings)),
        "loss of the first half": float(loss(labels[half], embeddings[half])),
        "epochs on one device": whole_losses,
        "epochs on two devices": train(network, batches),
    }
    result |= {
        "recall untrained": untrained,
        "recall on one": whole_recall,
        "recall on two": recall(network, split),
    }
    print(json.dumps(result))


def one_of_several(processes, number, port):
    keras.distribution.initialize(f"127.0.0.1:{port}", processes, number)
    keras.distribution.set_distribution(keras.distribution.DataParallel(auto_shard_dataset=False))
    split = honest_split(load("fashion_mnist"))
    network, batches = network_and_batches(split, number, images_per_class=6, batches=5)  # each draws its own
    watched = WatchedLoss()
    losses = train(network, batches, watched)
    result = {
        "devices": keras.distribution.list_devices(),
        "shards": sorted(watched.shards),
        "losses": losses,
        "weights": float(sum(np.abs(array).sum() for array in network.get_weights())),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    if len(sys.argv) > 1:
        one_of_several(*(int(argument) for argument in sys.argv[1:]))
    else:
        one_process()
