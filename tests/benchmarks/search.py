"""The k nearest neighbours: `nearest` against FAISS IndexFlatL2, the bare matrix product, and other exact searches.

    uv run --group benchmarks python tests/benchmarks/search.py               the whole table
    uv run --group benchmarks python tests/benchmarks/search.py --threads 1   on one core
    uv run --group benchmarks python tests/benchmarks/search.py --avx2        as a processor without AVX-512 would

All contenders take turns, and prepare the gallery within the turn. The bare product, q·g for all pairs, a few queries
at a time, finds nothing: it is what even the best search by products has to wait for. scikit-learn's brute force and
USearch's exact search join in the first line alone. --queries, --gallery, --dimensions and -k measure another line, by
itself; --growing plots the cost as the gallery grows to a million, into build/search_growing.png.
"""

import os
import sys

import numpy as np
import race

# Queries, gallery, dimensions, k
LINES = [
    (10_000, 60_000, 64, 18),
    (10_000, 10_000, 64, 1),
    (10_000, 10_000, 64, 10),
    (10_000, 10_000, 64, 100),
    (1_000, 10_000, 64, 1_000),
    (1_000, 60_000, 16, 10),
    (1_000, 60_000, 64, 10),
    (1_000, 60_000, 64, 100),
    (1_000, 60_000, 64, 1_000),
    (1_000, 60_000, 512, 10),
    (1, 10_000, 64, 10),
    (1, 1_000_000, 64, 10),
    (10, 60_000, 64, 10),
    (100, 60_000, 64, 10),
    (1_000, 1_000_000, 64, 10),
]
GROWING = (10_000, 30_000, 100_000, 300_000, 1_000_000)
OURS, FAISS, PRODUCT = "nearest", "IndexFlatL2", "bare product"
# What makes each library do without AVX-512
AVX2 = {"OPENBLAS_CORETYPE": "Haswell", "FAISS_OPT_LEVEL": "avx2", "NPY_DISABLE_CPU_FEATURES": "X86_V4"}


