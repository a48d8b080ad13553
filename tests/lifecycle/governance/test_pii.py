"""Personal data as declared: after a whole `prepare` no raw value of it is anywhere on disk."""

from collections.abc import Callable
from typing import Any

from lifecycle.data.arrivals import first_window
from lifecycle.data.ingest import ingest
from lifecycle.data.split import split_dataset
from lifecycle.governance.erase import check, erase
from lifecycle.governance.requests import file_request
from lifecycle.project import Project
from lifecycle.settings import Settings
from tests.lifecycle.governance.conftest import EMAIL, PERSON, frame_with_person, project_changes


def test_hashed_and_dropped_values_are_nowhere(
    make_project: Callable[..., Project], settings: Settings
) -> None:
    changes: dict[str, Any] = project_changes()
    columns = changes["contract"]["columns"]
    columns["customer"] = {"type": "string", "pii": "hash"}
    columns["email"] = {"type": "string", "pii": "drop"}
    project = make_project(frame_with_person(), **changes)
    ingested = ingest(project, settings, first_window(project))
    split_dataset(project, settings, ingested)
    assert ingested.rows_rejected == 1
    for path in settings.home.rglob("*"):
        data = path.read_bytes() if path.is_file() else b""
        assert PERSON.encode() not in data, path
        assert EMAIL.encode() not in data, path
    found = check(project, settings, [PERSON]).left
    assert any("accepted" in place for place in found), "the pseudonym is, and is found"
    done = erase(project, settings, file_request(project, settings, [PERSON]))
    assert done.tables["accepted"] == {0: 4}
    assert done.tables["rejected"] == {0: 1}
    assert done.searched.clean
