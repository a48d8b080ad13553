"""Training as a Prefect task: what the model is made from, and the fit."""

import base64
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast
from uuid import UUID

from prefect.artifacts import (
    create_markdown_artifact,
    create_progress_artifact,
    create_table_artifact,
    update_progress_artifact,
)

from lifecycle.project import Project, greater_is_better
from lifecycle.records import (
    Bundle,
    Evaluated,
    Identity,
    Noise,
    Split,
    Trial,
    Tuned,
)
from lifecycle.release import lifetime
from lifecycle.runtime.identity import identity_of
from lifecycle.runtime.plugins import plugs_digest
from lifecycle.settings import Settings
from lifecycle.training import fit
from lifecycle.training.fit import noise_over_seeds
from lifecycle.training.parameters import threads_of
from lifecycle.training.tuning import search
from lifecycle.training.tuning.search import Now
from lifecycle.training.tuning.search_plots import as_png, history_plot
from lifecycle.training.tuning.study import study_folder
from tasks.policies import CACHED, NOT_CACHED, RETRIES, cached_by, checked, slug, task
from tasks.progress import say, step, update


def identify(project: Project, settings: Settings, split: Split) -> Identity:
    """Return the identity of the model. Not a task, because it costs less than one."""
    return identity_of(project, split, plugs_digest(project), threads_of(project, settings))


begin_run = task(name="begin-run", **NOT_CACHED, **RETRIES)(lifetime.begin_run)


@contextmanager
def recorded(
    project: Project, settings: Settings, split: Split, identity: Identity
) -> Iterator[None]:
    """An open MLflow run for the block, which registers the model; failed if the block fails."""
    run_id = begin_run(project, settings, identity, split, is_alone=True)
    try:
        yield
    except BaseException as error:
        lifetime.end_run(settings, run_id, error)
        raise


@checked
@task(name="fit", cache_key_fn=cached_by("model", "tuned", "identity"), **CACHED)
def fit_model(
    project: Project, settings: Settings, split: Split, tuned: Tuned, identity: Identity
) -> Bundle:
    """Train where Ray has room and write the bundle."""
    training = project.training
    workers = f" on {training.num_workers} workers" if training.num_workers > 1 else ""
    with step("train", f"fitting {training.trainer}{workers}") as report:
        bundle = fit.fit(project, split, tuned, settings, identity)
        rounds = f" {bundle.rounds} rounds" if bundle.curve else ""
        suffix = ", then on train and validation" if training.refits else ""
        report(f"fitted{rounds}{suffix} → bundle {bundle.digest[:12]}")
    return bundle


# The search as a Prefect task, with what a person sees of it.

BEST = 10
"""Trials in the table of the artifact."""
EVERY_S = 1.0
"""Seconds between two updates of the progress artifact: each is a request."""


@task(name="tune", cache_key_fn=cached_by("model", "identity"), **CACHED)
def tune_parameters(
    project: Project, settings: Settings, split: Split, identity: Identity
) -> Tuned:
    """Search parameters with Optuna over Ray; the holdout is not handed over."""
    trials = project.tuning.trials if project.tuning.space else 0
    with step("train", f"tuning: {trials} trials" if trials else "no search space") as report:
        watch = _Watch(project)
        study = study_folder(settings, project, identity)
        tuned = search.tune(project, split.train, split.validation, study, watch.show)
        if tuned.trials:
            watch.finish()
            report(_summary(project, tuned))
            create_markdown_artifact(
                key=f"{slug(project)}-tuning",
                markdown=as_markdown(project, tuned),
                description=f"{tuned.trials} trials, {tuned.pruned} of them pruned",
            )
    return tuned


