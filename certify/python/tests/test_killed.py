"""Runs that are killed twenty times, at no chosen moment, lose no finished record."""

import json
import random
import subprocess
import sys
import time
from pathlib import Path

from conftest import ROOT

SCRIPT = """
import sys
sys.path.insert(0, sys.argv[3])
import tightrope
from conftest import images
x, y = images(100)
net = tightrope.load(sys.argv[1])
net.certify(x, y, 0.02, method="alpha-crown", clip=(0, 1), out=sys.argv[2], resume=True)
"""

MODEL = ROOT / "models/mnist-cnn-pgd0.1.onnx"


def records(path):
    first, *lines = Path(path).read_text().rpartition("\n")[0].splitlines()
    found = [json.loads(line) for line in lines]
    for record in found:
        del record["seconds"]
    return json.loads(first), found


def test_twenty_kills_lose_nothing(tmp_path):
    def command(out):
        return [sys.executable, "-c", SCRIPT, MODEL, out, Path(__file__).parent]

    out, chance = tmp_path / "killed", random.Random(1)
    begin = time.monotonic()
    subprocess.run(command(tmp_path / "whole"), check=True, capture_output=True)
    # Time for most of what one attempt would take at its start, so that the moments fall anywhere.
    whole = time.monotonic() - begin
    known = []
    for _ in range(20):
        process = subprocess.Popen(command(out), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(chance.uniform(0.05, 0.7) * whole)
        process.kill()
        process.wait()
        if out.exists() and out.stat().st_size:
            _, found = records(out)
            assert found[: len(known)] == known
            known = found
    subprocess.run(command(out), check=True, capture_output=True)
    assert records(out) == records(tmp_path / "whole") and len(records(out)[1]) == 100
