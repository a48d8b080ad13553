"""Windows: what the first training sees, and the periods that arrive later."""

from collections.abc import Callable
from datetime import date
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest

from lifecycle.data.sources import read_source
from lifecycle.data.windows import first_window, periods, select, unplaced_rows
from lifecycle.errors import ProjectError
from lifecycle.project import Project
from lifecycle.records import Window

MakeProject = Callable[..., Project]
TIMES = ["2020-01-30", "2020-01-31T23:59:59", "2020-02-01", "2020-02-29T12:00", "2020-04-01", ""]


@pytest.fixture
def timed(make_project: MakeProject) -> Callable[..., Project]:
    def make(values: list[Any], kind: str = "datetime", **time: Any) -> Project:
        columns = {"t": {"type": kind}, "x": {"type": "integer"}, "y": {"type": "integer"}}
        frame = pd.DataFrame({"t": values, "x": range(len(values)), "y": 1})
        return make_project(
            frame, target="y", entity=None, time={"column": "t"} | time,
            contract={"columns": columns},
        )  # fmt: skip

    return make


def as_batch(times: list[str]) -> pa.RecordBatch:
    return pa.RecordBatch.from_pydict({"t": times})


def rows(project: Project, window: Window) -> list[int]:
    return list(select(read_source(project), project, window).index)


def test_whole_numbers(timed: Callable[..., Project]) -> None:
    project = timed([1, 2, 3, 5, 5, "x"], "integer", arrives_from=3)
    assert first_window(project) == Window(last=2)
    assert periods(project, read_source(project)) == [
        Window(first=3, last=3),
        Window(first=5, last=5, unplaced=True),
    ]
    assert rows(project, first_window(project)) == [0, 1, 5]
    assert rows(project, Window(first=3, last=3)) == [2]
    assert rows(project, Window(first=3, last=3, unplaced=True)) == [2, 5]
    assert rows(project, Window(last=3)) == [0, 1, 2, 5]
    assert rows(project, Window(first=2)) == [1, 2, 3, 4]
    assert rows(project, Window()) == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize(
    ("period", "expected"),
    [
        ("month", [("2020-02-01", "2020-02-29"), ("2020-04-01", "2020-04-30")]),
        (
            "day",
            [
                ("2020-02-01", "2020-02-01"),
                ("2020-02-29", "2020-02-29"),
                ("2020-04-01", "2020-04-01"),
            ],
        ),
        (
            "value",
            [
                ("2020-02-01", "2020-02-01"),
                ("2020-02-29T12:00:00", "2020-02-29T12:00:00"),
                ("2020-04-01", "2020-04-01"),
            ],
        ),
    ],
)
def test_calendar_periods(
    timed: Callable[..., Project], period: str, expected: list[tuple[str, str]]
) -> None:
    project = timed(TIMES, period=period, arrives_from="2020-02-01")
    found = periods(project, read_source(project))
    assert [(window.first, window.last) for window in found] == expected
    assert first_window(project) == Window(last="2020-01-31")


def test_every_row_arrives_once(timed: Callable[..., Project]) -> None:
    """But the one without a time, which the newest period tells of as the first did."""
    for period in ("value", "day", "week", "month"):
        project = timed(TIMES, period=period, arrives_from="2020-01-31")
        windows = [first_window(project), *periods(project, read_source(project))]
        assert [window.unplaced for window in windows] == [False] * (len(windows) - 1) + [True]
        arrived = [row for window in windows for row in rows(project, window)]
        assert sorted(arrived) == [*range(len(TIMES)), len(TIMES) - 1]


@pytest.mark.parametrize("period", ["value", "day", "week", "month"])
def test_a_time_in_the_future_is_no_period(timed: Callable[..., Project], period: str) -> None:
    tomorrow = str(pd.Timestamp.now("UTC").date() + pd.Timedelta(days=1))
    later = str(pd.Timestamp.now("UTC").date() + pd.Timedelta(days=3))
    times = [*TIMES[:-1], tomorrow, later, "2052-01-01"]
    for future, newest, unplaced in (("refuse", 5, [6, 7]), ("allow", 7, [])):
        project = timed(times, period=period, arrives_from="2020-02-01", future=future)
        source = read_source(project)
        window = periods(project, source)[-1]
        assert newest in rows(project, window)
        assert set(unplaced) <= set(rows(project, window))
        assert rows(project, first_window(project)) == [0, 1, *unplaced]
        closed = Window(first="2020-02-01", last="2060-12-31")
        assert rows(project, closed) == [row for row in range(2, 8) if row not in unplaced]
    assert unplaced_rows(as_batch(times), timed(times)) == 2
    assert unplaced_rows(as_batch(times), timed(times, future="allow")) == 0


def test_arrival_in_the_middle_of_a_period_and_of_a_day(timed: Callable[..., Project]) -> None:
    project = timed(TIMES, period="month", arrives_from="2020-02-29")
    assert str(periods(project, read_source(project))[0]) == "2020-02-29"
    project = timed(TIMES, period="month", arrives_from="2020-02-29T12:00")
    assert first_window(project).last == "2020-02-29T11:59:59.999999"
    assert rows(project, first_window(project)) == [0, 1, 2, 5]


def test_windows_survive_json(timed: Callable[..., Project]) -> None:
    project = timed(TIMES, period="month", arrives_from="2020-02-01")
    for window in periods(project, read_source(project)):
        again = Window.model_validate_json(window.model_dump_json())
        assert again == window
        assert rows(project, again) == rows(project, window)


def test_one_spelling_for_one_end() -> None:
    assert Window.model_validate({"first": date(2020, 2, 1)}) == Window(first="2020-02-01")
    assert Window(last="4") == Window(last=4)


def test_without_time_or_arrivals(make_project: MakeProject, timed: Callable[..., Project]) -> None:
    project = make_project()
    source = read_source(project)
    assert first_window(project) == Window()
    assert periods(project, source) == []
    assert select(source, project, Window()) is source
    assert periods(timed(TIMES), source) == []


def test_a_window_that_does_not_fit_the_time_column(timed: Callable[..., Project]) -> None:
    with pytest.raises(ProjectError, match="not an ISO 8601"):
        first_window(timed(TIMES, arrives_from="first of May"))
    project = timed([1, 2], "integer", arrives_from=2)
    with pytest.raises(ProjectError, match="is not a whole number"):
        rows(project, Window(last="2020-01-01"))
