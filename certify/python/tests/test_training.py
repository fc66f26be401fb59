"""Torch modules: certified and recorded while they are trained."""

import csv
from types import SimpleNamespace

import numpy as np
import pytest

import tightrope

torch = pytest.importorskip("torch")


@pytest.fixture
def module():
    torch.manual_seed(0)
    layers = [torch.nn.Flatten(), torch.nn.Linear(784, 24), torch.nn.ReLU(), torch.nn.Dropout(0.5), torch.nn.Linear(24, 10)]
    return torch.nn.Sequential(*layers)


def test_modules_are_certified_as_their_networks_are(module, mnist):
    x, y = mnist[0][:20], mnist[1][:20]
    net = tightrope.load(module, input_shape=(1, 1, 28, 28))
    tensors = torch.from_numpy(x), torch.from_numpy(y)
    assert tightrope.certify(module, *tensors, 0.001, clip=(0, 1)) == net.certify(x, y, 0.001, clip=(0, 1))
    before = tightrope.tightness(module, *tensors, 0.01, clip=(0, 1))
    assert list(before.tightness) == list(net.tightness(x, y, 0.01, clip=(0, 1)).tightness)
    assert module.training
    # Another computation with the same weights, and other weights.
    module[2] = torch.nn.Identity()
    linear = tightrope.tightness(module, x, y, 0.01, clip=(0, 1))
    assert (linear.unstable == 0).all() and list(linear.tightness) != list(before.tightness)
    with torch.no_grad():
        module[4].weight.abs_()
    assert list(tightrope.tightness(module, x, y, 0.01, clip=(0, 1)).tightness) != list(linear.tightness)


def test_a_training_is_recorded(module, mnist, tmp_path):
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("Agg")
    x, y = mnist
    recorder = tightrope.TrainingRecorder(x[:40], y[:40], 0.01, layers=True, every=2)
    optimiser = torch.optim.Adam(module.parameters(), lr=3e-3)
    inputs, targets = torch.from_numpy(x), torch.from_numpy(y)
    for epoch in range(5):
        for _ in range(5):
            optimiser.zero_grad()
            torch.nn.functional.cross_entropy(module(inputs), targets).backward()
            optimiser.step()
        if epoch < 3:
            recorder.on_epoch_end(module, epoch)
        else:
            recorder.on_train_epoch_end(SimpleNamespace(current_epoch=epoch), module)
    assert [record.epoch for record in recorder.records] == [0, 2, 4]
    for record in recorder.records:
        assert 0 <= record.certified <= record.attacked <= record.clean <= 1
        assert 0 < record.tightness < 1 and list(record.layers.values()) == pytest.approx([1.0])
    last = recorder.records[-1]
    assert last.clean > recorder.records[0].clean
    module.eval()
    with torch.no_grad():
        assert last.clean == pytest.approx((module(inputs[:40]).argmax(1) == targets[:40]).double().mean().item())
    assert list(recorder.to_pandas()["certified"]) == [record.certified for record in recorder.records]
    recorder.save(tmp_path / "figures.csv")
    with open(tmp_path / "figures.csv") as file:
        assert [float(row["tightness"]) for row in csv.DictReader(file)] == [r.tightness for r in recorder.records]
    assert len(recorder.plot().lines) == 7


def test_what_cannot_be_measured_is_named(module, mnist):
    x, y = mnist
    with pytest.raises(tightrope.InputError, match="torch module"):
        tightrope.tightness(np.tanh, x, y, 0.1)
    with pytest.raises(tightrope.InputError, match="every"):
        tightrope.TrainingRecorder(x, y, 0.1, every=0)
    with pytest.raises(tightrope.InputError, match="at least one"):
        tightrope.TrainingRecorder(x[:0], y[:0], 0.1)
    with pytest.raises(tightrope.InputError, match="batch"):
        tightrope.certify(module, x.ravel(), y, 0.1)
