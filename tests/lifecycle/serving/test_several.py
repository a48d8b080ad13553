"""Several models on one Serve: each comes, changes and goes without the others noticing."""

from collections.abc import Callable
from typing import Any

import httpx
import pytest

from lifecycle.project import Project
from lifecycle.serving.deployment import deploy, serving, undeploy
from lifecycle.serving.records import to_records
from lifecycle.settings import Settings
from tests.support.load import load

pytestmark = pytest.mark.system

NAMES = ("first", "second", "third")
# versions that no two models share, so that an answer's version says whose it is
OLD = {"first": 1, "second": 11, "third": 21}
NEW = {"first": 2, "second": 12, "third": 22}


def test_models_come_and_go_beside_one_under_load(
    make_project: Callable[..., Project],
    train: Callable[..., Any],
    settings: Settings,
    serve_port: int,
    ray_cluster: None,
) -> None:
    settings = settings.model_copy(update={"serve_port": serve_port})
    made: dict[int, Any] = {}
    for name in NAMES:
        project = make_project(name=name)
        made[OLD[name]] = train(project, settings)
        made[NEW[name]] = train(project, settings, seed=2)

    def put(version: int) -> str:
        one = made[version]
        model = one.model.model_copy(update={"version": version})
        return deploy(one.bundle.path, model, one.project, settings)

    def answering(name: str) -> int | None:
        response = httpx.post(f"{settings.serve_url}/{name}/predict", json={"records": records[:1]})
        if response.status_code == 404:
            return None
        model = response.raise_for_status().json()["model"]
        assert model["name"] == name
        return int(model["version"])

    one = made[OLD["first"]]
    records = to_records(one.holdout()[list(one.project.input_columns)].head(50))
    try:
        urls = {"first": put(OLD["first"])}
        # clients without a pause would take the processors that new replicas start on
        with load(urls["first"], records, clients=2, pause=0.005) as busy:
            for name in NAMES[1:]:
                urls[name] = put(OLD[name])
            assert len(set(urls.values())) == len(NAMES)
            assert [answering(name) for name in NAMES] == [1, 11, 21]
            put(NEW["second"])
            assert [answering(name) for name in NAMES] == [1, 12, 21]
            undeploy("third")
            assert [answering(name) for name in NAMES] == [1, 12, None]
            assert serving("third") is None
            assert set(busy.versions) == {1}, "nobody has touched it so far"
            put(NEW["third"])
            put(NEW["first"])
            undeploy("second")
            assert [answering(name) for name in NAMES] == [2, None, 22]
            busy.wait_for(busy.total + 500)
    finally:
        for name in NAMES:
            undeploy(name)
    assert busy.failures == []
    assert set(busy.versions) == {1, 2}, "each answer is one version's, and its own"
    assert busy.answers[-1][1] == 2
    assert busy.total >= 2000
