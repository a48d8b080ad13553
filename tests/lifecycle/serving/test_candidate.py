"""A champion without feature views and a candidate with them, each asked for by its version."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import httpx
import numpy as np
import pytest
import tritonclient.http as triton
from tritonclient.utils import InferenceServerException

from lifecycle.project import Project
from lifecycle.records import Traffic
from lifecycle.serving.deployment import (
    deploy,
    set_traffic,
    start_candidate,
    stop_candidate,
    undeploy,
)
from lifecycle.serving.online_features import ServedViews
from lifecycle.settings import Settings
from lifecycle.training.bundle import load_bundle
from lifecycle.training.predictor import open_predictor

pytestmark = pytest.mark.system

FOR_EVER = 1e12


class Running(NamedTuple):
    url: str
    champion: Any
    candidate: Any
    rows: Any
    """Customer and age, as clients send them."""

    def share(self, policy: str, share: float = 0.0) -> None:
        candidate = None if policy == "straight" else second(self.candidate)
        traffic = Traffic.model_validate(
            {"policy": policy, "candidate": candidate, "share": share, "expires_at": FOR_EVER}
        )
        set_traffic(self.champion.project, self.champion.settings, traffic)


def second(made: Any) -> Any:
    return made.model.model_copy(update={"version": 2})


@pytest.fixture
def running(
    make_paying: Callable[..., Project],
    train: Callable[..., Any],
    settings: Settings,
    serve_port: int,
    ray_cluster: None,
) -> Iterator[Running]:
    settings = settings.model_copy(update={"serve_port": serve_port})
    with_views = make_paying()
    without = with_views.model_copy(update={"feature_views": {}})
    champion, candidate = train(without, settings), train(with_views, settings)
    url = deploy(champion.bundle.path, champion.model, without, settings)
    try:
        start_candidate(candidate.bundle.path, second(candidate), with_views, settings)
        rows = champion.holdout()[["customer", "age"]].head(8)
        yield Running(url, champion, candidate, rows)
    finally:
        stop_candidate(without.name)
        undeploy(without.name)


def by_views(made: Any, rows: Any) -> Any:
    """The offline answer with the features as of today."""
    loaded = load_bundle(made.bundle.path, made.bundle.digest)
    views = ServedViews(loaded.schema.views, made.project, made.settings)
    return open_predictor(loaded, made.project).predict(views.frame(rows))


def test_both_versions_answer_by_their_number_while_a_canary_runs(running: Running) -> None:
    url, name = running.url, running.champion.project.name
    theirs, ours = (
        running.champion.expected(running.rows),
        by_views(running.candidate, running.rows),
    )
    assert not np.array_equal(theirs, ours)
    client = triton.InferenceServerClient(url.removeprefix("http://"))

    def tensors(*columns: str) -> list[Any]:
        made = []
        for column in columns:
            values = running.rows[column].to_numpy()
            one = triton.InferInput(
                column, [len(values)], {"f": "FP64"}.get(values.dtype.kind, "INT64")
            )
            one.set_data_from_numpy(values)
            made.append(one)
        return made

    def infer(version: str, *columns: str) -> Any:
        answer = client.infer(name, tensors(*columns), model_version=version)
        assert answer.get_response()["model_version"] == (version or "1")
        return answer.as_numpy("predict")

    def paths() -> set[str]:
        return {p for p in httpx.get(f"{url}/openapi.json").json()["paths"] if "/versions/" in p}

    # nobody may ask for it before the canary begins
    assert client.get_model_metadata(name)["versions"] == ["1"]
    assert not client.is_model_ready(name, "2")
    assert {path.split("/versions/")[1][0] for path in paths()} == {"1"}

    running.share("canary")
    assert client.get_model_metadata(name)["versions"] == ["1", "2"]
    assert client.is_model_ready(name, "1")
    assert client.is_model_ready(name, "2")
    assert not client.is_model_ready(name, "3")
    told = {number: client.get_model_metadata(name, number) for number in ("1", "2")}
    assert [one["name"] for one in told["1"]["inputs"]] == ["age"]
    assert [one["name"] for one in told["2"]["inputs"]] == ["customer", "age"]
    assert {path.split("/versions/")[1][0] for path in paths()} == {"1", "2"}

    np.testing.assert_array_equal(infer("1", "age"), theirs)
    np.testing.assert_array_equal(infer("", "age"), theirs)
    np.testing.assert_array_equal(infer("2", "customer", "age"), ours)
    with pytest.raises(InferenceServerException, match="input customer: this tensor is missing"):
        infer("2", "age")
    with pytest.raises(InferenceServerException, match="version '3' is not served"):
        infer("3", "age")

    stop_candidate(name)  # it dies while the canary is on
    with pytest.raises(InferenceServerException, match="does not answer"):
        infer("2", "customer", "age")
    np.testing.assert_array_equal(infer("1", "age"), theirs)

    running.share("straight")
    assert client.get_model_metadata(name)["versions"] == ["1"]
    with pytest.raises(InferenceServerException, match="version '2' is not served"):
        infer("2", "customer", "age")


def test_a_canary_to_a_version_with_views(running: Running) -> None:
    """Who sends the entity is answered by it; who does not goes on being answered as before."""
    rows = running.rows
    ours, theirs = by_views(running.candidate, rows), running.champion.expected(rows)
    running.share("canary", 1.0)

    def ask(columns: list[str]) -> dict[str, Any]:
        records = rows[columns].to_dict("records")
        answer: dict[str, Any] = (
            httpx.post(f"{running.url}/predict", json={"records": records})
            .raise_for_status()
            .json()
        )
        return answer

    answer = ask(["customer", "age"])
    assert answer["model"]["version"] == 2
    np.testing.assert_array_equal(answer["predictions"], ours)
    answer = ask(["age"])
    assert answer["model"]["version"] == 1
    np.testing.assert_array_equal(answer["predictions"], theirs)
    running.share("shadow")
    assert ask(["customer", "age"])["model"]["version"] == 1
