"""Drift measures against what is known of them, and what real columns look like."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import ks_2samp
from scipy.stats.contingency import association

from lifecycle.errors import DataError
from lifecycle.monitoring.drift import (
    as_floats,
    cramers_v,
    drift,
    kolmogorov_smirnov,
    shares,
    total_variation,
    wasserstein,
)
from lifecycle.records import DriftReport, Window
from lifecycle.specs import DriftSpec

RNG = np.random.default_rng(5)
NORMAL = RNG.normal(50, 10, 4000)
NAN = np.nan
columns = st.lists(st.one_of(st.floats(-1e6, 1e6), st.just(NAN)), min_size=1, max_size=30).map(
    np.array
)


def report(
    reference: pd.DataFrame, current: pd.DataFrame, *categorical: str, **spec: object
) -> DriftReport:
    answers = np.linspace(0, 1, 50)
    return drift(
        reference,
        current,
        answers,
        answers,
        DriftSpec.model_validate(spec),
        Window(first=4, last=4),
        categorical,
    )


def test_no_drift_between_halves_of_one_population() -> None:
    assert kolmogorov_smirnov(NORMAL[:2000], NORMAL[2000:]) < 0.05
    assert wasserstein(NORMAL[:2000], NORMAL[2000:]) < 0.1


def test_a_shift_by_one_deviation_is_one_wasserstein() -> None:
    spread = NORMAL.std()
    assert wasserstein(NORMAL, NORMAL + spread) == pytest.approx(1)
    # two normals one deviation apart: 2Φ(½) − 1
    assert kolmogorov_smirnov(NORMAL, NORMAL + spread) == pytest.approx(0.383, abs=0.03)


def test_kolmogorov_smirnov_is_scipys() -> None:
    shifted = np.round(NORMAL[:700] * 1.1)
    expected = ks_2samp(np.round(NORMAL), shifted).statistic
    assert kolmogorov_smirnov(np.round(NORMAL), shifted) == pytest.approx(expected)


@pytest.mark.parametrize("measure", [kolmogorov_smirnov, wasserstein])
def test_missing_values_are_drift(measure: object) -> None:
    assert callable(measure)
    lacking = NORMAL.copy()
    lacking[::2] = NAN
    assert measure(NORMAL, lacking) == pytest.approx(0.5, abs=0.02)
    assert measure(NORMAL, np.full(10, NAN)) == 1
    assert measure(np.full(5, NAN), np.full(10, NAN)) == 0


def test_a_constant_reference_gives_a_finite_distance() -> None:
    assert wasserstein(np.ones(10), np.ones(10)) == 0
    assert 0 < wasserstein(np.ones(10), np.full(10, 3.0)) < 10


@given(columns, columns)
def test_measures_are_distances(a: np.ndarray, b: np.ndarray) -> None:
    for measure in (kolmogorov_smirnov, wasserstein):
        assert measure(a, a) == 0
        assert np.isfinite(measure(a, b))
        assert measure(a, b) >= 0
    assert kolmogorov_smirnov(a, b) == pytest.approx(kolmogorov_smirnov(b, a))


def test_cramers_v_is_scipys_for_windows_of_one_size_and_keeps_for_others() -> None:
    before = pd.Series(["a"] * 60 + ["b"] * 30 + ["c"] * 10)
    after = pd.Series(["a"] * 30 + ["b"] * 30 + ["d"] * 40)
    counts = pd.DataFrame({"x": before.value_counts(), "y": after.value_counts()}).fillna(0)
    expected = association(counts.to_numpy().astype(int), method="cramer")
    for current in (after, pd.concat([after] * 20)):
        table = shares(before, current)
        found = cramers_v(table["reference"].to_numpy(), table["current"].to_numpy())
        assert found == pytest.approx(expected)
    assert total_variation(table["reference"].to_numpy(), table["current"].to_numpy()) == (
        pytest.approx(0.4)
    )


def test_categories_with_new_levels_missing_and_mixed_types() -> None:
    before = pd.Series([1, "1", None, True], dtype=object)
    assert set(shares(before, before).index) == {"1", "(missing)", "True"}
    apart = shares(pd.Series(["a"]), pd.Series(["b"]))
    assert cramers_v(apart["reference"].to_numpy(), apart["current"].to_numpy()) == 1


def test_a_report_names_what_drifted() -> None:
    reference = pd.DataFrame(
        {
            "amount": NORMAL,
            "city": ["Rome", "Oslo"] * 2000,
            "count": pd.array([1, None] * 2000, dtype="Int64"),
            "flag": pd.array([True, None] * 2000, dtype="boolean"),
            "at": pd.date_range("2024-01-01", periods=4000, freq="h"),
        }
    )
    current = reference.assign(
        amount=NORMAL + 10, city=["Rome"] * 4000, at=reference["at"] + pd.Timedelta(days=365)
    )
    found = report(reference, current, "city", "flag")
    assert [c.column for c in found.drifted] == ["amount", "city", "at"]
    tests = {c.column: c.test for c in found.features}
    assert tests["amount"] == "kolmogorov_smirnov"
    assert tests["city"] == "cramers_v"
    assert found.predictions.statistic == 0
    other = report(
        reference,
        current,
        "city",
        "flag",
        numeric_test="wasserstein",
        categorical_test="total_variation",
    )
    assert [c.column for c in other.drifted] == ["amount", "city", "at"]
    assert other.features[1].statistic == pytest.approx(0.5)


def test_as_floats_keeps_missing_times_and_infinite_values_missing() -> None:
    times = pd.Series(pd.to_datetime(["1970-01-01 00:00:10", None])).astype("datetime64[us]")
    assert as_floats(times)[0] == 10
    assert np.isnan(as_floats(times)[1])
    assert np.isnan(as_floats(pd.Series([np.inf, -np.inf]))).all()


def test_an_empty_window_or_a_lost_column_is_an_error() -> None:
    frame = pd.DataFrame({"a": [1.0]})
    with pytest.raises(DataError, match="window 4: no rows"):
        report(frame, frame.iloc[:0])
    with pytest.raises(DataError, match="lacks the features a"):
        report(frame, pd.DataFrame({"b": [1.0]}))
