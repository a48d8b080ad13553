"""Evaluation as a Prefect task: candidate, trivial baseline and champion on the same holdout."""

from prefect.artifacts import (
    create_table_artifact,
)

from lifecycle.data.split import small_holdout
from lifecycle.errors import BundleError, FeatureError
from lifecycle.project import Metric, Project
from lifecycle.quality.evaluation_page import write_evaluation
from lifecycle.quality.summary import spell
from lifecycle.records import (
    Bundle,
    Evaluated,
    Evaluation,
    ModelVersion,
    Split,
)
from lifecycle.release import artifacts
from lifecycle.settings import Settings
from lifecycle.training.evaluation import assess
from tasks.policies import NOT_CACHED, slug, task
from tasks.progress import say, step


@task(name="evaluate", **NOT_CACHED)
def evaluate_candidate(
    project: Project,
    settings: Settings,
    split: Split,
    bundle: Bundle,
    champion: ModelVersion | None,
    stage: str = "train",
) -> Evaluated:
    """Measure candidate, trivial baseline and champion on the same holdout; write the report."""
    with step(stage, "evaluating on the holdout") as report:
        answers = assess.answer(project, split.holdout, bundle.path, bundle.digest)
        measured = measure(project, settings, split, answers, champion)
        closer = assess.assess_closely(project, answers, measured.candidate)
        warnings = (*bundle.warnings, *measured.candidate.warnings, *closer.warnings)
        closer = closer.model_copy(update={"warnings": warnings})
        evaluated = write_evaluation(
            project,
            split,
            bundle,
            measured.model_copy(update={"candidate": closer}),
            assess.draw(project, answers, closer, bundle),
            settings.folder("reports", project.name, bundle.digest[:12]),
        )
        report(f"holdout {project.metric}: {_line(evaluated, project.metric)} → {evaluated.report}")
    for warning in closer.warnings:
        say(stage, f"warning: {warning}")
    create_table_artifact(
        key=f"{slug(project)}-evaluation",
        table=[
            {"metric": metric} | {e.subject: spell(e.metrics[metric]) for e in _subjects(evaluated)}
            for metric in evaluated.candidate.metrics
        ],
        description="On the same holdout, with 95 % bootstrap confidence intervals",
    )
    return evaluated


def measure(
    project: Project,
    settings: Settings,
    split: Split,
    answers: assess.Answers,
    champion: ModelVersion | None,
) -> Evaluated:
    """The candidate whose answers these are, next to the baseline and the champion."""
    champion_answer = (
        _answer_of_champion(project, settings, answers, champion) if champion else None
    )
    baseline, gain_over_baseline = assess.assess_baseline(project, split, answers)
    candidate = assess.assess(project, answers, split.holdout, "candidate")
    if small := small_holdout(split.holdout.rows, split.rows, project):
        candidate = candidate.model_copy(update={"warnings": (small,)})
    return Evaluated(
        candidate=candidate,
        baseline=baseline,
        champion=assess.assess(
            project, champion_answer, split.holdout, f"champion v{champion.version}"
        )
        if champion and champion_answer
        else None,
        gain_over_baseline=gain_over_baseline,
        gain_over_champion=champion_answer
        and assess.gain(project, answers, champion_answer, project.gate.confidence),
    )


def _answer_of_champion(
    project: Project, settings: Settings, answers: assess.Answers, champion: ModelVersion
) -> assess.Predicted | None:
    """None if it cannot: then nothing can be compared, which must not stop a new model."""
    try:
        predict = artifacts.predict_of(champion, settings)
        threshold = artifacts.threshold_of(champion, settings)
        return assess.answer_by(project, answers, predict, threshold)
    except (BundleError, FeatureError) as error:
        say("train", f"champion v{champion.version} is not compared: {error}")
        return None


def _subjects(evaluated: Evaluated) -> list[Evaluation]:
    evaluations = (evaluated.candidate, evaluated.baseline, evaluated.champion)
    return [evaluation for evaluation in evaluations if evaluation]


def _line(evaluated: Evaluated, metric: Metric) -> str:
    return ", ".join(f"{e.subject} {spell(e.metrics[metric])}" for e in _subjects(evaluated))
