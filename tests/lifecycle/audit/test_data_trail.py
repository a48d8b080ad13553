"""The data's audit trail and the list of the erased, as ingestion uses them."""

import random
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake
from pydantic import SecretStr

from benchmarks.damage import flipped
from lifecycle.audit.data_trail import data_chain, record_data
from lifecycle.data.privacy import (
    erased_digest,
    erased_hashes,
    erased_mask,
    hash_entities,
    pii_key,
    pseudonym,
    suppress,
)
from lifecycle.errors import BackendError
from lifecycle.lake.table import create_table, table_uri
from lifecycle.project import Project
from lifecycle.runtime.run import Run, running
from lifecycle.settings import Settings


def test_a_line_says_who_did_what_in_which_run(settings: Settings) -> None:
    with running(Run(id="1", name="prepare-small", who="anna")):
        record_data(settings, "small", "ingest", "accepted", 0, "d" * 64, ("400 rows",))
        record_data(settings, "small", "ingest", "current", 0, "e" * 64)
        again = record_data(settings, "small", "ingest", "accepted", 0, "d" * 64, ("400 rows",))
    record_data(settings, "small", "contract", "accepted", None, reasons=("1.0.0 to 1.1.0",))
    trail = data_chain(settings, "small")
    lines = trail.lines()
    assert again == lines[0], "what a killed run has said is not said twice"
    assert [str(line) for line in lines] == [
        "ingest accepted v0",
        "ingest current v0",
        "contract accepted",
    ]
    assert (lines[0].who, lines[0].run) == ("anna", "prepare-small")
    assert lines[2].previous == lines[1].hash
    assert trail.broken() is None
    with pytest.raises(Exception, match="append-only"):
        DeltaTable(trail.uri).delete("line = 1")


@pytest.mark.parametrize("content", [None, b"PAR1", b"\0" * 4000, b"PAR1" + b"\7" * 99 + b"PAR1"])
def test_a_file_of_the_trail_that_is_damaged_or_gone_is_named(
    settings: Settings, content: bytes | None
) -> None:
    for version in range(3):
        record_data(settings, "small", "ingest", "accepted", version)
    trail = data_chain(settings, "small")
    file = sorted(Path(trail.uri).glob("*.parquet"))[1]
    file.unlink()
    if content is not None:
        file.write_bytes(content)
    said = "missing" if content is None else "damaged"
    broken = trail.broken() or ""
    assert broken.startswith(f"{file}: this file of the audit trail is {said}")
    assert "restore it from a backup" in broken
    with pytest.raises(BackendError, match=re.escape(broken)):
        trail.lines()


def test_a_line_without_a_version_says_none(settings: Settings) -> None:
    for version in (-1, None):
        assert str(record_data(settings, "small", "erase", "log", version)) == "erase log"


def test_a_table_that_several_make_at_the_same_moment_has_one_commit(tmp_path: Path) -> None:
    """One more, without rows, would be a commit that is missing to the list of the erased."""
    schema = pa.schema({"hash": pa.string()})
    for attempt in range(20):
        uri, together = str(tmp_path / str(attempt)), Barrier(4)

        def make(_: int, uri: str = uri, together: Barrier = together) -> int:
            together.wait()
            return int(create_table(uri, schema).version())

        with ThreadPoolExecutor(4) as pool:
            assert list(pool.map(make, range(4))) == [0] * 4
        assert DeltaTable(uri).version() == 0


def test_lines_that_are_added_to_a_new_trail_at_the_same_moment(settings: Settings) -> None:
    together = Barrier(4)

    def add(version: int) -> None:
        together.wait()
        record_data(settings, "small", "ingest", "accepted", version)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(add, range(4)))
    trail = data_chain(settings, "small")
    assert {str(line) for line in trail.lines()} == {f"ingest accepted v{at}" for at in range(4)}
    assert trail.broken() is None


