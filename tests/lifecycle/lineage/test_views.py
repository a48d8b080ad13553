"""Walks of a project with a feature view go through the joined rows to the facts, and back."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lifecycle.lineage.events import events_of
from lifecycle.lineage.graph import Lineage
from lifecycle.lineage.picture import draw
from lifecycle.lineage.walk import known, lineage
from lifecycle.project import load_project
from lifecycle.settings import Settings

EXAMPLE = Path(__file__).parents[3] / "examples" / "visit_history" / "project.yaml"


@pytest.fixture(scope="module")
def made(train: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Any:
    made = train(load_project(EXAMPLE), Settings(home=tmp_path_factory.mktemp("views")))
    made.register()
    return made


def edges(found: Lineage) -> set[tuple[str, str]]:
    return {(edge.source, edge.target) for edge in found.edges}


def test_from_a_model_to_the_facts(made: Any) -> None:
    found = lineage(made.project, made.settings, "model:1")
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


@pytest.mark.parametrize("ref", ["view_spent@0", "view_spent", "joined", "accepted@0"])
def test_back_to_the_model(made: Any, ref: str) -> None:
    assert lineage(made.project, made.settings, ref).node("model:1")


def test_drawn_and_told(made: Any, tmp_path: Path) -> None:
    found = lineage(made.project, made.settings, "model:1")
    picture = draw(found, tmp_path / "views.svg").read_text()
    assert "view_spent version 0" in picture
    assert "joined version 0" in picture
    graph = known(made.project, made.settings)
    events = events_of(graph, graph.nodes, made.project, made.settings)
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
