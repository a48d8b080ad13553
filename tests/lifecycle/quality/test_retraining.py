"""When monitoring asks for retraining: never by chance, and in the metric's own size."""

import math

import pytest

from lifecycle.project import Metric, MonitoringSpec, RetrainingSpec
from lifecycle.quality.gates import decide_retraining
from lifecycle.records import (
    ColumnDrift,
    Decision,
    DriftReport,
    Estimate,
    Evaluation,
    LabelDrift,
    Window,
)

TRIGGERS = RetrainingSpec(triggers=("drift", "quality"))


def evaluation(value: float, half: float, metric: Metric, rows: int = 500) -> Evaluation:
    estimate = Estimate(value=value, low=value - half, high=value + half)
    return Evaluation(subject="v1", metrics={metric: estimate}, holdout="h", rows=rows)


def window(
    name: int = 4, rows: int = 500, statistic: float = 0.0, labels: LabelDrift | None = None
) -> DriftReport:
    def column(name: str, statistic: float) -> ColumnDrift:
        return ColumnDrift(column=name, test="ks", statistic=statistic, threshold=0.1, chance=0.2)

    return DriftReport(
        window=Window(first=name, last=name),
        reference_rows=700,
        current_rows=rows,
        features=tuple(column(f"c{i}", statistic) for i in range(4)),
        predictions=column("prediction", 0.0),
        labels=labels,
    )


def decision(
    drift: list[DriftReport],
    quality: list[Evaluation | None],
    released: Evaluation,
    metric: Metric,
    **spec: object,
) -> Decision:
    return decide_retraining(
        drift, quality, released, MonitoringSpec.model_validate(spec), TRIGGERS, metric
    )


def judged(now: float, then: float, metric: Metric, half: float = 0.0, **spec: object) -> Decision:
    released = evaluation(then, half, metric, 700)
    return decision([window()], [evaluation(now, half, metric)], released, metric, **spec)


@pytest.mark.parametrize(
    ("metric", "then", "kept", "lost"),
    [
        ("roc_auc", 0.70, 0.67, 0.66),
        ("log_loss", 0.40, 0.419, 0.421),
        ("rmse", 48_000.0, 50_300.0, 50_500.0),
        ("r2", 0.5, 0.476, 0.474),
        ("mine", -20.0, -20.9, -21.1),  # an own metric: greater is better, whatever its sign
    ],
)
def test_the_default_loss_is_a_share_of_the_value_at_release(
    metric: Metric, then: float, kept: float, lost: float
) -> None:
    assert judged(kept, then, metric).passed
    found = judged(lost, then, metric)
    assert not found.passed
    assert "(max_quality_loss: 5%)" in found.reasons[0]


def test_a_number_is_in_the_metrics_own_units() -> None:
    assert judged(139, 120, "rmse", max_quality_loss=20).passed
    assert not judged(141, 120, "rmse", max_quality_loss=20).passed
    assert judged(121, 120, "rmse", max_quality_loss="10%").passed
    for wrong in ("-5%", "five", -1):
        with pytest.raises(ValueError, match="max_quality_loss"):
            MonitoringSpec.model_validate({"max_quality_loss": wrong})


def test_a_loss_within_chance_is_none() -> None:
    """Two intervals of ±0.1: √2 × 0.1 × 2.326 / 1.96 = 0.168 is lost by chance once in 100."""
    found = judged(0.54, 0.70, "roc_auc", half=0.1)
    assert found.passed
    assert (
        "roc_auc 0.54 (95 % CI 0.44 to 0.64) on 500 labelled rows against 0.7 (95 % CI 0.6 to 0.8) "
        "at release is 0.16 worse, within the loss of 0.1679 allowed (what chance makes of 700 and "
        "500 rows)." in found.reasons[0]
    )
    assert not judged(0.53, 0.70, "roc_auc", half=0.1).passed
    assert judged(0.86, 0.70, "log_loss", half=0.1).passed
    assert not judged(0.87, 0.70, "log_loss", half=0.1).passed


def test_the_side_of_the_interval_that_faces_the_other_counts() -> None:
    released = evaluation(0.5, 0.0, "rmse")
    skewed = Estimate(value=1.0, low=0.9, high=9.0)
    measured = evaluation(1.0, 0.0, "rmse").model_copy(update={"metrics": {"rmse": skewed}})
    assert not decision([window()], [measured], released, "rmse").passed


def test_a_window_with_few_rows_counts_as_neither() -> None:
    good, bad = evaluation(0.7, 0.01, "roc_auc"), evaluation(0.5, 0.01, "roc_auc")
    tiny = window(5, rows=99, statistic=1.0)
    only = decision([tiny], [bad], good, "roc_auc")
    assert only.passed
    assert "too few rows to tell: 99, and monitoring.min_rows asks for 100" in only.reasons[0]
    assert decision([tiny], [bad], good, "roc_auc", min_rows=99).passed is False
    rule = {"windows": 3, "violations": 2}
    around = [window(4), tiny, window(6)]
    assert not decision(around, [bad, good, bad], good, "roc_auc", **rule).passed
    assert decision(around, [good, bad, bad], good, "roc_auc", **rule).passed


def test_few_labels_say_nothing_of_a_large_window() -> None:
    good, bad = evaluation(0.7, 0.01, "roc_auc"), evaluation(0.5, 0.01, "roc_auc", rows=20)
    found = decision([window()], [bad], good, "roc_auc")
    assert found.passed
    assert "Quality: too few rows to tell: 20, and monitoring.min_rows" in found.reasons[0]


def test_the_words_say_where_chance_set_the_limits() -> None:
    good = evaluation(0.7, 0.01, "roc_auc")
    calm = decision([window(statistic=0.15)], [good], good, "roc_auc")
    assert calm.passed
    assert "of 700 and 500 rows that the limits of 4 features are raised" in calm.reasons[0]
    loud = decision([window(statistic=0.25)], [good], good, "roc_auc")
    assert not loud.passed
    assert "c0 (ks 0.25, limit 0.2 by chance)" in loud.reasons[0]


def test_drifted_labels_violate_if_they_are_enough() -> None:
    good = evaluation(0.7, 0.01, "roc_auc")
    labels = LabelDrift(
        column="churn", test="cramers_v", statistic=0.6, threshold=0.15, rows=385, means=(0.52, 0.0)
    )
    found = decision([window(labels=labels)], [None], good, "roc_auc")
    assert not found.passed
    assert "churn drifted (mean 0.52, now 0 of 385 labels; cramers_v 0.6" in found.reasons[0]
    few = labels.model_copy(update={"rows": 20})
    assert decision([window(labels=few)], [None], good, "roc_auc").passed


def test_a_value_that_is_no_number_counts_as_lost() -> None:
    assert not judged(math.nan, 0.7, "roc_auc").passed
