"""Lesson 8's comparison: the losses of `helpers.losses` with one network and one budget, tuned, with several seeds.

    python tools/compare_losses.py

First the tuning: three settings of every loss, one training each, on eight classes. What the seen classes would
choose and what two classes that no network of the tuning saw (`TUNING_CLASSES`) would choose are both kept. Then the
runs that count: on all ten classes, and on seven for each of the `PARTITIONS`, whose three unseen classes hold none
of the two that chose the settings. After every training the figures are written to
`helpers/results/loss_comparison.json`, which lesson 8 reads: interrupted, the same command goes on with the next
training; delete the file to start again.

The images: trained on `x_train[5000:-5000]`, tuned on `x_train[-5000:]` (one half searches the other), measured with
the queries `x_test[:5000]` and the gallery `x_train[:5000]`.

To fit 130 trainings into half an hour of two cores the pictures have half their size, 14 × 14, and a model that is
needed again is not compiled again: its weights are drawn anew.
"""

import functools
import json
import time
from pathlib import Path

import keras
import numpy as np

from helpers import losses
from helpers.data import load
from helpers.metrics import map_at_r, recall_at_k
from helpers.networks import embed, embedding_network
from helpers.sampling import BalancedBatches, flip_and_shift
from helpers.training import leave_input_untuned, one_cycle

RESULTS = Path(__file__).parent.parent / "helpers" / "results" / "loss_comparison.json"
STEPS, IMAGES = 400, 120  # steps of a training; images a step
PEAKS = (0.002, 0.006)  # learning rate at the top of the one-cycle schedule
SEEDS = (0, 1, 2, 3, 4)
TUNING_CLASSES = (4, 9)  # coat, ankle boot
# The unseen classes of each seed, fixed before the first training
PARTITIONS = ((0, 5, 8), (2, 3, 7), (1, 5, 6), (0, 6, 7), (1, 2, 8))

# name: (class, the settings that do not change, the name and the two values of the one that is tuned)
LOSSES = {
    "contrastive": ("ContrastiveLoss", {}, "negative_margin", (0.5, 1.0)),
    "triplet, all": ("BatchAllTripletLoss", {}, "margin", (0.2, 0.4)),
    "triplet, semi-hard": ("SemiHardTripletLoss", {}, "margin", (0.2, 0.4)),
    "triplet, batch-hard": ("BatchHardTripletLoss", {}, "margin", (0.2, "soft")),
    "multi-similarity": ("MultiSimilarityLoss", {"epsilon": 0.1}, "base", (0.5, 0.7)),
    "SupCon": ("SupConLoss", {}, "temperature", (0.1, 0.2)),
    "normalised softmax": ("NormalisedSoftmaxLoss", {}, "temperature", (0.05, 0.1)),
    "CosFace": ("CosFaceLoss", {}, "scale", (16, 64)),
    "ArcFace": ("ArcFaceLoss", {}, "scale", (16, 64)),
    "proxy-anchor": ("ProxyAnchorLoss", {}, "scale", (16, 32)),
}


PROXY_LOSSES = ("normalised softmax", "CosFace", "ArcFace", "proxy-anchor")


