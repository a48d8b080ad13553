"""Erasing a person: from every place, for ever, and others stay."""

import json
import signal
import socket
import sqlite3
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable

from lifecycle.audit.data_trail import data_chain
from lifecycle.cli.governance import show_erasure
from lifecycle.cli.main import main
from lifecycle.data.ingest import ingest
from lifecycle.errors import ProjectError
from lifecycle.governance.erase import PAGE, _unique, check, erase
from lifecycle.governance.folder import open_folder
from lifecycle.governance.requests import file_request, pending, save
from lifecycle.governance.subject import Subject
from lifecycle.labels.ledger import SCHEMA as LABELS
from lifecycle.labels.ledger import Ledger
from lifecycle.lake.logged_predictions import read_log
from lifecycle.lake.read import read_version
from lifecycle.lake.table import history, table_uri
from lifecycle.records import Erasure, Window
from lifecycle.release.artifacts import record_of
from lifecycle.release.registry import erased_rows_of, set_alias
from tests.support.person import EMAIL, PERSON, Planted, frame_with_person, log
from tests.support.small import small_frame


def run(planted: Planted) -> Erasure:
    request = file_request(planted.project, planted.settings, [PERSON], "asked by letter 17")
    return erase(planted.project, planted.settings, request)


def test_nothing_is_left_and_the_others_stay(planted: Planted) -> None:
    project, settings = planted.project, planted.settings
    before = check(project, settings, [PERSON])
    for place in ("accepted", "rejected", "prediction_log", "predictions", "prefect"):
        assert any(place in found for found in before.left), place
    done = run(planted)
    assert done.searched.left == ()
    assert done.searched.unsearched == ()
    assert done.tables["accepted"] == {0: 4, 1: 4}
    assert done.tables["rejected"] == {0: 1, 1: 1}
    assert done.tables["predictions"] == {0: 4}
    assert done.tables["prediction_log"] == {-1: 2}
    assert sum(len(done.tables.get(part, {})) for part in ("train", "validation", "holdout")) >= 1
    for word in (PERSON, "Zo\\u00eb", "O'Hara", EMAIL):
        assert grep(settings.home, word) == []
    assert history(table_uri(settings, "small", "accepted"))["rows"].tolist() == [396, 396]
    log = DeltaTable(table_uri(settings, "small", "prediction_log")).to_pyarrow_table()
    assert log["entity"].to_pylist() == ["customer-1000"]
    assert (settings.home / "notes.log").read_text() == "first\n[erased] wrote\nlast\n"
    assert not (settings.home / "old.log.gz").exists()
    assert [f.name for f in (settings.home / "prefect" / "storage").iterdir()] == ["other"]
    database = sqlite3.connect(settings.home / "prefect" / "prefect.db")
    (parameters,) = database.execute("SELECT parameters FROM flow_run").fetchone()
    assert json.loads(parameters) == {"entity": "[erased]", "n": 1}
    database.close()
    assert pending(project, settings) == []


def grep(home: Path, word: str) -> list[Path]:
    """Files whose plain bytes have the word: a second opinion beside the product's search."""
    return [
        path for path in home.rglob("*") if path.is_file() and word.encode() in path.read_bytes()
    ]


def test_references_from_before_can_be_read(planted: Planted) -> None:
    trained = planted.trained
    done = run(planted)
    split = trained.split
    parts = {"train": split.train, "validation": split.validation, "holdout": split.holdout}
    for name, ref in parts.items():
        rows = read_version(ref)
        assert len(rows) == ref.rows - done.tables.get(name, {}).get(ref.version, 0)
        assert PERSON not in set(rows["customer"])
    assert record_of(trained.model, planted.settings).model == trained.model


def test_the_models_that_learned_are_named(planted: Planted) -> None:
    done = run(planted)
    (one,) = done.learners
    assert (one.model, one.aliases) == (planted.trained.model, ("challenger",))
    assert one.learned + one.measured == 4


def test_an_erased_person_stays_away(planted: Planted) -> None:
    run(planted)
    frame_with_person().assign(visits=3).to_csv(planted.project.folder / "small.csv", index=False)
    again = ingest(planted.project, planted.settings, Window())
    assert again.dataset.version > 1, "the source has changed, and still has the person"
    assert PERSON not in set(read_version(again.dataset)["customer"])
    assert check(planted.project, planted.settings, [PERSON]).left == ()


def test_the_trail_says_what_was_done_but_not_to_whom(planted: Planted) -> None:
    run(planted)
    chain = data_chain(planted.settings, "small")
    lines = chain.lines()
    assert chain.broken() is None
    assert {"accepted", "rejected"} <= {line.table for line in lines if line.action == "erase"}
    assert [line.version for line in lines if line.table == "prediction_log"] == [None]
    assert lines[-1].action == "proof"
    assert any("asked by letter 17" in line.reasons for line in lines)
    assert all(PERSON not in str(line.reasons) for line in lines)


