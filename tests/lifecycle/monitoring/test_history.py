"""Monitored windows read back from the tables, in order; and their charts."""

import re
from collections.abc import Callable

import pytest

from lifecycle.monitoring.charts import releases, window_charts, window_list, worst_windows
from lifecycle.monitoring.history import read_windows
from lifecycle.monitoring.results import ALL, MetricRow, write_results
from lifecycle.project import Project
from lifecycle.records import Alarm, ModelVersion, Window
from lifecycle.settings import Settings
from tests.support.recorded import METRIC, recorded_windows


def model(version: int) -> ModelVersion:
    uri = f"models:/small/{version}"
    return ModelVersion(
        name="small", version=version, uri=uri, run_id="r", digest="d", identity="i"
    )


def rows(value: float) -> list[MetricRow]:
    drift = [
        MetricRow(
            comparison="reference",
            column=column,
            metric="ks",
            value=distance,
            limit=0.1,
            rows=50,
            alarm=distance > 0.1,
        )
        for column, distance in {"age": 0.05, "plan": 0.3, "city": 0.08}.items()
    ]
    quality = MetricRow(
        comparison="release", column="y", metric="roc_auc", value=value, low=value, high=value
    )
    guess = MetricRow(comparison="release", column="y", metric="roc_auc estimated", value=None)
    before = drift[0].model_copy(update={"comparison": "window before", "value": 0.9})
    return [*drift, quality, guess, before]


def test_windows_come_back_in_order_as_last_monitored(
    make_project: Callable[..., Project], settings: Settings
) -> None:
    project = make_project()
    alarm = Alarm(
        window=Window(first=9, last=9),
        comparison="reference",
        cause="features",
        severity="high",
        column="plan",
        columns=("plan", "age"),
        slice=ALL,
        metric="ks",
        value=0.3,
        limit=0.1,
    )
    for number, version in ((10, 1), (9, 1), (9, 2)):
        window = Window(first=number, last=number)
        write_results(project, settings, model(version), window, rows(number / 10), [alarm])
    nine, ten = read_windows(settings, project.name)
    assert (nine.window, nine.version, ten.window, ten.version) == ("9", 2, "10", 1)
    assert nine.rows == 50
    assert [str(distance) for distance in nine.distances] == ["plan", "city", "age"]
    assert nine.compared == 3
    measured = nine.quality("roc_auc")
    assert measured is not None
    assert measured.value == 0.9
    assert nine.estimated is not None
    assert nine.estimated.value is None  # withdrawn
    assert [str(alarm) for alarm in nine.alarms] == ["features: plan, together with age"]
    assert read_windows(settings, project.name, "another writer") == []


def test_without_tables_there_are_no_windows(settings: Settings) -> None:
    assert read_windows(settings, "small") == []
    assert window_charts([], METRIC) == ""


@pytest.mark.parametrize("count", [1, 30, 365])
def test_charts_of_few_and_many_windows(count: int) -> None:
    windows = recorded_windows(count, versions=3)
    html = str(window_charts(windows, METRIC))
    assert html.count("<figure") == 3
    assert f"{count} windows from 2025-11-01 to {windows[-1].window}" in html
    coordinates = [
        float(n) for d in re.findall(r' d="([^"]+)"', html) for n in re.findall(r"-?[\d.]+", d)
    ]
    assert all(-60 <= number <= 1000 for number in coordinates)
    assert len(html) < 150_000


def test_a_release_is_marked_where_another_version_answers() -> None:
    marks = releases(recorded_windows(30, versions=3))
    assert [(mark.at, mark.label) for mark in marks] == [(0, "v1"), (10, "v2"), (20, "v3")]


def test_the_worst_window_is_that_with_most_high_alarms() -> None:
    windows = recorded_windows(60)
    worst = worst_windows(windows)
    high = [sum(alarm.severity == "high" for alarm in window.alarms) for window in worst]
    assert high == sorted(high, reverse=True)
    assert all(window.alarms for window in worst)


def test_the_list_has_every_window_and_escapes() -> None:
    windows = recorded_windows(3)
    hostile = windows[0].model_copy(update={"window": "<b>"})
    html = str(window_list([hostile, *windows[1:]], METRIC))
    assert html.count("<details") == 3
    assert "<span><b>&lt;b&gt;</b>" in html
