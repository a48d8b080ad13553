"""Requests for erasure on disk, and which pages of a model they reach."""

import json
from collections.abc import Callable

import pytest

from lifecycle.errors import ProjectError
from lifecycle.governance.erase import _is_of, _row_key
from lifecycle.governance.requests import file_request, pending
from lifecycle.project import Project
from lifecycle.records import ModelVersion
from lifecycle.settings import Settings


def test_no_name_is_in_clear(make_project: Callable[..., Project], settings: Settings) -> None:
    project = make_project()
    made = file_request(project, settings, ["Anna Berg"], "letter of Anna", ["anna@x.example"])
    (file,) = settings.folder("erasures").iterdir()
    text = file.read_text()
    assert not [word for word in ("Anna", "Berg", "anna@x.example") if word in text]
    assert file.stat().st_mode & 0o077 == 0
    assert pending(project, settings) == [made]
    assert file_request(project, settings, ["Anna Berg"], "", ["anna@x.example"]) == made

    kept = json.loads(text)
    file.write_text(json.dumps(kept | {"request": kept["request"][:-9] + "AAAAAAAA="}))
    with pytest.raises(ProjectError, match="was changed, or filed under another key"):
        pending(project, settings)
    file.write_text("{}")
    with pytest.raises(ProjectError, match="is not a request for erasure"):
        pending(project, settings)


def test_pages_belong_to_the_model_in_whose_folder_they_are() -> None:
    digest = "ab12" * 16
    one = ModelVersion(
        name="m", version=1, uri="models:/m/1", run_id="run7", digest=digest, identity="i"
    )
    assert _is_of(f"/home/reports/m/{digest[:12]}/evaluation.html", [one])
    assert _is_of(f"/home/reports/m/{digest[:12]}-registered/data_integrity.html", [one])
    assert _is_of("/home/mlruns/run7/artifacts/report.html", [one])
    assert not _is_of("/home/reports/m/0123456789ab/evaluation.html", [one])
    assert not _is_of("/home/reports/m/summary.html", [one])
    assert not _is_of(f"/home/reports/m/{digest[:12]}/evaluation.html", [])


def test_rows_are_equal_by_value() -> None:
    columns = ["a", "b"]
    assert _row_key(columns, {"a": 1, "b": "x"}) == _row_key(columns, {"b": "x", "a": 1.0, "c": 2})
    assert _row_key(columns, {"a": 1, "b": "x"}) != _row_key(columns, {"a": 1})
    assert _row_key(columns, {"a": True, "b": "x"}) != _row_key(columns, {"a": 1, "b": "x"})
