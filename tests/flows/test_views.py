"""The flows on a project with a feature view: learned from, served, scored and monitored."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from flows.monitor import monitor
from flows.prepare import prepare
from flows.release import release
from flows.score import score
from flows.train import train
from lifecycle.lake.read import read_version
from lifecycle.project import Project
from lifecycle.project.loader import load_project
from lifecycle.serving.deployment import undeploy
from lifecycle.settings import Settings
from tests.support.payments import PROJECT, customers, payments, view

FEATURES = ["paid__total", "paid__times", "paid__shop", "paid__large"]


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, serve_port: int) -> Settings:
    """Settings as the flows will load them: from the environment."""
    monkeypatch.setenv("LIFECYCLE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("LIFECYCLE_SERVE_PORT", str(serve_port))
    return Settings.load()


@pytest.mark.system
@pytest.mark.usefixtures("prefect_server", "ray_cluster")
def test_a_life_with_views(
    settings: Settings, make_paying: Callable[..., Project], make_project: Callable[..., Project]
) -> None:
    make_paying()  # the facts and the functions
    project = make_project(
        customers(),
        **(PROJECT | {"time": {"column": "year", "arrives_from": 4}}),
        feature_views={"paid": view()},
        gate={"gain_over_baseline": -1.0, "require_checks": False},
        checks={"suites": []},
        monitoring={"drift": {"prediction_threshold": 0.9, "numeric_threshold": 0.9}},
    )
    assert load_project(project.file) == project
    prepared = prepare(project)
    assert prepared.ingested.dataset.uri.endswith("/joined")
    assert list(read_version(prepared.split.train).columns[-4:]) == FEATURES
    assert prepare(project) == prepared

    trained = train(project, prepared=prepared)
    released = release(project, trained=trained)
    try:
        assert released.endpoint is not None
        assert released.endpoint.smoke_rows > 0
        known = int(payments().customer.iloc[0])
        record: dict[str, Any] = {"customer": known, "age": 40.0}
        assert '"customer":' in released.endpoint.curl
        answer = httpx.post(f"{released.endpoint.url}/predict", json={"records": [record]})
        assert answer.status_code == 200, answer.text
        del record["customer"]
        refused = httpx.post(f"{released.endpoint.url}/predict", json={"records": [record]})
        assert refused.status_code == 422
        assert refused.json()["error"] == "row 0: customer: this field is missing"
        views = httpx.get(f"{released.endpoint.url}/model").json()["views"]
        assert views["paid"]["features"] == FEATURES
    finally:
        undeploy(project.name)

    scored = score(project)
    assert scored.dataset.uri.endswith("/joined")
    assert scored.predictions.rows == 60
    monitored = monitor(project, scored=[scored])
    assert set(FEATURES) <= {one.column for one in monitored.drift[-1].features}
