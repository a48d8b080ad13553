"""Packing: few files for many, with the same rows, and nothing lost of what was there."""

import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from deltalake import DeltaTable

from lifecycle.errors import BackendError
from lifecycle.lake.manifest import VersionFile, files_of
from lifecycle.lake.packing import FAN_IN, FULL_LEVEL, groups_of, pack, packable_files
from lifecycle.lake.read import open_file, read_numbers, read_table
from lifecycle.lake.table import Noted, noted_versions
from lifecycle.lake.write import VersionWriter
from lifecycle.records import DatasetVersion

SCHEMA = pa.schema([pa.field("id", pa.int64(), nullable=False), pa.field("text", pa.string())])


def append(uri: str, former: DatasetVersion | None, *ids: int) -> DatasetVersion:
    with VersionWriter(SCHEMA, uri, former) as writer:
        batch = {"id": ids, "text": [None if id % 3 else "a" for id in ids]}
        writer.write(pa.RecordBatch.from_pydict(batch, schema=SCHEMA))
        return writer.commit({"number": str(ids[0])})


def newest(uri: str) -> Noted:
    return next(noted_versions(uri))


def packed(uri: str) -> DatasetVersion:
    version = pack(newest(uri))
    assert version is not None
    return version


@pytest.fixture
def uri(tmp_path: Path) -> str:
    return str(tmp_path / "table")


def grow(sizes: Sequence[int]) -> tuple[list[VersionFile], int, int]:
    """Files after increments of these sizes, each of which is packed; most there were at a time,
    and rows that packing wrote."""
    files: list[VersionFile] = []
    most, written, end = 0, 0, 0
    for size in sizes:
        files.append(VersionFile(str(end), "", end, end + size))
        end += size
        for group in groups_of(files):
            at = files.index(group[0])
            files[at : at + len(group)] = [group[0]._replace(end=group[-1].end)]
            written += group[-1].end - group[0].first
        assert groups_of(files) == [], "what is packed is not packed again"
        most = max(most, len(files))
    return files, most, written


@pytest.mark.parametrize("largest", [1, 9, 3_000])
def test_files_stay_few_and_a_row_is_written_once_a_level(largest: int) -> None:
    draw = random.Random(largest)  # noqa: S311 - nothing secret
    sizes = [draw.randint(1, largest) for _ in range(2_000)]
    files, most, written = grow(sizes)
    full = sum(file.end - file.first >= FAN_IN**FULL_LEVEL for file in files)
    assert most - full < FAN_IN * FULL_LEVEL
    assert written <= FULL_LEVEL * sum(sizes)
    assert [file.first for file in files[1:]] == [file.end for file in files[:-1]]


def test_large_files_stay_as_they_are() -> None:
    rows = FAN_IN**FULL_LEVEL
    files = [VersionFile(str(n), "", n * rows, (n + 1) * rows) for n in range(40)]
    assert groups_of(files) == []


def test_a_packed_version_has_the_same_rows_and_digest(uri: str) -> None:
    refs = [append(uri, None, 0, 1)]
    for number in range(2, 20):
        refs.append(append(uri, refs[-1], number))
    with VersionWriter(SCHEMA, uri, refs[-1]) as writer:  # row 5 goes
        file = next(file for file in files_of(refs[-1]) or () if file.first == 5)
        writer.replace(file, [], np.array([5]))
        refs.append(writer.commit({"number": "gone"}))
    before = newest(uri)
    table, numbers = read_table(refs[-1]), read_numbers(refs[-1]).tolist()
    count = packable_files(refs[-1])
    version = packed(uri)
    assert (version.digest, version.rows) == (refs[-1].digest, refs[-1].rows)
    assert newest(uri) == Noted(version, before.note)
    assert count > len(files_of(version) or ()) >= 1
    assert read_table(version).equals(table)
    assert read_numbers(version).tolist() == numbers
    for ref in refs:
        assert read_table(ref).num_rows == ref.rows, "what was before is as it was"
    delta = DeltaTable(uri)
    assert sorted(delta.to_pyarrow_table()["id"].to_pylist()) == sorted(table["id"].to_pylist())
    assert len(delta.file_uris()) == len(files_of(version) or ())
    log = Path(uri, "_delta_log", f"{version.version:020d}.json").read_text().splitlines()
    actions = [json.loads(line) for line in log]
    changes = [
        next(iter(a.values()))["dataChange"] for a in actions if {"add", "remove"} & a.keys()
    ]
    assert changes, "files are added and removed"
    assert not any(changes), "whoever follows the log sees that no row changed"
    assert pack(newest(uri)) is None
    later = append(uri, version, 77)
    assert read_table(later)["id"].to_pylist() == [*table["id"].to_pylist(), 77]
    assert read_numbers(later)[-1] == 20


def test_another_writer_is_faster(uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    ref = append(uri, None, 0)
    for number in range(1, FAN_IN):
        ref = append(uri, ref, number)
    join = VersionWriter.join

    def late(*arguments: Any) -> None:
        monkeypatch.setattr(VersionWriter, "join", join)
        append(uri, ref, 99)
        join(*arguments)

    monkeypatch.setattr(VersionWriter, "join", late)
    assert pack(newest(uri)) is None
    assert read_table(newest(uri).version)["id"].to_pylist() == [*range(FAN_IN), 99]
    assert len(list(Path(uri).glob("*.parquet"))) == FAN_IN + 1, "nothing is left of the attempt"
    packed(uri)


def test_a_damaged_file_is_told_and_nothing_packed(uri: str) -> None:
    ref = append(uri, None, 0)
    for number in range(1, FAN_IN):
        ref = append(uri, ref, number)
    file = Path(uri, (files_of(ref) or [])[3].path)
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(BackendError, match="its SHA-256 is"):
        pack(newest(uri))
    assert newest(uri).version == ref
    rows = [len(batch) for batch, _ in open_file(ref, (files_of(ref) or [])[0])]
    assert rows == [1]
