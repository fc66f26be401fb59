"""Smoothing, of networks and of functions, and the statistics alone."""

import _thread
import os
import signal
import sys
import threading
import time

import numpy as np
import onnxruntime
import pytest

import tightrope
from conftest import MODELS


def session(name):
    """A network as a function, by another run time."""
    run = onnxruntime.InferenceSession(MODELS / f"{name}.onnx")
    argument = run.get_inputs()[0]
    fixed = argument.shape[0] == 1

    def f(batch):
        parts = batch[:, None] if fixed else [batch]
        return np.concatenate([run.run(None, {argument.name: part})[0] for part in parts])

    return f


def test_radii_are_those_of_the_command_line(load, mnist, command_line):
    x, y = mnist
    records = command_line("smooth", "models/mnist-mlp-noise25.onnx", "--indices", "3..9", "-n", "2000", "--seed", "7")
    found = load("mnist-mlp-noise25").smooth(x[3:9], y[3:9], 0.25, n=2000, seed=7, first=3)
    for name in ("index", "label", "predicted", "radius", "correct", "samples", "map", "p_lower", "p_upper"):
        assert list(getattr(found, name)) == [r[name] for r in records], name
    for ours, theirs in zip(found.records, records):
        assert ours["outcome"] == theirs["outcome"] and ours["ledger"] == theirs["ledger"]


def test_several_scales_are_the_runs_of_each(load, mnist, tmp_path):
    x, y = mnist
    network = load("mnist-mlp-noise25")
    both = network.smooth(x[:3], y[:3], sigma=[0.25, 0.5], n=300)
    assert both.sigma.tolist() == [0.25, 0.5] * 3 and both.index.tolist() == [0, 0, 1, 1, 2, 2]
    for sigma in (0.25, 0.5):
        alone = network.smooth(x[:3], y[:3], sigma=sigma, n=300)
        assert both.at(sigma).radius.tolist() == alone.radius.tolist()
    with pytest.raises(tightrope.InputError, match="accepted: 0.25, 0.5"):
        both.at(0.3)
    assert "sigma 0.5" in both.summary()
    both.save(tmp_path / "run.jsonl")
    assert tightrope.read(tmp_path / "run.jsonl") == both
    with pytest.raises(tightrope.InputError, match="by .at"):
        both.certified_accuracy(0.5)
    with pytest.raises(tightrope.InputError, match="by .at"):
        both.to_tsv(tmp_path / "run.tsv")
    with pytest.raises(tightrope.InputError, match="twice"):
        network.smooth(x[:3], y[:3], sigma=[0.5, 0.5], n=300)


def test_another_run_time_gives_the_same_radii(load, mnist):
    x, y = mnist
    options = dict(sigma=0.25, n=500, n0=50, map="hardmax", seed=3)
    built_in = load("mnist-cnn-plain").smooth(x[:3], y[:3], **options)
    other = tightrope.smooth(session("mnist-cnn-plain"), x[:3], y[:3], batch_size=100, **options)
    np.testing.assert_array_equal(other.predicted, built_in.predicted)
    # The same noise; logits differ in their last bits, which may turn a tie.
    counts = [[r["outcome"]["top"]["sum"] for r in result.records] for result in (other, built_in)]
    difference = [abs(int(a) - int(b)) >> 48 for a, b in zip(*counts)]
    assert max(difference) <= 1
    whole = tightrope.smooth(session("mnist-cnn-plain"), x[:3], y[:3], batch_size=4096, **options)
    np.testing.assert_array_equal(whole.radius, other.radius)


def test_a_linear_classifier_never_gets_more_than_its_distance():
    from sklearn.linear_model import LogisticRegression

    random = np.random.default_rng(0)
    x = random.normal(size=(200, 5)).astype(np.float32)
    y = (x[:, 0] > 0).astype(np.int64)
    model = LogisticRegression().fit(x, y)

    def f(batch):
        score = model.decision_function(batch)
        return np.stack([-score, score], axis=1)

    found = tightrope.smooth(f, x[:20], y[:20], 0.5, n=1000, map="hardmax")
    distance = np.abs(model.decision_function(x[:20])) / np.linalg.norm(model.coef_)
    assert (found.radius <= distance).all() and (found.radius > 0.5 * distance).any()


