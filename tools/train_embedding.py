"""Train the embedding that ships with the course.

    python tools/train_embedding.py

Interrupted, the same command goes on after the last finished epoch. At the end it writes the network to
`helpers/weights/fashion_mnist.weights.h5`, and its recipe and figures to the `.json` beside it. With `--seed 1`, or any
seed but 0, it trains the same recipe from other random weights, and only its figures are kept, in the same `.json`.
"""

import argparse
import functools
import hashlib
import json
import os
import shutil
from pathlib import Path

# Before Keras imports TensorFlow, which leaves it off on some processors that gain by it
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")

import keras
import numpy as np
from keras import ops

from helpers.data import honest_split, load, published_split
from helpers.losses import BatchAllTripletLoss, CosineProxies, NormalisedSoftmaxLoss
from helpers.metrics import map_at_r, recall_at_k
from helpers.networks import WEIGHTS_FOLDER, embed, embedding_network
from helpers.sampling import BalancedBatches, erase, flip_and_shift
from helpers.training import Backup, RecallCallback, describe_device, leave_input_untuned, one_cycle

RECIPE = {
    "network": {"dimensions": 64, "filters": [32, 64, 128]},
    "classes_per_batch": 10,
    "images_per_class": 12,
    "flip": True,
    "shift": 2,  # pixels; only with flips
    "erase": True,
    "loss_weights": [1.0, 1.0],  # of triplets and softmax
    "optimiser": "Muon",
    "peak_learning_rate": 0.012,
    "weight_decay": 0.05,
    "cycles": [
        {"epochs": 17, "triplet_margin": 0.2, "softmax_temperature": 0.1},
        {"epochs": 40, "triplet_margin": 0.8, "softmax_temperature": 0.3},
    ],
}


class ConvolutionMuon(keras.optimizers.Muon):
    """Muon for convolutions too: a kernel (3, 3, c, f) is orthogonalised as the matrix (9 c, f).

    Keras leaves everything but matrices to AdamW. Here that is for vectors, and for the proxies, one row a class.

    Source: Jordan et al., Muon: An optimizer for hidden layers in neural networks, 2024
    (https://kellerjordan.github.io/posts/muon/).
    """

    def _should_use_adamw(self, variable):
        return len(variable.shape) < 2 or variable.name == "proxies"

    def zeropower_via_newtonschulz5(self, x, steps):
        matrix = ops.reshape(x, (-1, x.shape[-1]))
        return ops.reshape(super().zeropower_via_newtonschulz5(matrix, steps), x.shape)

    def lr_adjust(self, x):
        rows, columns = np.prod(x.shape[:-1]), x.shape[-1]
        return x * float(max(rows, columns) ** 0.5 * self.rms_rate)


class RearrangedBatches(keras.utils.PyDataset):
    """The same batches in the form that a model wants: what `arrange(images, labels)` makes of each."""

    def __init__(self, batches, arrange):
        super().__init__()
        self.batches, self.arrange = batches, arrange

    def __len__(self):
        return len(self.batches)

    def __getitem__(self, index):
        return self.arrange(*self.batches[index])


OPTIMISERS = {
    "Adam": keras.optimizers.AdamW,
    "Muon": functools.partial(ConvolutionMuon, adam_weight_decay=0.0),
}


def train(recipe, seed, data, folder, callbacks=()):
    """Train an embedding network, one cycle of the learning rate after another.

    Every cycle begins with the network that the one before has left, but with a new optimiser and new proxies: warm
    restarts (Loshchilov & Hutter, 2016, arXiv 1608.03983).

    Args:
        recipe: a dictionary like `RECIPE`.
        seed: of the weights and of the draws.
        data: an `HonestSplit`.
        folder: for what an interrupted training needs to go on.
        callbacks: further Keras callbacks.

    Returns:
        The network.
    """
    keras.utils.set_random_seed(seed)
    network = embedding_network(**recipe["network"])
    for number, cycle in enumerate(recipe["cycles"]):
        weights, backup = folder / f"cycle_{number}.weights.h5", folder / f"cycle_{number}"
        if weights.is_file():
            network.load_weights(weights)
            continue
        train_cycle(network, recipe, cycle, seed + 10 * number, data, backup, callbacks)
        unfinished = folder / "unfinished.weights.h5"
        network.save_weights(unfinished)
        unfinished.replace(weights)  # a file with this name is a whole one
        shutil.rmtree(backup)
    return network


