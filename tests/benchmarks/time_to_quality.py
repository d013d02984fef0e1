"""Seconds of training until Recall@1 on the published split reaches that of raw pixels (0.788), and 0.89.

    uv run --group benchmarks python tests/benchmarks/time_to_quality.py      (--peer PYTHON --seeds 3 --earlier)

- lesson 4: its recipe, as it stands.
- PyTorch: the same network and recipe with pytorch-metric-learning's sampler and loss.
- the earlier repository's way (with --earlier), rebuilt: three towers with its network of 2.5 million parameters,
  random triplets, half of the images mirrored, margin 1, pixels as they are, SGD with a learning rate of 0.001. It gets
  five minutes.

The contenders train in turns, 20 steps at a time (the earlier way one step), so a machine whose speed changes changes
for all. The clock runs while they train, building the computation included, and stands while Recall@1 is measured.
Every pair of times is seconds and processor seconds, all threads together.
"""

import sys
import time

import numpy as np
import race

GOALS = (0.788, 0.89)
STEPS, PEAK = 1000, 0.006  # lesson 4's: 10 epochs of 100 steps
STEPS_A_TURN = 20


def published():
    from helpers.data import honest_split, load, published_split

    data = load("fashion_mnist")
    honest, split = honest_split(data), published_split(data)
    return honest.x_train, honest.y_train, split


def recall_at_1(embed, split):
    """Share of the queries whose nearest gallery image has their class, with NumPy alone: a peer may have no FAISS."""
    query, gallery = embed(split.x_query), embed(split.x_gallery)
    # (n, m), without what is the same for all gallery images of a query
    distances = (gallery**2).sum(axis=1) - 2 * query @ gallery.T
    return float((split.y_gallery[distances.argmin(axis=1)] == split.y_query).mean())


def stepwise(train, embed, split):
    """A turn that trains some steps, and measures afterwards. `trained` holds the seconds of this turn's training."""

    def turn(steps):
        started, cpu = time.perf_counter(), time.process_time()
        train(steps)
        trained = {"trained": time.perf_counter() - started, "trained_cpu": time.process_time() - cpu}
        return {**trained, "recall": recall_at_1(embed, split)}

    return turn


def lesson_4(seed):
    import keras

    from helpers.losses import BatchAllTripletLoss
    from helpers.networks import embed, embedding_network
    from helpers.sampling import BalancedBatches
    from helpers.training import leave_input_untuned, one_cycle

    leave_input_untuned()  # as lesson 4 does
    x_train, y_train, split = published()
    keras.utils.set_random_seed(seed)
    model = embedding_network(dimensions=64)
    batches = BalancedBatches(x_train, y_train, 10, 12, batches=STEPS_A_TURN, seed=seed)
    optimizer = keras.optimizers.Adam(one_cycle(PEAK, STEPS))
    model.compile(optimizer, BatchAllTripletLoss(margin=0.2), steps_per_execution=10)
    embed(model, split.x_query[:500])  # what measuring needs is built before the clock starts
    return stepwise(
        lambda steps: model.fit(batches, steps_per_epoch=steps, verbose=0),
        lambda images: embed(model, images),
        split,
    )


def pytorch(seed):
    import torch_peer

    x_train, y_train, split = published()
    training = torch_peer.Training(x_train, y_train, STEPS, PEAK, seed=seed)
    return stepwise(training.run, training.embed, split)


def earlier(seed):
    import keras

    from helpers.losses import TripletLoss
    from helpers.networks import embed
    from helpers.sampling import TripletGenerator
    from helpers.training import leave_input_untuned

    leave_input_untuned()  # as lesson 4 does
    x_train, y_train, split = published()
    keras.utils.set_random_seed(seed)
    embedding = earlier_network()
    towers = [keras.Input((28, 28, 1), name=name) for name in ("anchor", "positive", "negative")]
    net = keras.Model(towers, keras.ops.stack([embedding(tower) for tower in towers], axis=1))
    net.compile(keras.optimizers.SGD(0.001, momentum=0.9, nesterov=True), TripletLoss(margin=1.0))
    mirrored = np.random.default_rng(seed).random(len(x_train)) < 0.5
    x_train = np.where(mirrored[:, None, None, None], x_train[:, :, ::-1], x_train)
    triplets = TripletGenerator(seed).flow(x_train, y_train, batch_size=256)
    embed(embedding, split.x_query[:500])
    return stepwise(
        lambda steps: net.fit(triplets, steps_per_epoch=steps, shuffle=False, verbose=0),
        lambda images: embed(embedding, images),
        split,
    )


