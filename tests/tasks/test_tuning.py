"""What a person sees of a search: lines, a progress artifact, a page with the best trials."""

import base64
import logging
import re
from collections.abc import Callable
from typing import Any

import pytest
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterKey

from lifecycle.project import Project
from lifecycle.records import Trial, Tuned
from lifecycle.training.tuning.search import Now
from tasks.training import _summary, _Watch, as_markdown

SPACE = {"eta": {"type": "float", "low": 0.02, "high": 0.5}}


def trial(number: int) -> Trial:
    pruned = number % 5 == 4
    return Trial(
        number=number,
        state="pruned" if pruned else "complete",
        value=None if pruned else 0.6 + (number * 7 % 20) / 100,
        parameters={"eta": 0.1 + number / 100, "max_depth": 3},
        seconds=1.25,
        rounds=20,
    )


@pytest.fixture
def project(make_project: Callable[..., Project]) -> Project:
    return make_project(
        name="small_one", training={"metric": "roc_auc"}, tuning={"trials": 20, "space": SPACE}
    )


def tuned(trials: int) -> Tuned:
    history = tuple(map(trial, range(trials)))
    whole = [one for one in history if one.value is not None]
    best = max(whole, key=lambda one: one.value or 0)
    return Tuned(
        parameters=best.parameters,
        value=best.value,
        trials=trials,
        pruned=trials - len(whole),
        history=history,
    )


def test_the_page_has_the_best_trials_and_the_history(project: Project) -> None:
    page = as_markdown(project, tuned(20))
    rows = [line.split("|")[1:-1] for line in page.splitlines() if re.match(r"\| \d", line)]
    assert len(rows) == 10
    values = [float(row[1]) for row in rows]
    assert values == sorted(values, reverse=True)
    assert rows[0][:3] == [" 17 ", " 0.79 ", " 0.27 "]
    assert "20 trials, 4 of them pruned" in page
    picture = re.search(r"!\[[^]]*\]\(data:image/png;base64,([^)]+)\)", page)
    assert picture
    assert base64.b64decode(picture[1]).startswith(b"\x89PNG")
    assert len(page) < 100_000
    assert "data:image" not in as_markdown(project, tuned(1))


def test_what_is_told_at_the_end(project: Project) -> None:
    told = _summary(project, tuned(20))
    assert told.startswith("tuned in 20 trials (4 pruned): roc_auc 0.7900 on validation with eta")
    assert "max_seconds" not in told
    assert "17 more did not fit into tuning.max_seconds" in _summary(project, tuned(3))


@pytest.mark.component
@pytest.mark.usefixtures("prefect_server")
def test_progress_while_trials_end(project: Project, caplog: pytest.LogCaptureFixture) -> None:
    def artifacts() -> list[Any]:
        key = ArtifactFilterKey(any_=["small-one-tuning-progress"])
        with get_client(sync_client=True) as client:
            return client.read_artifacts(artifact_filter=ArtifactFilter(key=key))

    @flow(name="watched")  # artifacts belong to a run
    def watched() -> None:
        watch(_Watch(project))

    def watch(shown: _Watch) -> None:
        shown.show(Now(trial(0), 1, 20, 0.6, resumed=2))
        shown.show(Now(trial(1), 2, 20, 0.67, resumed=2))
        (artifact,) = artifacts()
        assert (artifact.type, artifact.data) == ("progress", 0.0)  # at most a request a second
        shown._next = 0.0
        shown.show(Now(trial(2), 3, 20, 0.74, resumed=2))
        (artifact,) = artifacts()
        assert artifact.data == 15.0
        assert artifact.description == "trial 3 of 20, best roc_auc 0.7400"
        shown.finish()
        (artifact,) = artifacts()
        assert artifact.data == 100.0

    with caplog.at_level(logging.INFO, "lifecycle.progress"):
        watched()
    assert [
        record.getMessage() for record in caplog.records if record.name == "lifecycle.progress"
    ] == [
        "tuning resumes: 2 trials of an earlier run are reused",
        "tuning: trial 1 of 20, best roc_auc 0.6000",
        "tuning: trial 2 of 20, best roc_auc 0.6700",
        "tuning: trial 3 of 20, best roc_auc 0.7400",
    ]
