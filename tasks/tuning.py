"""The search as a Prefect task, with what a person sees of it."""

import base64
import time
from typing import cast
from uuid import UUID

from prefect.artifacts import (
    create_markdown_artifact,
    create_progress_artifact,
    update_progress_artifact,
)

from lifecycle.project import Project, greater_is_better
from lifecycle.records import Identity, Split, Trial, Tuned
from lifecycle.settings import Settings
from lifecycle.training.tuning import tune
from lifecycle.training.tuning.search import Now
from lifecycle.training.tuning.search_plots import as_png, history_plot
from lifecycle.training.tuning.study import study_folder
from tasks.policies import CACHED, cached_by, slug, task
from tasks.progress import say, step, update

BEST = 10
"""Trials in the table of the artifact."""
EVERY_S = 1.0
"""Seconds between two updates of the progress artifact: each is a request."""


@task(name="tune", cache_key_fn=cached_by("identity"), **CACHED)
def tune_parameters(
    project: Project, settings: Settings, split: Split, identity: Identity
) -> Tuned:
    """Search parameters with Optuna over Ray; the holdout is not handed over."""
    trials = project.tuning.trials if project.tuning.space else 0
    with step("train", f"tuning: {trials} trials" if trials else "no search space") as done:
        watch = _Watch(project)
        study = study_folder(settings, project, identity)
        tuned = tune.tune(project, split.train, split.validation, study, watch.show)
        if tuned.trials:
            watch.finish()
            done(_told(project, tuned))
            create_markdown_artifact(
                key=f"{slug(project)}-tuning",
                markdown=as_markdown(project, tuned),
                description=f"{tuned.trials} trials, {tuned.pruned} of them pruned",
            )
    return tuned


class _Watch:
    """What is shown while trials end."""

    def __init__(self, project: Project) -> None:
        self._project = project
        self._best: float | None = None
        self._artifact: UUID | None = None
        self._next = 0.0

    def show(self, now: Now) -> None:
        if now.done == 1 and now.kept:
            say("train", f"tuning goes on: {now.kept} trials of an earlier run are kept")
        text = (
            f"trial {now.done} of {now.total}, best {self._project.training_metric} {now.best:.4f}"
        )
        update("train", f"tuning: {text}", notable=now.best != self._best)
        self._best = now.best
        if self._artifact is None:
            key = f"{slug(self._project)}-tuning-progress"
            made = create_progress_artifact(0.0, key=key, description=text)
            self._artifact = cast(UUID, made)  # a coroutine only inside an event loop
        elif time.monotonic() >= self._next:
            percent = 100 * now.done / now.total
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
    told = f"{tuned.trials} trials, {tuned.pruned} of them pruned; trial 0 is the project's own."
    text = f"## {project.name}: the best trials\n\n{told}\n\n" + "\n".join(lines) + "\n"
    if history := history_plot(project, tuned):
        picture = base64.b64encode(as_png(history)).decode()
        text += f"\n![history of the search](data:image/png;base64,{picture})\n"
    return text


def _best(project: Project, tuned: Tuned) -> list[Trial]:
    sign = -1 if greater_is_better(project.training_metric) else 1
    whole = [(sign * trial.value, trial) for trial in tuned.history if trial.value is not None]
    return [trial for _, trial in sorted(whole, key=lambda pair: pair[0])[:BEST]]


def _told(project: Project, tuned: Tuned) -> str:
    chosen = ", ".join(f"{name} {_short(value)}" for name, value in tuned.parameters.items())
    count = f"{tuned.trials} trials" + (f" ({tuned.pruned} pruned)" if tuned.pruned else "")
    left = project.tuning.trials - tuned.trials
    over = f"; {left} more did not fit into tuning.max_seconds" if left else ""
    reached = f"{project.training_metric} {tuned.value:.4f} on validation"
    return f"tuned in {count}: {reached} with {chosen}{over}"


def _short(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
