"""Guesses about time: the column, the arriving periods, and a holdout large enough."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from lifecycle.data.ingest import ingest
from lifecycle.data.preview import rehearse
from lifecycle.data.sources import open_source
from lifecycle.data.split import small_holdout
from lifecycle.data.windows import arriving, first_window
from lifecycle.scaffold.generate import infer_project
from lifecycle.scaffold.holdout import Arrival, _said_of_arrival
from lifecycle.scaffold.roles import RoleOptions
from lifecycle.settings import Settings
from tests.support.inference import infer, visits, write
from tests.support.small import small_frame


def test_a_coarse_period_gives_way_to_a_holdout_that_is_large_enough(tmp_path: Path) -> None:
    frame = small_frame(3_000).rename(columns={"customer": "customer_id"})
    spans = (("2026-06-01", "2026-08-31", 1_770), ("2026-09-01", "2026-09-30", 615))
    spans += (("2026-10-01", "2026-10-31", 615),)
    times = [pd.date_range(start, end, periods=rows) for start, end, rows in spans]
    at = pd.DatetimeIndex(np.concatenate(times)).astype(str)
    frame = frame.assign(customer_id=[i * 7919 % 400 for i in range(3_000)], at=at)
    project, _ = infer(write(tmp_path, frame), "bought")
    assert project.time
    # the newest month has a fifth of the rows, the two newest have too many
    assert project.time.period == "week"
    assert small_holdout(int(rehearse(project).parts.holdout.sum()), len(frame), project) == ""


@pytest.mark.parametrize(
    ("days", "customers", "period", "held", "arrives_from"),
    [
        (184, 600, "month", 2, "2024-06-01"),  # ends on the second of July
        (366, 600, "month", 3, "2024-11-01"),
        (40, 600, "week", 2, "2024-02-05"),
        (10, 600, "day", 2, "2024-01-09"),
        (940, 600, "month", 9, "2026-05-01"),
        (184, None, "month", None, "2024-06-01"),
        (2, None, "value", None, None),  # two days: one is half of the rows
        (2, 600, None, None, None),  # nothing would be left to train on
        (184, 6, "month", None, "2024-06-01"),  # nobody would be in one of the parts
    ],
)
def test_time_is_cut_so_that_something_arrives_and_the_holdout_decides(
    tmp_path: Path,
    days: int,
    customers: int | None,
    period: str | None,
    held: int | None,
    arrives_from: str | None,
) -> None:
    frame = visits(days, customers)
    project, guesses = infer(write(tmp_path, frame), "bought")
    assert (project.time.period if project.time else None) == period
    assert project.split.holdout_periods == held
    since = project.time.arrives_from if project.time else None
    assert (str(since) if since else None) == arrives_from
    total, windows = len(frame), arriving(project, open_source(project))
    if since:
        later = frame["seen"] >= pd.Timestamp(str(since))
        assert 50 <= later.sum() <= 0.2 * total
        assert 1 <= len(windows) <= 3
        frame, total = frame[~later], total - int(later.sum())
    assert project.entity == ("customer_id" if customers == 600 else None)
    masks = rehearse(project).parts.masks
    assert small_holdout(int(masks["holdout"].sum()), total, project) == ""
    assert all(mask.any() for mask in masks.values())
    told = [guess for guess in guesses if guess.startswith("holdout: ")]
    assert len(told) == (period is not None)
    if held:
        rows, newest = int(masks["holdout"].sum()), frame["seen"].max()
        assert f"{rows:,} rows ({rows / total:.1%})" in told[0]
        start = pd.Timestamp(told[0].split("from ")[1].split(" on,")[0])
        assert 0.2 <= (frame["seen"] >= start).mean() <= 0.4
        assert start <= newest


def test_the_project_says_what_was_guessed_of_time(tmp_path: Path) -> None:
    project, guesses = infer(write(tmp_path, visits(366, None)), "bought")
    assert project.time
    assert str(project.time.arrives_from) == "2024-11-01"
    said = next(guess for guess in guesses if guess.startswith("arrives_from: 2024-11-01, so the"))
    assert "of the newest 2 months arrive later, are scored and monitored" in said
    assert "change it with time.arrives_from" in said
    assert project.contract.version == "0.1.0"
    _, guesses = infer(write(tmp_path, visits(2, None)), "bought")
    assert any(guess.startswith("arrives_from: none") for guess in guesses)


@pytest.mark.parametrize(("rows", "warned"), [(180, True), (200, False)])
def test_windows_that_are_too_small_to_monitor_are_told(rows: int, warned: bool) -> None:
    arrival = Arrival("month", 2, pd.Timestamp("2024-11-01"), rows)
    text = _said_of_arrival(arrival, 1000, "")
    assert (
        "each has about 90 rows, and monitoring says nothing of fewer than 100" in text
    ) == warned


def test_a_second_time_that_is_not_known_yet_may_be_leakage(tmp_path: Path) -> None:
    frame = visits(366, None)
    frame["cancelled"] = frame["seen"].where(frame["bought"] == frame["bought"].max())
    _, guesses = infer(write(tmp_path, frame), "bought")
    said = next(guess for guess in guesses if guess.startswith("ignore: cancelled is another time"))
    assert "if it is known only later, move it to leakage" in said


TODAY = pd.Timestamp.now("UTC").tz_localize(None).normalize()


@pytest.mark.parametrize(("odd", "rejected"), [(["2052-01-01"], 1), ([None], 1), ([None] * 3, 3)])
def test_a_few_times_that_are_none_are_told_and_rejected(
    settings: Settings, tmp_path: Path, odd: list[str | None], rejected: int
) -> None:
    frame = visits(366, None)
    frame["seen"] = frame["seen"].astype(str)
    plain, _ = infer(write(tmp_path, frame), "bought")
    frame.loc[frame.index[-len(odd) :], "seen"] = odd
    project, guesses = infer(write(tmp_path, frame), "bought")
    assert project.time == plain.time
    assert not project.contract.columns["seen"].nullable
    numbers = ", ".join(f"{2_000 - at:,}" for at in reversed(range(len(odd))))
    what = "in the future" if odd[0] else "missing"
    row = f"row{'s' * (len(odd) > 1)} {numbers}"
    assert any(guess.startswith(f"time: seen is {what} in {row}") for guess in guesses)
    assert ingest(project, settings, first_window(project)).rows_rejected == rejected


def test_bookings_have_times_to_come(tmp_path: Path) -> None:
    frame = visits(366, None)
    frame["seen"] += TODAY - pd.Timestamp("2024-07-01")
    project, guesses = infer(write(tmp_path, frame), "bought")
    assert project.time
    assert project.time.future == "allow"
    assert any(guess.startswith("time.future: allow, because") for guess in guesses)
    assert rehearse(project).violations == ()


def test_a_time_that_is_often_missing_is_none(tmp_path: Path) -> None:
    frame = visits(366, None)
    frame.loc[:39, "seen"] = pd.NaT
    project, guesses = infer(write(tmp_path, frame), "bought")
    assert project.time is None
    said = "ignore: seen is a time, but missing in 2.0% of the rows; to divide by it"
    assert any(line.startswith(said) for line in guesses)
    complete = frame.assign(also=pd.date_range("2023", periods=2_000, freq="h"))
    project, _ = infer(write(tmp_path, complete), "bought")
    assert project.time
    assert project.time.column == "also"


@pytest.mark.parametrize(
    ("times", "says"),
    [
        (pd.date_range("2026-01-01", periods=4).repeat(100), "have fewer than 50 rows, or more "),
        (pd.date_range("2026-01-01", periods=3).repeat([170, 170, 60]), "for a holdout that"),
        (np.arange(2000, 2400), "since seen has whole numbers, which have no months or weeks"),
    ],
)
def test_why_nothing_arrives_later(tmp_path: Path, times: Any, says: str) -> None:
    frame = small_frame().drop(columns="customer").assign(seen=times)
    _, said = infer_project(write(tmp_path, frame), "bought", options=RoleOptions(time="seen"))
    assert says in next((s for s in said if s.startswith("arrives_from: ")), "")
