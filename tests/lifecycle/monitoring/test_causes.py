"""Causes of alarms: broken data is told from a changed world, and placed."""

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from lifecycle.monitoring.causes import alarms_of, find_causes
from lifecycle.monitoring.drift import drift_report
from lifecycle.monitoring.results import drift_alarms
from lifecycle.monitoring.scored import OpenWindow
from lifecycle.monitoring.world import DOUBT
from lifecycle.project import DriftSpec
from lifecycle.records import Alarm, Cause, Window

START = pd.Timestamp("2025-03-01")
CATEGORIES = ("city",)
END = Window(first="2025-03-01", last=str(START + pd.Timedelta("1999h")))

WORSE = Alarm(
    window=END,
    comparison="release",
    cause="quality",
    severity="high",
    column="bought",
    columns=("bought",),
    slice="all",
    metric="log_loss",
    value=0.7,
    limit=0.6,
)


def rows(seed: int, count: int = 2_000) -> pd.DataFrame:
    """Visits, one an hour."""
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame(
        {
            "income": np.exp(rng.normal(10, 0.6, count)),
            "age": rng.normal(45, 12, count),
            "city": rng.choice(["Rome", "Oslo", "Lima"], count, p=[0.5, 0.3, 0.2]),
        }
    )
    frame["double"] = frame["age"] * 2  # a feature made of another column
    frame["bought"] = (rng.random(count) < chance(frame)).astype(float)
    frame["time"] = START + pd.to_timedelta(np.arange(count), unit="h")
    return frame


def chance(frame: pd.DataFrame) -> "pd.Series[float]":
    """The model, which is right."""
    margin = (frame["age"].fillna(45) - 45) / 12 + (frame["city"] == "Rome") * 0.8 - 0.4
    return 1 / (1 + np.exp(-margin))


def opened(frame: pd.DataFrame) -> OpenWindow:
    return OpenWindow(
        frame[["income", "age", "double", "city"]].reset_index(drop=True),
        chance(frame).to_numpy(),
        frame["bought"].to_numpy(dtype=float),
        None,
        "binary",
        "bought",
        time=frame["time"].to_numpy(),
    )


def alarms(frame: pd.DataFrame, is_worse: bool = False) -> list[Alarm]:
    windows = opened(rows(1, 4_000)), opened(frame)
    spec = DriftSpec()
    report = drift_report(*windows, spec, END, CATEGORIES, with_visible=False)
    sources = {"double": frozenset(["age"])}
    causes = find_causes(*windows, report, CATEGORIES, spec, sources, is_worse=is_worse)
    return alarms_of(causes, report, [*drift_alarms(report, "reference"), WORSE], "reference")


def causes_of(reference: OpenWindow, current: OpenWindow) -> list[Cause]:
    spec = DriftSpec()
    report = drift_report(reference, current, spec, END, CATEGORIES, with_visible=False)
    sources = {"double": frozenset(["age"])}
    return find_causes(reference, current, report, CATEGORIES, spec, sources)


def from_row(frame: pd.DataFrame, column: str, values: Any, first: int = 800) -> pd.DataFrame:
    changed = frame[column].astype(object if column == "city" else float).copy()
    changed.iloc[first:] = pd.Series(values, index=frame.index).iloc[first:]
    frame = frame.assign(**{column: changed})
    return frame.assign(double=frame["age"] * 2)


def test_nothing_alarms_where_nothing_has_changed() -> None:
    assert alarms(rows(2)) == []


def test_a_changed_unit_is_one_alarm_with_its_column_and_first_bad_time() -> None:
    frame = rows(2)
    [alarm] = alarms(from_row(frame, "income", frame["income"] * 100))
    assert (alarm.cause, alarm.columns, alarm.slice) == ("unit changed", ("income",), "all")
    assert abs(pd.Timestamp(alarm.since) - START - pd.Timedelta("800h")) < pd.Timedelta("10h")
    assert alarm.severity == "high"
    assert "× 100" in alarm.evidence
    assert "broken data: unit changed in income since 2025-04-0" in alarm.text


def test_a_changed_unit_in_one_city_names_the_city() -> None:
    frame = rows(2)
    in_rome = frame["city"] == "Rome"
    [alarm] = alarms(frame.assign(income=frame["income"].where(~in_rome, frame["income"] / 1000)))
    assert (alarm.cause, alarm.slice) == ("unit changed", "city=Rome")


