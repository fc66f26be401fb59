"""The page of `tightrope report`, opened by a browser without a window."""

import json
import re
import shutil
import subprocess

import pytest

from conftest import ROOT

BROWSER = next(filter(None, map(shutil.which, ["chromium", "chromium-browser", "google-chrome"])), None)

# Reports what is drawn: the size of every figure on the screen, and that of every decoded picture.
PROBE = """<script>
onload = () => {
  const size = e => { const box = e.getBoundingClientRect(); return [box.width, box.height]; };
  const lines = [...document.querySelectorAll("figure svg")].map(
    e => [...e.querySelectorAll("polyline")].filter(l => l.getBBox().width > 0).length);
  const found = {svg: [...document.querySelectorAll("figure svg")].map(size), lines,
    img: [...document.querySelectorAll("img")].map(e => [e.naturalWidth, e.naturalHeight]),
    wide: document.documentElement.scrollWidth};
  document.body.innerHTML = "<pre>" + JSON.stringify(found) + "</pre>";
};
</script>"""


def opened(page, folder):
    probed = folder / "probed.html"
    probed.write_text(page.read_text() + PROBE)
    command = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={folder}/profile", "--dump-dom"]
    found = subprocess.run([*command, probed.as_uri()], check=True, capture_output=True, text=True, timeout=120)
    return json.loads(re.search("<pre>(.*?)</pre>", found.stdout)[1])


@pytest.mark.skipif(BROWSER is None, reason="there is no chromium")
def test_a_browser_draws_every_figure(program, tmp_path):
    data = [f"--{what}=models/data/mnist-test-1000-{what.replace('data', 'images')}.idx.gz" for what in ("data", "labels")]

    def run(command, *arguments, out):
        subprocess.run(
            [program, command, *arguments, "-q", "--out", tmp_path / out], check=True, capture_output=True, cwd=ROOT
        )

    few = [*data, "--indices", "0..12"]
    for name in ("plain", "pgd0.1"):
        model = f"models/mnist-cnn-{name}.onnx"
        attack = ["--attack", "5x1", "--counterexamples", tmp_path / "cex"]
        run("certify", model, *few, "--eps", "0.02,0.1", "--method", "ibp,crown", *attack, out=f"certify-{name}")
    run("certify", model, *few, "--eps", "0.2", "--radius", "--attack", "5x1", out="radius")
    run("tightness", model, *few, "--eps", "0.02", "--layers", out="tightness")
    run("smooth", "models/mnist-mlp-noise50.onnx", *few, "--sigma", "0.5", "-n", "200", out="smooth")
    run("verify", "--instances", "models/properties/pendulum.csv", "--timeout", "30", out="verify")
    names = ["certify-plain", "certify-pgd0.1", "radius", "tightness", "smooth", "verify"]
    page = tmp_path / "report.html"
    made = [program, "report", *(tmp_path / name for name in names), "--html", page]
    subprocess.run(made, check=True, capture_output=True, cwd=ROOT)
    text = page.read_text()
    assert "<script" not in text and not re.search(r'(src|href)="(?!data:)', text)
    found = opened(page, tmp_path)
    # Accuracy, margins and time of both certify runs; two figures of the others, three of tightness.
    assert len(found["svg"]) == 3 + 2 + 3 + 2 + 2
    assert all(width > 300 and height > 200 for width, height in found["svg"])
    assert found["lines"][0] >= 8 and all(lines >= 1 for lines in found["lines"])
    # Falsified inputs with counterexample and difference.
    assert len(found["img"]) >= 5 * 6 and all(size == [28, 28] for size in found["img"])
