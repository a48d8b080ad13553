"""Numbers given the other columns: a shift that hides in what varies anyway."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from lifecycle.monitoring.causes import alarms_of, find_causes
from lifecycle.monitoring.conditional import PARTS, residuals, shift_threshold
from lifecycle.monitoring.drift import drift_report
from lifecycle.monitoring.report import visible_words
from lifecycle.monitoring.results import drift_alarms, drift_rows
from lifecycle.monitoring.scored import OpenWindow
from lifecycle.project import DriftSpec
from lifecycle.records import ConditionalDrift, DriftReport, Window

START = np.datetime64("2025-03-01T00")
SHIFT = 0.4
CATEGORIES = ("site",)


def weather(seed: int, rows: int) -> OpenWindow:
    """Hours of a place: warmth wanders from week to week, and humidity goes with it."""
    rng = np.random.default_rng(seed)
    weeks = np.repeat(rng.normal(size=rows // 168 + 1), 168)[:rows]
    warmth = weeks + 0.3 * rng.normal(size=rows)
    site = rng.choice(["coast", "hills"], rows)
    humidity = warmth + 0.4 * rng.normal(size=rows) + (site == "coast")
    frame = pd.DataFrame({"warmth": warmth, "humidity": humidity, "site": site})
    times = START + np.arange(rows) * np.timedelta64(1, "h")
    missing = np.full(rows, np.nan)
    return OpenWindow(frame, warmth * 0, missing, None, "regression", "rain", time=times)


def moved(window: OpenWindow, first: int = 0) -> OpenWindow:
    """Humidity is higher from a row on."""
    frame = window.features.copy()
    frame.loc[first:, "humidity"] += SHIFT * window.features["humidity"].std()
    return replace(window, features=frame)


def compared(
    reference: OpenWindow, current: OpenWindow, like: DriftReport | None = None
) -> DriftReport:
    return drift_report(reference, current, DriftSpec(), Window(), CATEGORIES, like=like)


def test_a_shift_in_what_varies_anyway_is_seen_given_the_others() -> None:
    reference, current = weather(1, 8_000), weather(2, 2_000)
    quiet = compared(reference, current)
    assert quiet.alarms == ()
    found = compared(reference, moved(current))
    assert not any(drift.alarms for drift in found.features)
    assert all(isinstance(drift, ConditionalDrift) for drift in found.alarms)
    drift = found.alarms[0]
    assert (drift.column, drift.test) == ("humidity", "conditional_wasserstein")
    assert drift.statistic == pytest.approx(SHIFT, abs=0.1)
    assert found.drifted == (), "which retraining goes by: features by themselves"
    again = compared(reference, moved(current), like=quiet)
    assert again.alarms[0].chance == quiet.conditional[1].chance
    assert again.alarms[0].statistic == drift.statistic


def test_it_is_one_alarm_with_its_first_bad_time() -> None:
    reference, current = weather(1, 8_000), moved(weather(2, 2_000), first=1_000)
    report = compared(reference, current)
    [alarm] = drift_alarms(report, "reference")
    assert (alarm.cause, alarm.column) == ("features", "humidity")
    causes = find_causes(reference, current, report, CATEGORIES, DriftSpec(), {})
    [alarm] = alarms_of(causes, report, [alarm], "reference")
    assert (alarm.cause, alarm.column) == ("covariate shift", "humidity")
    assert "given the other columns, none by itself" in alarm.evidence
    assert abs(np.datetime64(alarm.since) - START - np.timedelta64(1_000, "h")) < np.timedelta64(
        60, "h"
    )


def test_a_column_that_moves_by_itself_is_no_second_alarm() -> None:
    reference, current = weather(1, 8_000), weather(2, 2_000)
    frame = current.features.assign(humidity=current.features["humidity"] + 5)
    report = compared(reference, replace(current, features=frame))
    assert any(drift.alarms for drift in report.conditional)
    assert [type(drift) for drift in report.moved] == [type(report.features[0])]
    rows = {(row.column, row.metric): row.alarm for row in drift_rows(report, "reference")}
    assert rows["humidity", "kolmogorov_smirnov"]
    assert not rows["humidity", "conditional_wasserstein"]


def test_a_window_says_what_it_would_have_shown_given_the_others() -> None:
    report = compared(weather(1, 8_000), weather(2, 2_000))
    alone = {drift.column: drift.visible or 9.0 for drift in report.features}
    given = {drift.column: drift.visible or 9.0 for drift in report.conditional}
    assert given["humidity"] < alone["humidity"] / 2
    assert f"a shift of {max(given.values()):.2g} σ in any one of 2" in visible_words(report)


def test_residuals_are_those_of_the_regression_on_the_other_parts() -> None:
    reference, current = weather(1, 4_000), weather(2, 500)
    left = {each.name: each for each in residuals(reference, current, CATEGORIES)}
    assert [*left] == ["warmth", "humidity"]
    frame = reference.features.assign(site=(reference.features["site"] == "hills").astype(float))
    standard = (frame - frame.mean()) / frame.std(ddof=0)
    others, own = standard[["warmth", "site"]].to_numpy(), standard["humidity"].to_numpy()
    first = np.arange(4_000) < 4_000 / PARTS
    slopes = np.linalg.lstsq(others[~first], own[~first], rcond=None)[0]
    expected = own[first] - others[first] @ slopes
    assert left["humidity"].before[first] == pytest.approx(expected, abs=0.02)


def test_an_entity_is_in_one_part() -> None:
    """Else a regression on its other rows would know it."""
    reference = replace(weather(1, 4_000), entity=np.arange(4_000).astype(object) // 4)
    rng = np.random.default_rng(3)
    own = np.repeat(rng.normal(size=1_000), 4)
    reference = replace(reference, features=reference.features.assign(own=own, twin=own))
    [left] = [each for each in residuals(reference, reference, CATEGORIES) if each.name == "own"]
    assert left.before.std() == pytest.approx(left.after.std(), rel=0.1)


def test_missing_numbers_stay_missing() -> None:
    reference = weather(1, 4_000)
    frame = reference.features.copy()
    frame.loc[::4, "humidity"] = np.nan
    frame.loc[::8, "humidity"] = np.inf
    [left] = [
        each
        for each in residuals(replace(reference, features=frame), reference, CATEGORIES)
        if each.name == "humidity"
    ]
    assert np.isnan(left.before[::4]).all()
    assert np.isfinite(left.after).all()


def test_without_rows_for_a_regression_there_is_none() -> None:
    few, many = weather(1, 50), weather(2, 4_000)
    for windows in ((few, few), (few, many), (many, few)):
        assert [*residuals(*windows, CATEGORIES)] == []
    assert compared(many, few).conditional == ()
    assert compared(many, weather(3, 500), like=compared(many, few)).conditional == ()


def test_the_threshold_is_the_shift_of_a_normal_column() -> None:
    assert shift_threshold(DriftSpec()) == pytest.approx(0.2513, abs=1e-4)
    spec = DriftSpec(numeric_test="wasserstein", numeric_threshold=0.3)
    assert shift_threshold(spec) == 0.3
