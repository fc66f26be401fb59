"""Verdicts on properties and boxes, and certification to the end."""

import numpy as np
import pytest

import tightrope
from conftest import MODELS

PENDULUM = MODELS / "pendulum.onnx"
PROPERTIES = MODELS / "properties"


def test_properties_have_verdicts():
    found = tightrope.verify(PENDULUM, PROPERTIES / "pendulum-restoring.vnnlib", timeout=60)
    assert (found.verdict, found.x, found.reason) == ("unsat", None, None)
    assert found.subproblems >= 1 and "unsat" in repr(found)
    networks = {"near": PENDULUM, "far": PENDULUM}
    found = tightrope.verify(networks, PROPERTIES / "pendulum-monotone.vnnlib", timeout=60)
    assert found.verdict == "sat" and found.assignment.startswith("A real [1,2]\n")
    with pytest.raises(tightrope.InputError, match="near"):
        tightrope.verify(PENDULUM, PROPERTIES / "pendulum-monotone.vnnlib")
    with pytest.raises(tightrope.InputError, match="other"):
        tightrope.verify({"other": PENDULUM}, PROPERTIES / "pendulum-restoring.vnnlib")
    with pytest.raises(tightrope.InputError, match="timeout"):
        tightrope.verify(PENDULUM, PROPERTIES / "pendulum-restoring.vnnlib", timeout=-1)


def test_boxes_with_constraints():
    net = tightrope.load(PENDULUM)
    lower, upper = np.array([0.3, 0.0]), np.array([1.0, 2.0])
    # The torque is never above -0.5 there, but somewhere above -1.
    assert net.verify(lower, upper, ([[-1.0]], [0.5])).verdict == "unsat"
    found = net.verify(lower, upper, [([[-1.0]], [0.5]), ([[-1.0]], [1.0])])
    assert found.verdict == "sat"
    assert np.all(found.x >= lower) and np.all(found.x <= upper)
    torque = net(found.x.reshape(1, 2))
    assert torque[0, 0] >= -1.0 and np.allclose(torque[0], found.y)
    for wrong in [([[1.0, 2.0]], [0.0]), ([[1.0]], [0.0, 1.0]), [1.0], ([[np.nan]], [0.0])]:
        with pytest.raises(tightrope.InputError):
            net.verify(lower, upper, wrong)
    with pytest.raises(tightrope.InputError, match="2"):
        net.verify(lower[:1], upper[:1], ([[1.0]], [0.0]))


def test_what_python_raises_ends_the_search():
    net = tightrope.load(PENDULUM)

    class Stop(Exception):
        pass

    def progress(_):
        raise Stop

    from tightrope import _tightrope

    with pytest.raises(Stop):
        # Bounds alone do not tell whether the torque leaves [-1.9, 2].
        rows = [[([1.0], -1.995)]]
        ends = np.array([-1.0, -2.0]), np.array([0.0, 0.1])
        _tightrope.verify_box(net._network, *ends, rows, "float32", (None, None), progress)


def test_inputs_end_certified_or_falsified(mnist):
    x, y = mnist
    net = tightrope.load(MODELS / "mnist-cnn-plain.onnx")
    found = net.certify(x[7:9], y[7:9], 0.02, method="complete", clip=(0, 1), timeout=60)
    assert list(found.status) == ["certified", "falsified"]
    assert found.bounded_by[1] == "complete" and list(found.reason) == ["", ""]
    assert np.argmax(net(found.points[1:2])[0]) != y[8]
    with pytest.raises(tightrope.InputError, match="complete"):
        net.certify(x[:1], y[:1], 0.02, timeout=3)
    with pytest.raises(tightrope.InputError, match="linf"):
        net.certify(x[:1], y[:1], 0.02, method="complete", norm=2)
