"""Lesson 10's experiment over several choices of the unseen classes: train on seven, ask for the other three.

    python tools/unseen_classes.py

For each partition one network is trained on the seven seen classes with each seed, one on five of them (the other two
are the class-disjoint validation classes), and, for comparison, one with each of two other losses; further networks are
trained on all ten classes. Their embeddings are kept in `build/unseen_classes/`: interrupted, the same command goes on
with the next network. At the end the figures are written to `helpers/results/unseen_classes.json`, which lesson 10
reads.
"""

import json
from pathlib import Path

import keras
import numpy as np
from sklearn.decomposition import PCA
from sklearn.metrics import roc_auc_score

from helpers.data import load
from helpers.losses import BatchAllTripletLoss, SemiHardTripletLoss
from helpers.metrics import map_at_r, recall_at_k
from helpers.networks import embed, embedding_network
from helpers.retrieval import nearest
from helpers.sampling import BalancedBatches, flip_and_shift
from helpers.training import one_cycle

# Unseen classes, then the two validation classes among the seven others. Drawn by lot: two shuffles of the ten
# classes, cut into threes.
PARTITIONS = (
    ((1, 2, 3), (7, 8)),
    ((4, 7, 9), (1, 8)),
    ((0, 5, 6), (2, 3)),
    ((5, 6, 8), (2, 3)),
    ((1, 3, 9), (6, 7)),
)
SEEDS = (0, 1)
STEPS, IMAGES, PEAK, MARGIN, TEMPERATURE = 400, 112, 0.004, 0.2, 0.1  # the lesson's own training
OTHER_LOSSES = ("semi-hard", "normalised softmax")
WEIGHTS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
EMBEDDINGS = Path("build/unseen_classes")
RESULTS = Path("helpers/results/unseen_classes.json")


def train(data, classes, seed, loss="all triplets"):
    """A network that has seen these classes and no others."""
    keras.utils.set_random_seed(seed)
    images, labels = data.x_train[5000:-5000], data.y_train[5000:-5000]
    chosen = np.isin(labels, classes)
    network = embedding_network()
    batches = BalancedBatches(
        images[chosen],
        np.searchsorted(classes, labels[chosen]),  # 0, 1, 2, …
        classes_per_batch=len(classes),
        images_per_class=IMAGES // len(classes),
        batches=STEPS,
        augment=lambda images, rng: flip_and_shift(images, rng, pixels=0),
        seed=seed,
    )
    trained, objective = (
        network,
        {"all triplets": BatchAllTripletLoss, "semi-hard": SemiHardTripletLoss}.get(loss),
    )
    if (
        objective is None
    ):  # normalised softmax: the cosine to one learnt point for each class, over the temperature
        points = keras.layers.Dense(
            len(classes), use_bias=False, kernel_constraint=keras.constraints.UnitNorm(axis=0), name="points"
        )
        cosines = points(network.output)
        trained = keras.Model(network.input, keras.layers.Rescaling(1 / TEMPERATURE)(cosines))
        objective = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    else:
        objective = objective(MARGIN)
    trained.compile(keras.optimizers.Adam(one_cycle(PEAK, STEPS)), objective)
    trained.fit(batches, verbose=0)
    return network


def runs():
    """(name, classes, seed, loss) of every network, the most telling first."""
    everything = set(range(10))
    for seed in SEEDS:
        for i, (unseen, valid) in enumerate(PARTITIONS):
            yield f"seven-{i}-{seed}", sorted(everything - {*unseen}), seed, "all triplets"
            if seed == 0:
                yield f"five-{i}-{seed}", sorted(everything - {*unseen, *valid}), seed, "all triplets"
        yield f"ten-{seed}", sorted(everything), seed, "all triplets"
    for i, (unseen, _) in enumerate(PARTITIONS):
        for loss in OTHER_LOSSES:
            yield f"seven-{i}-0-{loss}", sorted(everything - {*unseen}), 0, loss


def train_all(data):
    EMBEDDINGS.mkdir(parents=True, exist_ok=True)
    for name, classes, seed, loss in runs():
        path = EMBEDDINGS / f"{name}.npz"
        if not path.is_file():
            print("training", name, flush=True)
            network = train(data, classes, seed, loss)
            store(path, data, network)
            keras.backend.clear_session()


def store(path, data, network):
    parts = {"query": data.x_test[:5000], "gallery": data.x_train[:5000], "valid": data.x_train[-5000:]}
    partial = path.with_suffix(".partial")
    with partial.open("wb") as file:
        np.savez(file, **{part: embed(network, images) for part, images in parts.items()})
    partial.replace(path)  # a file with this name is a whole one


def unit_rows(images):
    """Pixels (N, 784), each image scaled to length 1."""
    pixels = images.reshape(len(images), -1).astype(np.float32)
    return pixels / np.linalg.norm(pixels, axis=1, keepdims=True)


def glue(pixels, learnt, weight):
    """One vector whose squared distance is (1 − weight) · d²(pixels) + weight · d²(learnt)."""
    return np.hstack([np.sqrt(1 - weight) * pixels, np.sqrt(weight) * learnt]).astype(np.float32)


def principal(data, classes):
    """64 principal components of the pixels, from training images of these classes."""
    x, y = data.x_train[5000:-5000], data.y_train[5000:-5000]
    return PCA(64, random_state=0).fit(unit_rows(x[np.isin(y, classes)][:10_000]))


