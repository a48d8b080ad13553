"""Training as a Prefect task: what the model is made from, and the fit."""

from collections.abc import Iterator
from contextlib import contextmanager

from lifecycle.project import Project
from lifecycle.records import Bundle, Identity, Split, Tuned
from lifecycle.release import lifetime
from lifecycle.runtime.identity import identity_of
from lifecycle.runtime.plugins import plugs_digest
from lifecycle.settings import Settings
from lifecycle.training import fit
from lifecycle.training.parameters import threads_of
from tasks.policies import CACHED, NOT_CACHED, RETRIES, cached_by, checked, task
from tasks.progress import step


def identify(project: Project, settings: Settings, split: Split) -> Identity:
    """What the model is made from; no task, since it costs less than one."""
    return identity_of(project, split, plugs_digest(project), threads_of(project, settings))


begin_run = task(name="begin-run", **NOT_CACHED, **RETRIES)(lifetime.begin_run)


@contextmanager
def recorded(
    project: Project, settings: Settings, split: Split, identity: Identity
) -> Iterator[None]:
    """An open MLflow run for the block, which registers the model; failed if the block fails."""
    run_id = begin_run(project, settings, identity, split, alone=True)
    try:
        yield
    except BaseException as error:
        lifetime.end_run(settings, run_id, error)
        raise


@checked
@task(name="fit", cache_key_fn=cached_by("tuned", "identity"), **CACHED)
def fit_model(
    project: Project, settings: Settings, split: Split, tuned: Tuned, identity: Identity
) -> Bundle:
    """Train where Ray has room and write the bundle."""
    training = project.training
    workers = f" on {training.num_workers} workers" if training.num_workers > 1 else ""
    with step("train", f"fitting {training.trainer}{workers}") as done:
        bundle = fit.fit(project, split, tuned, settings, identity)
        rounds = f" {bundle.rounds} rounds" if bundle.curve else ""
        again = ", then on train and validation" if training.refits else ""
        done(f"fitted{rounds}{again} → bundle {bundle.digest[:12]}")
    return bundle
