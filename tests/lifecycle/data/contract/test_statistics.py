"""Statistics in batches: those of pandas, within what is stated where there are many values."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lifecycle.data.contract import statistics
from lifecycle.data.contract.statistics import ColumnStatistics
from lifecycle.project import ExpectSpec

NAMES = ("missing_share", "distinct", "mean", "deviation", "median")
SPEC = ExpectSpec(**dict.fromkeys(NAMES, (0, None)))


def taken(column: pa.Array, step: int) -> ColumnStatistics:
    made = ColumnStatistics(SPEC)
    for start in range(0, len(column), step):
        made.add(column.slice(start, step))
    return made


@settings(deadline=None, max_examples=50)
@given(
    st.lists(st.one_of(st.none(), st.floats(-1e6, 1e6)), min_size=1, max_size=60),
    st.integers(1, 60),
)
def test_as_pandas_says(values: list[float | None], step: int) -> None:
    column, series = pa.array(values, pa.float64()), pd.Series(values, dtype=float)
    made = taken(column, step)
    expected = {
        "missing_share": series.isna().mean(),
        "distinct": float(series.nunique()),
        "mean": series.mean(),
        "deviation": series.std(),
        "median": series.dropna().median() if series.notna().any() else np.nan,
    }
    for name, value in expected.items():
        told = made.value(name)
        if np.isnan(value):
            assert told is None
        else:
            assert told == pytest.approx(value, rel=1e-9, abs=1e-6)


def test_many_values_within_what_is_stated() -> None:
    values = np.random.default_rng(3).lognormal(size=400_000)
    column = pa.array(values)
    made = taken(column, 50_000)
    mean, deviation, median = (made.value(name) for name in ("mean", "deviation", "median"))
    assert mean == pytest.approx(values.mean(), rel=1e-12)
    assert deviation == pytest.approx(values.std(ddof=1), rel=1e-12)
    assert median
    assert abs((values < median).mean() - 0.5) < 0.0075
    assert made.value("distinct") == pytest.approx(400_000, rel=0.012)
    other = taken(column, 7_777)
    assert [other.value(name) for name in NAMES] == [made.value(name) for name in NAMES]


def test_memory_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statistics, "SIZE", 64)
    made = taken(pa.array(np.arange(10_000)), 100)
    assert len(made._sample.values) == len(made._keys.values) == 64
    assert made.value("mean") == 4999.5


def test_texts_and_times_are_counted() -> None:
    for column in (
        pa.array(["a", "b", "a", None]),
        pa.array([1, 2, 1, None], pa.timestamp("us")),
        pa.array([True, False, True, None]),
    ):
        made = ColumnStatistics(ExpectSpec(distinct=(0, None), missing_share=(0, 1)))
        made.add(column)
        assert (made.value("distinct"), made.value("missing_share")) == (2, 0.25)


def test_numbers_without_bounds() -> None:
    made = ColumnStatistics(ExpectSpec(deviation=(0, None)))
    made.add(pa.array([1e300, -1e300]))
    assert made.value("deviation") == np.inf
