"""Compute what pytorch-metric-learning says about fixed embeddings, and store it in `reference.json`.

    python -m venv oracle && oracle/bin/pip install torch pytorch-metric-learning==2.9.0
    oracle/bin/python tests/make_reference.py

Everything is computed in float64. The course itself needs neither PyTorch nor this script.
"""

import json
import math
from itertools import product
from pathlib import Path

import torch
from pytorch_metric_learning import distances, losses, miners, reducers
from pytorch_metric_learning.utils.accuracy_calculator import AccuracyCalculator
from pytorch_metric_learning.utils.inference import CustomKNN

LABELS = [0, 1, 2, 0, 1, 2, 0, 1, 2, 0, 3]  # class 3 has a single image
MARGINS = [0.2, 1.0, "soft"]
DISTANCES = {
    "l2": distances.LpDistance(normalize_embeddings=False),
    "l1": distances.LpDistance(normalize_embeddings=False, p=1),
    "max_l1": distances.LpDistance(normalize_embeddings=False, p=float("inf")),
    "cos": distances.CosineSimilarity(),
}


def random(*shape):
    return torch.round(torch.randn(*shape, dtype=torch.float64), decimals=3)


def triplet_loss(margin, distance, reducer):
    smooth = margin == "soft"
    return losses.TripletMarginLoss(
        0 if smooth else margin, smooth_loss=smooth, distance=distance, reducer=reducer
    )


def nearest_farther_negatives(embeddings, labels, distance):
    """Of all triplets whose negative is farther than the positive: for each anchor and positive, the nearest one.

    A pair without such a triplet gets the anchor's farthest negative.
    """
    all_farther = miners.TripletMarginMiner(float("inf"), "semihard", distance=distance)(embeddings, labels)
    hard_and_easy = miners.BatchEasyHardMiner("all", "easy", distance=distance)(embeddings, labels)
    matrix = distance(embeddings)
    chosen = {}
    for a, p, n in zip(*(indices.tolist() for indices in all_farther), strict=True):
        if (a, p) not in chosen or matrix[a, n] < matrix[a, chosen[a, p]]:
            chosen[a, p] = n
    anchors, positives, anchors_again, negatives = (indices.tolist() for indices in hard_and_easy)
    pairs = list(zip(anchors, positives, strict=True))
    farthest = {}
    for a, n in zip(anchors_again, negatives, strict=True):
        if a not in farthest or matrix[a, n] > matrix[a, farthest[a]]:
            farthest[a] = n
    triplets = [(a, p, chosen.get((a, p), farthest[a])) for a, p in pairs]
    return tuple(torch.tensor(indices) for indices in zip(*triplets, strict=True))


def loss_cases():
    embeddings, labels = random(len(LABELS), 4), torch.tensor(LABELS)
    triplets = random(6, 3, 4)
    cases = []
    for margin, squared in product(MARGINS, [False, True]):
        distance = distances.LpDistance(normalize_embeddings=False, power=2 if squared else 1)
        mean, mean_of_active = reducers.MeanReducer(), reducers.AvgNonZeroReducer()
        hard = miners.BatchHardMiner(distance=distance)(embeddings, labels)
        semi_hard = nearest_farther_negatives(embeddings, labels, distance)
        explicit = tuple(torch.arange(3 * len(triplets)).reshape(-1, 3).T)
        for name, points, reducer, mined in (
            ("TripletLoss", triplets, mean, explicit),
            ("BatchAllTripletLoss", embeddings, mean_of_active, None),
            ("SemiHardTripletLoss", embeddings, mean, semi_hard),
            ("BatchHardTripletLoss", embeddings, mean, hard),
        ):
            leaf = points.clone().requires_grad_()
            flat = leaf.reshape(-1, 4)
            value = triplet_loss(margin, distance, reducer)(
                flat, labels if points is embeddings else torch.arange(len(flat)), mined
            )
            value.backward()
            cases.append(
                {
                    "loss": name,
                    "margin": margin,
                    "squared": squared,
                    "value": value.item(),
                    "gradient": leaf.grad.tolist(),
                }
            )
    return {
        "embeddings": embeddings.tolist(),
        "labels": LABELS,
        "triplets": triplets.tolist(),
        "cases": cases,
    }


