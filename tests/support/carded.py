"""A registered model whose card has claims of every kind."""

from collections.abc import Callable

from lifecycle.project import Project
from lifecycle.records import CheckReport, Decision, Noise, Trained
from lifecycle.release.register import register
from lifecycle.settings import Settings
from lifecycle.training.evaluation.assess import answer, assess, assess_closely
from tests.support.trained import Made, train_small

CARDED = {
    "description": "Who buys next.",
    "protected": ["city"],
    "evaluation": {"slices": ["visits"], "min_rows": 10},
    "gate": {
        "gain_over_baseline": -1.0,
        "floor": 0.5,
        "max_fairness_gap": {"city": {"demographic_parity_difference": 0.9}},
    },
}


def register_carded(
    make_project: Callable[..., Project], settings: Settings
) -> tuple[Made, Trained]:
    """Train and register it: slices, gaps, noise, checks of every outcome, and warnings."""
    project = make_project(**CARDED)
    (project.folder / "LICENSE").write_text("MIT License\n\nCopyright\n")
    made = train_small(project, settings)
    holdout = made.split.holdout
    answers = answer(project, holdout, made.bundle.path, made.bundle.digest)
    evaluation = assess_closely(project, answers, assess(project, answers, holdout, "candidate"))
    value = evaluation.metrics[project.metric].value
    content = made.trained().model_copy(
        update={
            "evaluation": evaluation.model_copy(update={"warnings": ("Only 10 rounds.",)}),
            "noise": Noise(metric=project.metric, values={1: value, 2: value - 0.01}),
            "checks": CheckReport(
                passed=("Nulls", "Duplicates"),
                failed={"Label Drift": "Drift 0.4."},
                warned={"Outliers": "3 rows."},
                not_run={"Boosting Overfit": "needs the model object"},
                reports=(),
                sampled_rows=300,
            ),
            "decision": Decision(
                gate="promotion",
                passed=False,
                reasons=("Better than the baseline.", "Check Label Drift failed."),
                blocking=("Check Label Drift failed.",),
            ),
        }
    )
    return made, register(project, settings, bundle=made.bundle, trained=content)
