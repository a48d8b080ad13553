"""Incremental ingestion: nothing twice, late and changed rows by their key, whatever kills it."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable

from lifecycle.data.ingest import ingest
from lifecycle.errors import BackendError, SourceError
from lifecycle.lake.read import read_version
from lifecycle.lake.table import history, note_of, table_uri
from lifecycle.project import Project
from lifecycle.records import Window
from lifecycle.runtime.identity import code_digest
from lifecycle.settings import Settings
from tests.support.grow import declare, put, rows


@pytest.fixture
def project(tmp_path: Path) -> Callable[..., Project]:
    return declare(tmp_path)


def held(project: Project, settings: Settings) -> tuple[dict[int, str], int | None, int]:
    """Text by id, rows that were new, and the version."""
    done = ingest(project, settings, Window())
    frame = read_version(done.dataset)
    assert frame["id"].is_unique
    return dict(zip(frame["id"], frame["text"], strict=True)), done.rows_new, done.dataset.version


def test_files_are_taken_in_once(project: Callable[..., Project], settings: Settings) -> None:
    grow = project({"by": "files"})
    put(grow, "a.csv", rows(1, 2))
    assert held(grow, settings) == ({1: "a", 2: "a"}, 2, 0)
    assert held(grow, settings)[1:] == (2, 0)  # the same source: what was made of it
    put(grow, "b.csv", rows(2, 3, text="b"))  # 2 has changed, 3 is new
    assert held(grow, settings) == ({1: "a", 2: "b", 3: "b"}, 2, 1)
    put(grow, "copy.csv", rows(1, 2))  # the content of a.csv under another name
    assert held(grow, settings) == ({1: "a", 2: "b", 3: "b"}, 0, 1)
    (grow.folder / "in" / "a.csv").unlink()  # what was taken in stays
    assert held(grow, settings)[0] == {1: "a", 2: "b", 3: "b"}
    put(grow, "b.csv", rows(2, 3, text="c"))  # a changed file replaces its rows
    assert held(grow, settings) == ({1: "a", 2: "c", 3: "c"}, 2, 2)


def test_a_source_that_is_again_what_it_was(
    project: Callable[..., Project], settings: Settings
) -> None:
    grow = project({"by": "files"})
    put(grow, "a.csv", rows(1, 2))
    held(grow, settings)
    put(grow, "b.csv", rows(3, text="b"))
    assert held(grow, settings) == ({1: "a", 2: "a", 3: "b"}, 1, 1)
    (grow.folder / "in" / "b.csv").unlink()
    assert held(grow, settings) == ({1: "a", 2: "a", 3: "b"}, 0, 1)


def test_of_two_new_files_the_later_counts(
    project: Callable[..., Project], settings: Settings
) -> None:
    grow = project({"by": "files"})
    put(grow, "a.csv", rows(1, 2))
    put(grow, "b.csv", rows(2, 1, text="b"))
    assert held(grow, settings) == ({1: "b", 2: "b"}, 2, 0)


def test_a_changed_file_without_a_key_is_refused(
    project: Callable[..., Project], settings: Settings
) -> None:
    grow = project({"by": "files"}, key=False)
    put(grow, "a.csv", rows(1, 2))
    ingest(grow, settings, Window())
    put(grow, "b.csv", rows(1))
    assert ingest(grow, settings, Window()).dataset.rows == 3
    put(grow, "a.csv", rows(1, 2, 4))
    with pytest.raises(SourceError, match=r"a\.csv changed since it was taken in.*contract\.key"):
        ingest(grow, settings, Window())


def test_rows_later_than_the_watermark(project: Callable[..., Project], settings: Settings) -> None:
    grow = project({"by": "watermark", "column": "day", "lateness": 2}, path="in/all.csv")
    table = [rows(1, 2, day=1), rows(3, day=10)]
    put(grow, "all.csv", pd.concat(table))
    assert held(grow, settings)[1:] == (3, 0)
    table += [rows(4, day=11, text="new"), rows(5, day=9, text="late"), rows(6, day=8, text="too")]
    put(grow, "all.csv", pd.concat(table))  # 3 is seen again, and the same
    texts, new, version = held(grow, settings)
    assert (new, version) == (2, 1)
    assert texts == {1: "a", 2: "a", 3: "a", 4: "new", 5: "late"}
    table[3] = rows(5, day=10, text="corrected")
    put(grow, "all.csv", pd.concat(table))
    assert held(grow, settings)[0][5] == "corrected"


def test_a_time_to_come_does_not_shut_out_what_comes_until_then(
    project: Callable[..., Project], settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    grow = project({"by": "watermark", "column": "day"}, path="in/all.csv")
    wrong = rows(2).assign(day="2342-05-01")
    put(grow, "all.csv", pd.concat([rows(1), wrong]))
    assert held(grow, settings)[0] == {1: "a", 2: "a"}
    assert "day has 2342-05-01, a time to come" in caplog.text
    soon = rows(3, text="new").assign(day=f"{pd.Timestamp.now() + pd.Timedelta(days=2):%Y-%m-%d}")
    put(grow, "all.csv", pd.concat([rows(1), wrong, soon]))
    texts, new, _ = held(grow, settings)
    assert (texts, new) == ({1: "a", 2: "a", 3: "new"}, 1)
    keyless = project({"by": "watermark", "column": "day"}, key=False, path="in/all.csv")
    with pytest.raises(SourceError, match="2342-05-01, a time to come; correct that row, or name"):
        ingest(keyless, Settings(home=settings.home / "other"), Window())


def test_bad_rows_go_to_quarantine_and_the_others_in(
    project: Callable[..., Project], settings: Settings
) -> None:
    grow = project({"by": "files"})
    grow = grow.model_copy(
        update={"contract": grow.contract.model_copy(update={"max_rejected_share": 0.5})}
    )
    put(grow, "a.csv", rows(1, 2))
    held(grow, settings)
    bad = rows(2, 3, text="b")
    bad.loc[0, "day"] = None
    put(grow, "b.csv", bad)
    assert held(grow, settings)[0] == {1: "a", 2: "a", 3: "b"}


def test_a_row_is_taken_in_before_its_label_comes(
    project: Callable[..., Project], settings: Settings
) -> None:
    grow = project({"by": "files"})
    put(grow, "a.csv", rows(1, 2).assign(y=None))
    assert read_version(ingest(grow, settings, Window()).dataset)["y"].isna().all()
    put(grow, "b.csv", rows(2))
    done = ingest(grow, settings, Window())
    assert done.rows_new == 1
    frame = read_version(done.dataset)
    assert dict(zip(frame["id"], frame["y"].fillna(-1), strict=True)) == {1: -1, 2: 0}


@pytest.mark.parametrize("is_new", [False, True])
def test_a_damaged_version_is_not_handed_out(
    project: Callable[..., Project], settings: Settings, is_new: bool
) -> None:
    """Whether the source is what it was, or has a file without new rows."""
    grow = project({"by": "files"}, key=False)
    put(grow, "a.csv", rows(1, 2))
    ref = ingest(grow, settings, Window()).dataset
    (file,) = Path(ref.uri).glob("*.parquet")
    file.write_bytes(file.read_bytes()[:-9])
    if is_new:
        put(grow, "copy.csv", rows(1, 2))  # the content of the other
    with pytest.raises(BackendError, match=r"SHA-256.*move the table's folder aside"):
        ingest(grow, settings, Window())
    Path(ref.uri).rename(f"{ref.uri}.damaged")
    (grow.folder / "in" / "copy.csv").unlink(missing_ok=True)
    again = ingest(grow, settings, Window())
    assert read_version(again.dataset)["id"].tolist() == [1, 2]


KILL = """
import os, signal, sys
from lifecycle.lake import write
from lifecycle.data import ingest as ingestion
from lifecycle.project.loader import load_project
from lifecycle.records import Window
from lifecycle.settings import Settings

