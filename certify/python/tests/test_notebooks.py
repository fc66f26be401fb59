"""The examples run from the first cell to the last."""

import nbclient
import nbformat
import pytest

from conftest import ROOT

EXAMPLES = sorted((ROOT / "certify/python/examples").glob("*.ipynb"))


def test_there_are_examples():
    assert [path.stem for path in EXAMPLES] == ["certify", "smoothing", "tightness"]


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_the_notebook_runs(path):
    notebook = nbformat.read(path, as_version=4)
    nbclient.NotebookClient(notebook, timeout=300, resources={"metadata": {"path": path.parent}}).execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert any("image/png" in output.get("data", {}) for output in outputs)