def train_cycle(network, recipe, cycle, seed, data, backup, callbacks):
    """Train the network for one cycle; interrupted, it goes on after the last epoch in the folder `backup`."""
    keras.utils.set_random_seed(seed)

    def augment(images, rng):
        if recipe["flip"]:
            images = flip_and_shift(images, rng, recipe["shift"])
        return erase(images, rng) if recipe["erase"] else images

    batches = BalancedBatches(
        data.x_train,
        data.y_train,
        recipe["classes_per_batch"],
        recipe["images_per_class"],
        augment=augment,
        seed=seed,
    )
    cosines = CosineProxies(len(np.unique(data.y_train)))(network.output)
    with_proxies = keras.Model(network.input, [network.output, cosines])
    schedule = one_cycle(recipe["peak_learning_rate"], cycle["epochs"] * len(batches))
    with_proxies.compile(
        OPTIMISERS[recipe["optimiser"]](schedule, weight_decay=recipe["weight_decay"]),
        [
            BatchAllTripletLoss(cycle["triplet_margin"]),
            NormalisedSoftmaxLoss(cycle["softmax_temperature"]),
        ],
        loss_weights=recipe["loss_weights"],
    )
    watch = RecallCallback(data.x_valid, data.y_valid, embedding=network)
    with_proxies.fit(
        RearrangedBatches(batches, lambda images, labels: (images, (labels, labels))),  # once for each loss
        epochs=cycle["epochs"],
        verbose=2,
        callbacks=[watch, *callbacks, Backup(backup, batches, delete=False)],
    )


def measure(network, data, mirror=False):
    """The three figures of the course's scoreboard, `mirror` as for `embed`."""
    honest, published = honest_split(data), published_split(data)
    query, gallery, test, train = (
        embed(network, images, mirror=mirror)
        for images in (published.x_query, published.x_gallery, honest.x_query, honest.x_gallery)
    )
    published_recall = recall_at_k(query, published.y_query, gallery, published.y_gallery, k=1)[1]
    test_recall = recall_at_k(test, honest.y_query, train, honest.y_gallery, k=1)[1]
    figures = {
        "published split R@1": published_recall,
        "test → 55,000 training images R@1": test_recall,
        "test leave-one-out MAP@R": map_at_r(test, honest.y_query),
    }
    return {name: round(float(value), 4) for name, value in figures.items()}


def main():
    leave_input_untuned()  # no epoch is to wait for a tuning thread
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--seed", type=int, default=0, help="0 writes the shipped network, others only their figures"
    )
    seed = parser.parse_args().seed
    if seed != 0 and stored_record().get("recipe") != RECIPE:
        raise SystemExit("The shipped network was trained with another recipe: train seed 0 first.")
    data, folder = load("fashion_mnist"), Path(f"build/train_embedding_{seed}")
    network = train(RECIPE, seed, honest_split(data), folder)
    after_each_cycle = []
    for number in range(len(RECIPE["cycles"])):
        network.load_weights(folder / f"cycle_{number}.weights.h5")
        after_each_cycle.append(measure(network, data))
    figures = {
        "after each cycle": after_each_cycle,
        "with the mirror image": measure(network, data, mirror=True),
    }
    print(f"seed {seed}:", json.dumps(figures, indent=2, ensure_ascii=False))
    write(seed, network, figures)
    shutil.rmtree(folder)


def stored_record():
    path = WEIGHTS_FOLDER / "fashion_mnist.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def write(seed, network, figures):
    """Write the figures into the record and, for seed 0, the weights beside it and where they come from.

    The optimiser's state belongs to the model with the proxies: it is not among the weights.
    """
    record = stored_record()
    if seed == 0:
        path = WEIGHTS_FOLDER / "fashion_mnist.weights.h5"
        network.save_weights(path)
        of_the_others = record["figures of each seed"] if record.get("recipe") == RECIPE else {}
        record = {
            "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
            "trained on": "Fashion-MNIST x_train[5000:55000]",
            "seed": 0,
            "recipe": RECIPE,
            "device": describe_device(),
            "figures of each seed": of_the_others,
        }
    record["figures of each seed"][str(seed)] = figures
    text = json.dumps(record, indent=2, ensure_ascii=False) + "\n"
    (WEIGHTS_FOLDER / "fashion_mnist.json").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