class _Watch:
    """Shows progress while trials end."""

    def __init__(self, project: Project) -> None:
        self._project = project
        self._best: float | None = None
        self._artifact: UUID | None = None
        self._next = 0.0

    def show(self, now: Now) -> None:
        if now.number == 1 and now.resumed:
            say("train", f"tuning resumes: {now.resumed} trials of an earlier run are reused")
        text = (
            f"trial {now.number} of {now.total}, best {self._project.training_metric} "
            f"{now.best:.4f}"
        )
        update("train", f"tuning: {text}", notable=now.best != self._best)
        self._best = now.best
        if self._artifact is None:
            key = f"{slug(self._project)}-tuning-progress"
            artifact_id = create_progress_artifact(0.0, key=key, description=text)
            self._artifact = cast(UUID, artifact_id)  # a coroutine only inside an event loop
        elif time.monotonic() >= self._next:
            percent = 100 * now.number / now.total
            update_progress_artifact(self._artifact, percent, description=text)
        else:
            return
        self._next = time.monotonic() + EVERY_S

    def finish(self) -> None:
        if self._artifact is not None:
            text = f"best {self._project.training_metric} {self._best:.4f}"
            update_progress_artifact(self._artifact, 100.0, description=text)


def as_markdown(project: Project, tuned: Tuned) -> str:
    """The best trials as a table, and the history as an inline picture."""
    space = list(project.tuning.space)
    lines = [
        f"| trial | {project.training_metric} | {' | '.join(space)} | rounds | seconds |",
        "| " + " | ".join("---" for _ in range(len(space) + 4)) + " |",
    ]
    for trial in _best(project, tuned):
        chosen = [_short(trial.parameters.get(name, "")) for name in space]
        cells = [trial.number, f"{trial.value:.6g}", *chosen, trial.rounds, f"{trial.seconds:.1f}"]
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    line = f"{tuned.trials} trials, {tuned.pruned} of them pruned; trial 0 is the project's own."
    text = f"## {project.name}: the best trials\n\n{line}\n\n" + "\n".join(lines) + "\n"
    if history := history_plot(project, tuned):
        picture = base64.b64encode(as_png(history)).decode()
        text += f"\n![history of the search](data:image/png;base64,{picture})\n"
    return text


def _best(project: Project, tuned: Tuned) -> list[Trial]:
    sign = -1 if greater_is_better(project.training_metric) else 1
    complete = [(sign * trial.value, trial) for trial in tuned.history if trial.value is not None]
    return [trial for _, trial in sorted(complete, key=lambda pair: pair[0])[:BEST]]


def _summary(project: Project, tuned: Tuned) -> str:
    chosen = ", ".join(f"{name} {_short(value)}" for name, value in tuned.parameters.items())
    count = f"{tuned.trials} trials" + (f" ({tuned.pruned} pruned)" if tuned.pruned else "")
    missing = project.tuning.trials - tuned.trials
    over = f"; {missing} more did not fit into tuning.max_seconds" if missing else ""
    reached = f"{project.training_metric} {tuned.value:.4f} on validation"
    return f"tuned in {count}: {reached} with {chosen}{over}"


def _short(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


# How much of a gain is chance, as a Prefect task: the same training with other seeds.


@task(name="measure-noise", cache_key_fn=cached_by("model", "identity", "tuned", "seeds"), **CACHED)
def measure_noise(
    project: Project,
    settings: Settings,
    split: Split,
    tuned: Tuned,
    identity: Identity,
    evaluated: Evaluated,
    seeds: int,
) -> Noise:
    """Train with `seeds` seeds in all, and tell how far the deciding metric moves."""
    with step("train", f"training again with {seeds - 1} other seeds") as report:

        def show(seed: int, value: float) -> None:
            update("train", f"seed {seed}: holdout {project.metric} {value:.4f}")

        noise = noise_over_seeds(project, settings, split, tuned, identity, evaluated, seeds, show)
        low, high = min(noise.values.values()), max(noise.values.values())
        report(
            f"noise: over {seeds} seeds {project.metric} lies between {low:.4f} and {high:.4f}, "
            f"standard deviation {noise.deviation:.2g}"
        )
    create_table_artifact(
        key=f"{slug(project)}-noise",
        table=[{"seed": seed, project.metric: value} for seed, value in noise.values.items()],
        description=f"The same training with other seeds: {project.metric} on the holdout",
    )
    return noise
