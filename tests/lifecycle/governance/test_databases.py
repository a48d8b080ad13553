"""Persons in a PostgreSQL that MLflow keeps its runs in: found, taken out, and MLflow goes on."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lifecycle.errors import BackendError
from lifecycle.governance.databases import open_database
from lifecycle.governance.erase import check, erase
from lifecycle.governance.requests import file_request
from lifecycle.project import Project
from lifecycle.release.artifacts import record_of
from lifecycle.release.mlflow_store import connect
from lifecycle.settings import Settings
from tests.support.person import PERSON, frame_with_person, project_changes
from tests.support.postgres import Postgres

pytestmark = pytest.mark.component


def test_mlflow_on_postgresql(
    postgres: Postgres,
    make_project: Callable[..., Project],
    train: Callable[..., Any],
    tmp_path: Path,
) -> None:
    with postgres.database("mlflow_erase") as url:
        settings = Settings(home=tmp_path / "home", mlflow_tracking_uri=url)
        project = make_project(frame_with_person(), **project_changes())
        trained = train(project, settings).register()
        client = connect(settings)
        run = trained.model.run_id
        client.set_tag(run, "note", f"see {PERSON}, row 3")
        client.log_param(run, "asked_by", PERSON)

        found = check(project, settings, [PERSON]).left
        assert any("tags.value, 1 rows" in place for place in found)
        assert any("params.value, 1 rows" in place for place in found)
        assert not any(postgres.password in place for place in found)

        done = erase(project, settings, file_request(project, settings, [PERSON]))
        assert done.searched.left == ()
        assert any(": params, 1 rows edited" in text for text in done.changed)
        assert client.get_run(run).data.tags["note"] == "see [erased], row 3"
        assert client.get_run(run).data.params["asked_by"] == "[erased]"
        assert record_of(trained.model, settings).model == trained.model


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("mysql://u:secret-word@h/b", "mysql://u:***@h/b: its driver is not installed"),
        ("nonsense-with-secret-word", "a URL of a database: Could not parse"),
        ("nosuch://u:secret-word@h/b", "nosuch://u:***@h/b: Can't load plugin"),
    ],
)
def test_what_cannot_be_opened_is_one_message_without_its_password(url: str, said: str) -> None:
    with pytest.raises(BackendError) as caught, open_database(url):
        pass
    assert str(caught.value).startswith(said)
    assert "secret-word" not in str(caught.value)