def best_weight(data, embeddings, unseen, valid):
    """The weight with the highest MAP@R of the validation classes, and the one that the seen classes would choose."""
    five = [c for c in range(10) if c not in unseen + valid]
    labels = data.y_train[-5000:]
    known, ours = ~np.isin(labels, unseen), np.isin(labels, valid)
    first = np.arange(5000) < 2500  # half of the validation images search the other half
    pixels = principal(data, five).transform(unit_rows(data.x_train[-5000:]))
    curves = []
    for queries in (known & first & ours, known & first & ~ours):
        gallery = known & ~first
        curve = []
        for weight in WEIGHTS:
            both = glue(pixels, embeddings["valid"], weight)
            curve.append(map_at_r(both[queries], labels[queries], both[gallery], labels[gallery]))
        curves.append(curve)
    return [WEIGHTS[int(np.argmax(curve))] for curve in curves]


def measure(data, vectors, unseen):
    """All figures of one retriever for one choice of the unseen classes.

    Args:
        vectors: {"query", "gallery", "valid"}: arrays (5000, d).
        unseen: the three classes.

    Returns:
        A dictionary of figures, see the lesson for what they mean.
    """
    query, gallery, valid = vectors["query"], vectors["gallery"], vectors["valid"]
    y_query, y_gallery, y_valid = data.y_test[:5000], data.y_train[:5000], data.y_train[-5000:]
    new_query, new_gallery, new_valid = (np.isin(y, unseen) for y in (y_query, y_gallery, y_valid))
    everything = np.full(5000, True)
    figures = {}
    for name, q, g in (
        ("unseen, gallery of three", new_query, new_gallery),
        ("unseen, gallery of ten", new_query, everything),
        ("seen, gallery of ten", ~new_query, everything),
    ):
        arguments = query[q], y_query[q], gallery[g], y_gallery[g]
        figures[f"{name}: R@1"] = recall_at_k(*arguments, k=1)[1]
        figures[f"{name}: MAP@R"] = map_at_r(*arguments)

    def pairs(a, y_a, b, y_b):
        distances = np.sqrt(np.maximum((a**2).sum(1)[:, None] + (b**2).sum(1)[None] - 2 * a @ b.T, 0))
        same = y_a[:, None] == y_b[None]
        return distances[same], distances[~same]

    old = valid[~new_valid]
    half = len(old) // 2
    labels = y_valid[~new_valid]
    threshold = np.quantile(pairs(old[:half], labels[:half], old[half:], labels[half:])[1], 0.01)
    for name, q, g in (
        ("seen–seen", ~new_query, ~new_gallery),
        ("unseen–unseen", new_query, new_gallery),
        ("unseen–seen", new_query, ~new_gallery),
    ):
        same, different = pairs(query[q], y_query[q], gallery[g], y_gallery[g])
        figures[f"{name}: false matches"] = float((different <= threshold).mean())
        if len(same):
            figures[f"{name}: true matches"] = float((same <= threshold).mean())
    distance, index = nearest(query, gallery[~new_gallery], k=1)
    figures["unknown queries: AUROC"] = float(roc_auc_score(new_query, distance[:, 0]))
    wrong = y_gallery[~new_gallery][index[:, 0]] != y_query
    risk = wrong[np.argsort(distance[:, 0], kind="stable")].cumsum() / np.arange(1, 5001)
    figures["unknown queries: risk at coverage 0.5"] = float(risk[2499])
    return {name: round(float(value), 4) for name, value in figures.items()}


def measure_all(data):
    parts = {"query": data.x_test[:5000], "gallery": data.x_train[:5000], "valid": data.x_train[-5000:]}
    pixels = {part: unit_rows(images) for part, images in parts.items()}
    stored = {path.stem: dict(np.load(path)) for path in sorted(EMBEDDINGS.glob("*.npz"))}
    untrained = {}
    for seed in SEEDS:
        keras.utils.set_random_seed(seed)
        network = embedding_network()
        untrained[seed] = {part: embed(network, images) for part, images in parts.items()}
    records = []
    for i, (unseen, valid) in enumerate(PARTITIONS):
        weight, tempting = best_weight(data, stored[f"five-{i}-0"], unseen, valid)
        components = principal(data, [c for c in range(10) if c not in unseen])
        flat = {part: components.transform(rows) for part, rows in pixels.items()}

        def record(retriever, seed, vectors, i=i, unseen=unseen):
            records.append(
                {"partition": i, "retriever": retriever, "seed": seed} | measure(data, vectors, unseen)
            )
            print(records[-1], flush=True)

        record("raw pixels", None, pixels)
        for seed in SEEDS:
            learnt = stored[f"seven-{i}-{seed}"]
            record("untrained", seed, untrained[seed])
            record("trained on seven", seed, learnt)
            for name, w in (("glued", weight), ("glued, weight chosen on seen classes", tempting)):
                glued = {part: glue(flat[part], learnt[part], w) for part in parts}
                record(name, seed, glued)
                records[-1]["weight"] = w
            record("trained on ten", seed, stored[f"ten-{seed}"])
        for loss in OTHER_LOSSES:
            record(f"trained on seven, {loss}", 0, stored[f"seven-{i}-0-{loss}"])
    return records


def main():
    data = load("fashion_mnist")
    train_all(data)
    document = {
        "made by": "python tools/unseen_classes.py",
        "partitions": [{"unseen": unseen, "valid": valid} for unseen, valid in PARTITIONS],
        "seeds": SEEDS,
        "training": {"steps": STEPS, "images a step": IMAGES, "peak": PEAK, "margin": MARGIN},
        "records": measure_all(data),
    }
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
