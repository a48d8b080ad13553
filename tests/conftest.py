"""Fixtures: settings in a temporary folder, the example project, small projects, one Ray."""

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from functools import wraps
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from lifecycle.project import Project
from lifecycle.project.loader import load_project
from lifecycle.runtime.servers import free_port
from lifecycle.settings import Settings
from tests.support.payments import FUNCTIONS, PROJECT, customers, payments, view
from tests.support.postgres import Postgres, running_postgres
from tests.support.small import ROOT, write_project
from tests.support.tiers import (
    SharedServerScheduling,
    TierTimes,
    end_with_threads,
    mark_tiers,
    put_long_files_first,
    refuse_shared_ids,
)

os.environ.setdefault("LIFECYCLE_KEEP_WARM", "0")  # a test that wants a warm server says so
# As in the Makefile: tests start hundreds of processes, which import Ray, Prefect and MLflow.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False
# Read when XGBoost is loaded. Its threads would spin where other processes want the processors:
# two of them on a busy machine took 57 s for what takes 14 s with it (test_train.py, unit tests)
os.environ.setdefault("OMP_WAIT_POLICY", "passive")


def pytest_configure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput"):  # the process that reports
        processes = getattr(config.option, "numprocesses", None) or 1
        config.pluginmanager.register(TierTimes(processes), "tier-times")


def pytest_unconfigure(config: pytest.Config) -> None:
    """A thread that a test left would keep this process for ever, after its last line."""
    if not hasattr(config, "workerinput"):
        end_with_threads()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not hasattr(config, "workerinput"):  # xdist hides what a worker raises: see below
        refuse_shared_ids([item.nodeid for item in items])
    mark_tiers(items)
    put_long_files_first(items)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_node_collection_finished(ids: list[str]) -> None:
    refuse_shared_ids(ids)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    return SharedServerScheduling(config, log) if config.getoption("dist") == "loadfile" else None


@pytest.fixture(scope="session", autouse=True)
def _copied_store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """An empty MLflow store is made once and copied: its migrations take seconds."""
    from lifecycle.release import mlflow_store

    empty = tmp_path_factory.mktemp("store") / "mlflow.db"
    real = mlflow_store._make

    @wraps(real)
    def make(file: Path, settings: Settings) -> None:
        if empty.exists() and not file.exists():
            settings.folder()
            file.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(empty, file)
            return
        is_new = not file.exists()
        real(file, settings)
        if is_new:
            shutil.copyfile(file, empty)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mlflow_store, "_make", make)
        yield


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path / "lifecycle")


@pytest.fixture(scope="session")
def health() -> Project:
    """The example when 1979 arrives: the demo's first model has 577 rows to learn from."""
    project = load_project(ROOT / "examples" / "health_visits" / "project.yaml")
    assert project.time
    later = project.time.model_copy(update={"arrives_from": 1979})
    return project.model_copy(update={"time": later})


@pytest.fixture(scope="session")
def shared_data() -> Path:
    folder = ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        if os.environ.get("CI"):
            pytest.fail(f"{folder} must be there in CI")
        pytest.skip(f"the real data sets are not at {folder}")
    return folder


@pytest.fixture(scope="session")
def shared_schemas() -> Path:
    """Published definitions of other projects."""
    folder = ROOT.parent / "shared" / "schemas"
    if not folder.is_dir():
        if os.environ.get("CI"):
            pytest.fail(f"{folder} must be there in CI")
        pytest.skip(f"the definitions of other projects are not at {folder}")
    return folder


@pytest.fixture
def make_project(tmp_path: Path) -> Callable[..., Project]:
    """Write `small.csv` and a project file with some top-level keys changed; load it."""

    def make(frame: pd.DataFrame | None = None, **changes: Any) -> Project:
        return write_project(tmp_path, frame, **changes)

    return make


@pytest.fixture
def make_paying(make_project: Callable[..., Project], tmp_path: Path) -> Callable[..., Project]:
    """A project with a feature view: rows, facts and functions; `changes` are of the view."""

    def make(
        facts: pd.DataFrame | None = None, rows: pd.DataFrame | None = None, **changes: Any
    ) -> Project:
        (payments() if facts is None else facts).to_csv(tmp_path / "payments.csv", index=False)
        (tmp_path / "spending.py").write_text(FUNCTIONS)
        views = {"feature_views": {"paid": view(**changes)}}
        return make_project(customers() if rows is None else rows, **(PROJECT | views))

    return make


@pytest.fixture(scope="session")
def train() -> Callable[..., Any]:
    """Ingest, split and train a project; `seed` makes another model of the same data."""
    from tests.support.trained import train_small

    return train_small


@pytest.fixture(scope="session")
def serve_port() -> int:
    """One for all tests: they share a Ray, which has one Serve on one port."""
    return free_port()


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A real PostgreSQL; `with postgres.database("mine") as url:` makes an empty database."""
    with running_postgres() as server:
        yield server


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[None]:
    from lifecycle.runtime.cluster import connect_ray

    with connect_ray(Settings(ray_cpus=2)):
        yield


@pytest.fixture(scope="session")
def prefect_server() -> Iterator[None]:
    """One temporary Prefect server for all tests that run flows in this process."""
    from prefect.settings import PREFECT_SERVER_ANALYTICS_ENABLED, temporary_settings
    from prefect.testing.utilities import prefect_test_harness

    with (
        temporary_settings({PREFECT_SERVER_ANALYTICS_ENABLED: False}),
        prefect_test_harness(server_startup_timeout=180),
    ):
        yield
