"""Persons in a PostgreSQL that MLflow keeps its runs in: found, and left to MLflow's commands."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lifecycle.errors import BackendError
from lifecycle.governance.databases import open_database, way_out
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
        assert not done.searched.clean, "the server's rows are its own to remove"
        (tag,) = (place for place in done.searched.left if "tags.value" in place)
        (param,) = (place for place in done.searched.left if "params.value" in place)
        assert tag.endswith("delete_tag(run_id, key)")
        assert param.endswith("mlflow runs delete --run-id ID; mlflow gc")
        assert client.get_run(run).data.tags["note"] == f"see {PERSON}, row 3"
        assert client.get_run(run).data.params["asked_by"] == PERSON
        assert record_of(trained.model, settings).model == trained.model

        client.delete_tag(run, "note")  # as the result says
        left = check(project, settings, [PERSON]).left
        assert not any("tags.value" in place for place in left)


@pytest.mark.parametrize(
    ("column", "remedy"),
    [
        ("flow_run.parameters", "prefect flow-run delete ID"),
        ("log.message", "prefect flow-run delete ID"),
        ("somebody.note", "the program whose database it is"),
    ],
)
def test_the_way_out_of_other_tables(column: str, remedy: str) -> None:
    assert way_out(column).endswith(remedy)


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
