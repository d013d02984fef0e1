"""A small training that keeps a backup; `test_backup.py` kills it and starts it again.

    python tests/interrupted_training.py FOLDER

It tells every epoch and every batch on a line of its own, and at the end, in JSON, what came out.
"""

import hashlib
import json
import sys
import time

import keras
import numpy as np

from helpers.data import honest_split, load
from helpers.losses import BatchAllTripletLoss
from helpers.metrics import recall_at_k
from helpers.networks import embed, embedding_network
from helpers.sampling import BalancedBatches, flip_and_shift
from helpers.training import Backup, one_cycle

EPOCHS, BATCHES = 9, 12


class Reporter(keras.callbacks.Callback):
    def on_epoch_begin(self, epoch, logs=None):
        print("epoch", epoch, flush=True)

    def on_train_batch_end(self, batch, logs=None):
        print("batch", batch, flush=True)
        time.sleep(0.01)  # long enough for the test to kill the process before the epoch is over


def main(folder):
    keras.utils.set_random_seed(0)
    split = honest_split(load("fashion_mnist"))
    batches = BalancedBatches(
        split.x_train[:2000], split.y_train[:2000], 10, 6, batches=BATCHES, augment=flip_and_shift, seed=0
    )
    network = embedding_network(dimensions=16, filters=(4, 8))
    network.compile(keras.optimizers.Adam(one_cycle(0.01, EPOCHS * BATCHES)), BatchAllTripletLoss())
    network.fit(batches, epochs=EPOCHS, verbose=0, callbacks=[Reporter(), Backup(folder, batches)])
    embeddings = embed(network, split.x_valid[:1000])
    weights = b"".join(np.ascontiguousarray(array).tobytes() for array in network.get_weights())
    result = {
        "recall": recall_at_k(embeddings, split.y_valid[:1000], k=1)[1],
        "steps": int(network.optimizer.iterations),
        "weights": hashlib.sha256(weights).hexdigest(),
        "batches": hashlib.sha256(json.dumps(batches.get_state()).encode()).hexdigest(),
    }
    print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
