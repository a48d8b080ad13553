"""Walks of a project with a feature view go through the joined rows to the facts, and back."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from openlineage.client.serde import Serde

from lifecycle.lake.prediction_log import SCHEMA, TABLE, LogTable
from lifecycle.lake.read import read_version
from lifecycle.lake.table import table_uri
from lifecycle.lineage.graph import Lineage
from lifecycle.lineage.openlineage import events_of
from lifecycle.lineage.picture import draw
from lifecycle.lineage.walk import lineage, load_graph
from lifecycle.project.loader import load_project
from lifecycle.settings import Settings
from tests.support.lived import ASKED
from tests.support.published import check

EXAMPLE = Path(__file__).parents[3] / "examples" / "visit_history" / "project.yaml"


@pytest.fixture(scope="module")
def made(train: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Any:
    made = train(load_project(EXAMPLE), Settings(home=tmp_path_factory.mktemp("views")))
    made.register()
    now, person = datetime.now(UTC), read_version(made.split.train)["zper"].iloc[0]
    row = {"id": f"{ASKED}-0", "time": now, "date": now.date(), "version": 1, "role": "champion"}
    row |= {"status": "ok", "prediction": 0.7, "entity": str(person)}
    log = LogTable(table_uri(made.settings, made.project.name, TABLE))
    log.append(pa.Table.from_pylist([row], schema=SCHEMA), "test", 1)
    return made


def edges(found: Lineage) -> set[tuple[str, str]]:
    return {(edge.source, edge.target) for edge in found.edges}


@pytest.mark.parametrize("ref", ["model:1", f"{ASKED}-0"])
def test_from_a_model_or_prediction_to_the_facts(made: Any, ref: str) -> None:
    found = lineage(made.project, made.settings, ref)
    sources = [node.id for node in found.nodes if node.kind == "source"]
    assert len(sources) == 1  # rows and facts are columns of one file
    assert {
        (sources[0], "accepted@0"),
        (sources[0], "view_spent@0"),
        ("accepted@0", "joined@0"),
        ("view_spent@0", "joined@0"),
        ("joined@0", "train@0"),
        ("joined@0", "holdout@0"),
        ("train@0", "model:1"),
    } <= edges(found)


def test_a_view_that_the_project_has_no_longer_is_still_told_of(made: Any) -> None:
    without = made.project.model_copy(update={"feature_views": {}})
    now, then = (lineage(one, made.settings, "model:1") for one in (without, made.project))
    assert edges(now) == edges(then)
    assert lineage(without, made.settings, "view_spent").subject == "view_spent@0"


def test_rows_behind_a_prediction_have_their_features(made: Any) -> None:
    found = lineage(made.project, made.settings, ASKED)
    assert ("model:1", found.subject) in edges(found)
    rows = found.node("rows:train@0").facts
    assert any("spent__dollars=" in fact for name, fact in rows.items() if name.startswith("row "))


@pytest.mark.parametrize("ref", ["view_spent@0", "view_spent", "joined", "accepted@0"])
def test_back_to_the_model_and_its_answers(made: Any, ref: str) -> None:
    found = lineage(made.project, made.settings, ref)
    assert {("joined@0", "train@0"), ("train@0", "model:1"), ("model:1", "log:1")} <= edges(found)


def test_drawn_and_told(made: Any, tmp_path: Path) -> None:
    found = lineage(made.project, made.settings, "model:1")
    picture = draw(found, tmp_path / "views.dot").read_text()
    assert "view_spent version 0" in picture
    assert "joined version 0" in picture
    graph = load_graph(made.project, made.settings)
    events = events_of(graph, graph.nodes, made.project, made.settings)
    for event in events:
        check(json.loads(Serde.to_json(event)))
    flows = {
        event.job.name.rpartition(".")[2]: (
            {one.name.rpartition("/")[2] for one in event.inputs},
            {one.name.rpartition("/")[2] for one in event.outputs},
        )
        for event in events
    }
    assert flows["view"] == ({"randhie.csv"}, {"view_spent"})
    assert flows["join"] == ({"accepted", "view_spent"}, {"joined"})
    assert flows["split"][0] == {"joined"}
