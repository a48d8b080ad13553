"""Ray for the length of a flow's block."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from importlib import import_module
from threading import Thread

from lifecycle.data.sources import Spread, open_source, spread
from lifecycle.project import Project
from lifecycle.release.mlflow_store import load_mlflow
from lifecycle.runtime.cluster import capacity, connect_ray, is_connected
from lifecycle.settings import Settings
from tasks.progress import say, update

SHORT_SEARCH = 5_000_000
"""Rows × rounds × trials: 1 to 12 s of one CPU, and Ray takes 7 to 30 s to start (decision 33)."""


@contextmanager
def ray_cluster(settings: Settings) -> Iterator[None]:
    """Ray, started and stopped here, or joined and left; inside a running connection, nothing."""
    running = is_connected()
    if not running:
        update("ray", "starting" if settings.local_ray else f"joining {settings.ray_address}")
    with connect_ray(settings):
        if not running:
            say("ray", capacity())
        yield


@contextmanager
def running_cluster(settings: Settings) -> Iterator[None]:
    """A cluster that runs anyway, joined before it is needed: a worker gets ready meanwhile."""
    with nullcontext() if settings.local_ray else ray_cluster(settings):
        yield


@contextmanager
def ray_for_training(project: Project, settings: Settings, rows: int) -> Iterator[None]:
    """Ray where training needs it: one worker does without one of its own unless it searches long.

    Args:
        rows: of the train part.
    """
    needed = _searches_long(project, rows) or project.training.num_workers > 1
    with ray_cluster(settings) if needed else nullcontext():
        yield


def _searches_long(project: Project, rows: int) -> bool:
    """Return whether the search takes longer in one process than Ray takes to start."""
    if not project.tuning.space:
        return False
    work = rows * project.training.rounds * project.tuning.trials
    return work > SHORT_SEARCH or project.training.trainer != "xgboost"


@contextmanager
def reading_cluster(project: Project, settings: Settings) -> Iterator[None]:
    """A cluster that runs anyway, where it reads the project's source."""
    source = spread(open_source(project), settings)
    joined = isinstance(source, Spread) and source.shared()
    with ray_cluster(settings) if joined else nullcontext():
        yield


# Imports that take seconds, done while nobody waits for them.

STEPS = (
    "prefect.flow_engine",
    "prefect.task_engine",
    "mlflow.store.model_registry.sqlalchemy_store",
)
"""What the first step of any flow imports."""
TRAINING = (
    "lifecycle.training.evaluation.explain",
    "lifecycle.training.evaluation.plots",
    "mlflow.pyfunc",
)
REQUIREMENTS = "mlflow.utils.requirements_utils"


def preload(settings: Settings) -> Thread:
    """Import MLflow in the background: nearly every flow asks the registry."""
    thread = Thread(target=load_mlflow, args=(settings,), name="preload")
    thread.start()
    return thread


def preload_steps(training: bool) -> None:
    """Import what steps import when they begin.

    Args:
        training: those of training, too, with scikit-learn and matplotlib.
    """
    for module in STEPS + TRAINING * training:
        import_module(module)
    if training:  # MLflow looks into all installed packages once per process, to log a model
        import_module(REQUIREMENTS).warn_dependency_requirement_mismatches(["mlflow"])
