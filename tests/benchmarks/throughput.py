"""Training steps a second: lesson 4's network, batch and loss in Keras on TensorFlow and in PyTorch.

    uv run --group benchmarks python tests/benchmarks/throughput.py      (--peer PYTHON --only NAME NAME …)

Both train the network of 76,624 parameters on batches of 120 images with all triplets, drawing the batches included;
the PyTorch side uses pytorch-metric-learning's sampler and loss. The first contender is lesson 4 as it stands, and
every ratio is against it. A turn is --steps steps. A process keeps for life what it began with, the place of its arrays
in memory for one, and is faster or slower for it: so all contenders are started anew, --starts times.
"""

import sys
from functools import partial

import race
from time_to_quality import PEAK, STEPS


def keras_training(policy="float32", jit=False, at_once=10, prefetch=False, fused=True, steps=40):
    import keras

    from helpers import networks
    from helpers.data import load, published_split
    from helpers.losses import BatchAllTripletLoss
    from helpers.sampling import BalancedBatches
    from helpers.training import leave_input_untuned, one_cycle

    leave_input_untuned()  # as lesson 4 does
    keras.utils.set_random_seed(0)
    data = published_split(load("fashion_mnist"))
    keras.mixed_precision.set_dtype_policy(policy)
    networks.ON_TENSORFLOW = fused  # else batch normalisation is Keras's own
    model = networks.embedding_network()
    model.compile(
        keras.optimizers.Adam(one_cycle(PEAK, STEPS)),
        BatchAllTripletLoss(),
        jit_compile=jit,
        steps_per_execution=at_once,
    )
    batches = BalancedBatches(data.x_train, data.y_train, batches=steps)
    if prefetch:
        batches = prefetched(batches)
    model.fit(batches, steps_per_epoch=steps, verbose=0)  # builds the computation

    def turn():
        history = model.fit(batches, steps_per_epoch=steps, verbose=0)
        return {"loss": history.history["loss"][-1]}

    return turn


def prefetched(batches):
    """The same batches through tf.data, the next ones drawn while the network works."""
    import tensorflow as tf

    def endless():
        while True:
            yield from (batches[i] for i in range(len(batches)))

    images, labels = batches[0]
    signature = tuple(tf.TensorSpec(a.shape, a.dtype) for a in (images, labels))
    return tf.data.Dataset.from_generator(endless, output_signature=signature).prefetch(2)


def torch_training(steps=40, **variant):
    import torch_peer

    from helpers.data import load, published_split

    data = published_split(load("fashion_mnist"))
    training = torch_peer.Training(data.x_train, data.y_train, STEPS, PEAK, **variant)
    training.run(5)
    return lambda: training.run(steps)


OURS = {
    "Keras, as in lesson 4": keras_training,
    "Keras, tf.data prefetch": partial(keras_training, prefetch=True),
    "Keras, its own batch normalisation": partial(keras_training, fused=False),
    "Keras, one step per execution": partial(keras_training, at_once=1),
    "Keras, XLA": partial(keras_training, jit=True),
    "Keras, bfloat16": partial(keras_training, policy="mixed_bfloat16"),
    "Keras, bfloat16, XLA": partial(keras_training, policy="mixed_bfloat16", jit=True),
}
THEIRS = {
    "PyTorch": torch_training,
    "PyTorch, channels last": partial(torch_training, channels_last=True),
    "PyTorch, compiled": partial(torch_training, compiled=True),
    "PyTorch, bfloat16": partial(torch_training, bfloat16=True),
    "PyTorch, bfloat16, channels last": partial(torch_training, bfloat16=True, channels_last=True),
}


def main():
    parser = race.arguments(__doc__)
    parser.add_argument("--only", nargs="+", choices=[*OURS, *THEIRS], help="these, and the first")
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument(
        "--starts", type=int, default=3, help="times that all start anew, with --rounds turns each"
    )
    chosen = parser.parse_args()
    if chosen.contend:
        return race.contend({**OURS, **THEIRS}[chosen.contend], chosen.settings)
    first = next(iter(OURS))
    named = {**dict.fromkeys(OURS, sys.executable), **dict.fromkeys(THEIRS, chosen.peer)}
    if chosen.only:
        named = {name: python for name, python in named.items() if name in (first, *chosen.only)}
    print(race.machine(), flush=True)
    answers = {}
    for _ in range(chosen.starts):
        contenders = race.start(__file__, named, {"steps": chosen.steps}, chosen.threads)
        of_this_start = race.take_turns(contenders, chosen.rounds)
        for name, of_name in of_this_start.items():
            answers[name] = answers.get(name, []) + of_name
            print(name, race.as_text(race.ratios(of_name, of_this_start[first])), flush=True)
        for contender in contenders.values():
            contender.close()
    rows = [
        [
            name,
            f"{1000 * race.median(of_name) / chosen.steps:.1f}",
            f"{1000 * race.median(of_name, 'cpu_seconds') / chosen.steps:.1f}",
            race.as_text(race.ratios(of_name, answers[first])),
            race.as_text(race.ratios(of_name, answers[first], "cpu_seconds")),
        ]
        for name, of_name in answers.items()
    ]
    race.print_table(["training", "ms a step", "CPU ms", "speed", "by CPU time"], rows)
    print(f"speed: against {first}; 2 means twice as many steps a second")


if __name__ == "__main__":
    main()
