"""What a home holds, without times: equal after an uninterrupted run and after a killed one."""

import json
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

from deltalake import DeltaTable

from lifecycle.audit.data_trail import data_chain
from lifecycle.audit.model_trail import model_chain, verify
from lifecycle.errors import LifecycleError
from lifecycle.governance.folder import open_folder
from lifecycle.governance.tables import table_names
from lifecycle.lake.content import digest_of
from lifecycle.lake.read import read_version
from lifecycle.lake.rows import read_rows
from lifecycle.lake.table import noted_versions
from lifecycle.monitoring.results import ALARMS, METRICS
from lifecycle.project import Project
from lifecycle.release.artifacts import record_of, registered_bundle
from lifecycle.release.mlflow_store import connect
from lifecycle.release.registry import versions, versions_of
from lifecycle.runtime.identity import sha256
from lifecycle.settings import Settings
from lifecycle.training.bundle import load_bundle

TRAILS = ("audit", "data_audit", "card_audit")
REPLACED = (METRICS, ALARMS)
"""Tables whose rows a repeated run replaces, with one commit more: their rows are compared."""


def state_of(project: Project, settings: Settings) -> dict[str, Any]:
    """Tables by versions and digests, the registry, both trails and the bundles.

    Everything is opened and read: a part that is damaged raises, or is there as its error.
    """
    return {
        "tables": _tables(project, settings),
        "registry": _registry(project, settings),
        "trails": _trails(project, settings),
        "bundles": _bundles(project, settings),
    }


def _tables(project: Project, settings: Settings) -> dict[str, Any]:
    root = f"{settings.lake.rstrip('/')}/{project.name}"
    tables: dict[str, Any] = {}
    for name in table_names(open_folder(root)):
        uri = f"{root}/{name}"
        if name in TRAILS:
            continue
        if name in REPLACED:
            tables[name] = _rows_of(uri)
            continue
        noted = []
        for version, _ in noted_versions(uri):
            try:
                content = digest_of(read_version(version))
            except LifecycleError as error:
                content = type(error).__name__  # expired, by retention
            noted.append((version.rows, version.digest, content))
        tables[name] = {"newest": DeltaTable(uri).version(), "versions": noted}
    return tables


def _rows_of(uri: str) -> dict[str, Any]:
    """The number and the digest of a table's rows, in whatever order, but for their times."""
    table = read_rows(uri)
    assert table is not None
    kept = [name for name in table.column_names if name != "time"]
    texts = sorted(json.dumps(row, sort_keys=True) for row in table.select(kept).to_pylist())
    return {"rows": len(texts), "digest": sha256(texts)}


def _registry(project: Project, settings: Settings) -> dict[str, Any]:
    client = connect(settings)
    experiment = client.get_experiment_by_name(project.name)
    runs = client.search_runs([experiment.experiment_id]) if experiment else []
    statuses = Counter(run.info.status for run in runs)
    models: list[Any] = []
    for model, aliases in versions(project.name, settings).items():
        with registered_bundle(client, model, settings):
            record = record_of(model, settings)
        models.append((model.version, model.digest, aliases, record.evaluation.metrics))
    total = len(versions_of(client, project.name, None, settings))
    return {
        "versions": models,
        "incomplete": total - len(models),
        "finished runs": statuses["FINISHED"],
        "open runs": statuses["RUNNING"] + statuses["SCHEDULED"],
    }


def _trails(project: Project, settings: Settings) -> dict[str, Any]:
    data: dict[str, list[Any]] = defaultdict(list)  # retention goes by tables, and back to those
    for line in data_chain(settings, project.name).lines():
        data[str(line.table)].append((line.action, line.version, line.digest))
    return {
        "damage": verify(settings, project.name),
        "models": [
            (line.action, line.version, line.digest)
            for line in model_chain(settings, project.name).lines()
        ],
        "data": data,
    }


def _bundles(project: Project, settings: Settings) -> list[str]:
    folder = Path(settings.home) / "bundles" / project.name
    names = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
    for name in names:
        load_bundle(folder / name, name)
    return names