def test_labels_are_optional_and_curves_fall(load, mnist, tmp_path):
    x, y = mnist
    net = load("mnist-mlp-noise50")
    found = net.smooth(x[:8], sigma=0.5, n=300)
    assert (found.label == -1).all() and not found.correct.any() and (found.radius > 0).any()
    found = net.smooth(x[:8], y[:8], 0.5, n=300)
    accuracy = found.certified_accuracy([0, 0.25, 0.5, 9])
    assert list(accuracy) == sorted(accuracy, reverse=True) and accuracy[-1] == 0
    assert found.certified_accuracy() == accuracy[0]
    found.to_tsv(tmp_path / "run.tsv")
    lines = (tmp_path / "run.tsv").read_text().splitlines()
    assert lines[0] == "idx\tlabel\tpredict\tradius\tcorrect\ttime" and len(lines) == 9
    assert found.plot(label="noise .5").has_data() and len(found.to_pandas()) == 8


def test_adaptive_stopping_the_lattice_and_lipschitz_constants(load, mnist):
    x, y = mnist
    net = load("mnist-mlp-noise25")
    settled = net.smooth(x[:4], y[:4], 0.25, n=20_000, radius=0.1, map="hardmax")
    assert settled.samples.max() < 5000 and (settled.radius >= 0.1).any()
    lattice = net.smooth(x[:2], y[:2], 0.25, n=300, noise="lattice")
    assert (lattice.radius > 0).any()
    aware = net.smooth(x[:2], y[:2], 0.25, n=300, map="softmax:1", lipschitz="auto")
    assert all("aware" in r["outcome"]["candidate"]["rule"] for r in aware.records)


def test_torch_modules_are_taken_as_they_are(mnist):
    torch = pytest.importorskip("torch")
    x, _ = mnist
    torch.manual_seed(0)
    module = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(784, 4)).eval()
    found = tightrope.smooth(module, x[:3], sigma=0.25, n=300)

    def by_hand(batch):
        with torch.no_grad():
            return module(torch.from_numpy(batch)).numpy()

    np.testing.assert_array_equal(found.radius, tightrope.smooth(by_hand, x[:3], sigma=0.25, n=300).radius)
    for kind in (torch.float64, torch.bfloat16):
        assert len(tightrope.smooth(module.to(kind), x[:3], sigma=0.25, n=300)) == 3
    with pytest.warns(UserWarning, match="training mode"):
        tightrope.smooth(module.float().train(), x[:1], sigma=0.25, n=10)


