"""The page of a project with a year behind it: 365 windows, 100 versions, in three environments.

Each environment has stores of its own, as the stages leave them: an MLflow database, an audit
trail, tables of the lake with a version per training or window, results and reports of monitoring.
Timed are the whole command, as a person waits for it, and MLflow's import, half of it.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.result import Result, information, limit
from lifecycle.audit.model_trail import model_chain
from lifecycle.data.split import PARTS
from lifecycle.lake.table import table_uri
from lifecycle.lake.write import write_version
from lifecycle.monitoring.results import ALL, MetricRow, write_results
from lifecycle.project import Project
from lifecycle.project.loader import load_project
from lifecycle.records import Action, Alarm, Change, DatasetVersion, ModelVersion, Window
from lifecycle.release.lifetime import MADE_PREFIX
from lifecycle.release.mlflow_model import table_schema
from lifecycle.release.mlflow_run import log_datasets
from lifecycle.release.mlflow_store import connect, experiment_id
from lifecycle.release.registry import BUNDLE, COMPLETE, IDENTITY
from lifecycle.runtime.html import write_page
from lifecycle.settings import Settings

WINDOWS, VERSIONS, COLUMNS = 365, 100, 20
ENVIRONMENTS = ("dev", "staging", "prod")
START = datetime(2025, 11, 1, tzinfo=UTC)
MAX_SECONDS, MAX_MEGABYTES = 5.0, 2.0
PROJECT = Path(__file__).parents[1] / "examples" / "bike_sharing" / "project.yaml"
LIFECYCLE = Path(sys.executable).with_name("lifecycle")


def measure(rounds: int) -> Iterator[Result]:
    """Time the command over the same stores."""
    project = load_project(PROJECT)
    with tempfile.TemporaryDirectory(prefix="lc-page-") as name:
        folder = Path(name)
        environment = _environments(project, folder)
        seconds = [_seconds(folder, environment) for _ in range(rounds)]
        size = (folder / "site" / "index.html").stat().st_size / 1e6
        imports = [_import_seconds() for _ in range(rounds)]
    size_text = f"{WINDOWS} windows × {VERSIONS} versions × {len(ENVIRONMENTS)} environments"
    yield limit("page of a project", seconds, "s", MAX_SECONDS, f"the whole command; {size_text}")
    yield limit("size of that page", [size], "MB", MAX_MEGABYTES, size_text)
    yield information("import of MLflow", imports, "s", "in a process of its own; one imports it")


def _environments(project: Project, folder: Path) -> dict[str, str]:
    """Make the stores of one environment, and copies for the others; the process's variables."""
    homes = {env: folder / env for env in ENVIRONMENTS}
    _fill(project, Settings(home=homes["dev"]))
    (folder / "deployments").mkdir()
    before = "dev"
    for env in ENVIRONMENTS[1:]:
        shutil.copytree(homes["dev"], homes[env])
        lines = [f"LIFECYCLE_HOME={homes[env]}", f"LIFECYCLE_PROMOTES_FROM={before}"]
        (folder / "deployments" / f"{env}.env").write_text("\n".join(lines) + "\n")
        before = env
    own = {key: value for key, value in os.environ.items() if not key.startswith("LIFECYCLE_")}
    return own | {"LIFECYCLE_HOME": str(homes["dev"])}


def _seconds(folder: Path, environment: dict[str, str]) -> float:
    command = [str(LIFECYCLE), "page", str(PROJECT), "--output", str(folder / "site")]
    started = time.perf_counter()
    subprocess.run(command, cwd=folder, env=environment, check=True, capture_output=True)
    return time.perf_counter() - started


def _import_seconds() -> float:
    started = time.perf_counter()
    code = "import mlflow, mlflow.store.tracking.sqlalchemy_store"
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
    return time.perf_counter() - started


