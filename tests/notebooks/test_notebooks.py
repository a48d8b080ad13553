"""The notebooks run as they are committed: without outputs, from top to bottom."""

from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

pytestmark = pytest.mark.system

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"


def run(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The outputs of a committed notebook's cells, which it is committed without."""
    notebook = nbformat.read(NOTEBOOKS / name, as_version=4)
    assert not any(cell.get("outputs") for cell in notebook.cells)
    monkeypatch.setenv("LIFECYCLE_HOME", str(tmp_path))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    NotebookClient(
        notebook, timeout=120, resources={"metadata": {"path": str(NOTEBOOKS)}}
    ).execute()
    return [output for cell in notebook.cells for output in cell.get("outputs", ())]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # jupyter's own
def test_explore_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    outputs = run("explore.ipynb", tmp_path, monkeypatch)
    shown = [out["data"]["text/html"] for out in outputs if "text/html" in out.get("data", {})]
    assert shown[0].startswith("<iframe sandbox")
    said = "".join(out.get("data", {}).get("text/plain", "") for out in outputs)
    assert "lnmeddol: explains 100% of the target alone" in said


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_an_experiment_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    outputs = run("experiment.ipynb", tmp_path, monkeypatch)
    scores, worst, sites, drift = (out["data"]["text/plain"] for out in outputs if "data" in out)
    assert "roc_auc" in scores
    assert "loss" in worst
    assert "mean" in sites
    assert "prediction" in drift