def test_what_a_classifier_does_wrong_is_said(mnist):
    x, y = mnist

    def smooth(f, **options):
        return tightrope.smooth(f, x[:2], y[:2], 0.25, **{"n": 200, **options})

    with pytest.raises(tightrope.ClassifierError, match="one row for each"):
        smooth(lambda z: np.zeros((3, 10)))
    with pytest.raises(tightrope.ClassifierError, match="one row for each"):
        smooth(lambda z: np.zeros(len(z)))
    with pytest.raises(tightrope.InputError, match="at least 2"):
        smooth(lambda z: np.zeros((len(z), 1)))
    with pytest.raises(ZeroDivisionError):
        smooth(lambda z: 1 // 0)
    with pytest.raises(tightrope.ClassifierError, match="cannot be called"):
        smooth(onnxruntime.InferenceSession(MODELS / "mnist-mlp-noise25.onnx"))
    assert len(tightrope.smooth(lambda z: z, x[:0], y[:0])) == 0
    for name, value in [("n", -1), ("n", 0.5), ("n0", 2**32), ("seed", -1), ("first", -1), ("batch_size", 0),
                        ("radius", "a"), ("alpha", None)]:  # fmt: skip
        with pytest.raises(tightrope.InputError, match=f"{name}: found"):
            smooth(lambda z: z, **{name: value})
    with pytest.raises(tightrope.InputError, match="sigma"):
        smooth(lambda z: z, sigma=0.25) if False else tightrope.smooth(lambda z: z, x[:2], sigma=-1)
    with pytest.raises(tightrope.InputError, match="a loaded network"):
        smooth(lambda z: z.reshape(len(z), -1)[:, :3], lipschitz="auto")
    undefined = smooth(lambda z: np.full((len(z), 3), np.nan))
    assert (undefined.predicted == -1).all() and (undefined.radius == 0).all()


def test_the_lock_is_released(load, mnist):
    x, y = mnist
    net = load("mnist-mlp-noise25")
    net.smooth(x[:1], y[:1], 0.25, n=100)
    counted, running = 0, True

    def count():
        nonlocal counted
        while running:
            counted += 1
            time.sleep(0.001)

    thread = threading.Thread(target=count)
    thread.start()
    net.smooth(x[:1], y[:1], 0.25, n=60_000)
    during = counted
    running = False
    thread.join()
    # A call that held the lock would have let the other thread in at its batches only, about 15 times.
    assert during > 40


def test_an_interrupt_during_the_last_inputs_keeps_them(load, mnist):
    x, y = mnist
    net = load("mnist-cnn-pgd0.1")
    timer = threading.Timer(0.1, _thread.interrupt_main)
    timer.start()
    with pytest.raises(tightrope.Interrupted) as caught:
        net.certify(x[:1], y[:1], 0.01, method="none", attack=(400, 10))
    timer.join()
    assert len(caught.value.results) == 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
def test_a_forked_process_is_refused_instead_of_waiting_for_threads_it_lacks(load, mnist):
    import multiprocessing

    x, _ = mnist
    net = load("mnist-mlp-noise25")
    net(x)

    def child(queue):
        try:
            net(x)
        except tightrope.TightropeError as error:
            queue.put(str(error))

    context = multiprocessing.get_context("fork")
    queue = context.SimpleQueue()
    process = context.Process(target=child, args=(queue,), daemon=True)
    process.start()
    process.join(30)
    assert process.exitcode == 0 and "spawn" in queue.get()


@pytest.mark.skipif(sys.platform == "win32", reason="sends a signal")
def test_an_interrupt_keeps_what_is_done(load, mnist):
    x, y = mnist
    net = load("mnist-mlp-noise25")
    calls = 0

    def f(batch):
        nonlocal calls
        calls += 1
        if calls == 4:
            os.kill(os.getpid(), signal.SIGINT)
        return net(batch)

    with pytest.raises(KeyboardInterrupt) as caught:
        tightrope.smooth(f, x[:50], y[:50], 0.25, n=500, batch_size=4096)
    results = caught.value.results
    assert 1 <= len(results) <= 2 and results.index[0] == 0

    timer = threading.Timer(0.2, _thread.interrupt_main)
    timer.start()
    with pytest.raises(tightrope.Interrupted) as caught:
        net.smooth(np.repeat(x, 100, axis=0), np.repeat(y, 100), 0.25, n=100_000)
    assert len(caught.value.results) < 10_000
    timer.cancel()


def test_the_statistics_alone():
    lower = tightrope.confidence.clopper_pearson([90, 99, 100, 0], 100, alpha=0.001)
    expected = [0.7775, 0.9105, 0.001 ** (1 / 100), 0.0]
    np.testing.assert_allclose(lower, expected, atol=2e-2)
    assert lower[2] <= 0.001 ** (1 / 100) and lower[2] == pytest.approx(0.001 ** (1 / 100), rel=1e-12)
    upper = tightrope.confidence.clopper_pearson([10, 1], 100, 0.001, side="upper")
    np.testing.assert_allclose(upper, 1 - lower[:2], rtol=1e-12)
    assert (tightrope.confidence.krichevsky_trofimov([90, 99], 100) < lower[:2]).all()
    radii = tightrope.radius(lower, 0.25)
    from statistics import NormalDist

    assert radii[0] == pytest.approx(0.25 * NormalDist().inv_cdf(lower[0]), rel=1e-9) and radii[3] == 0.0
    assert tightrope.radius(0.9, 0.5, 0.1) == pytest.approx(0.5 * NormalDist().inv_cdf(0.9), rel=1e-9)
    assert tightrope.radius(0.9, 0.5, noise="laplace") == pytest.approx(-0.5 * np.log(2 * (1 - 0.9)), rel=1e-6)
    scores = np.random.default_rng(0).uniform(0.6, 0.8, (3, 1000))
    for bound in (tightrope.confidence.hoeffding, tightrope.confidence.bernstein, tightrope.confidence.betting):
        assert (bound(scores) < 0.7).all() and (bound(scores, side="upper") > 0.7).all()
        assert bound(scores[0]) == bound(scores)[0]
    for wrong in (
        lambda: tightrope.confidence.clopper_pearson(5, 4),
        lambda: tightrope.confidence.clopper_pearson(0.5, 4),
        lambda: tightrope.confidence.clopper_pearson(1, 4, alpha=2),
        lambda: tightrope.confidence.clopper_pearson(np.uint64(2**63), np.uint64(2**63)),
        lambda: tightrope.confidence.bernstein([0.5, 2.0]),
        lambda: tightrope.confidence.bernstein(np.zeros((2, 0))),
        lambda: tightrope.confidence.bernstein([0.5], side="left"),
        lambda: tightrope.radius(1.5, 0.25),
        lambda: tightrope.radius(0.9, 0.25, 0.1, noise="laplace"),
    ):
        with pytest.raises(tightrope.InputError, match="accepted"):
            wrong()