@pytest.mark.parametrize(
    "values",
    [
        pa.array([1, 7, None, 7]),
        pa.array(["1", "7", None, "7"]),
        pa.array([1.0, 7.0, None, 7.0]),
        pa.chunked_array([["1", "7"], [None, "7"]]),
    ],
)
def test_the_erased_are_found_in_every_type(
    settings: Settings, make_project: Callable[..., Project], values: pa.Array
) -> None:
    project = make_project()
    nobody = erased_hashes(settings, project)
    assert erased_mask(values, nobody, settings).to_pylist() == [False] * 4
    assert erased_digest(nobody) == ""
    assert suppress(settings, project, ["7", None]) == 1
    assert suppress(settings, project, [7]) == 0, "they are on the list"
    hashes = erased_hashes(settings, project)
    assert erased_mask(values, hashes, settings).to_pylist() == [False, True, False, True]
    assert len(erased_digest(hashes)) == 64


def test_the_list_says_nothing_about_a_row(
    settings: Settings, make_project: Callable[..., Project]
) -> None:
    project = make_project()
    suppress(settings, project, ["Ada"])
    listed = DeltaTable(table_uri(settings, "small", "erased")).to_pyarrow_table()
    assert "Ada" not in str(listed.to_pylist())
    assert pseudonym(["Ada"], pii_key(settings))[0] not in listed["hash"].to_pylist()
    other = settings.model_copy(update={"pii_key": SecretStr("another")})
    mask = erased_mask(pa.array(["Ada"]), erased_hashes(settings, project), other)
    assert mask.to_pylist() == [False], "with another key nobody is recognised"


def test_a_damaged_list_of_the_erased_is_told(
    settings: Settings, make_project: Callable[..., Project]
) -> None:
    """Whatever bit is flipped: the list is as it was, or one message says that it is not."""
    project = make_project()
    suppress(settings, project, ["Ada"])
    suppress(settings, project, ["Bob", "Cy"])
    written = erased_hashes(settings, project)
    draw = random.Random(3)  # noqa: S311 - nothing secret
    folder = Path(table_uri(settings, "small", "erased"))
    files = [path for path in folder.rglob("*") if path.is_file()]
    told: list[str] = []
    for number in range(150):
        file = files[number % len(files)]
        with flipped(file, draw.randrange(file.stat().st_size * 8)):
            try:
                assert erased_hashes(settings, project) == written, f"silent: {file}"
            except BackendError as error:
                told.append(str(error))
    assert len(told) > 50
    assert [text for text in told if "\n" in text] == []


def test_a_commit_that_is_lost_shows(
    settings: Settings, make_project: Callable[..., Project]
) -> None:
    project = make_project()
    for name in ("Ada", "Bob"):
        suppress(settings, project, [name])
    newest = Path(table_uri(settings, "small", "erased"), "_delta_log", f"{2:020d}.json")
    kept = [line for line in newest.read_text().splitlines() if '"add"' not in line]
    newest.write_text("\n".join(kept))
    with pytest.raises(BackendError, match="the rows of commit 2 are missing"):
        erased_hashes(settings, project)


def test_a_list_from_before_there_were_checksums_goes_on(
    settings: Settings, make_project: Callable[..., Project]
) -> None:
    project = make_project()
    uri = table_uri(settings, "small", "erased")
    old = hash_entities(["Ada"], settings)
    write_deltalake(uri, pa.table({"hash": old, "time": ["2026-11-01T00:00:00+00:00"]}))
    assert erased_hashes(settings, project) == set(old)
    assert suppress(settings, project, ["Ada", "Bob"]) == 1
    assert suppress(settings, project, ["Cy"]) == 1
    assert len(erased_hashes(settings, project)) == 3


def test_persons_who_are_listed_at_the_same_moment_are_all_listed(
    settings: Settings, make_project: Callable[..., Project]
) -> None:
    project = make_project()
    pii_key(settings)  # one key, before anybody needs it
    names = [f"person {at}" for at in range(8)]
    with ThreadPoolExecutor(4) as pool:
        done = list(pool.map(lambda name: suppress(settings, project, [name]), names))
    assert done == [1] * 8
    assert erased_hashes(settings, project) == set(hash_entities(names, settings))
