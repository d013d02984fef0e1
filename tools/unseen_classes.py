"""Lesson 10's experiment over several choices of the unseen classes: train on seven, ask for the other three.

    python tools/unseen_classes.py

For each partition one network is trained on the seven seen classes with each seed, one on five of them (the other two
are the class-disjoint validation classes), and, for comparison, one with each of two other losses; further networks are
trained on all ten classes. Their embeddings are kept in `build/unseen_classes/`: interrupted, the same command goes on
with the next network. At the end the figures are written to `helpers/results/unseen_classes.json`, which lesson 10
reads.
"""

import json
from itertools import combinations
from pathlib import Path

import keras
import numpy as np
from sklearn.decomposition import PCA
from sklearn.metrics import roc_auc_score

from helpers.data import load
from helpers.losses import BatchAllTripletLoss, CosineProxies, NormalisedSoftmaxLoss, SemiHardTripletLoss
from helpers.metrics import map_at_r, recall_at_k
from helpers.networks import embed, embedding_network
from helpers.retrieval import find_l2_distances, nearest
from helpers.sampling import BalancedBatches, flip_and_shift
from helpers.training import leave_input_untuned, one_cycle

# Unseen classes, then the two validation classes among the seven others. Drawn by lot: two shuffles of the ten
# classes, cut into threes.
PARTITIONS = (
    ((1, 2, 3), (7, 8)),
    ((4, 7, 9), (1, 8)),
    ((0, 5, 6), (2, 3)),
    ((5, 6, 8), (2, 3)),
    ((1, 3, 9), (6, 7)),
    ((2, 4, 7), (1, 6)),
)
SEEDS = (0, 1)
STEPS, IMAGES, PEAK, MARGIN, TEMPERATURE = 400, 112, 0.004, 0.2, 0.1  # the lesson's own training
OTHER_LOSSES = ("semi-hard", "normalised softmax")  # other than all triplets
WEIGHTS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
EMBEDDINGS = Path("build/unseen_classes")
RESULTS = Path("helpers/results/unseen_classes.json")


def train(data, classes, seed, loss="all triplets"):
    """A network that has seen these classes and no others."""
    keras.utils.set_random_seed(seed)
    images, labels = data.x_train[5000:-5000], data.y_train[5000:-5000]
    chosen = np.isin(labels, classes)
    batches = BalancedBatches(
        images[chosen],
        np.searchsorted(classes, labels[chosen]),  # 0, 1, 2, …
        classes_per_batch=len(classes),
        images_per_class=IMAGES // len(classes),
        batches=STEPS,
        augment=lambda images, rng: flip_and_shift(images, rng, pixels=0),
        seed=seed,
    )
    network = embedding_network()
    if loss == "normalised softmax":
        model = keras.Sequential([network, CosineProxies(len(classes))])
        objective = NormalisedSoftmaxLoss(TEMPERATURE)
    else:
        model = network
        objective = {"all triplets": BatchAllTripletLoss, "semi-hard": SemiHardTripletLoss}[loss](MARGIN)
    model.compile(keras.optimizers.Adam(one_cycle(PEAK, STEPS)), objective)
    model.fit(batches, verbose=0)
    return network


def name_of(lot, seed, loss="all triplets"):
    """File name of a network that saw the seven classes of a lot."""
    return f"seven-{lot}-{seed}" + ("" if loss == "all triplets" else f"-{loss}")


def runs():
    """(name, classes, seed, loss) of every network, the most telling first."""
    everything = set(range(10))
    for seed in SEEDS:
        for i, (unseen, valid) in enumerate(PARTITIONS):
            yield name_of(i, seed), sorted(everything - {*unseen}), seed, "all triplets"
            if seed == 0:
                yield f"five-{i}-{seed}", sorted(everything - {*unseen, *valid}), seed, "all triplets"
        yield f"ten-{seed}", sorted(everything), seed, "all triplets"
    for i, (unseen, _) in enumerate(PARTITIONS):
        for loss in OTHER_LOSSES:
            yield name_of(i, SEEDS[0], loss), sorted(everything - {*unseen}), SEEDS[0], loss


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
    partial = path.with_suffix(".partial")
    with partial.open("wb") as file:
        np.savez(file, **{part: embed(network, images) for part, images in parts_of(data).items()})
    partial.replace(path)  # a file with this name is a whole one


