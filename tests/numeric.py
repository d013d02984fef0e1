"""What several tests need: the pytorch-metric-learning results, and gradients on any Keras backend."""

import json
from pathlib import Path

import numpy as np

REFERENCE = json.loads(Path(__file__).with_name("reference.json").read_text(encoding="utf-8"))


def value_and_gradient(function, x, dtype="float32"):
    """`function(x)`, a scalar, and its gradient with respect to the array `x`, both as float64 NumPy."""
    import keras  # only here, so that the tests of the metrics start no framework

    x = keras.ops.convert_to_tensor(x, dtype)
    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        with tf.GradientTape() as tape:
            tape.watch(x)
            value = function(x)
        gradient = tape.gradient(value, x)
    elif backend == "jax":
        import jax

        value, gradient = jax.value_and_grad(function)(x)
    elif backend == "torch":
        x = x.detach().requires_grad_()
        value = function(x)
        value.backward()
        gradient = x.grad
    else:
        raise NotImplementedError(backend)
    return numpy(value), numpy(gradient)


def numpy(tensor):
    import keras

    return keras.ops.convert_to_numpy(keras.ops.cast(tensor, "float32")).astype(np.float64)
