"""Data parallelism: the batch lies on several devices, and its triplets are still those of the whole batch."""

import importlib.util
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[1]
pytestmark = pytest.mark.skipif(
    not importlib.util.find_spec("jax"), reason="keras.distribution needs JAX: tested with that backend"
)


def start(*arguments, devices=2):
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "KERAS_BACKEND": "jax",
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}",
        "JAX_CPU_ENABLE_ASYNC_DISPATCH": "false",  # else the devices may wait for each other for ever
    }
    command = [sys.executable, str(ROOT / "tests/two_devices.py"), *(str(argument) for argument in arguments)]
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def result_of(process):
    output, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    return json.loads(output.splitlines()[-1])


@pytest.fixture(scope="module")
def result():
    return result_of(start())


def test_the_batch_is_split_and_mined_as_a_whole(result):
    assert result["devices"] == ["cpu:0", "cpu:1"]
    assert result["shards"] == [[60, 32]]  # each device holds half of the 120 embeddings
    assert result["loss of the first half"] == 0, "the halves have no triplets of their own"
    assert result["loss of the whole batch"] > 0.1
    assert result["loss of the sharded batch"] == pytest.approx(result["loss of the whole batch"], rel=1e-4)


def test_two_devices_train_as_one_does(result):
    np.testing.assert_allclose(result["epochs on two devices"], result["epochs on one device"], rtol=0.01)
    assert result["recall on one"] > result["recall untrained"] + 0.03
    assert abs(result["recall on two"] - result["recall on one"]) < 0.02


def test_two_processes_train_one_network_on_one_global_batch():
    """As on two machines: each process draws half of every batch."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    processes = [start(2, number, port, devices=1) for number in range(2)]
    first, second = (result_of(process) for process in processes)
    assert len(first["devices"]) == 2
    assert first["shards"] == second["shards"] == [[60, 32]]
    assert first["losses"] == pytest.approx(second["losses"], rel=1e-6)
    assert first["weights"] == pytest.approx(second["weights"], rel=1e-6)
