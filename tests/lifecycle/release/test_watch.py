"""What a rollout reads from the prediction log: both versions, pairs, and labels that came late."""

import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from lifecycle.data.ingest import ingest
from lifecycle.data.privacy import pii_key, pseudonym
from lifecycle.data.windows import first_window
from lifecycle.labels.ledger import MOMENT, Ledger
from lifecycle.labels.ledger import SCHEMA as LABELS
from lifecycle.lake.prediction_log import SCHEMA, TABLE, LogTable
from lifecycle.lake.table import table_uri
from lifecycle.project import Project
from lifecycle.records import ModelVersion
from lifecycle.release.watch import Labels, LogWatch
from lifecycle.settings import Settings
from tests.support.small import SMALL, small_frame

BEGAN = 1_800_000_000.0


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path / "home")


def model(version: int) -> ModelVersion:
    return ModelVersion(name="small", version=version, uri="", run_id="", digest="", identity="")


def log(settings: Settings, rows: list[dict[str, Any]]) -> None:
    """Rows of the log: what is not named is the same in all."""
    whole = []
    for number, row in enumerate(rows):
        at = datetime.fromtimestamp(row.pop("at", BEGAN + 1), UTC)
        fixed = {
            "id": f"r{number}-0",
            "time": at,
            "date": at.date(),
            "model": "small",
            "version": 1,
            "role": "champion",
            "status": "ok",
            "latency_ms": 2.0,
            "prediction": 0.5,
        }
        whole.append(fixed | row)
    names = dict.fromkeys(name for row in whole for name in row)
    inputs = {
        "input_age": pa.float64(),
        "input_visits": pa.int64(),
        "input_city": pa.string(),
        "input_city__hash": pa.string(),
    }
    fields = [*SCHEMA, *(pa.field(n, inputs[n]) for n in names if n in inputs)]
    LogTable(table_uri(settings, "small", TABLE)).append(
        pa.Table.from_pylist(whole, schema=pa.schema(fields)), "test", len(whole)
    )


def watch(settings: Settings, project: Project, **rollout: Any) -> LogWatch:
    serving = project.serving.model_dump() | {"rollout": {"bake_seconds": 60, **rollout}}
    changed = project.model_copy(update={"serving": type(project.serving).model_validate(serving)})
    return LogWatch(changed, settings, model(2), model(1), BEGAN)


def test_both_since_the_step_began(
    settings: Settings, make_project: Callable[..., Project]
) -> None:
    project = make_project()
    look = watch(settings, project, policy="canary", min_requests=3)
    empty = look(BEGAN)
    assert (empty.champion.requests, empty.candidate.requests) == (0, 0)
    log(
        settings,
        [{"at": BEGAN - 30, "prediction": 0.1} for _ in range(5)]
        + [{"at": BEGAN - 90, "prediction": 0.9}]
        + [{"at": BEGAN + 5} for _ in range(3)]
        + [
            {"at": BEGAN + 5, "version": 2, "role": "candidate", "status": s}
            for s in ("ok", "error")
        ]
        + [{"at": BEGAN + 5, "version": 3, "role": "candidate"}],
    )
    seen = look(BEGAN)
    assert (seen.champion.version, seen.champion.requests) == (1, 3)
    assert (seen.candidate.version, seen.candidate.requests, seen.candidate.errors) == (2, 2, 1)
    assert seen.agreement is None
    later = look(BEGAN + 10)
    assert later.candidate.requests == 0
    assert later.champion.requests == 8, "without enough of its own, from a bake time before on"


def test_pairs_of_a_shadow(settings: Settings, make_project: Callable[..., Project]) -> None:
    look = watch(settings, make_project(), policy="shadow")
    assert look(BEGAN).agreement
    assert look(BEGAN).agreement.rows == 0
    rows = []
    for number, (theirs, ours) in enumerate([(0.4, 0.6), (0.2, 0.3), (0.7, 0.7), (0.9, 0.6)]):
        name = {"id": f"q{number}-0"}
        rows += [name | {"prediction": theirs}]
        rows += [name | {"prediction": ours, "version": 2, "role": "shadow"}]
    rows += [{"id": "alone-0", "prediction": 0.0}]
    rows += [{"id": "q9-0", "version": 2, "role": "shadow", "status": "error", "prediction": None}]
    log(settings, rows)
    found = look(BEGAN)
    assert found.candidate.errors == 1
    assert found.agreement
    assert found.agreement.rows == 4
    assert found.agreement.difference == pytest.approx((0.2 + 0.1 + 0 + 0.3) / 4)
    assert found.agreement.changed == 0.25


def test_pairs_with_a_declared_decision(
    settings: Settings, make_project: Callable[..., Project]
) -> None:
    """Each version has its own threshold, so it is the logged classes that count."""
    look = watch(settings, make_project(), policy="shadow")
    rows = []
    for number, (theirs, ours) in enumerate([("no", "yes"), ("no", "no"), ("yes", "yes")]):
        same = {"id": f"q{number}-0", "prediction": 0.3}
        rows += [same | {"predicted": theirs}]
        rows += [same | {"predicted": ours, "version": 2, "role": "shadow"}]
    log(settings, rows)
    found = look(BEGAN).agreement
    assert found
    assert (found.rows, found.changed) == (3, pytest.approx(1 / 3))


