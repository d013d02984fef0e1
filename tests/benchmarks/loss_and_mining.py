"""Loss and mining alone, forward and backward: `helpers.losses` (TensorFlow) against pytorch-metric-learning.

    uv run --group benchmarks python tests/benchmarks/loss_and_mining.py      (--peer PYTHON --losses batch-all SupCon)

Embeddings (B, 64) on the unit sphere, ten classes, as in lesson 4; a turn repeats loss and gradient for about as long
as `--seconds` says. Semi-hard means two things: ours takes the nearest negative that is farther than the positive, one
for each pair; pytorch-metric-learning's miner takes all that are farther by less than the margin. The memory is
that of the first call: with TensorFlow some 20 MB of it are for building the computation.
"""

import sys
import time

import numpy as np
import race

BATCHES = (120, 1024)
LOSSES = ("batch-all", "semi-hard", "batch-hard", "Multi-Similarity", "SupCon", "Proxy-Anchor")


def batch(size):
    """Embeddings (B, 64) and labels (B,): classes that overlap, as early in a training."""
    rng = np.random.default_rng(0)
    labels = np.arange(size) % 10
    vectors = rng.normal(size=(10, 64))[labels] + 2 * rng.normal(size=(size, 64))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype("float32"), labels


def repeated(steps):
    """A turn that calls `steps[loss](size)` once, for the memory, then again and again."""
    ready = {}

    def turn(loss, size, seconds):
        if (loss, size) not in ready:
            ready[loss, size] = steps[loss](size)
        step, count, started, cpu = ready[loss, size], 0, time.perf_counter(), time.process_time()
        while count == 0 or time.perf_counter() - started < seconds:
            value, count = step(), count + 1
        return {
            "ms": 1000 * (time.perf_counter() - started) / count,
            "cpu_ms": 1000 * (time.process_time() - cpu) / count,
            "loss": float(value),
        }

    return turn


def helpers_losses():
    import tensorflow as tf

    from helpers import losses

    def prepared(loss, proxies=False):
        def of_size(size):
            points, labels = batch(size)
            points, labels = tf.Variable(points), tf.constant(labels)
            layer = losses.CosineProxies(10) if proxies else None
            if proxies:
                layer.build(points.shape)
            learnt = [points, *([layer.proxies.value] if proxies else [])]

            @tf.function
            def step():
                with tf.GradientTape() as tape:
                    value = loss(labels, layer(points) if proxies else points)
                return value, tape.gradient(value, learnt)

            step()  # the first call builds the computation
            return lambda: step()[0]

        return of_size

    return repeated(
        {
            "batch-all": prepared(losses.BatchAllTripletLoss()),
            "semi-hard": prepared(losses.SemiHardTripletLoss()),
            "batch-hard": prepared(losses.BatchHardTripletLoss()),
            "Multi-Similarity": prepared(losses.MultiSimilarityLoss(epsilon=0.1)),
            "SupCon": prepared(losses.SupConLoss()),
            "Proxy-Anchor": prepared(losses.ProxyAnchorLoss(), proxies=True),
        }
    )


def pytorch_metric_learning():
    import torch
    import torch_peer
    from pytorch_metric_learning import distances, losses, miners

    def prepared(loss, miner=None):
        def of_size(size):
            points, labels = batch(size)
            points, labels = torch.tensor(points, requires_grad=True), torch.tensor(labels)

            def step():
                points.grad = None
                value = loss(points, labels, miner(points, labels) if miner else None)
                value.backward()
                return value.item()

            return step

        return of_size

    euclidean = distances.LpDistance()
    triplet = losses.TripletMarginLoss(0.2, distance=euclidean)
    return repeated(
        {
            "batch-all": prepared(torch_peer.batch_all()),
            "semi-hard": prepared(triplet, miners.TripletMarginMiner(0.2, "semihard", distance=euclidean)),
            "batch-hard": prepared(triplet, miners.BatchHardMiner(distance=euclidean)),
            "Multi-Similarity": prepared(losses.MultiSimilarityLoss(), miners.MultiSimilarityMiner(0.1)),
            "SupCon": prepared(losses.SupConLoss(0.1)),
            "Proxy-Anchor": prepared(losses.ProxyAnchorLoss(10, 64)),
        }
    )


CONTENDERS = {"helpers.losses": helpers_losses, "pytorch-metric-learning": pytorch_metric_learning}


def main():
    parser = race.arguments(__doc__)
    parser.add_argument("--seconds", type=float, default=0.5)
    parser.add_argument("--losses", nargs="+", default=LOSSES, choices=LOSSES)
    parser.add_argument("--sizes", nargs="+", type=int, default=BATCHES)
    chosen = parser.parse_args()
    if chosen.contend:
        return race.contend(CONTENDERS[chosen.contend], chosen.settings)
    ours, theirs = CONTENDERS
    named = {ours: sys.executable, theirs: chosen.peer}
    print(race.machine(), flush=True)
    rows = []
    for size in chosen.sizes:
        for loss in chosen.losses:
            # Processes of its own for every row: TensorFlow keeps freed memory for the next computation.
            contenders = race.start(__file__, named, threads=chosen.threads)
            first = race.take_turns(contenders, 1, loss=loss, size=size, seconds=0)
            answers = race.take_turns(contenders, chosen.rounds, loss=loss, size=size, seconds=chosen.seconds)
            rows.append([f"{loss}, {size:,}", *cells(first, answers)])
            print(".", end="", flush=True)
            for contender in contenders.values():
                contender.close()
    print()
    race.print_table(
        [
            "loss, batch",
            *(f"{name} ms" for name in contenders),
            "ratio",
            "CPU ratio",
            *(f"{n} MB" for n in contenders),
        ],
        rows,
    )
    print("ratios: pytorch-metric-learning over ours, above 1 ours is faster")


def cells(first, answers):
    both = list(answers.values())
    times = [f"{race.median(a, 'ms'):.2f}" for a in both]
    compared = [
        race.as_text(race.ratios(*both, figure)) if len(both) == 2 else "–" for figure in ("ms", "cpu_ms")
    ]
    memory = [a[0]["extra_mb"] for a in first.values()]
    return [*times, *compared, *("–" if m is None else f"{m:.0f}" for m in memory)]


if __name__ == "__main__":
    main()
