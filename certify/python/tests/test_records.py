"""What results say of how they were made, and what an error costs."""

import os
import pickle
import signal
import threading
from pathlib import Path

import numpy as np
import pytest

import tightrope

from conftest import ROOT


def test_bytes_are_scaled_as_on_the_command_line(load, mnist, command_line):
    x, y = mnist
    net = load("mnist-cnn-plain")
    pixels = np.rint(x[:8] * 255).astype(np.uint8)
    found = net.certify(pixels, y[:8], 0.02, method="crown")
    records = command_line(
        "certify",
        "models/mnist-cnn-plain.onnx",
        *("--data", "models/data/mnist-test-1000-images.idx.gz"),
        *("--labels", "models/data/mnist-test-1000-labels.idx.gz"),
        *("--eps", "0.02", "--indices", "0..8", "--method", "crown"),
    )
    least = [min(m for m in record["margin_lower"] if m is not None) for record in records]
    assert found.margin.tolist() == least
    assert found.clip == (0.0, 1.0) and found.scale == 1 / 255
    assert np.array_equal(net(pixels), net(x[:8]))
    cut = net.certify(x[:8], y[:8], 0.02, method="crown", clip=(0, 1))
    assert np.array_equal(found.margin, cut.margin)
    whole = net.certify(pixels, y[:8], 0.02, method="crown", clip=None)
    assert whole.clip is None and (whole.margin < found.margin).all()
    with pytest.raises(tightrope.InputError, match="int64 and no scale; accepted: uint8 or floats"):
        net.certify(pixels.astype(np.int64), y[:8], 0.02)
    stated = net.certify(pixels.astype(np.int64), y[:8], 0.02, method="crown", clip=(0, 1), scale=1 / 255)
    assert np.allclose(stated.margin, found.margin, rtol=1e-4)


def test_any_exception_keeps_what_is_finished():
    x = np.linspace(-1, 1, 40, dtype=np.float32).reshape(10, 4)
    calls = []

    def fails(batch):
        calls.append(len(batch))
        if len(calls) > 9:
            raise RuntimeError("CUDA out of memory")
        return np.stack([batch.sum(axis=1), -batch.sum(axis=1)], axis=1)

    with pytest.raises(RuntimeError, match="out of memory") as caught:
        tightrope.smooth(fails, x, sigma=0.5, n=200)
    results = caught.value.results
    assert isinstance(results, tightrope.Smoothing) and 0 < len(results) < 10
    again = tightrope.smooth(
        lambda b: np.stack([b.sum(axis=1), -b.sum(axis=1)], axis=1), x[: len(results)], sigma=0.5, n=200
    )
    assert again.radius.tolist() == results.radius.tolist()


def test_inputs_that_are_refused_keep_those_before_them(load, mnist):
    x, y = mnist
    bad = x.copy()
    bad[70, 0, 3, 3] = 2
    with pytest.raises(tightrope.InputError, match="input 70: entry 87 is 2") as caught:
        load("mnist-cnn-plain").certify(bad, y, 0.02, clip=(0, 1))
    assert len(caught.value.results) == 64


def test_unknown_labels_and_abstentions_are_absent(load, mnist):
    x, _ = mnist
    found = load("mnist-mlp-noise50").smooth(x[:4], sigma=0.5, n=300)
    assert all(record["label"] is None and record["correct"] is None for record in found.records)
    assert (found.label == -1).all()


def test_runs_are_cut_into_shards_and_continued(load, mnist, tmp_path):
    x, y = mnist
    net = load("mnist-cnn-pgd0.1")
    x, y = x[:20], y[:20]

    def certify(**options):
        return net.certify(x, y, 0.02, method="crown", clip=(0, 1), attack=(3, 1), **options)

    whole = certify(out=tmp_path / "whole")
    part = certify(out=tmp_path / "part", shard=(1, 3))
    assert part.index.tolist() == list(range(1, 20, 3)) and np.array_equal(part.label, y[1::3])
    assert np.array_equal(part.margin, whole.margin[1::3]) and np.array_equal(part.points, whole.points[1::3])
    text = (tmp_path / "whole").read_text()
    lines = text.splitlines(keepends=True)
    (tmp_path / "whole").write_text("".join(lines[:9]) + lines[9][:30])
    again = certify(out=tmp_path / "whole", resume=True)
    assert np.array_equal(again.margin, whole.margin) and again.status.tolist() == whole.status.tolist()
    with pytest.raises(tightrope.InputError, match="data_sha256 was"):
        net.certify(x * 0.5, y, 0.02, method="crown", clip=(0, 1), attack=(3, 1), out=tmp_path / "whole", resume=True)
    with pytest.raises(tightrope.InputError, match="exists already"):
        certify(out=tmp_path / "whole")
    smooth = net.smooth(x[:6], y[:6], 0.25, n=200, out=tmp_path / "smooth")
    part = net.smooth(x[:6], y[:6], 0.25, n=200, out=tmp_path / "smooth1", shard=(1, 2))
    assert part.radius.tolist() == smooth.radius[1::2].tolist()
    report = net.tightness(x, y, 0.02, out=tmp_path / "tightness", shard=(0, 4))
    assert report.index.tolist() == [0, 4, 8, 12, 16]


