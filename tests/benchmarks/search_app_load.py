"""Fifty people search at once, for a minute: does the page answer all of them, and how long do they wait?

    uv run python tests/benchmarks/search_app_load.py            (--searchers 50 --seconds 60)

Starts `python -m helpers.app` on a free port of this machine and closes it afterwards. Each searcher sends a picture,
waits for its ten answers, and sends the next one at once: nobody pauses to look, so this is harder than fifty people. A
server with two cores that shares them with its fifty clients answers more slowly than one that has them alone.
"""

import argparse
import asyncio
import base64
import io
import json
import random
import re
import subprocess
import sys
import time
from pathlib import Path

import httpx
import numpy as np
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from helpers.data import load  # noqa: E402

RETRIEVERS = ("raw pixels", "untrained network", "trained network")


def photographs(count):
    """Data URLs of test pictures as strangers' photographs: large, dark on light, off the centre."""
    urls = []
    for image in load("fashion_mnist").x_test[:count, ..., 0]:
        paper = Image.new("L", (800, 600), 235)
        paper.paste(Image.fromarray(235 - (image * 0.9).astype(np.uint8)).resize((420, 420)), (320, 90))
        buffer = io.BytesIO()
        paper.save(buffer, "JPEG")
        urls.append("data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode())
    return urls


async def search(client, address, picture, retriever, classes):
    sent = await client.post(f"{address}gradio_api/call/search", json={"data": [picture, retriever, classes]})
    sent.raise_for_status()
    answer = await client.get(f"{address}gradio_api/call/search/{sent.json()['event_id']}")
    answer.raise_for_status()
    event, data = re.findall(r"^event: (\w+)\ndata: (.*)$", answer.text, flags=re.M)[-1]
    found = json.loads(data)[0] if event == "complete" else None
    if not found or len(found) != 10:
        raise RuntimeError(f"{event}: {data[:200]}")


async def searcher(client, address, pictures, until, waits, errors, seed):
    choose = random.Random(seed)
    while time.perf_counter() < until:
        started = time.perf_counter()
        classes = choose.choice([[], [], ["Sandal"], ["Shirt", "Coat"]])
        try:
            await search(client, address, choose.choice(pictures), choose.choice(RETRIEVERS), classes)
            waits.append(time.perf_counter() - started)
        except Exception as error:
            errors.append(f"{type(error).__name__}: {error}")


async def measure(address, searchers, seconds):
    pictures, waits, errors = photographs(100), [], []
    async with httpx.AsyncClient(
        timeout=60, limits=httpx.Limits(max_connections=searchers), trust_env=False
    ) as client:
        await search(client, address, pictures[0], RETRIEVERS[-1], [])
        until = time.perf_counter() + seconds
        jobs = [searcher(client, address, pictures, until, waits, errors, seed) for seed in range(searchers)]
        await asyncio.gather(*jobs)
    return waits, errors


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--searchers", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--images", type=int, default=60_000)
    chosen = parser.parse_args()
    command = [sys.executable, "-u", "-m", "helpers.app", "--images", str(chosen.images)]
    server = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        address = None
        for line in server.stdout:
            print(line, end="", flush=True)
            if found := re.search(r"http://127\.0\.0\.1:\d+/", line):
                address = found[0]
                break
        if address is None:
            raise SystemExit("the server did not start")
        waits, errors = asyncio.run(measure(address, chosen.searchers, chosen.seconds))
        median, slow = np.percentile(waits, [50, 99])
        print(
            f"{chosen.searchers} searchers, {chosen.seconds:.0f} s: {len(waits):,} searches, "
            f"{len(waits) / chosen.seconds:.0f} a second, {len(errors)} errors; "
            f"median {median:.2f} s, 99th percentile {slow:.2f} s"
        )
        for error in sorted(set(errors)):
            print(errors.count(error), "x", error)
        if errors or server.poll() is not None:
            raise SystemExit(1)
    finally:
        server.terminate()
        server.wait(30)


if __name__ == "__main__":
    main()