def die(*_args, **_more):
    os.kill(os.getpid(), signal.SIGKILL)

place, project, home, code = sys.argv[1:]
ingestion.code_digest = lambda _: code
if place == "writing":
    write.VersionWriter.write = die
elif place == "before the commit":
    write.VersionWriter._commit = die
else:
    ingestion.record_data = die
ingestion.ingest(load_project(project), Settings(home=home), Window())
"""


@pytest.mark.parametrize("place", ["writing", "before the commit", "behind the commit"])
def test_killed_and_run_again(
    project: Callable[..., Project], settings: Settings, tmp_path: Path, place: str
) -> None:
    grow = project({"by": "files"})
    put(grow, "a.csv", rows(1, 2))
    first = ingest(grow, settings, Window())
    put(grow, "b.csv", rows(2, 3, text="b"))
    # of the same code as here, also while somebody edits it
    arguments = [place, str(grow.file), str(settings.home), code_digest("data")]
    command = [sys.executable, "-c", KILL, *arguments]
    killed = subprocess.run(command, env=os.environ, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert len(read_version(first.dataset)) == 2
    assert held(grow, settings) == ({1: "a", 2: "b", 3: "b"}, 2, 1)
    assert len(history(first.dataset.uri)) == 2


def test_a_row_that_comes_again_rewrites_its_own_file_only(
    project: Callable[..., Project], settings: Settings
) -> None:
    grow = project({"by": "files"})
    for day, name in enumerate("abc", start=1):
        put(grow, f"{name}.csv", rows(10 * day, 10 * day + 1))
        ingest(grow, settings, Window())
    put(grow, "d.csv", rows(20, 40, text="d"))
    table = Path(table_uri(settings, "grow", "accepted"))
    before = set(table.glob("*.parquet"))
    done = ingest(grow, settings, Window())
    assert (done.rows_new, done.dataset.rows) == (2, 7)
    # what stays of b's file, and the two new rows
    new = [len(pq.read_table(file)) for file in set(table.glob("*.parquet")) - before]
    assert sorted(new) == [1, 2]
    frame = read_version(done.dataset)
    assert frame["id"].tolist() == [10, 11, 21, 30, 31, 20, 40]
    assert frame.set_index("id")["text"].to_dict()[20] == "d"
    delta = DeltaTable(str(table)).to_pyarrow_table(columns=["id", "text"]).to_pandas()
    assert sorted(delta["id"]) == sorted(frame["id"]), "another reader sees the same rows"


def test_what_was_taken_in_is_told_once_and_not_again_by_each_commit(
    project: Callable[..., Project], settings: Settings
) -> None:
    grow = project({"by": "files"}, key=False)
    for number in range(70):
        put(grow, f"{number:03d}.csv", rows(number))
        done = ingest(grow, settings, Window())
    log = sorted(Path(done.dataset.uri, "_delta_log").glob("*.json"))
    sizes = [file.stat().st_size for file in log]
    assert sum(sizes[-8:]) < 4 * sum(sizes[:8]), "of 70 files each it would be 9 times as much"
    assert read_version(done.dataset)["id"].tolist() == list(range(70))
    put(grow, "003.csv", rows(3))  # as it was
    put(grow, "again.csv", rows(5))  # the content of another file
    assert ingest(grow, settings, Window()).rows_new == 0
    note = note_of(done.dataset.uri, done.dataset.version)["taken"]
    base = log[json.loads(note)["since"][0]]
    content = base.read_text()
    base.write_text(content.replace("000.csv", "00x.csv"))
    with pytest.raises(BackendError, match="is no commit"):
        ingest(grow, settings, Window())
    base.write_text(content)
    put(grow, "007.csv", rows(7, 8))
    with pytest.raises(SourceError, match=r"007\.csv changed since it was taken in"):
        ingest(grow, settings, Window())


def test_a_lake_of_before_is_carried_on(
    project: Callable[..., Project], settings: Settings
) -> None:
    """Its commits list no files and repeat what was taken in, as releases up to 0.1 wrote them."""
    grow = project({"by": "files"})
    put(grow, "a.csv", rows(1, 2))
    for number in range(40):  # more than a note lists by itself
        put(grow, f"early {number:02d}.csv", rows(100 + number))
    first = ingest(grow, settings, Window()).dataset
    early = dict.fromkeys(range(100, 140), "a")
    log = Path(first.uri) / "_delta_log" / f"{0:020d}.json"
    actions = [json.loads(line) for line in log.read_text().splitlines()]
    for action in actions:
        for name in ("manifest", "seal"):
            action.get("commitInfo", {}).pop(name, None)
    log.write_text("\n".join(map(json.dumps, actions)))
    put(grow, "b.csv", rows(2, 3, text="b"))
    assert held(grow, settings) == ({1: "a", 2: "b", 3: "b"} | early, 2, 1)
    put(grow, "c.csv", rows(3, 4, text="c"))
    assert held(grow, settings) == ({1: "a", 2: "b", 3: "c", 4: "c"} | early, 2, 2)
    assert len(read_version(first)) == 42