def _fill(project: Project, settings: Settings) -> None:
    rng = np.random.default_rng(7)
    models = [_version(project, settings, number, rng) for number in range(1, VERSIONS + 1)]
    connect(settings).set_registered_model_alias(project.name, "champion", str(VERSIONS))
    for at in range(WINDOWS):
        model = models[at * VERSIONS // WINDOWS]
        _window(project, settings, model, at, rng)


def _version(
    project: Project, settings: Settings, number: int, rng: np.random.Generator
) -> ModelVersion:
    """A training, its registration and its release."""
    from mlflow.entities import Metric

    frame = pd.DataFrame({"number": [number]})
    accepted = write_version(
        frame, table_uri(settings, project.name, "accepted"), note={"source": f"{number:064x}"}
    )
    parts: dict[str, DatasetVersion] = {
        part: write_version(
            frame.assign(part=part),
            table_uri(settings, project.name, part),
            note={"dataset": accepted.digest},
        )
        for part in PARTS
    }
    client, digest = connect(settings), f"{number:064x}"
    if number == 1:
        client.create_registered_model(project.name)
    moment = START + timedelta(days=(number - 1) * WINDOWS / VERSIONS)
    began = int(moment.timestamp() * 1000)
    origin = {"who": "ada", "run": f"00000000-0000-4000-8000-{number:012x}", "run_name": "train"}
    tags = {IDENTITY: digest, BUNDLE: digest} | {
        f"{MADE_PREFIX}{key}": value for key, value in origin.items()
    }
    run = client.create_run(
        experiment_id(client, project.name, settings), start_time=began, tags=tags
    )
    value = float(rng.normal(0.8, 0.01))
    names = [
        f"{kind}/{name}{end}"
        for kind in ("holdout", "baseline")
        for name in project.metric_names
        for end in ("", ".low", ".high")
    ]
    client.log_batch(run.info.run_id, [Metric(name, value, began, 0) for name in names])
    log_datasets(client, run.info.run_id, parts, table_schema(project))
    client.set_terminated(run.info.run_id, "FINISHED", began + 41_000)
    client.create_model_version(
        project.name,
        f"runs:/{run.info.run_id}/model",
        run.info.run_id,
        tags={IDENTITY: digest, BUNDLE: digest, COMPLETE: "true"},
    )
    model = ModelVersion(
        name=project.name,
        version=number,
        uri=f"models:/{project.name}/{number}",
        run_id=run.info.run_id,
        digest=digest,
        identity=digest,
    )
    actions: tuple[Action, ...] = ("canary", "canary", "deploy", "promote")
    for action in actions:
        line = Change(
            time=moment.isoformat(timespec="milliseconds"),
            who="ada, flow run release",
            action=action,
            model=project.name,
            version=number,
            digest=digest,
            identity=digest,
            reasons=(f"Better than the champion by {value:.4f}, with 90 % confidence.",) * 4,
        )
        model_chain(settings, project.name).append(line, lambda _: False)
    return model


def _window(
    project: Project, settings: Settings, model: ModelVersion, at: int, rng: np.random.Generator
) -> None:
    """A day that was scored and monitored."""
    day = START + timedelta(days=at)
    window = Window(first=f"{day:%Y-%m-%d}", last=f"{day:%Y-%m-%d}")
    scores = write_version(
        pd.DataFrame({"at": [at]}),
        table_uri(settings, project.name, "predictions"),
        note={"model": model.uri, "window": str(window)},
    )
    value = float(rng.normal(0.8, 0.01))
    common = {"metric": "kolmogorov_smirnov", "limit": 0.1, "rows": 2000}
    rows = [
        MetricRow(
            comparison=comparison,
            column=f"column_{number}",
            value=float(rng.gamma(6, 0.006)),
            alarm=False,
            **common,
        )
        for comparison in ("reference", "window before")
        for number in range(COLUMNS)
    ]
    rows += [
        MetricRow(
            comparison="release",
            column=project.target,
            metric=f"{project.metric}{end}",
            value=value,
            low=value - 0.01,
            high=value + 0.01,
            limit=0.7,
            rows=2000,
        )
        for end in ("", " estimated")
    ]
    alarm = Alarm(
        window=window,
        comparison="reference",
        cause="features",
        severity="low",
        column="column_1",
        columns=("column_1",),
        slice=ALL,
        metric="kolmogorov_smirnov",
        value=0.2,
        limit=0.1,
    )
    write_results(project, settings, model, window, rows, [alarm] if at % 5 == 0 else [])
    record = {
        "window": str(window),
        "time": day.isoformat(timespec="milliseconds"),
        "reference": "",
        "windows": [scores.digest],
        "passed": at % 5 > 0,
        "drifted": [],
        "alarms": [],
        "made": {"who": "ada", "run_name": "monitor"},
    }
    file = settings.folder("reports", project.name) / f"monitoring-{day:%Y-%m-%d}.json"
    write_page(json.dumps(record), file)
