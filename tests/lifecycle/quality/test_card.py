"""The model card names what a reader must know."""

from lifecycle.project import Project
from lifecycle.quality.card import model_card
from lifecycle.records import CheckReport, DatasetVersion, Decision, Estimate, Evaluation, Split


def version(rows: int) -> DatasetVersion:
    return DatasetVersion(uri="/lake/t", version=3, digest="abcdef0123456789", rows=rows)


def card(project: Project) -> str:
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
        Evaluation(subject="candidate", metrics={"roc_auc": score}, holdout="h", rows=1668),
        Evaluation(subject="base|line", metrics={"roc_auc": half}, holdout="h", rows=1668),
        CheckReport(
            passed=("A",),
            failed={"Label Drift": "Drift 0.4."},
            not_run={"Boosting Overfit": "needs the model object"},
            reports=(),
            sampled_rows=5877,
        ),
        Decision(gate="promotion", passed=False, reasons=("Floor missed.",)),
    )


def test_card_of_the_example(health: Project) -> None:
    text = card(health)
    assert "the probability that `binexp` is `1`" in text
    assert "| train | 5,877 | 3 | `abcdef012345` |" in text
    assert "**Leakage, refused as features:** `outpdol`" in text
    assert "`female`, `black`. None is an input" in text
    assert "| **roc_auc** | 0.7 | 0.68 to 0.72 | 0.5 |" in text
    assert "base\\|line" in text
    assert "- failed: Label Drift: Drift 0.4." in text
    assert "- not run: Boosting Overfit: needs the model object" in text
    assert "Gate `promotion`: not passed" in text


def test_a_protected_input_is_pointed_out(health: Project) -> None:
    used = health.model_copy(update={"inputs": ("female", "income")})
    assert "**Used as inputs:** `female`" in card(used)
