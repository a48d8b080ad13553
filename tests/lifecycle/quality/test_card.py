"""The model card names what a reader must know."""

from collections.abc import Callable

from lifecycle.project import Project
from lifecycle.quality.card import model_card
from lifecycle.records import CheckReport, DatasetVersion, Decision, Estimate, Evaluation, Split
from tests.support.graded import graded_project


def version(rows: int) -> DatasetVersion:
    return DatasetVersion(uri="/lake/t", version=3, digest="abcdef0123456789", rows=rows)


def card(project: Project, sampled_rows: int = 5877) -> str:
    score = Estimate(value=0.7, low=0.68, high=0.72)
    half = Estimate(value=0.5, low=0.5, high=0.5)
    return model_card(
        project,
        Split(
            train=version(5877),
            validation=version(1000),
            holdout=version(1668),
            withheld=12,
            rule="By person and year.",
        ),
        Evaluation(
            subject="candidate",
            metrics={"roc_auc": score},
            holdout="h",
            rows=1668,
            warnings=("Only 2 boosting rounds.",),
        ),
        Evaluation(subject="base|line", metrics={"roc_auc": half}, holdout="h", rows=1668),
        CheckReport(
            passed=("A",),
            failed={"Label Drift": "Drift 0.4."},
            not_run={"Boosting Overfit": "needs the model object"},
            reports=(),
            sampled_rows=sampled_rows,
        ),
        Decision(gate="promotion", passed=False, reasons=("Floor missed.",)),
    )


def test_card_of_the_example(health: Project) -> None:
    text = card(health)
    assert "the probability that `binexp` is `1`" in text
    assert "The model learned from the train and the validation part." in text
    assert "- Only 2 boosting rounds." in text
    assert "| train | 5,877 | 3 | `abcdef012345` |" in text
    assert "**Leakage, refused as features:** `outpdol`" in text
    assert "`female`, `black`. None is an input" in text
    assert "| **roc_auc** | 0.7 | 0.68 to 0.72 | 0.5 |" in text
    assert "base\\|line" in text
    assert "- failed: Label Drift: Drift 0.4." in text
    assert "- not run: Boosting Overfit: needs the model object" in text
    assert "Gate `promotion`: not passed" in text


def test_cards_of_other_tasks(make_project: Callable[..., Project]) -> None:
    text = card(graded_project(make_project, training={"class_weight": "balanced"}))
    assert "the probability of each class of `grade`: `poor`, `So-so`, `very good`." in text
    assert "trained with `class_weight`: its probabilities are not" in text
    assert "a class that it was not trained on" in text
    assert "learned from the train part." in card(make_project(training={"refit": False}))
    assert "was handed the train and" in card(make_project(training={"trainer": "mine:Own"}))
    count = make_project(
        task="count", target="visits", training={"trainer": "sklearn:linear_model.PoissonRegressor"}
    )
    text = card(count)
    assert "The model predicts how large the count `visits` is on average." in text
    assert "a model trained by `sklearn:linear_model.PoissonRegressor`" in text
    assert "outside the range" in text


def test_a_card_without_checks(health: Project) -> None:
    assert "No suite was run." in card(health, sampled_rows=0)


def test_a_protected_input_is_pointed_out(health: Project) -> None:
    used = health.model_copy(update={"inputs": ("female", "income")})
    assert "**Used as inputs:** `female`" in card(used)