def test_a_scale_that_no_list_of_units_has_is_a_changed_unit() -> None:
    frame = rows(2)
    [alarm] = alarms(frame.assign(income=frame["income"] / 41))
    assert (alarm.cause, alarm.columns) == ("unit changed", ("income",))
    assert "÷ 4" in alarm.evidence


def test_steps_that_there_were_before_are_no_other_unit() -> None:
    frame, factor = rows(2), 1.60934
    before = rows(1, 4_000).assign(age=lambda f: f["age"].round())
    frame["age"] = frame["age"].round()
    shrunk = opened(frame.assign(age=frame["age"] / factor))
    younger = opened(frame.assign(age=(frame["age"] / factor).round()))
    kinds = [causes_of(opened(before), window)[0].kind for window in (shrunk, younger)]
    assert kinds == ["unit changed", "covariate shift"]


@pytest.mark.parametrize("fill", [np.nan, 0.0, -999.0])
def test_what_is_made_of_a_filled_column_is_no_alarm_of_its_own(fill: float) -> None:
    frame = rows(2)
    lost = np.random.default_rng(3).random(len(frame)) < 0.5
    [alarm] = alarms(from_row(frame, "age", frame["age"].where(~lost, fill)))
    assert (alarm.cause, alarm.columns) == ("missing or filled", ("age", "double"))


def test_a_stuck_value_is_told_from_a_fill() -> None:
    frame = rows(2)
    [alarm] = alarms(from_row(frame, "age", frame["age"].iloc[799]))
    assert (alarm.cause, alarm.columns[0]) == ("stuck value", "age")
    assert alarm.since == str((START + pd.Timedelta("799h")).isoformat())


def test_a_value_stuck_in_a_few_rows_alarms_though_nothing_has_moved() -> None:
    frame = rows(2)
    in_lima = (frame["city"] == "Lima").to_numpy() & (np.arange(len(frame)) >= 1_400)
    [alarm] = alarms(frame.assign(income=frame["income"].where(~in_lima, 20_000.0)))
    assert in_lima.mean() < 0.07
    assert (alarm.cause, alarm.columns, alarm.slice) == ("stuck value", ("income",), "city=Lima")


