"""Retention: what is past its time goes, unless a model was made from it."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import DeltaTable

from lifecycle.audit.data_trail import data_chain
from lifecycle.data.ingest import ingest
from lifecycle.errors import BackendError
from lifecycle.governance import delta_log, retention
from lifecycle.governance.folder import open_folder
from lifecycle.governance.retention import lake_sizes, retain
from lifecycle.governance.subject import find_subject
from lifecycle.governance.tables import erase_versions, sweep
from lifecycle.lake.prediction_log import SCHEMA, LogTable
from lifecycle.lake.read import read_version
from lifecycle.lake.table import history, noted_versions, table_uri
from lifecycle.project import Project
from lifecycle.project.contract import RetentionSpec
from lifecycle.records import DatasetVersion, Window
from lifecycle.settings import Settings
from tests.support.grow import declare, put, rows
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


ANNA = "anna.berg@x.org"


def grown(
    folder: Path, settings: Settings, increments: int
) -> tuple[Project, list[DatasetVersion]]:
    """A project with a retention of 30 days, and its versions, each of one row more."""
    grow = declare(folder)({"by": "files"}, key=False)
    contract = grow.contract.model_copy(update={"retention": RetentionSpec(days=30)})
    grow = grow.model_copy(update={"contract": contract, "entity": "text", "ignore": []})
    refs = []
    for number in range(increments):
        text = ANNA if number == 3 else f"person {number}"
        put(grow, f"{number:02d}.csv", rows(number, text=text))
        refs.append(ingest(grow, settings, Window()).dataset)
    return grow, refs


def test_small_files_are_put_together_and_the_log_gets_shorter(
    tmp_path: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    grow, refs = grown(tmp_path, settings, 20)
    uri = refs[0].uri
    for ref in (refs[9], refs[-1]):
        DeltaTable(uri, version=ref.version).create_checkpoint()
    planned = retain(grow, settings, dry_run=True)
    (before,) = (size for size in lake_sizes(grow, settings) if size.table == "accepted")
    assert planned.packed == {"accepted": before.packable_files}
    assert len(history(uri)) == 20
    done = retain(grow, settings)
    assert done == planned.model_copy(update={"dry_run": False})
    (after,) = (size for size in lake_sizes(grow, settings) if size.table == "accepted")
    assert (before.packable_files, after.packable_files) == (16, 0)
    packed = next(noted_versions(uri)).version
    assert (packed.digest, packed.version) == (refs[-1].digest, 20)
    assert [len(read_version(ref)) for ref in refs] == [*range(1, 21)], "all are there still"
    line = data_chain(settings, "grow").lines()[-1]
    assert (line.action, line.version, line.digest) == ("retention", 20, packed.digest)
    assert line.reasons == ("16 small files of v19 put together, with the same rows",)
    assert len([*Path(uri, "_delta_log").glob("*.checkpoint*")]) == 1

    later = datetime.now(UTC).timestamp() + 40 * 86_400
    monkeypatch.setattr(retention.time, "time", lambda: later)
    assert retain(grow, settings).versions == {"accepted": tuple(range(20))}
    (freed,) = (size for size in lake_sizes(grow, settings) if size.table == "accepted")
    assert freed.files == 6, "two of eight rows, and four of one"
    assert freed.log_bytes < after.log_bytes
    assert read_version(packed)["id"].tolist() == [*range(20)]
    put(grow, "later.csv", rows(99))
    assert read_version(ingest(grow, settings, Window()).dataset)["id"].tolist()[-2:] == [19, 99]


def test_the_line_of_packed_files_that_a_killed_run_owes_comes_once(
    tmp_path: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    grow, _ = grown(tmp_path, settings, 20)

    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(retention, "record_data", killed)
        with pytest.raises(KeyboardInterrupt):
            retain(grow, settings)
    for _ in range(2):
        retain(grow, settings)
    lines = [line for line in data_chain(settings, "grow").lines() if line.action == "retention"]
    assert [line.reasons for line in lines] == [
        ("16 small files of v19 put together, with the same rows",)
    ]


def test_a_deletion_killed_between_two_versions_has_one_line(
    tmp_path: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    grow, _ = grown(tmp_path, settings, 3)
    later = datetime.now(UTC).timestamp() + 40 * 86_400
    monkeypatch.setattr(retention.time, "time", lambda: later)
    replace, calls = delta_log._replace, iter(range(9))

    def killed(*arguments: Any) -> bool:
        if next(calls) == 1:
            raise KeyboardInterrupt
        return replace(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(delta_log, "_replace", killed)
        with pytest.raises(KeyboardInterrupt):
            retain(grow, settings)
    assert retain(grow, settings).versions["accepted"] == (1,), "0 is forgotten already"
    lines = [line for line in data_chain(settings, "grow").lines() if line.table == "accepted"]
    reasons = [line.reasons for line in lines if line.action == "retention" and not line.digest]
    assert reasons == [("older than 30 days: v0, v1",)]


def test_a_person_is_erased_from_files_that_an_expired_version_lists(
    tmp_path: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The list of the newest version builds on the first one's, which has expired since."""
    grow, refs = grown(tmp_path, settings, 6)
    later = datetime.now(UTC).timestamp() + 40 * 86_400
    monkeypatch.setattr(retention.time, "time", lambda: later)
    assert retain(grow, settings).versions == {"accepted": (0, 1, 2, 3, 4)}
    monkeypatch.undo()
    table = open_folder(refs[0].uri)
    erase_versions(refs[0].uri, table, find_subject(grow, settings, [ANNA]), "request")
    sweep(table)
    assert read_version(refs[-1])["id"].tolist() == [0, 1, 2, 4, 5]
    put(grow, "later.csv", rows(99))
    done = ingest(grow, settings, Window()).dataset
    assert read_version(done)["id"].tolist() == [0, 1, 2, 4, 5, 99]
    assert done.rows == 6