def parts_of(data):
    """The images that are measured: queries, the gallery, and those for validation, 5,000 each."""
    return {"query": data.x_test[:5000], "gallery": data.x_train[:5000], "valid": data.x_train[-5000:]}


def unit_rows(images):
    """Pixels (N, 784), each image scaled to length 1."""
    pixels = images.reshape(len(images), -1).astype(np.float32)
    return pixels / np.linalg.norm(pixels, axis=1, keepdims=True)


def principal(data, classes):
    """64 principal components of the pixels, from training images of these classes."""
    x, y = data.x_train[5000:-5000], data.y_train[5000:-5000]
    return PCA(64, random_state=0).fit(unit_rows(x[np.isin(y, classes)][:10_000]))


def glue(pixels, learnt, weight):
    """One vector whose squared distance is (1 − weight) · d²(pixels) + weight · d²(learnt)."""
    return np.hstack([np.sqrt(1 - weight) * pixels, np.sqrt(weight) * learnt]).astype(np.float32)


def validate(data, learnt, unseen, valid):
    """What the two validation classes say about the network that saw neither them nor the unseen ones.

    Half of the validation images, of the seven classes, search the other half.

    Args:
        learnt: the network's embeddings of the validation images, (5000, d).

    Returns:
        Dictionary: MAP@R of the network glued to principal components, for each of the WEIGHTS, and of raw pixels, each
        for queries of the "seen" five and of the "unseen" two classes; and the share of false matches at the threshold
        where the pairs of the five have 1 % of them, for pairs with an image of the two.
    """
    five = [c for c in range(10) if c not in unseen + valid]
    labels, first = data.y_train[-5000:], np.arange(5000) < 2500
    gallery = ~first & ~np.isin(labels, unseen)
    queries = {"seen": first & np.isin(labels, five), "unseen": first & np.isin(labels, valid)}
    rows = unit_rows(data.x_train[-5000:])
    flat = principal(data, five).transform(rows)

    def both_sides(vectors):
        return {
            side: round(map_at_r(vectors[q], labels[q], vectors[gallery], labels[gallery]), 4)
            for side, q in queries.items()
        }

    curve = [both_sides(glue(flat, learnt, weight)) for weight in WEIGHTS]
    asked = queries["seen"] | queries["unseen"]
    distances = find_l2_distances(learnt[asked], learnt[gallery])
    different = labels[asked][:, None] != labels[gallery][None]
    new = np.isin(labels[asked], valid)[:, None] | np.isin(labels[gallery], valid)[None]
    threshold = np.quantile(distances[different & ~new], 0.01)
    return {
        "glued": {side: [point[side] for point in curve] for side in queries},
        "raw pixels": both_sides(rows),
        "false matches": round(float((distances[different & new] <= threshold).mean()), 4),
    }


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

    old, labels = valid[~new_valid], y_valid[~new_valid]
    half = len(old) // 2
    different = labels[:half, None] != labels[None, half:]
    threshold = np.quantile(find_l2_distances(old[:half], old[half:])[different], 0.01)
    for name, q, g in (
        ("seen–seen", ~new_query, ~new_gallery),
        ("unseen–unseen", new_query, new_gallery),
        ("unseen–seen", new_query, ~new_gallery),
    ):
        distances = find_l2_distances(query[q], gallery[g])
        same = y_query[q][:, None] == y_gallery[g][None]
        figures[f"{name}: false matches"] = (distances[~same] <= threshold).mean()
        if same.any():
            figures[f"{name}: true matches"] = (distances[same] <= threshold).mean()

    distance, index = nearest(query, gallery[~new_gallery], k=1)
    figures["unknown queries: AUROC"] = roc_auc_score(new_query, distance[:, 0])
    wrong = y_gallery[~new_gallery][index[:, 0]] != y_query
    risk = wrong[np.argsort(distance[:, 0], kind="stable")].cumsum() / np.arange(1, 5001)
    figures["unknown queries: risk at coverage 0.5"] = risk[2499]
    apart = separations(find_l2_distances(query, gallery), y_query, y_gallery)
    for i, pair in enumerate(combinations(unseen, 2)):
        figures[f"apart, unseen pair {i}"] = apart[pair]
    seen = [c for c in range(10) if c not in unseen]
    figures["apart, seen pairs, median"] = np.median([apart[pair] for pair in combinations(seen, 2)])
    return {name: round(float(value), 4) for name, value in figures.items()}


