"""The programs that lesson 11 and its solutions show but do not run: their libraries are no dependencies of the course.

Each runs here as it stands in the lesson, with fewer pictures, and is skipped where its library is not installed:

    uv run --with qdrant-client --with "ray[data]" --with jax pytest -o addopts= tests/test_shown_programs.py
"""

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).resolve().parents[1]
PLACES = [ROOT / "notebooks" / folder / "11_search_at_scale.ipynb" for folder in ("", "solutions")]


def shown(first_line, **changes):
    """The one Python block of lesson or solutions that contains this line, with some of its text changed."""
    cells = [cell for path in PLACES for cell in nbformat.read(path, as_version=4).cells]
    text = "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
    blocks = re.findall(r"^```python\n(.*?)^```", text, flags=re.M | re.S)
    (block,) = [b for b in blocks if first_line in b]
    for old, new in changes.items():
        assert old in block, old
        block = block.replace(old, new)
    return block


def run(program, folder):
    (folder / "program.py").write_text(program, encoding="utf-8")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    done = subprocess.run(
        [sys.executable, "program.py"],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=500,
    )
    assert done.returncode == 0 and done.stdout.endswith("as it should be\n"), done.stderr[-3000:]


needs = {
    name: pytest.mark.skipif(importlib.util.find_spec(name) is None, reason=f"{name} is not installed")
    for name in ("qdrant_client", "ray", "jax")
}


@needs["qdrant_client"]
def test_qdrant_filters_and_takes_the_root(tmp_path):
    program = shown("QdrantClient(path=", **{").points": ").points  # kept by the next line"})
    before = """
import numpy as np
rng, ROWS = np.random.default_rng(0), 300
gallery = rng.normal(size=(300, 64)).astype(np.float32)
gallery_labels, query = rng.integers(0, 10, 300), rng.normal(size=(1, 64)).astype(np.float32)
"""
    after = """
points = client.query_points("clothes", query=query[0].tolist(), query_filter=sandals, limit=10).points
allowed = np.flatnonzero(gallery_labels == 5)
distances = np.linalg.norm(gallery[allowed] - query, axis=1)
order = np.argsort(distances)[:10]
assert [p.id for p in points] == allowed[order].tolist()
assert np.allclose([p.score for p in points], distances[order], atol=1e-4)
print("as it should be")
"""
    run(before + program + after, tmp_path)


@needs["ray"]
def test_ray_writes_the_vectors_of_embed(tmp_path):
    program = shown("import ray", **{"1_000_000, override_num_blocks=200": "2000, override_num_blocks=4"})
    after = """
import numpy as np
rows = ray.data.read_parquet("build/million_parquet").to_pandas().sort_values("id")
assert rows["id"].tolist() == list(range(2000))
one = Embedder()
assert np.allclose(np.stack(rows["vector"]), embed(one.network, one.read(0, 2000)), atol=1e-5)
print("as it should be")
"""
    run(program + after, tmp_path)


@needs["jax"]
def test_keras_distribution_gives_the_vectors_of_one_device(tmp_path):
    program = shown("keras.distribution.set_distribution", **{".x_test)": ".x_test[:2000])"})
    after = """
import numpy as np
assert len(keras.distribution.list_devices()) == 2 and vectors.shape == (2000, 64)
assert len(network.trainable_weights[0].value.sharding.device_set) == 2
keras.distribution.set_distribution(None)
assert np.allclose(vectors, embed(load_pretrained(), load("fashion_mnist").x_test[:2000]), atol=1e-5)
print("as it should be")
"""
    run(program + after, tmp_path)