def test_erasing_again_changes_nothing(planted: Planted) -> None:
    run(planted)
    before = sorted(planted.settings.home.rglob("*.parquet"))
    done = run(planted)
    assert (done.tables, done.changed, done.searched.left) == ({}, (), ())
    kept = [path for path in sorted(planted.settings.home.rglob("*.parquet")) if path in before]
    assert kept == before


def test_a_wrong_person_is_a_mistake(planted: Planted) -> None:
    with pytest.raises(ProjectError, match="--entity"):
        file_request(planted.project, planted.settings, [" "])
    nobody = planted.project.model_copy(update={"entity": None})
    with pytest.raises(ProjectError, match="entity"):
        check(nobody, planted.settings, ["x"])


KILLED = """
import os, signal, sys
from pathlib import Path
from lifecycle.governance import erase as erasing
from lifecycle.governance import folder
from lifecycle.governance.requests import pending
from lifecycle.project.loader import load_project
from lifecycle.settings import Settings
steps = int(sys.argv[3])
def counted(method):
    def call(*args):
        global steps
        steps -= 1
        if steps < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return method(*args)
    return call
Path.replace = counted(Path.replace)
folder.Folder.remove = counted(folder.Folder.remove)
project, settings = load_project(sys.argv[1]), Settings(home=sys.argv[2])
for request in pending(project, settings):
    erasing.erase(project, settings, request)
"""


@pytest.mark.system
def test_killed_anywhere_and_run_again_it_is_whole(planted: Planted) -> None:
    """SIGKILL before one of the steps that change a file, each time a later one."""
    project, settings = planted.project, planted.settings
    file_request(project, settings, [PERSON])
    files = [str(project.file), str(settings.home)]
    reference = planted.trained.split.train
    for steps in (1, 2, 3, 5, 3, 6):
        command = [sys.executable, "-c", KILLED, *files, str(steps)]
        killed = subprocess.run(command, capture_output=True, text=True, timeout=120)
        assert killed.returncode == -signal.SIGKILL, killed.stderr
        assert reference.rows - 4 <= len(read_version(reference)) <= reference.rows
    (request,) = pending(project, settings)
    done = erase(project, settings, request)
    assert done.searched.clean
    assert done.tables["accepted"] == {0: 4, 1: 4}, "as found before the first was killed"
    assert len(done.learners) == 1
    assert len(read_version(reference)) == reference.rows - 4
    assert grep(settings.home, EMAIL) == []