def test_results_are_compared_cut_and_put_together(load, mnist):
    x, y = mnist
    net = load("mnist-cnn-pgd0.1")
    whole = net.certify(x[:9], y[:9], 0.02, clip=(0, 1), attack=(2, 1))
    parts = [net.certify(x[a:b], y[a:b], 0.02, clip=(0, 1), attack=(2, 1), first=a) for a, b in ((0, 4), (4, 9))]
    assert tightrope.concat(parts) == whole and whole != parts[0] and whole[:4] == parts[0]
    assert whole[whole.index >= 4] == parts[1] and len(whole[np.array([8, 0])]) == 2
    assert net.certify(x[:9], y[:9], 0.02, clip=(0, 1), attack=(2, 1), norm=np.inf) == whole
    assert net.certify(x[:2], y[:2], 0.1, norm=2) == net.certify(x[:2], y[:2], 0.1, norm="l2")
    other = net.certify(x[:1], y[:1], 0.03, clip=(0, 1), attack=(2, 1))
    with pytest.raises(tightrope.InputError, match="eps: found"):
        tightrope.concat([whole, other])
    with pytest.raises(tightrope.InputError, match="accepted: linf, l2, l1"):
        net.certify(x[:1], y[:1], 0.1, norm=3)
    smooth = net.smooth(x[:4], y[:4], 0.25, n=100)
    assert tightrope.concat([smooth[:1], smooth[1:]]) == smooth


def test_networks_results_and_errors_go_to_other_processes(load, mnist):
    x, y = mnist
    net = load("mnist-cnn-pgd0.1")
    found = net.certify(x[:3], y[:3], 0.02)
    again = pickle.loads(pickle.dumps(net))
    assert again.certify(x[:3], y[:3], 0.02) == found == pickle.loads(pickle.dumps(found))
    error = pickle.loads(pickle.dumps(tightrope.Interrupted(found)))
    assert error.results == found
    assert str(pickle.loads(pickle.dumps(tightrope.InputError("x")))) == "x"


def test_several_radii_and_methods_are_one_run(load, mnist, tmp_path, command_line):
    x, y = mnist
    net = load("mnist-cnn-pgd0.1")
    pixels = np.rint(x[:6] * 255).astype(np.uint8)
    found = net.certify(pixels, y[:6], [0.02, 0.05], method=["ibp", "crown"], attack=(3, 1), out=tmp_path / "run")
    records = command_line(
        "certify",
        "models/mnist-cnn-pgd0.1.onnx",
        *("--data", "models/data/mnist-test-1000-images.idx.gz"),
        *("--labels", "models/data/mnist-test-1000-labels.idx.gz"),
        *("--eps", "0.02,0.05", "--indices", "0..6", "--method", "ibp,crown", "--attack", "3x1"),
    )
    assert [(r["eps"], r["method"], r["margin_lower"], r["status"]) for r in found.records] == [
        (r["eps"], r["method"], r["margin_lower"], r["status"]) for r in records
    ]
    assert len(found) == 24 and found.points.shape == (24, 1, 28, 28)
    alone = net.certify(pixels, y[:6], 0.05, method="crown", attack=(3, 1))
    part = found.at(0.05, "crown")
    assert part.margin.tolist() == alone.margin.tolist() and np.array_equal(part.points, alone.points)
    assert [(a.eps, a.method) for a in found.accuracies()] == [
        (eps, method) for eps in (0.02, 0.05) for method in ("ibp", "crown")
    ]
    assert found.accuracies()[3].certified == alone.certified_accuracy
    with pytest.raises(tightrope.InputError, match="accepted: one of them, by .at"):
        _ = found.certified_accuracy
    with pytest.raises(tightrope.InputError, match="accepted: one of eps 0.02 ibp"):
        found.at(0.03)
    # What is saved, written on the way, and read again is one.
    found.save(tmp_path / "saved")
    saved = tightrope.read(tmp_path / "saved")
    assert saved.records == found.records and saved == tightrope.read(tmp_path / "run")
    assert (tmp_path / "saved").read_text().split("\n")[1:] == (tmp_path / "run").read_text().split("\n")[1:]
    with pytest.raises(FileExistsError):
        found.save(tmp_path / "saved")


