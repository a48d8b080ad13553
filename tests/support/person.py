"""A small project with a person whose values are told apart, in every place that holds rows."""

import gzip
import json
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

from lifecycle.data.ingest import ingest
from lifecycle.data.privacy import pii_key, pseudonym
from lifecycle.lake.prediction_log import SCHEMA, LogTable
from lifecycle.lake.table import table_uri
from lifecycle.project import Project
from lifecycle.records import Trained, Window
from lifecycle.release.artifacts import bundle_path
from lifecycle.serving.batch import score
from lifecycle.serving.records import curl_command
from lifecycle.settings import Settings
from tests.support.small import SMALL, small_frame, write_project

PERSON = """Zoë "Z" O'Hara <&>"""
EMAIL = "zoe.ohara@planted.example"
"""In a column of its own that the project ignores."""
SPLIT = {"holdout": 0.25, "validation": 0.15, "seed": 18}
"""With this seed the person is in the training part."""


def frame_with_person(person: str = PERSON) -> pd.DataFrame:
    frame = small_frame().assign(email=lambda f: f"mail{0}-" + f["customer"].astype(str) + "@x.org")
    frame["customer"] = "customer-" + frame["customer"].astype(str)
    theirs = frame["customer"].isin([f"customer-{1000 + n}" for n in (3, 77)])
    assert theirs.sum() == 4
    frame.loc[theirs, ["customer", "email"]] = [person, EMAIL]
    bad = frame[theirs].head(1).assign(age=500.0)  # goes to quarantine
    return pd.concat([frame, bad], ignore_index=True)


def project_changes() -> dict[str, Any]:
    columns: dict[str, Any] = SMALL["contract"]["columns"]
    columns = columns | {"customer": {"type": "string"}, "email": {"type": "string"}}
    return {
        "contract": SMALL["contract"] | {"columns": columns},
        "ignore": ["email"],
        "split": SPLIT,
    }


@dataclass(frozen=True)
class Planted:
    project: Project
    settings: Settings
    trained: Trained


def plant(folder: Path, settings: Settings, train: Callable[..., Any]) -> Planted:
    """Two versions of the data, a model, scored rows, logged predictions, and stray files."""
    project = write_project(folder, frame_with_person(), **project_changes())
    page = settings.folder("reports", "small") / "summary.html"
    made = train(project, settings)
    trained = made.register()
    example = curl_command("http://x", made.holdout().head(2)[list(project.input_columns)])
    page.write_text(f"<pre>{example}</pre>")
    model = trained.model
    score(project, settings, made.ingested.dataset, Window(), model, bundle_path(model, settings))
    frame = frame_with_person().assign(visits=lambda f: f["visits"] + 1)
    frame.to_csv(project.folder / "small.csv", index=False)
    ingest(project, settings, Window())
    log(project, settings, [PERSON, "customer-1000", *pseudonym([PERSON], pii_key(settings))])
    stray(settings)
    return Planted(project, settings, trained)


def log(project: Project, settings: Settings, entities: list[str | None]) -> None:
    now = datetime.now(UTC)
    rows = [
        {"id": f"{n}-0", "time": now, "date": now.date(), "version": 1, "entity": entity}
        for n, entity in enumerate(entities)
    ]
    table = LogTable(table_uri(settings, project.name, "prediction_log"))
    table.append(pa.Table.from_pylist(rows, schema=SCHEMA), "test", len(rows))


def stray(settings: Settings) -> None:
    """What Prefect, or anybody, may leave in `home`."""
    prefect = settings.folder("prefect", "storage")
    (prefect / "result").write_text(json.dumps({"result": json.dumps({"uri": "lake/small/train"})}))
    (prefect / "other").write_text("{}")
    with sqlite3.connect(prefect.parent / "prefect.db") as database:
        database.execute("CREATE TABLE log (id INTEGER PRIMARY KEY, message TEXT)")
        database.execute("CREATE TABLE flow_run (id TEXT PRIMARY KEY, parameters JSON)")
        database.execute("INSERT INTO log (message) VALUES (?)", (f"row of {PERSON} is bad",))
        database.execute(
            "INSERT INTO flow_run VALUES ('a', ?)", (json.dumps({"entity": PERSON, "n": 1}),)
        )
        database.execute("INSERT INTO log (message) VALUES (?)", (f"deleted {EMAIL}",))
        database.execute("DELETE FROM log WHERE message LIKE 'deleted%'")  # stays in a free page
    database.close()
    (settings.home / "notes.log").write_text(f"first\n{EMAIL} wrote\nlast\n")
    with gzip.open(settings.home / "old.log.gz", "wt") as file:
        file.write(f"{PERSON}\n")
