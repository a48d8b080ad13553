"""The evaluation as a task: what it says of the holdout that decides."""

from collections.abc import Callable
from typing import Any

import pytest

from lifecycle.project import Project
from lifecycle.records import DatasetVersion, Estimate, Evaluation, Gain, Split
from lifecycle.settings import Settings
from tasks import evaluation


@pytest.mark.parametrize(("held", "warnings"), [(250, 1), (4_000, 0)])
def test_a_small_holdout_is_in_the_gates_reasons(
    make_project: Callable[..., Project],
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
    held: int,
    warnings: int,
) -> None:
    def part(rows: int) -> DatasetVersion:
        return DatasetVersion(uri="t", version=1, digest="d", rows=rows)

    measured = Evaluation(
        subject="candidate",
        metrics={"roc_auc": Estimate(value=0.7, low=0.6, high=0.8)},
        holdout="d",
        rows=held,
    )
    gain = Gain(value=0.2, low=0.1, high=0.3, least=0.12, confidence=0.9)
    monkeypatch.setattr(evaluation.assess, "assess", lambda *_: measured)
    monkeypatch.setattr(evaluation.assess, "assess_baseline", lambda *_: (measured, gain))
    split = Split(
        train=part(10_000), validation=part(2_000), holdout=part(held), withheld=7_936, rule=""
    )
    answers: Any = None
    found = evaluation.measure(make_project(), settings, split, answers, None).candidate
    assert len(found.warnings) == warnings
    if warnings:
        assert "the holdout has 250 of 20,186 rows (1.2%), too few to judge" in found.warnings[0]
