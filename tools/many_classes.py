"""Lesson 13's stored trainings: losses, numbers of classes, memories and hands on the emoji, with several seeds.

    python tools/many_classes.py                    (all; some two hours on two cores)
    python tools/many_classes.py losses classes     (some of the parts below)

Every training has the lesson's network, batches and budget (`train`), from weights and draws of its own seed. The
settings of a loss are chosen by the validation classes, with seed 0. After every training its figures are written to
`helpers/results/many_classes.json`, which lesson 13 reads: interrupted, the same command goes on with the next one;
delete the file to start again.
"""

import argparse
import json
import os
from itertools import product
from pathlib import Path

os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")  # before Keras imports TensorFlow

import keras
import numpy as np
from train_embedding import RearrangedBatches

from helpers import losses
from helpers.data import emoji_split, load, unseen_hand_split
from helpers.metrics import map_at_r, neighbour_labels, recall_at_k
from helpers.networks import embed, embedding_network
from helpers.sampling import BalancedBatches, number_classes, shift, vary_colours
from helpers.training import leave_input_untuned, one_cycle

RESULTS = Path(__file__).parent.parent / "helpers" / "results" / "many_classes.json"
STEPS, CLASSES_PER_BATCH, IMAGES_PER_CLASS, PEAK = 400, 30, 4, 0.004
SEEDS = (0, 1, 2)
# name: (class, the settings that do not change, the name and the two values of the one that is chosen)
LOSSES = {
    "contrastive": ("ContrastiveLoss", {}, "negative_margin", (0.5, 1.0)),
    "triplet, all": ("BatchAllTripletLoss", {}, "margin", (0.2, 0.4)),
    "triplet, semi-hard": ("SemiHardTripletLoss", {}, "margin", (0.2, 0.4)),
    "multi-similarity": ("MultiSimilarityLoss", {"epsilon": 0.1}, "base", (0.5, 0.7)),
    "SupCon": ("SupConLoss", {}, "temperature", (0.05, 0.1)),
    "normalised softmax": ("NormalisedSoftmaxLoss", {}, "temperature", (0.05, 0.1)),
    "CosFace": ("CosFaceLoss", {}, "scale", (16, 64)),
    "proxy-anchor": ("ProxyAnchorLoss", {}, "scale", (16, 32)),
}
PROXY_LOSSES = ("normalised softmax", "CosFace", "proxy-anchor")
NUMBERS_OF_CLASSES = (50, 100, 200, 400, 699)
# name: (classes in a batch, embeddings in the memory, steps before it counts)
MEMORIES = {
    "8 classes": (8, 0, 0),
    "8 classes, memory 512": (8, 512, 0),
    "8 classes, memory 4,096": (8, 4096, 0),
    "8 classes, memory 4,096 from step 100": (8, 4096, 100),
    "30 classes": (30, 0, 0),
    "30 classes, memory 4,096": (30, 4096, 0),
}


def train(
    images,
    labels,
    loss,
    seed,
    proxies=False,
    classes_per_batch=CLASSES_PER_BATCH,
    memory=0,
    start=0,
    colours=0.0,
):
    """An embedding network trained on these images (N, 32, 32, 3) and labels (N,), for `STEPS` steps.

    Args:
        loss: a loss of `helpers.losses`.
        proxies: whether it wants cosines with proxies.
        memory, start: as for `CrossBatchMemory`; without a memory there is none.
        colours: strength of `vary_colours`.
    """
    keras.utils.set_random_seed(seed)
    numbers, classes = number_classes(labels)

    def augment(pictures, rng):
        pictures = shift(pictures, rng, 3, fill=255)
        return vary_colours(pictures, rng, colours) if colours else pictures

    smallest = int(np.bincount(numbers).min())
    batches = BalancedBatches(
        images, numbers, classes_per_batch, min(IMAGES_PER_CLASS, smallest),
        batches=STEPS, augment=augment, seed=seed,
    )  # fmt: skip
    network = embedding_network((32, 32, 3))
    optimizer = keras.optimizers.Adam(one_cycle(PEAK, STEPS))
    if memory:
        label = keras.Input((), dtype="int32", name="label")
        remember = losses.CrossBatchMemory(loss, memory, start)
        model = keras.Model([network.input, label], remember([network.output, label]))
        model.compile(optimizer)
        batches = RearrangedBatches(batches, lambda images, labels: ((images, labels.astype("int32")),))
    else:
        model = keras.Sequential([network, losses.CosineProxies(len(classes))]) if proxies else network
        model.compile(optimizer, loss)
    model.fit(batches, verbose=0)
    return network


def loss_of(name, value):
    class_name, settings, tuned, _ = LOSSES[name]
    return getattr(losses, class_name)(**settings, **{tuned: value})


def scores(embeddings, labels, gallery=None, gallery_labels=None):
    """R@1 and MAP@R; without a gallery, leave-one-out."""
    where = (embeddings, labels, gallery, gallery_labels)
    return [round(float(recall_at_k(*where, k=1)[1]), 4), round(float(map_at_r(*where)), 4)]