def earlier_network(dimensions=128):
    """After the earlier repository's description: six convolutions, three of them pooled, and the largest answers."""
    from keras import Input, Model, layers

    inputs = Input((28, 28, 1))
    x = inputs
    for width, pooled in ((64, False), (128, True), (128, False), (256, True), (256, False), (512, True)):
        x = layers.Conv2D(width, 3, padding="same")(x)
        if pooled:
            x = layers.MaxPooling2D()(x)
        x = layers.LeakyReLU(0.3)(x)
        x = layers.Dropout(0.25)(x)
    x = layers.Conv2D(dimensions, 2, padding="same")(x)
    return Model(inputs, layers.GlobalMaxPooling2D()(x))


CONTENDERS = {"lesson 4": lesson_4, "PyTorch": pytorch, "the earlier way": earlier}


def main():
    parser = race.arguments(__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--earlier", action="store_true", help="the earlier repository's way as well")
    parser.add_argument("--patience", type=float, default=300, help="seconds of training it gets")
    chosen = parser.parse_args()
    if chosen.contend:
        return race.contend(CONTENDERS[chosen.contend], chosen.settings)
    named = {"lesson 4": sys.executable, "PyTorch": chosen.peer}
    if chosen.earlier:
        named["the earlier way"] = sys.executable
    print(race.machine(), flush=True)
    for seed in range(chosen.first_seed, chosen.first_seed + chosen.seeds):
        contenders = race.start(__file__, named, {"seed": seed}, chosen.threads)
        curves = train(contenders, chosen.patience)
        print(f"\nseed {seed}")
        race.print_table(["training", *(f"R@1 {goal} after" for goal in GOALS), "at the end"], rows(curves))
        for contender in contenders.values():
            contender.close()


def train(contenders, patience):
    """Turns until nobody has steps left. The curve of each: (seconds, CPU seconds, Recall@1) after each turn."""
    curves = {name: [] for name in contenders}
    left = {name: STEPS if name != "the earlier way" else 10**6 for name in contenders}
    while any(left.values()):
        for name in [n for n in contenders if left[n]]:
            steps = min(left[name], STEPS_A_TURN if name != "the earlier way" else 1)
            found = contenders[name].turn(steps=steps)
            before = curves[name][-1] if curves[name] else (0.0, 0.0, 0.0)
            curves[name].append(
                (before[0] + found["trained"], before[1] + found["trained_cpu"], found["recall"])
            )
            left[name] = 0 if curves[name][-1][0] > patience else left[name] - steps
        if all(len(curve) % 4 == 0 for curve in curves.values()):  # a person waits
            last = (
                f"{name}: {c[-1][0]:.0f} s, {c[-1][1]:.0f} s, R@1 {c[-1][2]:.3f}"
                for name, c in curves.items()
            )
            print("  ".join(last), flush=True)
    return curves


def reached(curve, goal):
    """(seconds, CPU seconds) until the goal, None if it was not reached."""
    return next(((seconds, cpu) for seconds, cpu, recall in curve if recall >= goal), None)


def rows(curves):
    return [
        [
            name,
            *(
                f"{r[0]:.0f} s, {r[1]:.0f} s" if (r := reached(curve, goal)) else "not reached"
                for goal in GOALS
            ),
            f"{curve[-1][2]:.3f} after {curve[-1][0]:.0f} s, {curve[-1][1]:.0f} s",
        ]
        for name, curve in curves.items()
    ]


if __name__ == "__main__":
    main()
