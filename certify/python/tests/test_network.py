"""Networks: evaluation, bounds, certification, tightness, Lipschitz constants."""

import numpy as np
import onnxruntime
import pytest

import tightrope
from conftest import MODELS


def test_a_network_shows_what_it_is(load):
    net = load("mnist-cnn-plain")
    assert net.input_shape == (1, 1, 28, 28) and net.output_shape == (1, 10)
    assert [node.operator for node in net.nodes] == ["Conv", "Relu", "Conv", "Relu", "Gemm", "Relu", "Gemm"]
    assert net.nodes[0] == ("/0/Conv", "Conv", "affine", (1, 16, 14, 14))
    assert "/5/Gemm" in repr(net) and "<table>" in net._repr_html_()


def test_evaluation_is_that_of_a_run_time(load, mnist):
    x, _ = mnist
    session = onnxruntime.InferenceSession(MODELS / "mnist-cnn-plain.onnx")
    name = session.get_inputs()[0].name
    expected = np.concatenate([session.run(None, {name: image[None]})[0] for image in x])
    net = load("mnist-cnn-plain")
    np.testing.assert_allclose(net(x), expected, atol=1e-4)
    for same in (x.reshape(100, 784), x[:, 0], np.asfortranarray(x), x.astype(np.float64)):
        np.testing.assert_array_equal(net(same), net(x))
    np.testing.assert_array_equal(net(x[3]), net(x[3:4]))


@pytest.mark.parametrize("method", ["ibp", "crown-ibp", "crown", "alpha-crown"])
def test_bounds_hold_and_methods_are_ordered(load, mnist, method):
    x, _ = mnist
    net = load("mnist-cnn-pgd0.1")
    bounds = net.bounds(x[:3], 0.05, method=method, clip=(0, 1))
    ibp = net.bounds(x[:3], 0.05, clip=(0, 1))
    assert (bounds.lower >= ibp.lower).all() and (bounds.upper <= ibp.upper).all()
    random = np.random.default_rng(1)
    for _ in range(50):
        z = np.clip(x[:3] + random.choice([-0.05, 0.05], x[:3].shape), 0, 1).astype(np.float32)
        assert (net(z) >= bounds.lower - 1e-4).all() and (net(z) <= bounds.upper + 1e-4).all()
    assert len(bounds) == 3 and "lower[0]" in bounds.to_pandas()


def test_certification_is_that_of_the_command_line(load, mnist, command_line):
    x, y = mnist
    records = command_line(
        "certify", "models/mnist-cnn-pgd0.1.onnx", "--indices", "5..15", "--eps", "0.1", "--method", "crown",
        "--attack", "10x2",
    )  # fmt: skip
    net = load("mnist-cnn-pgd0.1")
    found = net.certify(x[5:15], y[5:15], 0.1, method="crown", clip=(0, 1), attack=(10, 2), first=5)
    assert list(found.index) == [r["index"] for r in records]
    assert list(found.predicted) == [r["predicted"] for r in records]
    assert list(found.status) == [r["status"] for r in records]
    assert list(found.attack_margin) == [r["attack_margin"] for r in records]
    for row, record in zip(found.margin_lower, records):
        assert [m if np.isfinite(m) else None for m in row] == record["margin_lower"]
    assert 0 < found.certified_accuracy <= found.attacked_accuracy <= found.clean_accuracy


def test_counterexamples_are_inside_and_change_the_class(load, mnist):
    x, y = mnist
    net = load("mnist-cnn-plain")
    found = net.certify(x[:20], y[:20], 0.1, method="none", clip=(0, 1), attack=(20, 2))
    falsified = found.status == "falsified"
    assert falsified.sum() > 10 and found.points.shape == (20, 1, 28, 28) and np.isnan(found.margin).all()
    points = found.points[falsified]
    assert (net(points).argmax(axis=1) != y[:20][falsified]).all()
    assert (np.abs(points.astype(np.float64) - x[:20][falsified]) <= 0.1).all()
    assert points.min() >= 0 and points.max() <= 1


