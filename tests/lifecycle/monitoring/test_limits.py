"""The parts of a limit: blocks that are drawn, bins that are counted, the limit of all columns."""

import numpy as np
import pandas as pd
import pytest
from pydantic import ValidationError

from lifecycle.monitoring.blocks import block_length, cells_of_entities, cells_of_rows
from lifecycle.monitoring.drift import drift_report
from lifecycle.monitoring.limits import Draws, Measure
from lifecycle.monitoring.scored import OpenWindow
from lifecycle.monitoring.sketch import shares_of, sketch_levels, sketch_numbers
from lifecycle.profiling.compare import compare_numbers, kolmogorov_smirnov_by_chance
from lifecycle.project import DriftSpec, MonitoringSpec
from lifecycle.records import DriftReport, Window


def autoregressive(rows: int, weight: float, rng: np.random.Generator) -> np.ndarray:
    values = rng.normal(size=rows)
    for at in range(1, rows):
        values[at] += weight * values[at - 1]
    return values


def test_blocks_are_as_long_as_rows_hang_together() -> None:
    rng = np.random.default_rng(3)
    independent, dependent = rng.normal(size=4000), autoregressive(4000, 0.9, rng)
    assert block_length(independent[:, None]) <= 3
    assert 20 <= block_length(np.stack([independent, dependent], axis=1)) <= 80
    assert block_length(np.ones((4000, 1))) == 1
    assert block_length(rng.normal(size=(60, 1))) == 1, "50 blocks are left"


def test_a_window_shorter_than_a_block_is_drawn_as_one_run() -> None:
    rng = np.random.default_rng(3)
    short = cells_of_rows(1000, 30, 100, None, rng)
    assert (short.per_block, short.per_piece, short.window_cells) == (28, 7, 7.5)
    assert short.overlaps
    long = cells_of_rows(1000, 250, 100, None, rng)
    assert (long.per_block, long.per_piece, long.count) == (7, 7, 70)
    large = cells_of_rows(1_000_000, 1000, 1, None, rng)
    assert large.count == len(large.rows) == 2048
    assert not large.overlaps


def test_runs_begin_in_any_cell_while_there_are_few_and_side_by_side_else() -> None:
    rng = np.random.default_rng(3)
    few = cells_of_rows(10_000, 200, 200, None, rng)
    drawn = Draws(few, (10_000, 200), 0.05, rng)._current
    starts = {int(np.flatnonzero(draw & ~np.roll(draw, 1))[0]) for draw in drawn > 0}
    assert drawn.sum(axis=1).tolist() == [8] * len(drawn), "one run of 8 cells of 25 rows"
    assert len(starts) > 50, "side by side there would be 50"
    many = cells_of_rows(1_000_000, 500, 100, None, rng)
    assert (many.per_block, many.overlaps, many.count) == (1, False, 2048)


def test_entities_are_drawn_with_as_many_rows_as_the_window_has_of_each() -> None:
    rng = np.random.default_rng(3)
    reference = np.repeat(np.arange(100), 6).astype(object)
    one_each = cells_of_entities(reference, np.arange(40).astype(object), rng)
    assert np.bincount(one_each.cell).tolist() == [1] * 100
    assert one_each.window_cells == pytest.approx(40)
    one_large = cells_of_entities(reference, np.repeat([1, 2], [599, 1]).astype(object), rng)
    assert one_large.window_cells < 1.1


def test_values_that_are_few_are_compared_one_by_one() -> None:
    rng = np.random.default_rng(3)
    before, after = rng.poisson(3, 1000).astype(float), rng.poisson(3.5, 500).astype(float)
    before[:50] = np.nan
    sketch = sketch_numbers(before, "kolmogorov_smirnov")
    shares = [shares_of(sketch.codes(values), sketch.bins) for values in (before, after)]
    exact = compare_numbers(before, after, alpha=0.01).statistic
    assert float(sketch.distances(*shares)) == pytest.approx(exact)


@pytest.mark.parametrize("values", [np.full(50, 3.0), np.full(50, np.nan)])
def test_a_constant_column_sees_any_other_value(values: np.ndarray) -> None:
    sketch = sketch_numbers(values, "kolmogorov_smirnov")
    before = shares_of(sketch.codes(values), sketch.bins)
    for other in (2.9999, 3.0001):
        after = shares_of(sketch.codes(np.full(9, other)), sketch.bins)
        assert float(sketch.distances(before, after)) == 1
    assert float(sketch.distances(before, before)) == 0


def test_earth_is_moved_beyond_what_the_reference_has() -> None:
    values = np.random.default_rng(3).normal(10, 2, 5000)
    sketch = sketch_numbers(values, "wasserstein")
    moved = values + 20
    shares = [shares_of(sketch.codes(side), sketch.bins) for side in (values, moved)]
    distance = max(float(sketch.distances(*shares)), sketch.overshoot(moved))
    assert distance > 5
    near = shares_of(sketch.codes(values + 1), sketch.bins)
    assert float(sketch.distances(shares[0], near)) == pytest.approx(0.5, rel=0.1)


