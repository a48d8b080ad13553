"""Training steps as Prefect tasks: identify, tune, fit, evaluate."""

from prefect import task
from prefect.artifacts import create_table_artifact

from lifecycle.data.features import hook_digest
from lifecycle.errors import BundleError, FeatureError
from lifecycle.identity import identity_of
from lifecycle.project import Project
from lifecycle.quality.summary import spell
from lifecycle.records import (
    Bundle,
    Evaluated,
    Evaluation,
    Identity,
    ModelVersion,
    Split,
    Tuned,
)
from lifecycle.release import registry
from lifecycle.settings import Settings
from lifecycle.specs import Metric
from lifecycle.training import assess, fit, tune
from tasks.policies import CACHED, NOT_CACHED, cached_by, slug
from tasks.progress import say, step, update


def identify(project: Project, split: Split) -> Identity:
    """What the model is made from; no task, since it costs less than one."""
    return identity_of(project, split, hook_digest(project))


@task(name="tune", cache_key_fn=cached_by("identity"), **CACHED)
def tune_parameters(
    project: Project, settings: Settings, split: Split, identity: Identity
) -> Tuned:
    """Search parameters with Optuna over Ray; the holdout is not handed over."""
    trials = project.tuning.trials if project.tuning.space else 0
    with step("train", f"tuning: {trials} trials" if trials else "no search space") as done:
        seen: set[float | None] = set()

        def show(finished: int, trials: int, best: float | None) -> None:
            value = "" if best is None else f", best {project.metric} {best:.4f}"
            better = best not in seen
            seen.add(best)
            update("train", f"tuning: trial {finished} of {trials}{value}", notable=better)

        study = settings.folder("tuning", project.name, identity.digest)
        tuned = tune.tune(project, split.train, split.validation, study, show)
        chosen = ", ".join(f"{k} {_short(v)}" for k, v in tuned.parameters.items())
        if tuned.trials:
            done(
                f"tuned in {tuned.trials} trials: {project.metric} {tuned.value:.4f} "
                f"on validation with {chosen}"
            )
    return tuned


@task(name="fit", cache_key_fn=cached_by("tuned", "identity"), **CACHED)
def fit_model(
    project: Project, settings: Settings, split: Split, tuned: Tuned, identity: Identity
) -> Bundle:
    """Train on Ray and write the bundle."""
    with step("train", "fitting XGBoost on Ray Train") as done:
        bundle = fit.fit(project, split, tuned, settings, identity)
        done(f"fitted {bundle.rounds} rounds → bundle {bundle.digest[:12]}")
    return bundle


@task(name="evaluate", **NOT_CACHED)
def evaluate_candidate(
    project: Project,
    settings: Settings,
    split: Split,
    bundle: Bundle,
    champion: ModelVersion | None,
) -> Evaluated:
    """Measure candidate, trivial baseline and champion on the same holdout."""
    with step("train", "evaluating on the holdout") as done:
        answers = assess.answer(project, split.holdout, bundle.path, bundle.digest)
        evaluated = measure(project, settings, split, answers, champion)
        done(f"holdout {project.metric}: {_line(evaluated, project.metric)}")
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
    theirs = _answer_of_champion(project, settings, split, champion) if champion else None
    return Evaluated(
        candidate=assess.assess(project, answers, split.holdout, "candidate"),
        baseline=assess.assess_baseline(project, split, answers),
        champion=assess.assess(project, theirs, split.holdout, f"champion v{champion.version}")
        if champion and theirs
        else None,
        gain=theirs and assess.gain(project, answers, theirs),
    )


def _answer_of_champion(
    project: Project, settings: Settings, split: Split, champion: ModelVersion
) -> assess.Predicted | None:
    """None if it cannot: then nothing can be compared, which must not stop a new model."""
    try:
        predict = registry.predict_of(champion, settings)
        return assess.answer_by(project, split.holdout, predict)
    except (BundleError, FeatureError) as error:
        say("train", f"champion v{champion.version} is not compared: {error}")
        return None


def _subjects(evaluated: Evaluated) -> list[Evaluation]:
    found = (evaluated.candidate, evaluated.baseline, evaluated.champion)
    return [evaluation for evaluation in found if evaluation]


def _line(evaluated: Evaluated, metric: Metric) -> str:
    return ", ".join(f"{e.subject} {spell(e.metrics[metric])}" for e in _subjects(evaluated))


def _short(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