def points(count, dimensions, seed):
    """Unit vectors (count, dimensions) around 1,000 directions, as embeddings lie around their classes."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(0).standard_normal((1000, dimensions), dtype=np.float32)
    vectors = centres[rng.integers(1000, size=count)]
    vectors += 0.5 * rng.standard_normal((count, dimensions), dtype=np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def helpers_nearest():
    from helpers.retrieval import nearest

    return searcher(lambda query, gallery, k: nearest(query, gallery, k)[1])


def faiss_flat():
    import faiss

    def search(query, gallery, k):
        index = faiss.IndexFlatL2(gallery.shape[1])
        index.add(gallery)
        return index.search(query, k)[1]

    return searcher(search)


def bare_product():
    def multiply(query, gallery, k):
        rows = max(1, min(256, 16_000_000 // len(gallery)))
        products = np.empty((rows, len(gallery)), np.float32)
        for start in range(0, len(query), rows):
            block = query[start : start + rows]
            np.matmul(block, gallery.T, out=products[: len(block)])

    return searcher(multiply)


def scikit_learn():
    from sklearn.neighbors import NearestNeighbors

    def search(query, gallery, k):
        return NearestNeighbors(algorithm="brute").fit(gallery).kneighbors(query, k, return_distance=False)

    return searcher(search)


def usearch_exact():
    from usearch.index import MetricKind, search

    return searcher(
        lambda query, gallery, k: (
            search(gallery, query, k, MetricKind.L2sq, exact=True)
            .keys.reshape(len(query), k)
            .astype(np.int64)
        )
    )


def searcher(search):
    """A turn that searches; it draws its vectors when their number changes, and keeps them."""
    drawn = {}

    def turn(queries, gallery, dimensions, k, draw_only=False):
        if drawn.get("sizes") != (queries, gallery, dimensions):
            drawn.update(
                sizes=(queries, gallery, dimensions),
                query=points(queries, dimensions, 1),
                gallery=points(gallery, dimensions, 2),
            )
        if draw_only:
            return {}
        found = search(drawn["query"], drawn["gallery"], k)
        return {} if found is None else {"sum_of_first": int(found[:, 0].sum())}

    return turn


CONTENDERS = {OURS: helpers_nearest, FAISS: faiss_flat, PRODUCT: bare_product}
PEERS = {"scikit-learn": scikit_learn, "USearch": usearch_exact}


def main():
    parser = race.arguments(__doc__)
    parser.set_defaults(rounds=3)
    parser.add_argument("--growing", action="store_true")
    parser.add_argument("--avx2", action="store_true", help="without AVX-512")
    parser.add_argument("--queries", type=int)
    parser.add_argument("--gallery", type=int)
    parser.add_argument("--dimensions", type=int)
    parser.add_argument("-k", type=int)
    chosen = parser.parse_args()
    if chosen.contend:
        return race.contend((CONTENDERS | PEERS)[chosen.contend], chosen.settings)
    if chosen.avx2:
        os.environ.update(AVX2)
    own = (chosen.queries, chosen.gallery, chosen.dimensions, chosen.k)
    lines = LINES
    if any(own):
        lines = [tuple(mine or usual for mine, usual in zip(own, (10_000, 60_000, 64, 10), strict=True))]
    if chosen.growing:
        lines = [(1_000, gallery, 64, 10) for gallery in GROWING]
    contenders = race.start(
        __file__, dict.fromkeys(CONTENDERS | PEERS, sys.executable), threads=chosen.threads
    )
    print(race.machine())
    rows = []
    for i, line in enumerate(lines):
        names = [n for n in contenders if n in CONTENDERS or (i == 0 and not chosen.growing)]
        rows.append(row({n: contenders[n] for n in names}, chosen.rounds, line))
    race.print_table(
        ["queries × gallery", "nearest s", f"of {FAISS}", "of its CPU", "of the product", "MB"],
        [r["cells"] for r in rows],
    )
    print("ratios: time of nearest over that of the other, so 0.5 means that nearest takes half as long")
    for name in contenders:
        if name in rows[0] and name in PEERS:
            print(f"first line, of {name}: {race.as_text(race.ratios(rows[0][name], rows[0][OURS]))}")
    if chosen.growing:
        plot(rows)
    for contender in contenders.values():
        contender.close()


def row(contenders, rounds, line):
    request = dict(zip(("queries", "gallery", "dimensions", "k"), line, strict=True))
    race.take_turns(contenders, 1, **request, draw_only=True)
    answers = race.take_turns(contenders, rounds, **request)
    sums = {name: each[0].get("sum_of_first") for name, each in answers.items() if name != PRODUCT}
    if len(set(sums.values())) > 1:
        print(f"(they differ in some nearest neighbour, a tie or rounding: {sums})")
    queries, gallery, dimensions, k = line
    ours = answers[OURS]
    cells = [
        f"{queries:,} × {gallery:,} × {dimensions}, k = {k:,}",
        f"{race.median(ours):.3f}",
        race.as_text(race.ratios(answers[FAISS], ours)),
        race.as_text(race.ratios(answers[FAISS], ours, "cpu_seconds")),
        race.as_text(race.ratios(answers[PRODUCT], ours)),
        "–" if ours[0]["extra_mb"] is None else f"{max(x['extra_mb'] for x in ours):.0f}",
    ]
    return {"cells": cells, "gallery": gallery, **answers}


def plot(rows):
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axis = plt.subplots(figsize=(6, 3.4))
    for name, style in ((OURS, "o-"), (FAISS, "s--"), (PRODUCT, "^:")):
        axis.loglog([r["gallery"] for r in rows], [race.median(r[name]) for r in rows], style, label=name)
    axis.set(
        xlabel="vectors in the gallery",
        ylabel="seconds for 1,000 queries",
        title="Ten times the gallery, ten times the time",
    )
    axis.legend(frameon=False)
    path = race.ROOT / "build/search_growing.png"
    path.parent.mkdir(exist_ok=True)
    figure.savefig(path, dpi=120, bbox_inches="tight")
    print("wrote", path.relative_to(race.ROOT))


if __name__ == "__main__":
    main()