def test_runs_of_all_kinds_are_read(load, mnist, tmp_path):
    x, y = mnist
    net = load("mnist-cnn-pgd0.1")
    x, y = x[:6], y[:6]
    brackets = net.brackets(x, y, 0.2, method="crown", clip=(0, 1), attack=(5, 1), out=tmp_path / "brackets")
    right = brackets.predicted == brackets.label
    assert right.any() and (brackets.radius[right] > 0).all() and (brackets.radius < brackets.attacked).all()
    assert brackets.certified_accuracy([0, 1]).tolist() == [right.mean(), 0]
    for radius, sure in zip(brackets.radius, right):
        if sure:
            k = int(np.flatnonzero(brackets.radius == radius)[0])
            assert net.certify(x[k : k + 1], y[k : k + 1], radius, method="crown", clip=(0, 1)).certified.all()
    report = net.tightness(x, y, 0.02, layers=True, out=tmp_path / "tightness")
    assert len(report.per_layer) > 1 and all(len(column) == 6 for column in report.per_layer.values())
    smooth = net.smooth(x, y, 0.25, n=200, out=tmp_path / "smooth")
    for name, found in [("brackets", brackets), ("tightness", report), ("smooth", smooth)]:
        again = tightrope.read(tmp_path / name)
        assert type(again) is type(found) and again == found and again.summary() == found.summary()
    parts = [
        net.smooth(x, y, 0.25, n=200, shard=(i, 2), out=tmp_path / f"part{i}") for i in range(2)
    ]
    assert tightrope.read(tmp_path / "part1", tmp_path / "part0") == smooth
    assert len(parts[0]) == 3
    (tmp_path / "other").write_text("no run\n")
    with pytest.raises(tightrope.InputError, match="other: line 1 is not the first line of a run"):
        tightrope.read(tmp_path / "other")


def test_threads_change_nothing_and_signals_are_seen(load, mnist):
    x, y = mnist
    net = load("mnist-cnn-plain")
    whole = net.certify(x[:8], y[:8], 0.02, method="crown", attack=(3, 1))
    assert net.certify(x[:8], y[:8], 0.02, method="crown", attack=(3, 1), threads=1) == whole
    assert net.bounds(x[:2], 0.02, threads=3) == net.bounds(x[:2], 0.02)
    smooth = net.smooth(x[:3], y[:3], 0.25, n=500)
    assert net.smooth(x[:3], y[:3], 0.25, n=500, threads=2) == smooth
    with pytest.raises(tightrope.InputError, match="threads: found 0"):
        net.certify(x[:1], y[:1], 0.02, threads=0)
    timer = threading.Timer(0.3, lambda: os.kill(os.getpid(), signal.SIGINT))
    timer.start()
    with pytest.raises(tightrope.Interrupted) as caught:
        net.certify(np.tile(x, (40, 1, 1, 1)), np.tile(y, 40), 0.02, method="alpha-crown", threads=2)
    assert isinstance(caught.value.results, tightrope.Certification)


def test_networks_come_from_bytes_and_messages(load, mnist):
    x, y = mnist
    net = load("mnist-cnn-plain")
    data = Path(net.path).read_bytes()
    found = net.certify(x[:3], y[:3], 0.02)

    class Message:
        def SerializeToString(self):  # noqa: N802
            return data

    for model in (data, bytearray(data), Message()):
        again = tightrope.load(model)
        assert again.certify(x[:3], y[:3], 0.02) == found
        assert pickle.loads(pickle.dumps(again)).certify(x[:3], y[:3], 0.02) == found
    with pytest.raises(tightrope.ModelError, match="model in memory"):
        tightrope.load(data[: len(data) // 2])
    with pytest.raises(tightrope.InputError, match="accepted: a file, bytes, an onnx.ModelProto or a torch module"):
        tightrope.load(3)


def test_torch_modules_are_exported():
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    module = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(16, 8), torch.nn.ReLU(), torch.nn.Linear(8, 3))
    net = tightrope.load(module, input_shape=(1, 1, 4, 4))
    x = np.random.default_rng(0).random((5, 1, 4, 4), dtype=np.float32)
    with torch.no_grad():
        assert np.allclose(net(x), module(torch.from_numpy(x)).numpy(), atol=1e-6)
    assert module.training
    with pytest.raises(tightrope.InputError, match="input_shape: found none with a torch module"):
        tightrope.load(module)


def test_images_are_read_as_on_the_command_line(load, mnist, tmp_path):
    x, y = mnist
    folder = ROOT / "models/data"
    files = folder / "mnist-test-1000-images.idx.gz", folder / "mnist-test-1000-labels.idx.gz"
    net = load("mnist-cnn-plain")
    found = tightrope.images(*files, shape=net.input_shape, last=100)
    assert np.array_equal(found.x, x) and np.array_equal(found.y, y) and found.clip == (0.0, 1.0)
    stored = tightrope.images(*files, first=3, last=5)
    assert stored.x.shape == (2, 28, 28) and stored.y.tolist() == y[3:5].tolist()
    np.save(tmp_path / "x.npy", x[:2])
    alone = tightrope.images(tmp_path / "x.npy")
    assert alone.y is None and alone.clip is None and alone.x.shape == (2, 1, 28, 28)
    with pytest.raises(tightrope.InputError, match="indices 5..2"):
        tightrope.images(*files, first=5, last=2)
    with pytest.raises(tightrope.InputError, match="none.npy"):
        tightrope.images(tmp_path / "none.npy")
