"""Imports that take seconds, done while a script waits for its server anyway."""

from threading import Thread

from lifecycle.release.mlflow_store import load_mlflow
from lifecycle.settings import Settings


def preload(settings: Settings) -> None:
    """Import MLflow in the background: nearly every flow asks the registry."""
    Thread(target=load_mlflow, args=(settings,), name="preload").start()
