"""Recall and cost of searching the million that `tools/embed_many.py` made, as the gallery grows.

    python tools/search_many.py build/million build/few

Prints a table, and writes it with the figures of both embeddings to `notebooks/results/11_million.json`, which lesson
11 reads. The second folder holds a small run of the same command (`--images 9000`), to compare the memory with; it is
not searched. One thread, 1,000 test images as queries, all in one call. It takes some minutes, most of them for the
graph of a million.
"""

import json
import sys
import time
from pathlib import Path

import faiss
import numpy as np

from helpers.data import load
from helpers.networks import embed, load_pretrained

RESULTS = Path(__file__).resolve().parents[1] / "notebooks/results/11_million.json"
SIZES = (60_000, 250_000, 1_000_000)


def main():
    if len(sys.argv) != 3:
        raise SystemExit(__doc__)
    folder, few = map(Path, sys.argv[1:])
    vectors = np.concatenate([np.load(path, mmap_mode="r") for path in sorted(folder.glob("shard-*.npy"))])
    query = embed(load_pretrained(), load("fashion_mnist").x_test[:1000])
    rows = []
    for size in [s for s in SIZES if s <= len(vectors)]:
        drawers = int(4 * np.sqrt(size))
        truth = None
        for name, knobs in (
            ("Flat", [None]),
            (f"IVF{drawers},Flat", [4, 16]),
            ("HNSW32", [40]),
        ):
            index, seconds = build(name, vectors[:size])
            for knob in knobs:
                if name.startswith("IVF"):
                    index.nprobe = knob
                elif name == "HNSW32":
                    index.hnsw.efSearch = knob
                found = index.search(query, 10)[1]
                truth = found if truth is None else truth
                rows.append(
                    {
                        "vectors": size,
                        "index": name,
                        "knob": knob,
                        "recall_at_10": round(recall(found, truth), 3),
                        "ms": round(milliseconds(lambda i=index: i.search(query, 10), len(query)), 3),
                        "build_cpu_s": round(seconds, 1),
                    }
                )
                print(json.dumps(rows[-1]), flush=True)
    results = {
        "embedding": embedding_figures(folder),
        "embedding_of_few": embedding_figures(few),
        "search": rows,
    }
    RESULTS.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")


def build(name, vectors):
    faiss.omp_set_num_threads(1)
    started = time.process_time()
    index = faiss.index_factory(vectors.shape[1], name)
    index.train(vectors[:: max(1, len(vectors) // 200_000)])
    index.add(vectors)
    return index, time.process_time() - started


def recall(found, truth):
    return float(
        np.mean([len(np.intersect1d(f, t)) for f, t in zip(found, truth, strict=True)]) / truth.shape[1]
    )


def milliseconds(search, count):
    """Of processor time: other programs on the machine do not count."""
    times = []
    for _ in range(3):
        started = time.process_time()
        search()
        times.append(time.process_time() - started)
    return 1000 * min(times) / count


def embedding_figures(folder):
    """The logs of all shards as one."""
    logs = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("shard-*.log.json"))]
    figures = {
        name: round(sum(log[name] for log in logs), 1) for name in ("images", "cpu_seconds", "file_mb")
    }
    return figures | {name: max(log[name] for log in logs) for name in ("seconds", "peak_memory_mb")}


if __name__ == "__main__":
    main()
