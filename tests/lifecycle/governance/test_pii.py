"""Personal data as declared: after a whole `prepare` no raw value of it is anywhere on disk."""

from collections.abc import Callable
from typing import Any

import pytest
from pydantic import SecretStr

from lifecycle.cli.governance import show_erasure
from lifecycle.data.ingest import ingest
from lifecycle.data.split import split_dataset
from lifecycle.data.windows import first_window
from lifecycle.errors import ProjectError, SettingsError
from lifecycle.governance.erase import check, erase
from lifecycle.governance.requests import file_request
from lifecycle.project import Project
from lifecycle.settings import Settings
from tests.support.person import EMAIL, PERSON, frame_with_person, project_changes


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
    assert done.searched.unknown == ("email",)


def test_a_plain_copy_of_a_hashed_value_is_found_when_it_is_named(
    make_project: Callable[..., Project], settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    changes: dict[str, Any] = project_changes()
    changes["contract"]["columns"]["email"] = {"type": "string", "pii": "hash"}
    project = make_project(frame_with_person(), **changes)
    ingest(project, settings, first_window(project))
    mail = settings.home / "mail.log"
    mail.write_text(f"could not reach {EMAIL}\n")
    pages = settings.folder("prefect", "ui")
    (pages / "index.js").write_text(EMAIL)
    found = check(project, settings, [PERSON], [EMAIL])
    assert str(mail) in found.left
    assert not any(str(pages) in place for place in found.left), "Prefect's own pages have no rows"
    assert any(place.startswith("accepted v0, /") for place in found.left)
    assert found.unknown == ()
    with pytest.raises(ProjectError, match="--value: 1 of 2 cannot be told apart"):
        check(project, settings, [PERSON], [EMAIL, "Zoe"])
    done = erase(project, settings, file_request(project, settings, [PERSON], values=[EMAIL]))
    assert done.searched.clean
    assert mail.read_text() == "could not reach [erased]\n"
    show_erasure(done)
    told = capsys.readouterr().out
    assert "1 person, 5 rows" in told
    assert "accepted: 4 rows of v0" in told
    assert "were not searched for" not in told


def test_another_key_is_refused_before_it_makes_other_people(
    make_project: Callable[..., Project], settings: Settings
) -> None:
    changes: dict[str, Any] = project_changes()
    changes["contract"]["columns"]["customer"] = {"type": "string", "pii": "hash"}
    project = make_project(frame_with_person(), **changes)
    ingest(project, settings, first_window(project))
    other = settings.model_copy(update={"pii_key": SecretStr("another")})
    with pytest.raises(SettingsError, match="accepted version 0 of small was hashed with another"):
        ingest(project, other, first_window(project))
    with pytest.raises(SettingsError, match="LIFECYCLE_PII_KEY"):
        check(project, other, [PERSON])
    key = settings.home / "pii-key"
    kept = key.read_text()
    key.unlink()
    with pytest.raises(SettingsError, match="a key that is not here"):
        check(project, settings, [PERSON])
    assert not key.exists(), "another key beside these tables would pass for theirs"
    key.write_text(kept)
    assert check(project, settings, [PERSON]).left
