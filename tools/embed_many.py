"""Embed a million pictures on one machine or on many: bounded memory, and the same command goes on if interrupted.

    python tools/embed_many.py --images 1000000 --out build/million
    python tools/embed_many.py --images 1000000 --out shared/folder --shard 3/8     on the fourth of eight machines

The pictures are the training images of Fashion-MNIST and copies of them moved by a few pixels (lesson 11). Each
shard is a `.npy` file of its own, so machines need nothing in common but the folder. Beside it lies a
`.log.json` with the figures of the run that finished it.
"""

import argparse
import json
import os
import time
from pathlib import Path

import numpy as np

from helpers.data import honest_split, load
from helpers.networks import WEIGHTS_FOLDER, embed, load_pretrained
from helpers.streaming import embed_to_file, shifted_copies


def main():
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("--images", type=int, default=1_000_000, help="how many in all (default: a million)")
    options.add_argument("--out", type=Path, default=Path("build/million"), help="folder of the shards")
    options.add_argument(
        "--shard", default="0/1", help="which part of how many, counted from 0 (default: 0/1)"
    )
    options.add_argument("--chunk", type=int, default=2000, help="images in memory at once")
    options = options.parse_args()
    shard, shards = map(int, options.shard.split("/"))
    if not 0 <= shard < shards:
        raise SystemExit(f"--shard counts from 0: 0/{shards} to {shards - 1}/{shards}, not {options.shard}")
    first, last = (options.images * s // shards for s in (shard, shard + 1))
    options.out.mkdir(parents=True, exist_ok=True)
    path = options.out / f"shard-{shard:03}-of-{shards:03}.npy"

    read = shifted_copies(honest_split(load("fashion_mnist")).x_train)
    network = load_pretrained()
    started, before, begun_at = time.monotonic(), os.times(), None

    def progress(done):
        nonlocal begun_at
        begun_at = done - options.chunk if begun_at is None else begun_at
        rate = (done - begun_at) / (time.monotonic() - started)
        print(f"{path.name}: {done:,} of {last - first:,} rows, {rate:,.0f} images/s", flush=True)

    vectors = embed_to_file(
        path,
        lambda images: embed(network, images),
        lambda start, stop: read(first + start, first + stop),
        last - first,
        chunk=options.chunk,
        made_with=json.loads((WEIGHTS_FOLDER / "fashion_mnist.json").read_text(encoding="utf-8"))["sha256"],
        progress=progress,
    )
    if begun_at is not None:
        after = os.times()
        figures = {
            "images": last - first,
            "of_these_in_this_run": len(vectors) - max(begun_at, 0),
            "seconds": round(time.monotonic() - started, 1),
            "cpu_seconds": round(after.user + after.system - before.user - before.system, 1),
            "peak_memory_mb": peak_memory_mb(),
            "file_mb": round(path.stat().st_size / 1e6, 1),
        }
        path.with_suffix(".log.json").write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
        print(json.dumps(figures))
    lengths = np.linalg.norm(vectors[:: max(1, len(vectors) // 1000)], axis=1)
    print(f"{path.name}: complete, {vectors.shape}, lengths {lengths.min():.3f} to {lengths.max():.3f}")


def peak_memory_mb():
    """The most memory that this process had at any time, in MB; None where the system does not tell (Windows)."""
    status = Path("/proc/self/status")
    if status.exists():  # Linux; getrusage would begin with the memory of the program that started this one
        line = next(
            line for line in status.read_text(encoding="utf-8").splitlines() if line.startswith("VmHWM")
        )
        return round(int(line.split()[1]) * 1024 / 1e6)
    try:
        import resource
    except ImportError:
        return None
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6)  # macOS: in bytes


if __name__ == "__main__":
    main()