def test_tightness_is_that_of_the_command_line(load, mnist, command_line):
    x, y = mnist
    records = command_line("tightness", "models/mnist-cnn-ibp0.1.onnx", "--indices", "0..70", "--eps", "0.1")
    found = load("mnist-cnn-ibp0.1").tightness(x[:70], y[:70], 0.1, clip=(0, 1))
    for name in ("tightness", "ratio_of_means", "box_radius", "logit_margin", "ibp_loss"):
        assert list(getattr(found, name)) == [r[name] for r in records], name
    assert list(found.unstable) == [r["units"]["unstable"] for r in records]
    assert found.per_margin.shape == (70, 10) and np.isnan(found.per_margin[0, y[0]])


def test_lipschitz_constants_multiply(load):
    report = load("mnist-mlp-noise25").lipschitz()
    assert report.total == pytest.approx(83.98, abs=0.01)
    assert report.constant[-1] == report.total and report.obstacle is None
    assert list(report.operator) == ["Gemm", "Relu", "Gemm", "Relu", "Gemm"]


def test_results_are_tables_and_pictures(load, mnist):
    import matplotlib

    matplotlib.use("Agg")
    x, y = mnist
    net = load("mnist-cnn-ibp0.1")
    results = [
        net.certify(x[:12], y[:12], 0.1, clip=(0, 1), attack=(2, 1)),
        net.tightness(x[:12], y[:12], 0.1, clip=(0, 1)),
        net.lipschitz(),
        net.bounds(x[:12], 0.1),
    ]
    for result in results:
        frame = result.to_pandas()
        assert len(frame) == len(result) > 0
        assert result._repr_html_().count("<tr>") >= min(len(result), 10)
        assert result.summary() in repr(result)
        assert result.plot().has_data()
        matplotlib.pyplot.close("all")


@pytest.mark.parametrize(
    ("call", "kind", "part"),
    [
        (lambda net, x, y: tightrope.load("missing.onnx"), tightrope.ModelError, "missing.onnx"),
        (lambda net, x, y: net(x[:, :, :5]), tightrope.InputError, "784"),
        (lambda net, x, y: net(x.astype(str)), tightrope.InputError, "numbers"),
        (lambda net, x, y: net.certify(x, y[:-1], 0.1), tightrope.InputError, "one for each"),
        (lambda net, x, y: net.certify(x, y + 5, 0.1), tightrope.InputError, "0..10"),
        (lambda net, x, y: net.certify(x, y - 20, 0.1), tightrope.InputError, "classes from 0"),
        (lambda net, x, y: net.certify(x, y + 0.5, 0.1), tightrope.InputError, "integer"),
        (lambda net, x, y: net.certify(x, y, -1), tightrope.InputError, "eps = -1"),
        (lambda net, x, y: net.certify(x, y, 0.1, clip=[0.5, 1]), tightrope.InputError, "clipping"),
        (lambda net, x, y: net.certify(x * np.nan, y, 0.1), tightrope.InputError, "finite"),
        (lambda net, x, y: net.certify(x, y, 0.1, method="milp"), tightrope.InputError, "crown-ibp"),
        (lambda net, x, y: net.certify(x, y, 0.1, norm="l3"), tightrope.InputError, "linf"),
        (lambda net, x, y: net.tightness(x, y, 0.1, mask="no"), tightrope.InputError, "center"),
        (lambda net, x, y: net.tightness(x, y, 0.1, samples=-1), tightrope.InputError, "integer"),
        (lambda net, x, y: net.certify(x, y, None), tightrope.InputError, "eps: found None"),
        (lambda net, x, y: net.certify(x, y, 0.1, clip=(0, 1, 2)), tightrope.InputError, "low, high"),
        (lambda net, x, y: net.certify(x, y, 0.1, attack=(5, 0)), tightrope.InputError, "attack: found 0"),
        (lambda net, x, y: net.certify(x, y, 0.1, attack="5x5x5"), tightrope.InputError, "restarts"),
        (lambda net, x, y: net.certify(x, y, 0.1, seed=-1), tightrope.InputError, "seed: found -1"),
        (lambda net, x, y: net.smooth(x, y + 10), tightrope.InputError, "0..10"),
    ],
)
def test_wrong_arguments_are_named_with_what_is_accepted(load, mnist, call, kind, part):
    with pytest.raises(kind, match="(?s).*" + part) as caught:
        call(load("mnist-cnn-plain"), *mnist)
    assert isinstance(caught.value, tightrope.TightropeError)