def scores_by_class(embeddings, labels):
    """Leave-one-out, of each class in ascending order: the means of its pictures' hits and average precisions."""
    _, answers = neighbour_labels(embeddings, labels, None, None, k=int(np.bincount(labels).max()) - 1)
    hits = answers == labels[:, None]  # (N, largest R)
    relevant = np.bincount(labels)[labels][:, None] - 1  # (N, 1): R of each query
    ranks = np.arange(1, hits.shape[1] + 1)
    precision = (hits.cumsum(axis=1) / ranks * hits * (ranks <= relevant)).sum(axis=1) / relevant[:, 0]
    numbers, _ = number_classes(labels)
    size = np.bincount(numbers)
    return [np.round(np.bincount(numbers, values) / size, 3).tolist() for values in (hits[:, 0], precision)]


class Records:
    """What has been measured: a dictionary of a training's name and its figures, kept in a file."""

    def __init__(self, path):
        self.path = path
        self.measured = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}

    def once(self, name, function, *args, **settings):
        """The figures of this name, which the function measures if they are not there."""
        if name not in self.measured:
            self.measured[name] = function(*args, **settings)
            text = json.dumps(self.measured, ensure_ascii=False, indent=0) + "\n"
            unfinished = self.path.with_suffix(".part")
            unfinished.write_text(text, encoding="utf-8")
            unfinished.replace(self.path)  # a file with this name is a whole one
            short = {k: v for k, v in self.measured[name].items() if not k.endswith("by class")}
            print(name, short, flush=True)
        return self.measured[name]


def unseen_emoji(split, loss, seed, count=None, by_class=False, **settings):
    """Train, and search the validation and the test classes (protocol A).

    Args:
        count: train on so many of the classes only, drawn by lot with the seed.
        by_class: add the figures of each test class.
        settings: as for `train`.
    """
    classes = np.random.default_rng(seed).permutation(np.unique(split.y_train))[:count]
    chosen = np.isin(split.y_train, classes)
    images, labels = split.x_train[chosen], split.y_train[chosen]
    network = train(images, labels, loss, seed, **settings)
    test = embed(network, split.x_test)
    found = {
        "training": scores(embed(network, images), labels),
        "validation": scores(embed(network, split.x_valid), split.y_valid),
        "test": scores(test, split.y_test),
    }
    if by_class:
        found["R@1 by class"], found["MAP@R by class"] = scores_by_class(test, split.y_test)
    return found


def unseen_hand(split, loss, seed, **settings):
    """Train, and search the test classes by the pictures of a hand that training never saw (protocol B)."""
    network = train(split.x_train, split.y_train, loss, seed, **settings)
    query, gallery = embed(network, split.x_query), embed(network, split.x_gallery)
    return {"test": scores(query, split.y_query, gallery, split.y_gallery)}


def compare_losses(records, split):
    """Two settings of every loss with seed 0; the one that finds more validation classes again with the other seeds."""
    for name, (_, _, _, values) in LOSSES.items():

        def run(value, seed, name=name):
            arguments = f"{name} {value}, seed {seed}", unseen_emoji, split, loss_of(name, value), seed
            return records.once(*arguments, by_class=True, proxies=name in PROXY_LOSSES)

        best = max(values, key=lambda value: run(value, 0)["validation"][1])
        for seed in SEEDS[1:]:
            run(best, seed)


def compare_numbers_of_classes(records, split):
    """The same budget on 50, 100, … of the training classes."""
    for count, seed in product(NUMBERS_OF_CLASSES, SEEDS):
        loss = losses.SupConLoss(0.1)
        records.once(f"{count} classes, seed {seed}", unseen_emoji, split, loss, seed, count=count)


def compare_memories(records, split):
    for (name, (classes, memory, start)), seed in product(MEMORIES.items(), SEEDS):
        settings = {"classes_per_batch": classes, "memory": memory, "start": start}
        records.once(f"{name}, seed {seed}", unseen_emoji, split, losses.SupConLoss(0.1), seed, **settings)


def compare_hands(records, data):
    """Protocol B: one hand is kept out of training, and asks. With and without other colours."""
    for hand, colours, seed in product(data.hand_names, (0.0, 0.4), SEEDS[:1]):
        split, loss = unseen_hand_split(data, hand), losses.SupConLoss(0.1)
        records.once(
            f"{hand} unseen, colours {colours}, seed {seed}", unseen_hand, split, loss, seed, colours=colours
        )


def main():
    leave_input_untuned()
    parts = ("losses", "classes", "memories", "hands")
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="*", help=f"some of {', '.join(parts)}")
    chosen = parser.parse_args().parts or parts
    if unknown := set(chosen) - set(parts):
        parser.error(f"there is no part {', '.join(unknown)}: choose from {', '.join(parts)}")
    data, records = load("emoji", size=32), Records(RESULTS)
    split = emoji_split(data)
    if "losses" in chosen:
        compare_losses(records, split)
    if "classes" in chosen:
        compare_numbers_of_classes(records, split)
    if "memories" in chosen:
        compare_memories(records, split)
    if "hands" in chosen:
        compare_hands(records, data)


if __name__ == "__main__":
    main()
