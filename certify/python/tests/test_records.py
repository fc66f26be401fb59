"""What results say of how they were made, and what an error costs."""

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
