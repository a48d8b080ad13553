"""Output of an ingestion on the screen: violations of the contract, and progress."""

import logging
from collections.abc import Callable
from typing import Any

import pytest
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterKey

from lifecycle.project import Project
from lifecycle.records import Ingested, Window
from lifecycle.settings import Settings
from tasks import data
from tests.support.small import small_frame


@pytest.mark.component
def test_violations_are_on_the_screen_and_in_an_artifact(
    prefect_server: None,
    make_project: Callable[..., Project],
    settings: Settings,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(data, "EVERY_SECONDS", 0.0)
    frame = small_frame()
    frame.loc[[3, 7], "city"] = "Atlantis"
    frame.loc[7, "visits"] = -1
    monkeypatch.setattr(data, "MAX_VIOLATIONS_SHOWN", 2)
    frame.loc[9, "age"] = -1
    project = make_project(frame)

    @flow(name="watched")  # artifacts belong to a run
    def watched() -> Ingested:
        return data.ingest_window(project, settings, Window())

    with caplog.at_level(logging.INFO, "lifecycle.progress"):
        done = watched()
    assert done.rows_rejected == 3
    said = caplog.text
    assert "400 rows read" in said
    assert "city: not one of the categories, 2 rows" in said
    assert "age: below 0, 1 row (" in said
    assert "visits" not in said
    assert "and 1 more: `make ui`" in said
    assert f"lifecycle rejected {project.file}" in said
    key = ArtifactFilterKey(any_=["small-contract"])
    with get_client(sync_client=True) as client:
        (artifact,) = client.read_artifacts(artifact_filter=ArtifactFilter(key=key))
    assert artifact.type == "table"
    shown: Any = artifact.data
    assert all(text in shown for text in ("Atlantis", "below 0", "not one of the categories"))
