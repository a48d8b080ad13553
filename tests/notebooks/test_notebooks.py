"""The notebooks run as they are committed: without outputs, from top to bottom."""

from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"
FILES = sorted(NOTEBOOKS.glob("*.ipynb"))


def cells_of(text: str) -> list[tuple[str, str]]:
    """Kind and source of each cell of a notebook's text, as Jupytext's percent format has them."""
    cells = []
    for part in text.split("# %%")[1:]:
        head, _, source = part.partition("\n")
        kind = "markdown" if "[markdown]" in head else "code"
        lines = source.strip("\n").split("\n")
        if kind == "markdown":
            lines = [line.removeprefix("#").removeprefix(" ") for line in lines]
        cells.append((kind, "\n".join(lines)))
    return cells


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_notebook_is_as_its_text_and_has_no_outputs(file: Path) -> None:
    cells = nbformat.read(file, as_version=4).cells
    text = cells_of(file.with_suffix(".py").read_text())
    assert [(cell.cell_type, cell.source) for cell in cells] == text, "`make notebooks` mends it"
    assert not any(cell.get("outputs") or cell.get("execution_count") for cell in cells)


def run(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The outputs of a committed notebook's cells, which it is committed without."""
    notebook = nbformat.read(NOTEBOOKS / name, as_version=4)
    monkeypatch.setenv("LIFECYCLE_HOME", str(tmp_path))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    NotebookClient(
        notebook, timeout=120, resources={"metadata": {"path": str(NOTEBOOKS)}}
    ).execute()
    return [output for cell in notebook.cells for output in cell.get("outputs", ())]


@pytest.mark.system
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # jupyter's own
def test_explore_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    outputs = run("explore.ipynb", tmp_path, monkeypatch)
    shown = [out["data"]["text/html"] for out in outputs if "text/html" in out.get("data", {})]
    assert shown[0].startswith("<iframe sandbox")
    said = "".join(out.get("data", {}).get("text/plain", "") for out in outputs)
    assert "lnmeddol: explains 100% of the target alone" in said


@pytest.mark.system
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_an_experiment_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    outputs = run("experiment.ipynb", tmp_path, monkeypatch)
    scores, worst, sites, drift = (out["data"]["text/plain"] for out in outputs if "data" in out)
    assert "roc_auc" in scores
    assert "loss" in worst
    assert "mean" in sites
    assert "prediction" in drift


@pytest.mark.system
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_errors_are_analysed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    outputs = run("error_analysis.ipynb", tmp_path, monkeypatch)
    tenths, sides, groups, apart, rows = (
        out["data"]["text/plain"] for out in outputs if "data" in out
    )
    assert "said" in tenths
    assert "binexp" in sides
    assert "female" in groups
    assert "distance" in apart
    assert "loss" in rows
