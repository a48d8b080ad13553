"""Lineage after real flow runs: from an answer over HTTP to the source, and back."""

import json
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from flows.release import release
from flows.score import score
from flows.train import train
from lifecycle.errors import DataError
from lifecycle.lake.read import read_version
from lifecycle.lineage.graph import Lineage
from lifecycle.lineage.walk import lineage
from lifecycle.project import Project
from lifecycle.settings import Settings
from tests.support.published import check

pytestmark = [pytest.mark.system, pytest.mark.usefixtures("prefect_server", "ray_cluster")]
LOGGED_SECONDS = 30.0


def wait_for(project: Project, settings: Settings, prediction: str) -> Lineage:
    """The log is written about a second after the answer."""
    end = time.monotonic() + LOGGED_SECONDS
    while True:
        try:
            return lineage(project, settings, prediction)
        except DataError:
            if time.monotonic() > end:
                raise
            time.sleep(0.5)


def test_a_cycle_can_be_walked_both_ways(
    make_project: Callable[..., Project],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    serve_port: int,
) -> None:
    events = tmp_path / "events.ndjson"
    monkeypatch.setenv("LIFECYCLE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("LIFECYCLE_SERVE_PORT", str(serve_port))
    monkeypatch.setenv("LIFECYCLE_OPENLINEAGE", str(events))
    settings = Settings.load()
    lax = {"gain_over_baseline": -1.0, "require_checks": False}
    project = make_project(gate=lax, checks={"suites": []})
    trained = train(project)
    released = release(project)
    scored = score(project)
    assert released.endpoint
    row = read_version(trained.split.train).iloc[0]
    record = json.loads(row[["customer", *project.input_columns]].to_json())
    url = f"{released.endpoint.url}/predict"
    answer = httpx.post(url, json={"records": [record]}, trust_env=False)
    assert answer.is_success, answer.text

    found = wait_for(project, settings, answer.json()["id"])
    kinds = {node.kind: node for node in found.nodes}
    assert kinds["run"].name == "run train-small"
    assert kinds["code"].digest == trained.identity.code
    assert kinds["source"].facts["place"].endswith("small.csv")
    assert found.node("accepted@0").facts["run_name"] == "prepare-small"
    assert f"customer={row['customer']}" in str(found.node("rows:train@0").facts)
    flow_run = kinds["run"].facts["flow run"]

    back = lineage(project, settings, kinds["source"].digest)
    ids = {node.id for node in back.nodes}
    assert {"accepted@0", "train@0", "model:1", "release:1", "predictions@0", "log:1"} <= ids
    assert "flow run release-small" in back.node("release:1").facts["1"]
    assert back.node("predictions@0").digest == scored.predictions.digest
    assert back.node("predictions@0").facts["run_name"] == "score-small"

    told = [json.loads(line) for line in events.read_text().splitlines()]
    for event in told:
        check(event)
    done = [event["job"]["name"] for event in told if event["eventType"] == "COMPLETE"]
    assert done == [
        *("small.ingest", "small.split", "small.flow.prepare"),
        *("small.train", "small.flow.train"),
        *("small.release", "small.flow.release"),
        *("small.ingest", "small.score", "small.flow.score"),
    ]
    made = next(event for event in told if event["job"]["name"] == "small.train")
    assert made["run"]["facets"]["parent"]["run"]["runId"] == flow_run
