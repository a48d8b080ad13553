"""Retention: what is past its time goes, unless a model was made from it."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa
import pytest
from deltalake import DeltaTable

from lifecycle.audit.data_trail import data_chain
from lifecycle.data.ingest import ingest
from lifecycle.errors import BackendError
from lifecycle.governance import retention
from lifecycle.governance.retention import lake_sizes, retain
from lifecycle.lake.prediction_log import SCHEMA, LogTable
from lifecycle.lake.read import read_version
from lifecycle.lake.table import history, table_uri
from lifecycle.project import Project
from lifecycle.records import Window
from lifecycle.settings import Settings
from tests.support.small import SMALL, small_frame


def test_old_versions_and_logged_rows_go(
    make_project: Callable[..., Project],
    settings: Settings,
    train: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    contract = SMALL["contract"] | {"retention": {"days": 30}}
    project = make_project(contract=contract)
    made = train(project, settings)
    registered = made.register()  # as challenger: what it was made from is needed
    refs = []
    for visits in (1, 2):
        frame = small_frame().assign(visits=visits)
        frame.to_csv(project.folder / "small.csv", index=False)
        refs.append(ingest(project, settings, Window()).dataset)
    times = [datetime.now(UTC) + timedelta(days=days) for days in (-1, 39)]
    rows = [{"id": f"{t:%d}-0", "time": t, "date": t.date(), "version": 1} for t in times]
    uri = table_uri(settings, "small", "prediction_log")
    LogTable(uri).append(pa.Table.from_pylist(rows, schema=SCHEMA), "test", 2)

    assert retain(project, settings).versions == {}
    later = datetime.now(UTC).timestamp() + 40 * 86_400
    monkeypatch.setattr(retention.time, "time", lambda: later)
    planned = retain(project, settings, dry_run=True)
    assert read_version(refs[0]).shape[0] == refs[0].rows
    before = {size.table: size for size in lake_sizes(project, settings)}
    assert before["accepted"].expired == (1,)
    assert before["accepted"].needed == {0: f"challenger v{registered.model.version}"}
    done = retain(project, settings)
    after = {size.table: size for size in lake_sizes(project, settings)}
    assert before["accepted"].bytes - after["accepted"].bytes == before["accepted"].freed_bytes > 0
    assert (before["accepted"].versions, after["accepted"].versions) == (3, 2)
    assert after["train"].bytes < after["accepted"].bytes
    assert done == planned.model_copy(update={"dry_run": False})
    assert done.versions == {"accepted": (1,)}, "the model's parts are rows of version 0"
    assert done.log_rows == 1
    with pytest.raises(BackendError, match="cannot be read"):
        read_version(refs[0])
    assert len(read_version(refs[1])) == refs[1].rows
    assert len(read_version(made.split.train)) == made.split.train.rows
    assert len(history(table_uri(settings, "small", "accepted"))) == 2
    assert DeltaTable(uri).to_pyarrow_table()["id"].to_pylist() == [rows[1]["id"]]
    assert retain(project, settings).versions == {}, "it is done"
    lines = data_chain(settings, "small").lines()
    assert [line.table for line in lines if line.action == "retention"] == [
        "accepted",
        "prediction_log",
    ]


def test_without_a_declaration_nothing_is_deleted(
    make_project: Callable[..., Project], settings: Settings
) -> None:
    project = make_project()
    ingest(project, settings, Window())
    done = retain(project, settings)
    assert (done.days, done.versions, done.log_rows) == (None, {}, 0)
    assert len(history(table_uri(settings, "small", "accepted"))) == 1