def half_size(images):
    """uint8 images (N, 2h, 2w, 1) -> (N, h, w, 1): each pixel is the mean of four."""
    n, height, width, _ = images.shape
    blocks = images.reshape(n, height // 2, 2, width // 2, 2, 1)
    return blocks.mean(axis=(2, 4)).astype("uint8")


def small_fashion_mnist():
    """`load("fashion_mnist")` with images of half the size."""
    data = load("fashion_mnist")
    return data._replace(x_train=half_size(data.x_train), x_test=half_size(data.x_test))


@functools.cache
def compiled(loss_name, value, classes):
    """The embedding network, and the compiled model that trains it: the network, or the network and proxies."""
    class_name, settings, tuned, _ = LOSSES[loss_name]
    loss = getattr(losses, class_name)(**settings, **{tuned: value})
    network = embedding_network((14, 14, 1))
    model = keras.Sequential([network, losses.CosineProxies(classes)]) if classes else network
    model.compile(keras.optimizers.Adam(0.001), loss)
    model.optimizer.build(model.trainable_variables)
    return network, model


class Schedule(keras.callbacks.Callback):
    """Sets the learning rate before every step."""

    def __init__(self, rates):
        super().__init__()
        self.rates = rates

    def on_train_batch_begin(self, batch, logs=None):
        self.model.optimizer.learning_rate.assign(self.rates[batch])


def train(data, classes, loss_name, value, peak, steps, seed):
    """One training on these classes and no others, from weights drawn with this seed.

    Returns:
        The embedding network. The next call with the same loss trains the same object anew.
    """
    images, labels = data.x_train[5000:-5000], data.y_train[5000:-5000]
    chosen = np.isin(labels, classes)
    batches = BalancedBatches(
        images[chosen],
        np.searchsorted(classes, labels[chosen]),  # 0, 1, 2, …
        classes_per_batch=len(classes),
        images_per_class=IMAGES // len(classes),
        batches=steps,
        augment=lambda images, rng: flip_and_shift(images, rng, pixels=0),
        seed=seed,
    )
    network, model = compiled(loss_name, value, len(classes) if loss_name in PROXY_LOSSES else None)
    keras.utils.set_random_seed(seed)
    network.set_weights(embedding_network((14, 14, 1)).get_weights())
    if model is not network:
        proxies = model.layers[-1].proxies
        proxies.assign(keras.random.normal(proxies.shape, stddev=proxies.shape[1] ** -0.5))
    for variable in model.optimizer.variables:
        variable.assign(keras.ops.zeros(variable.shape, variable.dtype))
    rates = [float(one_cycle(peak, steps)(step)) for step in range(steps)]
    model.fit(batches, callbacks=[Schedule(rates)], verbose=0)
    return network


def score(query, y_query, gallery, y_gallery, asked):
    """R@1 and MAP@R of the queries whose class is among `asked`, in the whole gallery."""
    chosen = np.isin(y_query, asked)
    arguments = query[chosen], y_query[chosen], gallery, y_gallery
    return [round(float(recall_at_k(*arguments, k=1)[1]), 4), round(float(map_at_r(*arguments)), 4)]


def measure(data, network, unseen):
    """{"seen": [R@1, MAP@R], "unseen": …} on the images that count; the gallery holds all ten classes."""
    query, gallery = embed(network, data.x_test[:5000]), embed(network, data.x_train[:5000])
    return scores(query, data.y_test[:5000], gallery, data.y_train[:5000], unseen)


def validate(data, network, unseen):
    """The same on the validation images: 2,500 queries, and the other 2,500 as gallery."""
    embeddings, labels = embed(network, data.x_train[-5000:]), data.y_train[-5000:]
    return scores(embeddings[:2500], labels[:2500], embeddings[2500:], labels[2500:], unseen)


def scores(query, y_query, gallery, y_gallery, unseen):
    seen = [c for c in range(10) if c not in unseen]
    result = {"seen": score(query, y_query, gallery, y_gallery, seen)}
    if unseen:
        result["unseen"] = score(query, y_query, gallery, y_gallery, unseen)
    return result


def best(document, loss_name, protocol):
    """(value, peak) with the highest MAP@R on validation, for the protocol "seen" or "unseen"."""
    runs = [run for run in document["tuning"] if run["loss"] == loss_name]
    run = max(runs, key=lambda run: run[protocol][1])
    return run["value"], run["peak"]


def tuning_runs():
    """Three settings of each loss: both values at the low learning rate, the first one at the high rate."""
    for peak, i in ((PEAKS[0], 0), (PEAKS[0], 1), (PEAKS[1], 0)):
        for name, (_, _, _, values) in LOSSES.items():
            yield {"loss": name, "value": values[i], "peak": peak}


def final_runs():
    """The runs that count: partition None is all ten classes. One seed each, then the next one."""
    for i, seed in enumerate(SEEDS):
        for partition in (None, i):
            for name in LOSSES:
                yield {"loss": name, "partition": partition, "seed": seed}


def write(document):
    RESULTS.parent.mkdir(exist_ok=True)
    partial = RESULTS.with_suffix(".partial")
    text = json.dumps(document, ensure_ascii=False)
    partial.write_text(text.replace('{"loss"', '\n {"loss"') + "\n", encoding="utf-8")
    partial.replace(RESULTS)  # a file with this name is a whole one


def fingerprint():
    settings = (STEPS, IMAGES, PEAKS, TUNING_CLASSES, PARTITIONS)
    return json.loads(json.dumps([settings, {name: loss[3] for name, loss in LOSSES.items()}]))


def main():
    leave_input_untuned()  # no epoch is to wait for a tuning thread
    if RESULTS.is_file():
        document = json.loads(RESULTS.read_text(encoding="utf-8"))
        if document["settings"] != fingerprint():
            raise SystemExit(f"{RESULTS} was made with other settings: delete it to start again.")
    else:
        document = {"made by": "python tools/compare_losses.py", "settings": fingerprint()}
        document |= {"tuning": [], "runs": []}
    data = small_fashion_mnist()
    eight = [c for c in range(10) if c not in TUNING_CLASSES]

    def is_done(run, done):
        return any(run.items() <= other.items() for other in done)

    for run in tuning_runs():
        if not is_done(run, document["tuning"]):
            start = time.perf_counter()
            network = train(data, eight, run["loss"], run["value"], run["peak"], STEPS, seed=0)
            run |= validate(data, network, TUNING_CLASSES)
            print(run, round(time.perf_counter() - start, 1), flush=True)
            document["tuning"].append(run)
            write(document)
    for run in final_runs():
        if not is_done(run, document["runs"]):
            start = time.perf_counter()
            unseen = () if run["partition"] is None else PARTITIONS[run["partition"]]
            value, peak = best(document, run["loss"], "unseen" if unseen else "seen")
            classes = [c for c in range(10) if c not in unseen]
            network = train(data, classes, run["loss"], value, peak, STEPS, run["seed"])
            run |= {"value": value, "peak": peak} | measure(data, network, unseen)
            print(run, round(time.perf_counter() - start, 1), flush=True)
            document["runs"].append(run)
            write(document)


if __name__ == "__main__":
    main()
