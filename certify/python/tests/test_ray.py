"""A real cluster of two nodes on this machine: what is lost on the way changes no byte."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

import tightrope

from conftest import ROOT, images

ray = pytest.importorskip("ray")
cluster_utils = pytest.importorskip("ray.cluster_utils")

MODEL = ROOT / "models/mnist-cnn-pgd0.1.onnx"


def node(address):
    return {"num_cpus": 1, "node_ip_address": f"127.0.0.{address}", "object_store_memory": 100 * 2**20}


@pytest.fixture(scope="module")
def cluster():
    # Loopback addresses that Ray does not take for a mistake, as it does the first.
    found = cluster_utils.Cluster(initialize_head=True, head_node_args={**node(2), "include_dashboard": False})
    found.add_node(**node(3))
    ray.init(address=found.address, log_to_driver=False, logging_level="warning")
    yield found
    ray.shutdown()
    found.shutdown()


def without_seconds(path):
    first, *records = map(json.loads, Path(path).read_text().splitlines())
    for record in records:
        del record["seconds"]
    return first, records


def test_every_question_is_that_of_one_process(cluster, load, mnist, tmp_path):
    import tightrope.ray

    x, y = mnist
    net, x, y = load("mnist-cnn-pgd0.1"), x[:30], y[:30]
    options = {"method": ["ibp", "crown"], "attack": (3, 1), "clip": (0, 1)}
    one = net.certify(x, y, [0.02, 0.05], out=tmp_path / "one", **options)
    many = tightrope.ray.certify(net, x, y, [0.02, 0.05], out=tmp_path / "many", block=4, **options)
    assert many == one and np.array_equal(many.points, one.points)
    assert without_seconds(tmp_path / "one") == without_seconds(tmp_path / "many")
    pixels = np.rint(x * 255).astype(np.uint8)
    assert tightrope.ray.tightness(net, pixels, y, 0.02) == net.tightness(pixels, y, 0.02)
    assert tightrope.ray.brackets(net, x[:6], y[:6], 0.1, method="ibp") == net.brackets(x[:6], y[:6], 0.1, method="ibp")
    smooth = net.smooth(x[:9], y[:9], 0.25, n=300, first=100)
    assert tightrope.ray.smooth(net, x[:9], y[:9], 0.25, n=300, first=100, num_cpus=1) == smooth
    part = tightrope.ray.smooth(net, x[:9], y[:9], 0.25, n=300, first=100, shard=(1, 2))
    assert part.index.tolist() == [101, 103, 105, 107] and part.radius.tolist() == smooth.radius[1::2].tolist()
    table = tmp_path / "instances.csv"
    table.write_text("".join(f"{ROOT}/models/pendulum.onnx,{ROOT}/models/properties/{name},20\n" for name in PROPERTIES))
    verdicts = tightrope.ray.verify(table, out=tmp_path / "verdicts")
    assert verdicts == tightrope.verify_table(table) == tightrope.read(tmp_path / "verdicts")


PROPERTIES = sorted(path.name for path in (ROOT / "models/properties").glob("*.vnnlib*"))


def test_errors_of_tasks_keep_what_is_finished(cluster, mnist):
    import tightrope.ray

    x, y = mnist
    flat = x.reshape(100, -1)[:12, :2]

    def fails(batch):
        if (batch[:, 0] > 50).any():
            raise RuntimeError("CUDA out of memory")
        return np.stack([batch.sum(axis=1), -batch.sum(axis=1)], axis=1)

    bad = flat.copy()
    bad[7, 0] = 1e4
    with pytest.raises(RuntimeError, match="CUDA out of memory") as caught:
        tightrope.ray.smooth(fails, bad, sigma=0.5, n=100, block=1)
    assert caught.value.results.index.tolist() == list(range(7))
    with pytest.raises(tightrope.InputError, match="accepted: num_cpus"):
        tightrope.ray.smooth(fails, flat, threads=2)


def classifier(folder, pause=0.0):
    """A function of two classes, which kills the first worker that asks for it; sent to workers by value."""

    def f(batch):
        mark = os.path.join(folder, "killed")
        if pause == 0.0 and not os.path.exists(mark):
            with open(mark, "x"):
                pass
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(pause)
        total = batch.sum(axis=1) - 0.3
        return np.stack([total, -total], axis=1)

    return f


def test_a_killed_worker_is_replaced(cluster, mnist, tmp_path):
    import tightrope.ray

    x = mnist[0].reshape(100, -1)[:, 300:304]
    many = tightrope.ray.smooth(classifier(str(tmp_path)), x[:20], sigma=0.5, n=200, block=3)
    assert (tmp_path / "killed").exists()
    assert many == tightrope.smooth(classifier(str(tmp_path)), x[:20], sigma=0.5, n=200)


def test_a_removed_node_is_not_missed(cluster, mnist, tmp_path):
    import tightrope.ray

    x = mnist[0].reshape(100, -1)[:, 300:304]
    slow = classifier(str(tmp_path), pause=0.02)
    extra = cluster.add_node(**node(4))
    cluster.wait_for_nodes()
    timer = threading.Timer(1.0, lambda: cluster.remove_node(extra, allow_graceful=False))
    timer.start()
    many = tightrope.ray.smooth(slow, x, sigma=[0.25, 0.5], n=200, out=tmp_path / "many", block=4)
    timer.join()
    one = tightrope.smooth(slow, x, sigma=[0.25, 0.5], n=200, out=tmp_path / "one")
    assert many == one and without_seconds(tmp_path / "one") == without_seconds(tmp_path / "many")


DRIVER = """
import sys
import numpy as np
import tightrope.ray
sys.path.insert(0, sys.argv[4])
from conftest import images
x, y = images(200)
net = tightrope.load(sys.argv[1])
tightrope.ray.certify(net, x, y, 0.02, method="alpha-crown", clip=(0, 1), address=sys.argv[2], out=sys.argv[3],
                      resume=True, block=2)
"""


def test_a_killed_driver_goes_on_where_it_was(cluster, load, tmp_path):
    x, y = images(200)
    out = tmp_path / "many"
    command = [sys.executable, "-c", DRIVER, MODEL, cluster.address, out, Path(__file__).parent]
    finished = killed = 0
    kills = 20 if os.environ.get("TIGHTROPE_ALL") else 2
    for k in range(kills):
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        # At a moment in the middle of its work: as soon as it has written some more.
        wanted = finished + 1 + k % 5
        while process.poll() is None and (not out.exists() or out.read_bytes().count(b"\n") < wanted):
            time.sleep(0.01)
        process.kill()
        killed += process.wait() < 0
        records = out.read_text().rpartition("\n")[0].splitlines()[1:]
        assert len(records) >= finished
        finished = len(records)
    assert killed == kills
    subprocess.run(command, check=True)
    load("mnist-cnn-pgd0.1").certify(x, y, 0.02, method="alpha-crown", clip=(0, 1), out=tmp_path / "one")
    assert without_seconds(out) == without_seconds(tmp_path / "one")
