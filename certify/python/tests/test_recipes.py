"""The training recipes of `models/recipes`, two epochs each on a few images; needs torch and onnx."""

import csv
import sys

import numpy as np
import pytest

import tightrope
from conftest import MODELS, images

torch = pytest.importorskip("torch")
pytest.importorskip("onnx")
sys.path.insert(0, str(MODELS))

from recipes import METHODS  # noqa: E402
from recipes.crown_ibp import crown_ibp_margins  # noqa: E402
from recipes.data import Dataset  # noqa: E402
from recipes.export import export_onnx  # noqa: E402
from recipes.intervals import ibp_margins  # noqa: E402
from recipes.loop import Training, fit  # noqa: E402
from recipes.measure import study_figures, tightness  # noqa: E402
from recipes.networks import study_cnn  # noqa: E402


@pytest.fixture(scope="module")
def data():
    torch.set_num_threads(1)
    x, y = (torch.from_numpy(part) for part in images(400))
    return Dataset(x[:320], y[:320], x[320:], y[320:])


@pytest.mark.parametrize("method", METHODS)
def test_methods_train_and_leave_figures(method, data, tmp_path):
    torch.manual_seed(1)
    network = study_cnn()
    after = lambda network, _: study_figures(network, data.test_x[:20], data.test_y[:20], 0.1, (3, 1))  # noqa: E731
    recipe = METHODS[method](2)
    if hasattr(recipe, "eps"):
        recipe.eps = 0.02  # Of so few images little can be learnt against more.
    rows = fit(network, recipe, Training(data, 8, 1, tmp_path, after))
    with open(tmp_path / "epochs.csv") as file:
        found = list(csv.DictReader(file))
    assert [row["epoch"] for row in found] == ["0", "1", "2"]
    assert all(np.isfinite(row["loss"]) for row in rows[1:])
    assert rows[2]["clean"] > rows[0]["clean"]
    for row in rows:
        assert 0 <= row["certified"] <= row["adversarial"] <= row["clean"] <= 1 and 0 < row["tightness"] <= 1


def test_a_run_that_was_cut_off_goes_on_as_if_it_was_not(data, tmp_path):
    def train(folder, stop=None):
        torch.manual_seed(2)
        network = study_cnn()
        recipe = METHODS["sabr"](2)

        def after(network, epoch):
            if epoch == stop:
                raise KeyboardInterrupt
            return {"clean": 0.0}

        fit(network, recipe, Training(data, 64, 2, folder, after))
        return network.state_dict()

    whole = train(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "cut", stop=2)
    again = train(tmp_path / "cut")
    assert all(torch.equal(whole[key], again[key]) for key in whole)


def test_bounds_hold_and_tightness_is_that_of_the_library(data, tmp_path):
    torch.manual_seed(3)
    network = study_cnn(4)
    x, y = data.test_x[:10], data.test_y[:10]
    with torch.no_grad():
        interval, _ = ibp_margins(network, x, y, 0.02)
        linear = crown_ibp_margins(network, x, y, 0.02)
        assert linear.mean() > interval.mean()
        for _ in range(50):
            logits = network((x + 0.02 * torch.randn_like(x).sign()).clamp(0, 1))
            margins = logits.gather(1, y[:, None]) - logits
            assert (margins >= linear - 1e-5).all() and (margins >= interval - 1e-5).all()
    export_onnx(network, tmp_path / "net.onnx", x)
    found = tightrope.load(tmp_path / "net.onnx").tightness(x.numpy(), y.numpy(), 0.02, clip=(0, 1))
    np.testing.assert_allclose(tightness(network, x, y, 0.02).numpy(), found.tightness, rtol=1e-9)