def test_rare_and_new_levels_share_a_bin() -> None:
    column = pd.Series(["a"] * 50 + ["b"] * 5 + ["c", 1, "1", None])
    sketch = sketch_levels(column, "cramers_v")
    assert sketch.levels == ("a", "b")
    assert sketch.codes(pd.Series(["b", "c", "new", None])).tolist() == [1, 2, 2, 2]


def test_one_column_of_single_rows_has_smirnovs_limit() -> None:
    rng = np.random.default_rng(3)
    values = rng.normal(size=2000)
    sketch = sketch_numbers(values, "kolmogorov_smirnov")
    cells = cells_of_rows(2000, 500, 1, None, rng)
    draws = Draws(cells, (2000, 500), 0.01, rng)
    measure = Measure(sketch, sketch.codes(values), 2000, 500, values)
    limit = float(draws.limits([measure])[0])
    assert limit == pytest.approx(kolmogorov_smirnov_by_chance(2000, 500, 0.01), rel=0.08)
    many = draws.limits([measure] * 3)
    assert many == pytest.approx([limit] * 3, rel=0.01), "columns that move as one count as one"
    half = Measure(sketch, sketch.codes(values), 2000, 125, values)
    assert draws.limits([half])[0] == pytest.approx(
        kolmogorov_smirnov_by_chance(2000, 125, 0.01), rel=0.12
    ), "labels that have not all arrived"
    (visible,) = draws.visible([measure], [limit])
    assert visible in (0.2, 0.25, 0.3)


def report(reference: pd.DataFrame, current: pd.DataFrame, **window: object) -> DriftReport:
    def opened(frame: pd.DataFrame) -> OpenWindow:
        zeros = np.zeros(len(frame))
        given = {name: make(frame) for name, make in window.items()}  # type: ignore[operator]
        return OpenWindow(frame, zeros, zeros * np.nan, None, "regression", "y", **given)

    return drift_report(opened(reference), opened(current), DriftSpec(), Window(), ())


def test_rows_in_time_make_wider_limits_than_rows_by_chance() -> None:
    rng = np.random.default_rng(5)
    frame = pd.DataFrame({"load": autoregressive(3000, 0.95, rng)})
    hours = pd.date_range("2024-01-01", periods=3000, freq="h").to_numpy()
    in_time = report(frame[:2500], frame[2500:], time=lambda part: hours[part.index])
    by_chance = report(frame[:2500], frame[2500:])
    assert "rows in time" in in_time.drawn
    assert in_time.features[0].chance > 2 * by_chance.features[0].chance


def test_columns_that_move_together_are_one_group() -> None:
    rng = np.random.default_rng(5)
    frame = pd.DataFrame(rng.normal(size=(3000, 3)), columns=["age", "visits", "spare"])
    frame["years"] = frame["age"] + rng.normal(0, 0.1, 3000)
    current = frame[2000:].assign(**{name: frame[name] + 0.5 for name in ("age", "years")})
    assert [set(group) for group in report(frame[:2000], current).groups] == [{"age", "years"}]
    current["visits"] += 1
    assert len(report(frame[:2000], current).groups) == 2


def test_predictions_of_a_slice_are_compared_by_themselves() -> None:
    rng = np.random.default_rng(5)

    def opened(rows: int, shift: float) -> OpenWindow:
        female = rng.random(rows) < 0.3
        answer = rng.normal(size=rows) + shift * female
        return OpenWindow(
            pd.DataFrame({"x": rng.normal(size=rows)}),
            answer,
            np.full(rows, np.nan),
            None,
            "regression",
            "y",
            attributes={"female": female.astype(int).astype(str).astype(object)},
        )

    found = drift_report(opened(3000, 0), opened(2000, 0.6), DriftSpec(), Window(), ())
    assert {drift.slice for drift in found.slices if drift.alarms} == {"female=1"}


@pytest.mark.parametrize(
    ("declared", "rate"), [("1 per 100 windows", 0.01), ("2 per 10 windows", 0.2)]
)
def test_a_rate_of_false_alarms_is_declared_in_words(declared: str, rate: float) -> None:
    assert MonitoringSpec(false_alarms=declared).alarm_rate == rate


@pytest.mark.parametrize(
    "declared", ["1 per 2 windows", "1 per 9999 windows", "0.01", "1 per 0 windows"]
)
def test_a_rate_that_cannot_be_kept_is_refused(declared: str) -> None:
    with pytest.raises(ValidationError, match="false_alarms"):
        MonitoringSpec(false_alarms=declared)
