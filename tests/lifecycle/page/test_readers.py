"""Environments read side by side, each with its own variables."""

from collections.abc import Callable
from pathlib import Path

import pytest

from lifecycle.page.readers import read_states
from lifecycle.project import Project
from lifecycle.release.lifetime import FAILURE
from lifecycle.release.mlflow_store import connect, experiment_id
from lifecycle.release.registry import IDENTITY
from lifecycle.runtime.servers import free_port
from lifecycle.settings import Settings

pytestmark = pytest.mark.component


@pytest.mark.system
def test_other_environments_are_read_with_their_own_variables(
    make_project: Callable[..., Project],
    settings: Settings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LIFECYCLE_HOME", str(settings.home))
    contents = {
        "staging": ["LIFECYCLE_PROMOTES_FROM=dev", "LIFECYCLE_APPROVAL=required"],
        "prod": [f"LIFECYCLE_MLFLOW_TRACKING_URI=http://127.0.0.1:{free_port()}"],
    }
    (tmp_path / "deployments").mkdir()
    for env, lines in contents.items():
        home = f"LIFECYCLE_HOME={tmp_path / env}"
        (tmp_path / "deployments" / f"{env}.env").write_text("\n".join([home, *lines, ""]))
    project = make_project()
    client = connect(settings)
    tags = {IDENTITY: "1" * 64, FAILURE: "no rows"}
    run = client.create_run(experiment_id(client, project.name, settings), tags=tags)
    client.set_terminated(run.info.run_id, "FAILED")
    dev, staging, prod = read_states(project, settings, ["staging", "prod"])
    assert (dev.env, staging.env, prod.env) == ("dev", "staging", "prod")
    assert dev.problem == staging.problem == ""
    assert dev.failed_training is not None
    assert dev.failed_training.reason == "no rows"
    assert (dev.approval, staging.approval) == (False, True)
    assert (dev.promotes_from, staging.promotes_from) == ("", "dev")
    assert staging.reports.startswith(str(tmp_path / "staging"))
    assert "MLflow at http://127.0.0.1" in prod.problem
