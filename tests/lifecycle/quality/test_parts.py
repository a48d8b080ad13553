"""Train part against holdout: what is found, and what chance alone never becomes a finding."""

import numpy as np
import pandas as pd
import pytest

from lifecycle.quality.parts import (
    copies,
    missing,
    nearly_constant,
    new_category_limits,
    share_limit,
    target_unit,
    unit_factor,
    units,
)

ROWS = 800


def measured(seed: int = 1, rows: int = ROWS) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "length": rng.normal(30, 8, rows),
            "income": np.exp(rng.normal(9, 1, rows)),
            "warmth": rng.normal(18, 4, rows).round(1),
            "plan": rng.choice(["basic", "plus"], rows),
        }
    )


def coarse(seed: int = 1, rows: int = ROWS) -> pd.DataFrame:
    """Rows that repeat each other by nature."""
    rng = np.random.default_rng(seed)
    return pd.DataFrame({name: rng.integers(0, 3, rows) for name in "abcd"})


@pytest.mark.parametrize("rows", [measured, coarse])
def test_copies_are_found_and_natural_repetition_is_not(rows) -> None:
    train, holdout = rows(1), rows(2, 200)
    assert not copies(train, holdout).failed
    planted = pd.concat([holdout[:130], train[:70]])
    assert copies(train, planted).failed == (rows is measured)
    assert "of the holdout's 200 rows equal a row of the train part" in copies(train, planted).text


def test_copies_in_the_source_are_found_though_train_repeats_itself() -> None:
    rows = measured()
    doubled = pd.concat([rows, rows]).sample(frac=1, random_state=3)
    assert copies(doubled[:1200], doubled[1200:]).failed


def test_copies_with_missing_cells_and_other_types() -> None:
    rows = measured().assign(
        whole=pd.array([None, 3] * (ROWS // 2), dtype="Int64"),
        text=pd.Series([None, "a", "b", float("nan")] * (ROWS // 4), dtype=object),
        kind=pd.Categorical(["x", "y"] * (ROWS // 2)),
    )
    assert copies(rows[:600], pd.concat([rows[600:], rows[:100]])).failed
    assert not copies(rows[:600], rows[600:]).failed


@pytest.mark.parametrize("factor", [1000, 0.001, 2.54, 1 / 2.2046])
@pytest.mark.parametrize("name", ["length", "income"])
def test_another_unit_is_recognised(name: str, factor: float) -> None:
    train, holdout = measured(1)[name].to_numpy(), measured(2, 200)[name].to_numpy()
    assert unit_factor(train, holdout) is None
    words = unit_factor(train, holdout * factor)
    assert words is not None
    assert float(words.split()[0]) == pytest.approx(factor, rel=0.2)


def test_degrees_are_recognised() -> None:
    train, holdout = measured(1)["warmth"].to_numpy(), measured(2, 200)["warmth"].to_numpy()
    assert unit_factor(train, holdout * 1.8 + 32) == "Fahrenheit instead of Celsius"
    assert unit_factor(train * 1.8 + 32, holdout) == "Celsius instead of Fahrenheit"


def test_growth_is_no_other_unit() -> None:
    years = np.linspace(0, 20, 2000)
    trend = np.exp(years / 10) * np.random.default_rng(5).normal(100, 5, 2000)
    assert unit_factor(trend[:1500], trend[1500:]) is None
    assert target_unit(trend[:1900], trend[1900:] * 0.98) is None


@pytest.mark.parametrize("factor", [1000, 0.001])
def test_another_unit_in_another_season(factor: float) -> None:
    """Train of a whole year, a holdout of summer: no factor brings the two together."""
    draw = np.random.default_rng(3)
    year = 12 - 11 * np.cos(np.linspace(0, 4 * np.pi, 4000)) + draw.normal(0, 2, 4000)
    summer = draw.normal(24, 2, 800)
    assert unit_factor(year, summer) is None
    words = unit_factor(year, summer * factor)
    assert words is not None
    assert words.endswith(" times")


def test_units_are_named_by_column() -> None:
    holdout = measured(2, 200)
    found = list(units(measured(1), holdout.assign(income=holdout["income"] / 1000)))
    assert [finding.subject for finding in found] == ["income"]
    assert "in another unit" in found[0].text


def test_targets_out_of_reach() -> None:
    truth = measured(1)["income"].to_numpy()
    later = measured(2, 200)["income"].to_numpy()
    assert target_unit(truth, later) is None
    assert target_unit(truth, later * 1000) is not None
    beyond = target_unit(truth, later + truth.max())
    assert beyond is not None
    assert "lie outside" in beyond.text


def test_a_feed_that_broke_is_named_and_chance_is_not() -> None:
    train, holdout = measured(1), measured(2, 60)
    train.loc[::10, "income"] = np.nan
    holdout.loc[::6, "income"] = np.nan
    assert list(missing(train, holdout)) == []
    holdout.loc[::2, "income"] = np.nan
    assert [finding.subject for finding in missing(train, holdout)] == ["income"]


def test_new_categories_are_foretold_by_those_seen_once() -> None:
    towns = pd.DataFrame({"town": [f"t{n}" for n in range(40)] + ["big"] * 60, "flat": "x"})
    limits = new_category_limits(towns, 78)
    assert limits["town"] > 0.4
    assert limits["flat"] < 0.06
    assert new_category_limits(towns, 100_000)["flat"] == pytest.approx(0.01, abs=0.002)


def test_a_column_with_hardly_any_variation_may_lose_it_in_few_rows() -> None:
    train = pd.DataFrame({"rare": ["no"] * 990 + ["yes"] * 10, "even": ["a", "b"] * 500})
    assert nearly_constant(train, 78) == ["rare"]
    assert nearly_constant(train, 5000) == []
    assert nearly_constant(train.assign(rare="no"), 78) == [], "constant in both: worth telling"


def test_limits_of_shares_close_in_with_rows() -> None:
    limits = [share_limit(0.05, rows) for rows in (20, 200, 20_000)]
    assert limits == sorted(limits, reverse=True)
    assert limits[-1] == pytest.approx(0.05, abs=0.005)
    assert share_limit(0.05, 0) == 1
