"""A map of 10,000 embeddings: scikit-learn's t-SNE, as lesson 7 calls it, against openTSNE.

    uv run --group benchmarks python tests/benchmarks/tsne.py

Same points, perplexity and number of steps. Lesson 7 keeps scikit-learn to one thread, so that the same map comes out
everywhere; here that contender stands beside scikit-learn and openTSNE with all cores. `purity` is the share of points
whose nearest neighbour on the map has their class: a faster map must not be a worse one.
"""

import os
import sys

import numpy as np
import race

POINTS = 10_000


def embedded(count):
    """Test images as the shipped embedding sees them, (count, d), and their labels. Kept in build/ for the others."""
    from helpers.data import load

    data = load("fashion_mnist")
    path = race.ROOT / f"build/tsne_points_{count}.npy"
    if not path.exists():
        from helpers.networks import embed, load_pretrained

        path.parent.mkdir(exist_ok=True)
        np.save(path, embed(load_pretrained(), data.x_test[:count]))
    return np.load(path), data.y_test[:count]


def mapped(fit):
    def prepare(points):
        vectors, labels = embedded(points)
        return lambda: {"purity": purity(fit(vectors), labels)}

    return prepare


def purity(points, labels):
    from helpers.retrieval import nearest

    neighbours = nearest(points, points, 2)[1]
    other = np.where(neighbours[:, 0] == np.arange(len(points)), neighbours[:, 1], neighbours[:, 0])
    return float((labels[other] == labels).mean())


def scikit_learn(threads):
    def fit(vectors):
        from sklearn.manifold import TSNE
        from threadpoolctl import threadpool_limits

        with threadpool_limits(limits=threads):
            return TSNE(perplexity=30, init="pca", learning_rate="auto", random_state=0).fit_transform(
                vectors
            )

    return mapped(fit)


def open_tsne(points):
    import openTSNE

    def fit(vectors):
        return np.asarray(
            openTSNE.TSNE(perplexity=30, initialization="pca", n_jobs=os.cpu_count(), random_state=0).fit(
                vectors
            )
        )

    return mapped(fit)(points)


CONTENDERS = {
    "scikit-learn, as in lesson 7": scikit_learn(1),
    "scikit-learn, all cores": scikit_learn(None),
    "openTSNE, all cores": open_tsne,
}


def main():
    parser = race.arguments(__doc__)
    parser.set_defaults(rounds=1)
    parser.add_argument("--points", type=int, default=POINTS)
    chosen = parser.parse_args()
    if chosen.contend:
        return race.contend(CONTENDERS[chosen.contend], chosen.settings)
    embedded(chosen.points)
    contenders = race.start(
        __file__, dict.fromkeys(CONTENDERS, sys.executable), {"points": chosen.points}, chosen.threads
    )
    print(race.machine(), flush=True)
    answers = race.take_turns(contenders, chosen.rounds)
    first = answers[next(iter(CONTENDERS))]
    race.print_table(
        [f"map of {chosen.points:,}", "s", "CPU s", "speed", "by CPU time", "purity"],
        [
            [
                name,
                f"{race.median(a):.1f}",
                f"{race.median(a, 'cpu_seconds'):.1f}",
                race.as_text(race.ratios(a, first)),
                race.as_text(race.ratios(a, first, "cpu_seconds")),
                f"{a[0]['purity']:.3f}",
            ]
            for name, a in answers.items()
        ],
    )
    for contender in contenders.values():
        contender.close()


if __name__ == "__main__":
    main()
