"""Drift of a window: what real columns look like, and what is drift in them."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from lifecycle.errors import DataError
from lifecycle.monitoring.drift import drift_report, shares
from lifecycle.monitoring.scored import OpenWindow
from lifecycle.monitoring.sketch import as_floats
from lifecycle.profiling.compare import cramers_v
from lifecycle.project import DriftSpec
from lifecycle.records import DriftReport, Window

NORMAL = np.random.default_rng(5).normal(50, 10, 4000)


def seen(features: pd.DataFrame, truth: float = np.nan) -> OpenWindow:
    rows = len(features)
    return OpenWindow(
        features, np.linspace(0, 1, rows), np.full(rows, truth), None, "regression", "paid"
    )


def report(
    reference: pd.DataFrame, current: pd.DataFrame, *categorical: str, **spec: object
) -> DriftReport:
    return drift_report(
        seen(reference),
        seen(current),
        DriftSpec.model_validate(spec),
        Window(first=4, last=4),
        categorical,
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
    with pytest.raises(DataError, match="has no features a"):
        report(frame, pd.DataFrame({"b": [1.0]}))


def test_the_limit_is_the_threshold_or_chance_if_that_is_more() -> None:
    frame = pd.DataFrame({"amount": NORMAL})
    many = report(frame, frame + 20).features[0]
    assert many.limit == many.threshold == 0.1
    few = report(frame, frame[:8] + 20).features[0]
    assert few.statistic > 0.7
    assert few.limit == few.chance > few.threshold
    assert not report(frame, frame[:1] + 20).drifted


def test_rows_of_few_entities_are_few_rows() -> None:
    frame = pd.DataFrame({"amount": NORMAL})
    one_each = replace(seen(frame), entity=np.arange(4000).astype(object))
    alike = OpenWindow(
        frame[:1000] + 20,
        NORMAL[:1000],
        np.full(1000, np.nan),
        np.repeat(np.arange(5), 200).astype(object),
        "regression",
        "paid",
    )
    found = drift_report(one_each, alike, DriftSpec(), Window(), ())
    assert not found.drifted
    assert found.features[0].chance > 0.7


@pytest.mark.parametrize(("task", "mean"), [("binary", 0.0), ("regression", 0.0)])
def test_the_labels_are_compared_where_they_have_arrived(task: str, mean: float) -> None:
    frame = pd.DataFrame({"amount": NORMAL[:400]})
    truth = np.arange(400) % 2.0

    def with_truth(values: np.ndarray) -> OpenWindow:
        return OpenWindow(frame, values, values, None, task, "paid")  # type: ignore[arg-type]  # a parameter

    late = np.where(np.arange(400) < 200, mean, np.nan)
    found = drift_report(with_truth(truth), with_truth(late), DriftSpec(), Window(), ()).labels
    assert found is not None
    assert (found.column, found.rows, found.means) == ("paid", 200, (0.5, mean))
    assert found.drifted
    assert found.test == ("cramers_v" if task == "binary" else "kolmogorov_smirnov")
    unknown = np.full(400, np.nan)
    assert (
        drift_report(with_truth(truth), with_truth(unknown), DriftSpec(), Window(), ()).labels
        is None
    )
