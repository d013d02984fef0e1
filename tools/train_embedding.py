"""Train the embedding that ships with the course: lesson 04's recipe, with a wider network and more epochs.

    python tools/train_embedding.py

Interrupted, the same command goes on after the last finished epoch. At the end it writes the network to
`helpers/weights/fashion_mnist.weights.h5`, and its recipe and figures to the `.json` beside it.
"""

import hashlib
import json
import shutil
import time
from pathlib import Path

import keras

from helpers.data import honest_split, load, published_split
from helpers.losses import BatchAllTripletLoss
from helpers.metrics import map_at_r, recall_at_k
from helpers.networks import WEIGHTS_FOLDER, embed, embedding_network
from helpers.sampling import BalancedBatches, flip_and_shift
from helpers.training import Backup, RecallCallback, describe_device, one_cycle

RECIPE = {
    "seed": 0,
    "filters": [32, 64, 128],
    "dimensions": 64,
    "classes_per_batch": 10,
    "images_per_class": 12,
    "margin": 0.2,
    "peak_learning_rate": 0.003,
    "epochs": 16,
}
BACKUP = Path("build/train_embedding")


def main():
    keras.utils.set_random_seed(RECIPE["seed"])
    data = load("fashion_mnist")
    honest, published = honest_split(data), published_split(data)
    batches = BalancedBatches(
        honest.x_train,
        honest.y_train,
        RECIPE["classes_per_batch"],
        RECIPE["images_per_class"],
        augment=flip_and_shift,
        seed=RECIPE["seed"],
    )
    network = embedding_network(dimensions=RECIPE["dimensions"], filters=RECIPE["filters"])
    steps = RECIPE["epochs"] * len(batches)
    network.compile(
        keras.optimizers.Adam(one_cycle(RECIPE["peak_learning_rate"], steps)),
        BatchAllTripletLoss(RECIPE["margin"]),
    )
    started = time.monotonic()
    network.fit(
        batches,
        epochs=RECIPE["epochs"],
        verbose=2,
        callbacks=[
            RecallCallback(honest.x_valid, honest.y_valid),
            Backup(BACKUP, batches, delete=False),  # only when the results below are written
        ],
    )
    seconds = time.monotonic() - started

    finished = embedding_network(dimensions=RECIPE["dimensions"], filters=RECIPE["filters"])
    finished.set_weights(network.get_weights())  # without the optimiser, whose state is twice as large
    path = WEIGHTS_FOLDER / "fashion_mnist.weights.h5"
    finished.save_weights(path)

    query, gallery = embed(finished, published.x_query), embed(finished, published.x_gallery)
    test, train = embed(finished, honest.x_query), embed(finished, honest.x_gallery)
    figures = {
        "published split R@1": recall_at_k(query, published.y_query, gallery, published.y_gallery, k=1)[1],
        "test → 55,000 training images R@1": recall_at_k(test, honest.y_query, train, honest.y_gallery, k=1)[
            1
        ],
        "test leave-one-out MAP@R": map_at_r(test, honest.y_query),
    }
    record = {
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "trained on": "Fashion-MNIST x_train[5000:55000]",
        "recipe": {"network": "helpers.networks.embedding_network", "loss": "BatchAllTripletLoss", **RECIPE},
        "figures": {name: round(value, 4) for name, value in figures.items()},
        "device": describe_device(),
        "seconds": round(seconds),
    }
    (WEIGHTS_FOLDER / "fashion_mnist.json").write_text(
        json.dumps(record, indent=2, ensure_ascii=False) + "\n"
    )
    shutil.rmtree(BACKUP, ignore_errors=True)
    print(json.dumps(record, indent=2, ensure_ascii=False))


if __name__ == "__main__":
    main()
