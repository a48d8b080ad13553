"""The example's years, monitored as they arrive: what the demo tells is so."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lifecycle.data.ingest import ingest
from lifecycle.data.sources import read_source
from lifecycle.data.windows import periods
from lifecycle.features.encode import labels
from lifecycle.monitoring.monitor import monitor_windows
from lifecycle.project import Project
from lifecycle.project.loader import load_project
from lifecycle.records import Monitored, Window
from lifecycle.serving.batch import score
from lifecycle.settings import Settings
from lifecycle.training.evaluation.evaluate import Measurement, compare

FILE = Path(__file__).parents[3] / "examples" / "health_visits" / "project.yaml"


@pytest.fixture
def demo() -> Project:
    return load_project(FILE)


def from_year(project: Project, year: int) -> Project:
    """As it was when that year arrived."""
    assert project.time
    return project.model_copy(
        update={"time": project.time.model_copy(update={"arrives_from": year})}
    )


def monitored(made: Any, project: Project, settings: Settings, year: int) -> Monitored:
    current = ingest(project, settings, Window(first=year, last=year), "current")
    path = made.bundle.path
    reference = score(project, settings, made.split.holdout, Window(), made.model, path)
    window = score(project, settings, current.dataset, current.window, made.model, path)
    released = made.trained().evaluation
    return monitor_windows(project, settings, reference, [window], released)


def test_the_limits_are_the_defaults_and_drift_is_declared_a_trigger(demo: Project) -> None:
    assert demo.monitoring == type(demo.monitoring)()
    assert demo.retraining.triggers == ("drift", "quality")
    assert [str(one) for one in periods(demo, read_source(demo))] == [
        "1977", "1978", "1979", "1980", "1981"
    ]  # fmt: skip


@pytest.mark.system
def test_places_that_join_or_leave_are_drift_and_the_years_between_are_not(
    demo: Project, train: Callable[..., Any], settings: Settings
) -> None:
    first = train(demo, settings)
    joined = monitored(first, demo, settings, 1977)
    assert not joined.decision.passed
    assert "site (cramers_v" in joined.decision.reasons[0]

    second = train(from_year(demo, 1978), settings)
    holdout = second.holdout()
    gain = compare(
        labels(holdout, demo),
        second.expected(holdout),
        first.expected(holdout),
        "log_loss",
        Measurement(demo.task, demo.split.seed, groups=holdout["zper"].to_numpy()),
        demo.gate.confidence,
    )
    assert gain.least > 0, "the model that knows Seattle, too, is better beyond chance"
    for year in (1978, 1979, 1980):
        later = monitored(second, demo, settings, year)
        assert later.decision.passed, later.decision.reasons
    assert not monitored(second, demo, settings, 1981).decision.passed
