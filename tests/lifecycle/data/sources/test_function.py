"""Functions as sources: called once, and what goes wrong in them is said with its line."""

from pathlib import Path

import pytest

from lifecycle.data.sources import open_source
from lifecycle.errors import SourceError
from lifecycle.project import Project
from tests.support.makers import project_of


def project_with(folder: Path, body: str) -> Project:
    (folder / "made.py").write_text(f"import pandas as pd\n\n\ndef visits():\n{body}")
    return project_of(folder, {"format": "python", "function": "made:visits"})


def test_it_is_called_once(tmp_path: Path) -> None:
    body = (
        "    with open({!r}, 'a') as f:\n        f.write('x')\n"
        "    return pd.DataFrame({{'id': [1]}})\n"
    )
    project = project_with(tmp_path, body.format(str(tmp_path / "calls")))
    source = open_source(project)
    source.parts()
    assert source.parts() == source.parts()
    assert [b.num_rows for b in source.batches(project.contract.columns)] == [1]
    assert (tmp_path / "calls").read_text() == "x"


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("    return 7\n", r"TypeError: it returned int, not a frame, a table or an iterator"),
        ("    yield 'a'\n", r"TypeError: it yielded str, not a frame or a table"),
        ("    a = 1\n    return a / 0\n", r"made\.py:6: ZeroDivisionError"),
        ("    return pd.DataFrame([[1, 2]], columns=['id', 'id'])\n", "more than one 'id'"),
        ("    yield pd.DataFrame({'id': []})\n", "it returned no rows"),
    ],
)
def test_unusable_functions(tmp_path: Path, body: str, says: str) -> None:
    project = project_with(tmp_path, body)
    with pytest.raises(SourceError, match=says):
        list(open_source(project).batches(project.contract.columns))
