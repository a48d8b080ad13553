"""The search as a Prefect task, with what a person sees of it."""

from prefect import task

from lifecycle.project import Project
from lifecycle.records import Identity, Split, Tuned
from lifecycle.settings import Settings
from lifecycle.training import tune
from tasks.policies import CACHED, cached_by
from tasks.progress import step, update


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


def _short(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