def test_a_value_that_stays_from_row_to_row_is_not_stuck() -> None:
    """A rate that is set once a day, and then once in four."""
    rates = np.random.default_rng(3).normal(10, 1, 400)
    before, after = rows(1, 4_000), rows(2)
    windows = [
        opened(before.assign(income=rates[np.arange(len(before)) // 24])),
        opened(after.assign(income=rates[np.arange(len(after)) // 96])),
    ]
    kinds = [cause.kind for cause in causes_of(*windows)]
    assert "stuck value" not in kinds


def test_a_frequent_value_that_takes_the_place_of_few_alarms_by_itself() -> None:
    frame = rows(2)
    lost = np.random.default_rng(3).random(len(frame)) < 0.04
    [alarm] = alarms(frame.assign(income=frame["income"].where(~lost, 25_000.0)))
    assert (alarm.cause, alarm.columns) == ("missing or filled", ("income",))


def test_a_shift_that_labels_and_features_both_explain_began_where_it_is_the_furthest() -> None:
    def near(frame: pd.DataFrame) -> OpenWindow:
        """The label is about the prediction, which is about the age."""
        age = frame["age"].to_numpy()
        noise = np.random.default_rng(4).normal(size=(2, len(frame)))
        answers = age + 2 * noise[0]
        truth = answers + 2 * noise[1]
        return replace(opened(frame), prediction=answers, truth=truth, task="regression")

    def tilted(score: Any) -> OpenWindow:
        pool = near(rows(5, 20_000))
        chances = np.exp((score(pool) - 45) / 14)
        at = np.random.default_rng(6).choice(20_000, 2_000, False, chances / chances.sum())
        return replace(
            pool,
            features=pool.features.iloc[at].reset_index(drop=True),
            prediction=pool.prediction[at],
            truth=pool.truth[at],
            time=rows(2)["time"].to_numpy(),
        )

    reference = near(rows(1, 4_000))
    label = causes_of(reference, tilted(lambda window: window.truth))
    feature = causes_of(reference, tilted(lambda window: window.features["age"].to_numpy()))
    assert (label[0].kind, feature[0].kind) == ("label shift", "covariate shift")


def test_a_renamed_level_is_told_from_a_place_that_joined() -> None:
    frame = rows(2)
    [renamed] = alarms(from_row(frame, "city", frame["city"].replace("Oslo", "OSLO ")))
    assert (renamed.cause, renamed.columns) == ("level renamed", ("city",))
    assert renamed.evidence == "'Oslo' is now 'OSLO '"
    joined = rows(3)
    joined.loc[np.random.default_rng(5).random(2_000) < 0.3, "city"] = "Kyiv"
    [alarm] = alarms(joined)
    assert (alarm.cause, alarm.slice) == ("segment", "city=Kyiv")


def test_a_batch_that_came_twice_alarms_by_itself() -> None:
    frame = rows(2)
    twice = pd.concat([frame, frame.iloc[500:700]]).sort_values("time", kind="stable")
    [alarm] = alarms(twice)
    assert (alarm.cause, alarm.column, alarm.metric) == (
        "duplicated batch",
        "rows",
        "duplicated rows",
    )
    assert alarm.value == 200 / 2_200
    assert alarm.since == (START + pd.Timedelta("500h")).isoformat()


def test_a_late_feed_says_since_when_there_is_nothing() -> None:
    frame = rows(2)
    [alarm] = alarms(frame.iloc[:1_500])
    assert (alarm.cause, alarm.slice) == ("late feed", "all")
    assert alarm.since == (START + pd.Timedelta("1499h")).isoformat()
    [of_lima] = alarms(frame[(frame["city"] != "Lima") | (frame.index < 1_200)])
    assert (of_lima.cause, of_lima.slice) == ("late feed", "city=Lima")


def draw(chances: Any, seed: int = 9, frame: pd.DataFrame | None = None) -> pd.DataFrame:
    """Rows of the same world, drawn with other chances."""
    pool = rows(seed, 20_000) if frame is None else frame
    weights = np.asarray(chances(pool), dtype=float)
    chosen = np.random.default_rng(seed).choice(
        len(pool), 2_000, replace=False, p=weights / weights.sum()
    )
    return pool.iloc[chosen].reset_index(drop=True).assign(time=rows(1, 2_000)["time"])


def test_a_changed_world_is_told_apart_by_what_stayed_the_same() -> None:
    [covariate] = alarms(draw(lambda pool: np.exp((pool["age"] - 45) / 15)))
    assert covariate.cause == "covariate shift"
    assert set(covariate.columns) == {"age", "double"}
    assert DOUBT not in covariate.evidence
    [label] = alarms(draw(lambda pool: 0.15 + pool["bought"]))
    assert label.cause == "label shift"
    assert label.column == "bought"
    frame = rows(2)
    flipped = np.random.default_rng(3).random(len(frame)) < 0.4
    flipped &= (frame["city"] == "Rome").to_numpy()
    changed = frame.assign(bought=frame["bought"].where(~flipped, 1 - frame["bought"]))
    [concept] = alarms(changed, is_worse=True)
    assert (concept.cause, concept.slice) == ("concept shift", "city=Rome")


def test_a_column_that_is_measured_differently_leaves_the_truth_behind() -> None:
    """No metric that decides need show it: the order of the predictions may be as good."""
    frame = rows(2)
    age = frame["age"] + np.random.default_rng(5).normal(6, 3, len(frame))
    [alarm] = alarms(frame.assign(age=age, double=age * 2))
    assert (alarm.cause, alarm.column) == ("covariate shift", "age")
    assert DOUBT in alarm.evidence


def test_a_world_in_which_many_columns_moved_at_once_is_not_broken() -> None:
    frame = rows(2)
    season = frame.assign(city="Kyiv", income=frame["income"] * 1.3, age=frame["age"] + 9)
    season["double"] = season["age"] * 2
    kinds = [alarm.cause for alarm in alarms(season)]
    assert len(kinds) == 1
    assert kinds[0] in ("covariate shift", "segment", "label shift")


def test_without_labels_and_times_the_cause_is_found_all_the_same() -> None:
    frame = rows(2)
    broken = opened(frame.assign(income=frame["income"] * 100))
    bare = replace(broken, time=None, truth=np.full(len(frame), np.nan))
    reference = replace(opened(rows(1, 4_000)), time=None)
    spec = DriftSpec()
    report = drift_report(reference, bare, spec, Window(), CATEGORIES, with_visible=False)
    [cause] = find_causes(reference, bare, report, CATEGORIES, spec, {})
    assert (cause.kind, cause.columns, cause.since) == ("unit changed", ("income",), "")