def test_the_command_checks_files_and_erases(
    planted: Planted, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LIFECYCLE_HOME", str(planted.settings.home))
    people = planted.project.folder / "people.txt"
    people.write_text(f"{PERSON}\n\n")

    def command(*more: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["lifecycle", "erase", str(planted.project.file), *more])
        with pytest.raises(SystemExit) as ended:
            main()
        said = capsys.readouterr()
        return int(ended.value.code or 0), said.out + said.err

    code, said = command("--entities-file", str(people), "--dry-run")
    assert (code, "found: " in said, "not everything is erased" in said) == (2, True, False)
    code, said = command("--entities-file", str(people), "--later")
    assert (code, "is filed" in said) == (0, True)
    code, said = command()
    assert (code, "Nothing is left" in said) == (0, True)
    assert "accepted: 4 rows of v0, 4 rows of v1" in said
    assert "small v1 (challenger) learned from 4" in said
    assert PERSON not in said
    assert command("--entity", PERSON, "--check")[0] == 0


def test_a_champion_whose_data_changed_is_told_as_such(
    planted: Planted, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    project, settings, model = planted.project, planted.settings, planted.trained.model
    set_alias(model, "champion", settings)
    assert erased_rows_of(model, settings) == 0
    done = run(planted)
    show_erasure(done)
    told = "small v1 is the champion, and 4 rows it learned from are gone: learn from what is left"
    assert told in capsys.readouterr().out
    other = read_version(planted.trained.split.train)["customer"].iloc[0]
    request = file_request(project, settings, [other])
    save(settings, request)
    (learner,) = erase(project, settings, request).learners
    erase(project, settings, request)  # a request that was killed late is carried out again
    assert learner.learned > 0
    assert erased_rows_of(model, settings) == 4 + learner.learned

    with socket.create_server(("127.0.0.1", 0)) as taken:
        monkeypatch.setenv("LIFECYCLE_HOME", str(settings.home))
        monkeypatch.setenv("LIFECYCLE_SERVE_PORT", str(taken.getsockname()[1]))
        monkeypatch.setattr(sys, "argv", ["lifecycle", "serve", str(project.file)])
        with pytest.raises(SystemExit):
            main()
    said = " ".join(capsys.readouterr().out.split())
    assert f"small v1 learned from {4 + learner.learned} rows that were erased since" in said


def test_only_pages_of_models_measured_on_them_are_replaced(planted: Planted) -> None:
    """The person is in the train part, another one in the holdout; a third model had neither."""
    settings, model = planted.settings, planted.trained.model
    pages = settings.folder("reports", "small")
    own, foreign = (pages / name / "evaluation.html" for name in (model.digest[:12], "0" * 12))
    for page in (own, foreign):
        page.parent.mkdir(exist_ok=True)
        page.write_text("<h1>figures</h1>")
    done = run(planted)
    assert [place for place in done.kept if place.endswith(f"{model.digest[:12]}/evaluation.html")]
    assert all("0" * 12 not in place for place in (*done.kept, *done.changed))
    assert own.read_text() == foreign.read_text() == "<h1>figures</h1>"

    other = read_version(planted.trained.split.holdout)["customer"].iloc[0]
    request = file_request(planted.project, settings, [other])
    done = erase(planted.project, settings, request)
    assert any(
        change.endswith(f"{own.parent.name}/evaluation.html: replaced") for change in done.changed
    )
    assert own.read_text() == PAGE
    assert foreign.read_text() == "<h1>figures</h1>"


def test_thousands_of_persons_leave_at_once(planted: Planted) -> None:
    """More than any regular expression takes; the one who stays is whole."""
    project, settings = planted.project, planted.settings
    frame = small_frame(6000).assign(email=lambda f: "mail-" + f["customer"].astype(str) + "@x.org")
    frame["customer"] = "customer-" + frame["customer"].astype(str)
    frame.to_csv(project.folder / "small.csv", index=False)
    ingested = ingest(project, settings, Window())
    persons = sorted(set(frame["customer"]))
    log(project, settings, list(persons))
    (settings.home / "list.log").write_text("\n".join(persons))
    stays = persons.pop(1234)
    done = erase(project, settings, file_request(project, settings, persons))
    assert done.searched.clean
    assert done.persons == len(persons) == 2999
    assert done.tables["accepted"][ingested.dataset.version] == 5998
    assert set(read_version(ingested.dataset)["customer"]) == {stays}
    assert (settings.home / "list.log").read_text().replace("[erased]", "").split() == [stays]
    logged = DeltaTable(table_uri(settings, "small", "prediction_log")).to_pyarrow_table()
    assert set(logged["entity"].to_pylist()) & set(persons) == set()
    assert grep(settings.home, persons[0]) == grep(settings.home, persons[-1]) == []


def test_files_of_the_trails_are_not_searched_for_values_of_columns(tmp_path: Path) -> None:
    """They have none, and come and go as lines are packed."""
    for name in ("accepted", "data_audit", "audit", "card_audit", "erased"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.parquet").write_bytes(b"packed meanwhile")
    table = pa.table({"customer": ["Bob"], "city": ["Oslo"]})
    pq.write_table(table, tmp_path / "accepted" / "a.parquet")
    subject = Subject(columns=frozenset({"customer"}), texts=frozenset({"Ada"}))
    values = {"city": ["Oslo", "Rome"]}
    assert _unique(open_folder(str(tmp_path)), subject, values) == {"city": ("Rome",)}


def test_labels_of_an_erased_person_leave_the_ledger(planted: Planted) -> None:
    """Those by entity, and those by the id of a prediction about them."""
    settings = planted.settings
    logged = read_log(settings, "small", 0)
    theirs = logged.loc[logged["entity"] == PERSON, "id"].iloc[0]
    others = logged.loc[logged["entity"] != PERSON, "id"].iloc[0]
    rows = {
        "id": [theirs, others, None, None],
        "entity": [None, None, PERSON, "customer-1000"],
        "known_at": [datetime(2024, 1, 1, tzinfo=UTC)] * 4,
        "number": [1.0, 1.0, 0.0, 0.0],
    }
    nulls = {field.name: pa.nulls(4, field.type) for field in LABELS}
    columns = nulls | {name: pa.array(v, LABELS.field(name).type) for name, v in rows.items()}
    ledger = Ledger(settings, "small")
    ledger.append(pa.table(columns, schema=LABELS))
    assert run(planted).tables["labels"] == {-1: 2}
    left = ledger.rows().to_pydict()
    assert set(left["id"]) == {others, None}
    assert set(left["entity"]) == {"customer-1000", None}
