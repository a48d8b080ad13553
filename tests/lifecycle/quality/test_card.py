"""The model card names what a reader must know, and each number on it is one of its claims."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lifecycle.project import Project
from lifecycle.project.loader import load_project
from lifecycle.quality.card import (
    ModelCard,
    claims,
    false_claims,
    make_card,
    remeasured_claims,
)
from lifecycle.quality.card_page import card_page, difference_page, difference_table, markdown
from lifecycle.records import (
    CheckReport,
    DatasetVersion,
    Decision,
    Estimate,
    Evaluation,
    Gap,
    Identity,
    ModelVersion,
    Slice,
    Split,
    Trained,
    Tuned,
)
from lifecycle.runtime.identity import PACKAGE
from tests.support.graded import graded_project
from tests.support.small import ROOT

EXAMPLES = sorted((ROOT / "examples").glob("*/project.yaml"))
NUMBER = re.compile(r"(?<![\w.])-?\d[\d,]*(?:\.\d+)?(?:e[-+]\d+)?(?![\w.]\w)")
SCORE = Estimate(value=0.7, low=0.68, high=0.72)
IDENTITY = Identity(data="d", code="c", lock="l", project="p", seed=1, digest="i")


def version(rows: int) -> DatasetVersion:
    return DatasetVersion(uri="/lake/t", version=3, digest="abcdef0123456789", rows=rows)


def card_of(
    project: Project,
    score: Estimate = SCORE,
    rows: int = 1668,
    gap: float = 0.125,
    sampled_rows: int = 5877,
    number: int = 7,
) -> ModelCard:
    half = Estimate(value=0.5, low=0.5, high=0.5)
    metric = project.metric
    trained = Trained(
        model=ModelVersion(
            name="m",
            version=number,
            uri=f"models:/m/{number}",
            run_id="r",
            digest="b",
            identity="i",
        ),
        split=Split(
            train=version(5877),
            validation=version(1000),
            holdout=version(rows),
            withheld=12,
            rule="By person and year.",
        ),
        evaluation=Evaluation(
            subject="candidate",
            metrics={metric: score},
            holdout="h",
            rows=rows,
            slices=(
                Slice(by="age", value="old", rows=90, estimate=score),
                Slice(by="age", value="oldest", rows=9, estimate=None, note="fewer than 50 rows"),
            ),
            gaps=(
                Gap(
                    attribute="female",
                    measure="demographic parity difference",
                    value=gap,
                    lowest="0",
                    highest="1",
                    low=gap / 2,
                    high=gap * 2,
                ),
            ),
            warnings=("Only 2 boosting rounds.",),
        ),
        baseline=Evaluation(subject="base|line", metrics={metric: half}, holdout="h", rows=rows),
        checks=CheckReport(
            passed=("A",),
            failed={"Label Drift": "Drift 0.4."},
            not_run={"Boosting Overfit": "needs the model object"},
            reports=(),
            sampled_rows=sampled_rows,
        ),
        decision=Decision(gate="promotion", passed=False, reasons=("Floor <missed>.",)),
        tuned=Tuned(parameters={}, value=None, trials=0),
        identity=IDENTITY,
    )
    return make_card(project, trained, rounds=42, contract="1.2.0")


def test_card_of_the_example(health: Project) -> None:
    text = markdown(card_of(health), "approved", ("2026-11-29 12:00 note by ann: fine",))
    for line in (
        "# Model card: m v7",
        "**Status: approved.**",
        "the probability that `binexp` is `1`",
        "The model learned from the train and the validation part.",
        "- Only 2 boosting rounds.",
        "| train | 5,877 | t@3 | `abcdef012345` |",
        "under version 1.2.0 of the contract",
        "**Leakage, refused as features:** `outpdol`",
        "`female`, `black`. None is an input",
        "| **roc_auc** (decides) | 0.7 | 0.68 to 0.72 | 0.5 |",
        "| female | demographic parity difference | 0.125 | 0.0625 to 0.25 |",
        "base\\|line",
        "- failed: Label Drift: Drift 0.4.",
        "- not run: Boosting Overfit: needs the model object",
        "Gate `promotion`: not passed",
        "- Floor &lt;missed>.",
        "- 2026-11-29 12:00 note by ann: fine",
    ):
        assert line in text, line
    html = card_page(card_of(health), "draft")
    assert "<main>" in html
    assert "<title>Model card: m v7</title>" in html
    assert '<div class="verdict warn">Status: draft</div>' in html
    assert "Floor &lt;missed&gt;." in html
    assert "**" not in html


def test_cards_of_other_tasks(make_project: Callable[..., Project]) -> None:
    graded = graded_project(make_project, training={"class_weight": "balanced"})
    text = markdown(card_of(graded))
    assert "the probability of each class of `grade`: `poor`, `So-so`, `very good`." in text
    assert "trained with `class_weight`: its probabilities are not" in text
    assert "a class that it was not trained on" in text
    unrefitted = make_project(training={"refit": False})
    assert "learned from the train part." in markdown(card_of(unrefitted))
    own = make_project(training={"trainer": "mine:Own"})
    assert "was handed the train and" in markdown(card_of(own))
    count = make_project(
        task="count", target="visits", training={"trainer": "sklearn:linear_model.PoissonRegressor"}
    )
    text = markdown(card_of(count))
    assert "The model predicts how large the count `visits` is on average." in text
    assert "a model trained by `sklearn:linear_model.PoissonRegressor`" in text
    assert "Outside the range" in text


def test_a_card_without_checks(health: Project) -> None:
    assert "No suite was run." in markdown(card_of(health, sampled_rows=0))


def test_a_protected_input_is_pointed_out(health: Project) -> None:
    used = health.model_copy(update={"inputs": ("female", "income")})
    assert "**Used as inputs:** `female`" in markdown(card_of(used))


def test_the_licence_is_what_lies_beside_the_project_file(
    make_project: Callable[..., Project],
) -> None:
    project = make_project()
    assert card_of(project).declared.licence == ""
    (project.folder / "LICENSE.txt").write_text("\n  MIT License\n")
    assert card_of(project).declared.licence == "MIT License"
    assert "**Licence:** MIT License." in markdown(card_of(project))
    project._file = PACKAGE.parent / "project.yaml"
    assert card_of(project).declared.licence == "", "this package's licence is not the model's"


FINITE = st.floats(-1e6, 1e6, allow_nan=False).map(lambda value: value + 0.0)


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda file: file.parent.name)
@settings(max_examples=15, deadline=None)
@given(
    value=FINITE, low=FINITE, high=FINITE, rows=st.integers(0, 10**9), gap=st.floats(0, 1), v=FINITE
)
def test_every_number_of_the_tables_is_a_claim(
    example: Path, value: float, low: float, high: float, rows: int, gap: float, v: float
) -> None:
    project = load_project(example)
    score = Estimate(value=value, low=low, high=high)
    card = card_of(project, score, rows, gap)
    spelled = {"–", "---"}
    for _, claim in claims(card, "card"):
        if isinstance(claim, float):
            spelled |= {f"{claim:.4g}"}
        elif isinstance(claim, int):
            spelled |= {f"{claim:,}", str(claim)}
        elif isinstance(claim, str):
            spelled |= set(NUMBER.findall(claim))
    shown = [line for line in markdown(card).splitlines() if line.startswith("|")]
    numbers = [number for line in shown for number in NUMBER.findall(line)]
    numbers = [number for number in numbers if number not in ("95", "3")]  # 95 %, t@3
    assert set(numbers) <= spelled
    assert f"{value:.4g}" in spelled
    changed = card_of(project, Estimate(value=v, low=low, high=high), rows, gap)
    found = false_claims(card.measured, changed.measured, "measured")
    assert bool(found) == (value != v)


def test_two_cards_side_by_side(health: Project) -> None:
    first = card_of(health)
    other = card_of(health, score=Estimate(value=0.8, low=0.68, high=0.72), number=8)
    digests = ("1" * 64, "2" * 64)
    first, other = (
        card.model_copy(update={"measured": card.measured.model_copy(update={"digest": digest})})
        for card, digest in zip((first, other), digests, strict=True)
    )
    table = difference_table(first, other)
    assert table.header == ("claim", "v7", "v8")
    assert ("measured.metrics.roc_auc.value", "0.7", "0.8") in table.rows
    assert {row[0] for row in table.rows} == {
        "measured.metrics.roc_auc.value",
        "measured.slices.age=old.estimate.value",
        "measured.digest",
    }
    assert table.rows[-1] == ("measured.digest", "1" * 12, "2" * 12)
    html = difference_page(first, other)
    assert "<h2>Quantitative analyses, v7</h2>" in html
    assert "<summary><h2>Factors (the same)</h2></summary>" in html


@pytest.mark.parametrize("kind", ["metric", "gap"])
def test_a_claim_that_a_new_measurement_disproves(health: Project, kind: str) -> None:
    card = card_of(health)
    again = Evaluation(
        subject="again",
        metrics={health.metric: SCORE},
        holdout="h",
        rows=1668,
        gaps=tuple(card.measured.gaps.values()),
    )
    assert remeasured_claims(card, again, health) == []
    if kind == "metric":
        worse = again.model_copy(
            update={"metrics": {health.metric: SCORE.model_copy(update={"value": 0.69})}}
        )
    else:
        [gap] = again.gaps
        worse = again.model_copy(update={"gaps": (gap.model_copy(update={"value": 0.2}),)})
    [claim] = remeasured_claims(card, worse, health)
    assert "measured again, has " in str(claim)
    erased = worse.model_copy(update={"rows": 1667})
    assert remeasured_claims(card, erased, health) == [], "rows were erased since"
