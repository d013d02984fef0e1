"""10,000 queries against 60,000 vectors of 64 numbers, the ten nearest: `nearest` against FAISS IndexFlatL2 itself.

    uv run --group benchmarks python tests/benchmarks/search.py

`nearest` asks FAISS for a few more candidates than are wanted and computes their distances again, without rounding
error. The ratio says what that costs; both build their index within the turn. --growing plots the cost of both as the
gallery grows to a million, 1,000 queries at a time, into build/search_growing.png.
"""

import sys

import numpy as np
import race

SIZES = {"queries": 10_000, "gallery": 60_000}
GROWING = (10_000, 30_000, 100_000, 300_000, 1_000_000)


def points(count, seed):
    """Unit vectors (count, 64) around 1,000 directions, as embeddings lie around their classes."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(0).standard_normal((1000, 64), dtype=np.float32)
    vectors = centres[rng.integers(1000, size=count)]
    vectors += 0.5 * rng.standard_normal((count, 64), dtype=np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def helpers_nearest():
    from helpers.retrieval import nearest

    return searcher(lambda query, gallery: nearest(query, gallery, 10))


def faiss_flat():
    import faiss

    def search(query, gallery):
        index = faiss.IndexFlatL2(gallery.shape[1])
        index.add(gallery)
        return index.search(query, 10)

    return searcher(search)


def searcher(search):
    """A turn that searches; it draws its vectors when their number changes, and keeps them."""
    drawn = {}

    def turn(queries, gallery, draw_only=False):
        if drawn.get("sizes") != (queries, gallery):
            drawn.update(sizes=(queries, gallery), query=points(queries, 1), gallery=points(gallery, 2))
        if not draw_only:
            return {"sum_of_first": int(search(drawn["query"], drawn["gallery"])[1][:, 0].sum())}

    return turn


CONTENDERS = {"nearest": helpers_nearest, "IndexFlatL2": faiss_flat}


def main():
    parser = race.arguments(__doc__)
    parser.add_argument("--growing", action="store_true")
    for name, size in SIZES.items():
        parser.add_argument(f"--{name}", type=int, default=size)
    chosen = parser.parse_args()
    if chosen.contend:
        return race.contend(CONTENDERS[chosen.contend], chosen.settings)
    contenders = race.start(__file__, dict.fromkeys(CONTENDERS, sys.executable), threads=chosen.threads)
    print(race.machine())
    sizes = {"queries": chosen.queries, "gallery": chosen.gallery}
    rows = [row(contenders, chosen.rounds, sizes)]
    if chosen.growing:
        for gallery in GROWING:
            rows.append(row(contenders, min(3, chosen.rounds), {"queries": 1000, "gallery": gallery}))
        plot(rows[1:])
    race.print_table(
        [
            "queries × gallery",
            "nearest s",
            "IndexFlatL2 s",
            "time ratio",
            "CPU ratio",
            "nearest MB",
            "FAISS MB",
        ],
        [r["cells"] for r in rows],
    )
    print("ratios: nearest over IndexFlatL2, so 1.3 means that nearest takes 1.3 times as long")
    for contender in contenders.values():
        contender.close()


def row(contenders, rounds, sizes):
    race.take_turns(contenders, 1, **sizes, draw_only=True)
    answers = race.take_turns(contenders, rounds, **sizes)
    ours, faiss = answers["nearest"], answers["IndexFlatL2"]
    if ours[0]["sum_of_first"] != faiss[0]["sum_of_first"]:
        print("(the two differ in some nearest neighbour: a tie, or FAISS's rounding)")
    cells = [
        f"{sizes['queries']:,} × {sizes['gallery']:,}",
        *(f"{race.median(a):.2f}" for a in (ours, faiss)),
        *(race.as_text(race.ratios(faiss, ours, figure)) for figure in ("seconds", "cpu_seconds")),
        *("–" if a[0]["extra_mb"] is None else f"{max(x['extra_mb'] for x in a):.0f}" for a in (ours, faiss)),
    ]
    return {"cells": cells, "gallery": sizes["gallery"], "nearest": ours, "IndexFlatL2": faiss}


def plot(rows):
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axis = plt.subplots(figsize=(6, 3.4))
    for name, style in (("nearest", "o-"), ("IndexFlatL2", "s--")):
        times = [race.median(r[name]) for r in rows]
        axis.loglog([r["gallery"] for r in rows], times, style, label=name)
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
