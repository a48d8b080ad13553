"""A project that was ingested, trained, released, scored, monitored and asked, without Ray."""

from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pytest
import yaml

from lifecycle.audit.model_trail import Trail
from lifecycle.lake.prediction_log import SCHEMA, TABLE, LogTable
from lifecycle.lake.read import read_version
from lifecycle.lake.table import table_uri
from lifecycle.monitoring.monitor import monitor_windows
from lifecycle.project.loader import load_project
from lifecycle.records import Window
from lifecycle.release.artifacts import bundle_path
from lifecycle.release.registry import CHAMPION, set_alias
from lifecycle.runtime.run import running
from lifecycle.serving.batch import score
from lifecycle.settings import Settings
from tests.support.lived import ASKED, RUN, Lived
from tests.support.small import SMALL, small_frame


@pytest.fixture(scope="module")
def lived(tmp_path_factory: pytest.TempPathFactory, train: Any) -> Lived:
    folder = tmp_path_factory.mktemp("lived")
    frame = small_frame()
    frame.loc[0, "age"] = 500.0  # one row for quarantine
    frame.to_csv(folder / "small.csv", index=False)
    columns = SMALL["contract"]["columns"] | {
        "city": SMALL["contract"]["columns"]["city"] | {"pii": "hash"}
    }
    changes = {"contract": SMALL["contract"] | {"columns": columns}}
    file = folder / "project.yaml"
    file.write_text(yaml.safe_dump(SMALL | changes, sort_keys=False))
    project, settings = load_project(file), Settings(home=folder / "home")
    with running(RUN):
        made = train(project, settings)
        trained = made.register()
    model = trained.model
    set_alias(model, CHAMPION, settings)
    trail = Trail(settings, "small", "ada, flow run release-small")
    trail.record("deploy", model, ["It is better."])
    trail.record("promote", model, ["It is better."])
    bundle = bundle_path(model, settings)
    scored = score(project, settings, made.ingested.dataset, Window(), model, bundle)
    holdout = score(project, settings, made.split.holdout, Window(), model, bundle)
    monitor_windows(project, settings, holdout, [scored], trained.evaluation)
    entity = int(read_version(made.split.train)["customer"].iloc[0])
    _log(settings, entity)
    return Lived(project, settings, made, trained, scored, entity)


def _log(settings: Settings, entity: int) -> None:
    now = datetime.now(UTC)
    same = {"time": now, "date": now.date(), "version": 1, "role": "champion", "prediction": 0.7}
    rows: list[dict[str, Any]] = [
        same | {"id": f"{ASKED}-0", "status": "ok", "entity": str(entity)},
        same | {"id": "twice-0", "status": "ok", "entity": None},
        same | {"id": "twice-1", "status": "error", "entity": None, "prediction": None},
    ]
    table = LogTable(table_uri(settings, "small", TABLE))
    table.append(pa.Table.from_pylist(rows, schema=SCHEMA), "test", len(rows))
