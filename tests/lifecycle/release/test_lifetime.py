"""The run of a training: open while it trains, taken over after a kill, failed with a reason."""

from pathlib import Path
from typing import Any

import pytest

from lifecycle.errors import TrainingError
from lifecycle.release.lifetime import ENVIRONMENT, FAILURE, begin_run, end_run
from lifecycle.release.mlflow_store import connect

pytestmark = pytest.mark.component


def begin(made: Any, **identity: str) -> str:
    changed = made.identity.model_copy(update=identity)
    return begin_run(made.project, made.settings, changed, made.split, is_alone=True)


def status(made: Any, run_id: str) -> str:
    return str(connect(made.settings).get_run(run_id).info.status)


def test_it_is_open_while_it_trains_and_ends_with_the_version(small_model: Any) -> None:
    run_id = begin(small_model)
    client = connect(small_model.settings)
    run = client.get_run(run_id)
    assert run.info.status == "RUNNING"
    assert run.data.params["training.trainer"] == "xgboost"
    assert run.data.tags[ENVIRONMENT] == "dev"
    assert [file.path for file in client.list_artifacts(run_id)] == ["project.yaml"]
    local = client.download_artifacts(run_id, "project.yaml")
    assert Path(local).read_bytes() == small_model.project.file.read_bytes()

    model = small_model.register().model
    assert model.run_id == run_id
    assert status(small_model, run_id) == "FINISHED"
    assert begin(small_model) == run_id, "what has a version needs no other run"
    assert status(small_model, run_id) == "FINISHED"


def test_after_a_kill_the_same_training_takes_it_over_and_another_ends_it(
    small_model: Any,
) -> None:
    first = begin(small_model)
    assert begin(small_model) == first
    other = begin(small_model, digest="f" * 64)
    assert other != first
    assert (status(small_model, first), status(small_model, other)) == ("KILLED", "RUNNING")

    staging = small_model.settings.model_copy(update={"env": "staging"})
    begin_run(small_model.project, staging, small_model.identity, small_model.split, is_alone=True)
    assert status(small_model, other) == "RUNNING", "it is another environment's"


@pytest.mark.parametrize(
    ("error", "ended"),
    [(TrainingError("no signal\nin these data"), "FAILED"), (KeyboardInterrupt(), "KILLED")],
)
def test_it_says_that_it_failed_and_why(small_model: Any, error: BaseException, ended: str) -> None:
    run_id = begin(small_model)
    end_run(small_model.settings, run_id, error)
    run = connect(small_model.settings).get_run(run_id)
    assert run.info.status == ended
    assert run.data.tags[FAILURE] == (str(error).partition("\n")[0] or "KeyboardInterrupt")
    assert begin(small_model) != run_id

    down = small_model.settings.model_copy(update={"mlflow_tracking_uri": "http://127.0.0.1:1"})
    end_run(down, run_id, error)  # the training's own error is what is told
