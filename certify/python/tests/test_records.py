"""What results say of how they were made, and what an error costs."""

import pickle

import numpy as np
import pytest

import tightrope


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
