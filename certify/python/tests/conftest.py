"""The shipped networks and images, and the command line to compare with."""

import gzip
import json
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest

import tightrope

ROOT = Path(__file__).resolve().parents[3]
MODELS = ROOT / "models"


def images(count):
    """MNIST images ``(count, 1, 28, 28)`` in [0, 1] with their labels."""
    with gzip.open(MODELS / "data/mnist-test-1000-images.idx.gz") as file:
        pixels = np.frombuffer(file.read()[16:], np.uint8).reshape(-1, 1, 28, 28)[:count]
    with gzip.open(MODELS / "data/mnist-test-1000-labels.idx.gz") as file:
        labels = np.frombuffer(file.read()[8:], np.uint8)[:count]
    return (pixels / np.float32(255)).astype(np.float32), labels.astype(np.int64)


@pytest.fixture(scope="session")
def mnist():
    return images(100)


@pytest.fixture(scope="session")
def load():
    return lambda name: tightrope.load(MODELS / f"{name}.onnx")


@pytest.fixture(scope="session")
def program():
    """The command line."""
    built = [os.environ.get("TIGHTROPE"), ROOT / "target/release/tightrope", ROOT / "target/debug/tightrope"]
    found = next((p for p in built if p and Path(p).exists()), None)
    assert found, "build the command line first: cargo build -p tightrope-cli"
    return found


@pytest.fixture(scope="session")
def command_line(tmp_path_factory, program):
    """Runs the command line and returns the records that it writes."""

    def run(*arguments):
        out = tmp_path_factory.mktemp("run") / "run.jsonl"
        subprocess.run([program, *arguments, "--out", out], check=True, capture_output=True, cwd=ROOT)
        lines = out.read_text().splitlines()
        return [record for record in map(json.loads, lines) if "index" in record]

    return run