def metric_loss_cases():
    """Losses over pairs, and losses over proxies, at several settings: value and gradients.

    The settings have this course's names.
    """
    labels = torch.tensor(LABELS)
    embeddings, proxies = random(len(LABELS), 4), random(5, 4)  # class 4 is not in the batch
    embeddings[0] = (
        random(4) / 10 - proxies[LABELS[0]]
    )  # nearly opposite: its angle plus a margin passes 180°
    plain = distances.LpDistance(normalize_embeddings=False)
    size = {"num_classes": len(proxies), "embedding_size": 4}
    tried = []
    for positive, negative in ((0.0, 1.0), (0.0, 3.0), (2.0, 2.5)):
        loss = losses.ContrastiveLoss(positive, negative, distance=plain)
        tried.append(("ContrastiveLoss", {"positive_margin": positive, "negative_margin": negative}, loss))
    for (alpha, beta, base), epsilon in product([(2, 50, 0.5), (3, 8, 0.1)], [None, 0.1]):
        settings = {"alpha": alpha, "beta": beta, "base": base, "epsilon": epsilon}
        tried.append(("MultiSimilarityLoss", settings, losses.MultiSimilarityLoss(alpha, beta, base)))
    for temperature in (0.1, 0.5):
        tried.append(("SupConLoss", {"temperature": temperature}, losses.SupConLoss(temperature)))
    for temperature in (0.05, 0.5):
        loss = losses.NormalizedSoftmaxLoss(temperature=temperature, **size)
        tried.append(("NormalisedSoftmaxLoss", {"temperature": temperature}, loss))
    for scale, margin in ((64, 0.35), (4, 0.1)):
        loss = losses.CosFaceLoss(scale=scale, margin=margin, **size)
        tried.append(("CosFaceLoss", {"scale": scale, "margin": margin}, loss))
    for scale, margin in ((64, 0.5), (4, 0.2)):
        loss = losses.ArcFaceLoss(scale=scale, margin=math.degrees(margin), **size)
        tried.append(("ArcFaceLoss", {"scale": scale, "margin": margin}, loss))
    for scale, margin in ((32, 0.1), (4, 0.3)):
        loss = losses.ProxyAnchorLoss(alpha=scale, margin=margin, **size)
        tried.append(("ProxyAnchorLoss", {"scale": scale, "margin": margin}, loss))
    cases = []
    for name, settings, loss in tried:
        leaf = embeddings.clone().requires_grad_()
        case = {"loss": name, "settings": settings}
        if hasattr(loss, "proxies"):
            loss.proxies.data = proxies.clone()
        elif hasattr(loss, "W"):
            loss.W.data = proxies.T.clone()
        mined = None
        if settings.get("epsilon") is not None:
            mined = miners.MultiSimilarityMiner(settings["epsilon"])(embeddings, labels)
        value = loss(leaf, labels, mined)
        value.backward()
        case |= {"value": value.item(), "gradient": leaf.grad.tolist()}
        if hasattr(loss, "proxies"):
            case["proxies_gradient"] = loss.proxies.grad.tolist()
        elif hasattr(loss, "W"):
            case["proxies_gradient"] = loss.W.grad.T.tolist()
        cases.append(case)
    return {
        "embeddings": embeddings.tolist(),
        "labels": LABELS,
        "proxies": proxies.tolist(),
        "cases": cases,
    }


class WithRecall(AccuracyCalculator):
    def calculate_recall_at_1(self, **kwargs):
        return self.recall(1, **kwargs)

    def calculate_recall_at_5(self, **kwargs):
        return self.recall(5, **kwargs)

    def recall(self, k, knn_labels, query_labels, **_):
        return (knn_labels[:, :k] == query_labels[:, None]).any(dim=1).double().mean().item()

    def requires_knn(self):
        return [*super().requires_knn(), "recall_at_1", "recall_at_5"]


def metric_cases():
    query_labels = torch.randint(0, 5, (30,))
    query_labels[-1] = 9  # a class that the gallery does not hold
    gallery_labels = torch.randint(0, 6, (40,))
    query = random(30, 5) / 2 + torch.nn.functional.one_hot(query_labels % 5, 5)
    gallery = random(40, 5) / 2 + torch.nn.functional.one_hot(gallery_labels % 5, 5)
    results = {}
    for dist, distance in DISTANCES.items():
        names = ["recall_at_1", "recall_at_5"]
        if dist == "l2":
            names += ["r_precision", "mean_average_precision_at_r"]
        calculator = WithRecall(
            names, k="max_bin_count", knn_func=CustomKNN(distance), device=torch.device("cpu")
        )
        results[dist] = {
            "gallery": calculator.get_accuracy(query, query_labels, gallery, gallery_labels),
            "leave-one-out": calculator.get_accuracy(gallery, gallery_labels),
        }
    return {
        "query": query.tolist(),
        "query_labels": query_labels.tolist(),
        "gallery": gallery.tolist(),
        "gallery_labels": gallery_labels.tolist(),
        "results": results,
    }


if __name__ == "__main__":
    torch.manual_seed(0)
    reference = {
        "losses": loss_cases(),
        "metrics": metric_cases(),
        "metric_losses": metric_loss_cases(),  # last, so that the random numbers of the others stay what they were
    }
    path = Path(__file__).with_name("reference.json")
    path.write_text(json.dumps(reference) + "\n", encoding="utf-8")
    print(f"{path}: {path.stat().st_size:,} bytes")