def separations(distances, y_query, y_gallery):
    """For each pair of classes: the mean distance between images of the two, over the mean distance within the two.

    Args:
        distances: (n, m), of all queries to all gallery items.

    Returns:
        Array (10, 10), symmetric.
    """
    query, gallery = np.eye(10)[y_query], np.eye(10)[y_gallery]  # (n, 10) and (m, 10): 1 at the class
    mean = query.T @ distances @ gallery / np.outer(query.sum(axis=0), gallery.sum(axis=0))
    within = np.diag(mean)
    return (mean + mean.T) / (within[:, None] + within[None])


def measure_all(data):
    """What the validation classes say, a dictionary a lot, and the figures of every retriever on every lot."""
    pixels = {part: unit_rows(images) for part, images in parts_of(data).items()}
    stored = {name: dict(np.load(EMBEDDINGS / f"{name}.npz")) for name, *_ in runs()}
    untrained = {}
    for seed in SEEDS:
        keras.utils.set_random_seed(seed)
        network = embedding_network()
        untrained[seed] = {part: embed(network, images) for part, images in parts_of(data).items()}
    validation, records = [], []
    for i, (unseen, valid) in enumerate(PARTITIONS):
        validation.append(validate(data, stored[f"five-{i}-0"]["valid"], unseen, valid))
        weight = WEIGHTS[int(np.argmax(validation[-1]["glued"]["unseen"]))]
        components = principal(data, [c for c in range(10) if c not in unseen])
        flat = {part: components.transform(rows) for part, rows in pixels.items()}

        def record(retriever, seed, vectors, i=i, unseen=unseen, **more):
            about = {"partition": i, "retriever": retriever, "seed": seed} | more
            records.append(about | measure(data, vectors, unseen))
            print(about, flush=True)

        record("raw pixels", None, pixels)
        record("components", None, flat)
        for seed in SEEDS:
            learnt = stored[name_of(i, seed)]
            record("untrained", seed, untrained[seed])
            record("trained on seven", seed, learnt)
            record(
                "glued", seed, {part: glue(flat[part], learnt[part], weight) for part in flat}, weight=weight
            )
            record("trained on ten", seed, stored[f"ten-{seed}"])
        for loss in OTHER_LOSSES:
            record(f"trained on seven, {loss}", SEEDS[0], stored[name_of(i, SEEDS[0], loss)])
    return validation, records


def main():
    leave_input_untuned()  # no epoch is to wait for a tuning thread
    data = load("fashion_mnist")
    train_all(data)
    validation, records = measure_all(data)
    document = {
        "made by": "python tools/unseen_classes.py",
        "partitions": [{"unseen": unseen, "valid": valid} for unseen, valid in PARTITIONS],
        "seeds": SEEDS,
        "training": {
            "steps": STEPS,
            "images a step": IMAGES,
            "peak": PEAK,
            "margin": MARGIN,
            "temperature": TEMPERATURE,
        },
        "weights": WEIGHTS,
        "validation": validation,
        "records": records,
    }
    RESULTS.parent.mkdir(exist_ok=True)
    text = json.dumps(document, ensure_ascii=False)
    text = text.replace('{"partition"', '\n{"partition"').replace('{"glued"', '\n{"glued"')
    RESULTS.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
