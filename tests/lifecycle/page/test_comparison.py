"""What differs between versions, said first; and their metrics, measured in pairs."""

import pytest

from lifecycle.page.comparison import (
    VersionComparison,
    comparison_page,
    difference_table,
    differences,
    metric_table,
    verdicts,
)
from lifecycle.records import Estimate, Evaluation, Gain, ModelVersion


def model(version: int) -> ModelVersion:
    uri = f"models:/m/{version}"
    return ModelVersion(
        name="m", version=version, uri=uri, run_id="", digest="d" * 64, identity="i"
    )


def comparison(low: float, high: float) -> VersionComparison:
    estimate = Estimate(value=0.8, low=0.7, high=0.9)
    gain = Gain(value=(low + high) / 2, low=low, high=high, least=low, confidence=0.95)
    facts = [
        {("code", "commit"): "abc", ("data", "training"): "train@1", ("parameters", "eta"): "0.1"},
        {("code", "commit"): "abc", ("data", "training"): "train@2", ("parameters", "<b>"): "3"},
    ]
    evaluation = Evaluation(subject="v", metrics={"roc_auc": estimate}, holdout="h", rows=10)
    return VersionComparison(
        project="m",
        versions=(model(1), model(2)),
        differences=tuple(differences(facts)),
        holdout="holdout@2",
        rows=10,
        evaluations=(evaluation, evaluation),
        gains=({"roc_auc": gain},),
    )


def test_only_what_differs_is_said_and_data_comes_first() -> None:
    found = comparison(0.1, 0.2).differences
    assert [(each.group, each.name, each.values) for each in found] == [
        ("data", "training", ("train@1", "train@2")),
        ("parameters", "eta", ("0.1", "–")),
        ("parameters", "<b>", ("–", "3")),
    ]
    assert difference_table(comparison(0.1, 0.2), "code") is None


@pytest.mark.parametrize(
    ("low", "high", "tone", "words"),
    [
        (0.01, 0.03, "good", "is better than"),
        (-0.03, -0.01, "bad", "is worse than"),
        (-0.01, 0.03, "plain", "is not shown to differ from"),
    ],
)
def test_a_gain_counts_beyond_its_interval(low: float, high: float, tone: str, words: str) -> None:
    [verdict] = verdicts(comparison(low, high), "roc_auc")
    assert verdict.tone == tone
    assert verdict.text.startswith(f"v2 {words} v1 by roc auc:")


def test_the_page_has_the_numbers_and_escapes() -> None:
    html = comparison_page(comparison(0.01, 0.03), "roc_auc")
    assert "The same code." in html
    assert "+0.02 (+0.01 to +0.03)" in html
    assert '<td class="plain"><b></td>' not in html
    assert "&lt;b&gt;" in html
    assert metric_table(comparison(0.01, 0.03)).header[-1] == "gain of v2 over v1"