def asked(frame: pd.DataFrame, version: int, shift: float = 0.0) -> list[dict[str, Any]]:
    """Answers for rows: as good as `bought` itself, unless shifted by noise."""
    noise = np.random.default_rng(version).random(len(frame))
    score = (1 - shift) * frame["bought"].to_numpy() + shift * noise
    return [
        {
            "version": version,
            "role": "champion" if version == 1 else "candidate",
            "entity": str(row.customer),
            "input_age": row.age,
            "input_visits": row.visits,
            "input_city": row.city,
            "prediction": float(value),
            "id": f"v{version}-{at}-0",
        }
        for (at, row), value in zip(frame.iterrows(), score, strict=True)
    ]


def project_on(make: Callable[..., Project], frame: pd.DataFrame, **city: Any) -> Project:
    columns = {**SMALL["contract"]["columns"]}
    columns["city"] = columns["city"] | city
    return make(frame, contract=SMALL["contract"] | {"columns": columns})


@pytest.mark.parametrize("pii", [None, "hash", "drop"])
def test_labels_that_came_later_measure_both(
    settings: Settings, make_project: Callable[..., Project], pii: str | None
) -> None:
    """Also where an input is hashed or left out of the log, which then takes no part."""
    whole = small_frame(400)
    more = {} if pii is None else {"pii": pii}
    project = project_on(make_project, whole.head(200), **more)
    ingest(project, settings, first_window(project))
    began = time.time()
    time.sleep(0.01)
    labels = Labels(project, settings, began)
    sides = [(1, "champion"), (2, "candidate")]
    answers = asked(whole.iloc[200:300], 1) + asked(whole.iloc[300:], 2, shift=0.9)
    answers += asked(whole.iloc[:200], 2)  # known before: whoever learned from them is no witness
    for answer in answers:
        answer["at"] = began + 1
        if pii is not None:
            del answer["input_city"]
    log(settings, answers)
    assert labels.measure(sides, least=20) is None, "no labels yet"

    project_on(make_project, whole, **more)  # the source has grown
    ingest(project, settings, first_window(project))
    found = labels.measure(sides, least=20)
    assert found
    assert found.metric == "roc_auc"
    assert found.rows == (100, 100)
    assert found.champion.value == 1.0
    assert found.candidate.value < 0.9
    assert labels.measure(sides, least=101) is None, "too few of them"


def test_a_hashed_entity_is_joined(
    settings: Settings, make_project: Callable[..., Project]
) -> None:
    """Hashed once at ingestion and once in the log, never twice."""
    whole = small_frame(200)
    columns = {**SMALL["contract"]["columns"]}
    columns["customer"] = columns["customer"] | {"pii": "hash"}
    project = make_project(whole, contract=SMALL["contract"] | {"columns": columns})
    began = time.time()
    time.sleep(0.01)
    ingest(project, settings, first_window(project))
    answers = asked(whole.head(100), 1) + asked(whole.tail(100), 2)
    for answer in answers:
        answer["at"] = began + 1
        answer["entity"] = pseudonym([answer["entity"]], pii_key(settings))[0]
    log(settings, answers)
    found = Labels(project, settings, began).measure([(1, "champion"), (2, "candidate")], 20)
    assert found
    assert found.rows == (100, 100)


def test_accuracy_is_by_each_versions_threshold(
    settings: Settings, make_project: Callable[..., Project]
) -> None:
    whole = small_frame(200)
    project = make_project(whole, gate={"metric": "accuracy"})
    began = time.time()
    time.sleep(0.01)
    ingest(project, settings, first_window(project))
    log(settings, [a | {"at": began + 1} for v in (1, 2) for a in asked(whole, v)])
    sides = [(1, "champion"), (2, "candidate")]
    found = Labels(project, settings, began, {1: None, 2: 1.01}).measure(sides, 20)
    assert found
    assert found.champion.value == 1.0
    assert found.candidate.value == (whole["bought"] == 0).mean()


def test_labels_of_one_class_measure_nothing(
    settings: Settings, make_project: Callable[..., Project]
) -> None:
    whole = small_frame(200)
    began = time.time()
    time.sleep(0.01)
    project = make_project(whole)
    ingest(project, settings, first_window(project))
    bought = whole[whole["bought"] == 1]
    answers = asked(bought.head(40), 1) + asked(bought.tail(40), 2)
    log(settings, [answer | {"at": began + 1} for answer in answers])
    sides = [(1, "champion"), (2, "candidate")]
    assert Labels(project, settings, began).measure(sides, 20) is None


def test_labels_of_the_ledger_measure_both_without_an_entity(
    settings: Settings, make_project: Callable[..., Project]
) -> None:
    """A prediction's id says more than entity and inputs; the label known last counts."""
    whole = small_frame(200)
    project = make_project(whole, entity=None)
    answers = asked(whole.head(100), 1) + asked(whole.tail(100), 2)
    log(settings, [answer | {"at": BEGAN + 1} for answer in answers])
    sides = [(1, "champion"), (2, "candidate")]
    labels = Labels(project, settings, BEGAN)
    assert labels.measure(sides, 20) is None
    truth = whole["bought"].to_numpy(dtype=np.float64)
    ledger = Ledger(settings, "small")
    for day, values in ((1, 1 - truth), (2, truth)):
        columns = {"id": [answer["id"] for answer in answers], "number": values}
        known = pa.array([datetime(2024, 1, day, tzinfo=UTC)] * len(truth), MOMENT)
        nulls = {field.name: pa.nulls(len(truth), field.type) for field in LABELS}
        ledger.append(pa.table(nulls | columns | {"known_at": known}, schema=LABELS))
    found = labels.measure(sides, 20)
    assert found
    assert (found.rows, found.champion.value) == ((100, 100), 1.0)
