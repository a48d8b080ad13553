"""Versions that build on one another: only what is new is written, and each reads as it was."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from deltalake import DeltaTable

from lifecycle.errors import BackendError
from lifecycle.lake import manifest
from lifecycle.lake.manifest import files_of, read_commit, read_manifest
from lifecycle.lake.read import open_file, open_rows, open_version, read_table
from lifecycle.lake.table import history
from lifecycle.lake.write import VersionWriter
from lifecycle.records import DatasetVersion

SCHEMA = pa.schema([pa.field("id", pa.int64(), nullable=False), pa.field("text", pa.string())])


def batch(*ids: int, text: str = "a") -> pa.RecordBatch:
    return pa.RecordBatch.from_pydict({"id": ids, "text": [text] * len(ids)}, schema=SCHEMA)


def append(uri: str, former: DatasetVersion | None, *ids: int, text: str = "a") -> DatasetVersion:
    with VersionWriter(SCHEMA, uri, former) as writer:
        writer.write(batch(*ids, text=text))
        return writer.commit({})


def without(uri: str, former: DatasetVersion, *numbers: int) -> DatasetVersion:
    """The next version, without the rows of these numbers."""
    with VersionWriter(SCHEMA, uri, former) as writer:
        for file in files_of(former) or ():
            gone = np.intersect1d(numbers, np.arange(file.first, file.end))
            if len(gone):
                writer.replace(file, staying(former, file, gone), gone)
        return writer.commit({})


def staying(
    former: DatasetVersion, file: manifest.VersionFile, gone: np.ndarray
) -> Iterator[tuple[pa.RecordBatch, np.ndarray]]:
    yield from open_file(former, file, holds=lambda numbers: ~np.isin(numbers, gone))


def ids(ref: DatasetVersion) -> list[int]:
    whole: list[int] = read_table(ref)["id"].to_pylist()
    assert whole == [id for some in open_version(ref, ["id"]) for id in some["id"].to_pylist()]
    assert ref.rows == len(whole)
    return whole


def of_delta(ref: DatasetVersion) -> list[int]:
    """The rows as another reader sees them, by Delta's log alone."""
    table = DeltaTable(ref.uri, version=ref.version).to_pyarrow_table(columns=["id", "__row"])
    return table.sort_by("__row")["id"].to_pylist()


@pytest.fixture
def uri(tmp_path: Path) -> str:
    return str(tmp_path / "lake" / "project" / "table")


def test_an_increment_adds_its_rows_and_nothing_else(uri: str) -> None:
    first = append(uri, None, 1, 2, 3)
    before = set(Path(uri).glob("*.parquet"))
    second = append(uri, first, 4, 5)
    (new,) = set(Path(uri).glob("*.parquet")) - before
    assert pa.parquet.read_table(new)["id"].to_pylist() == [4, 5]
    assert (ids(first), ids(second)) == ([1, 2, 3], [1, 2, 3, 4, 5])
    assert (of_delta(first), of_delta(second)) == ([1, 2, 3], [1, 2, 3, 4, 5])
    assert history(uri)["rows"].tolist() == [3, 5]
    numbers = [n for some in open_rows(second, ["id"], 2, 4) for n in some["__row"].to_pylist()]
    assert numbers == [2, 3]


def test_rows_that_are_gone_take_their_own_file_with_them_only(uri: str) -> None:
    first = append(uri, None, 1, 2, 3)
    second = append(uri, first, 4, 5)
    third = without(uri, second, 1)
    fourth = append(uri, third, 6, text="b")
    assert ids(fourth) == of_delta(fourth) == [1, 3, 4, 5, 6]
    kept, replaced = (files_of(second) or [])[1], (files_of(second) or [])[0]
    assert kept in (files_of(fourth) or [])
    assert replaced not in (files_of(fourth) or [])
    assert ids(second) == [1, 2, 3, 4, 5], "what was is still there"
    emptied = without(uri, fourth, 3, 4)
    assert ids(emptied) == of_delta(emptied) == [1, 3, 6]
    assert len(files_of(emptied) or []) == 2


def test_a_version_may_follow_another_than_the_newest(uri: str) -> None:
    """Two windows of one source take turns."""
    first = append(uri, None, 1, 2)
    other = append(uri, None, 10)
    second = append(uri, first, 3)
    later = append(uri, other, 11)
    for ref, rows in ((first, [1, 2]), (other, [10]), (second, [1, 2, 3]), (later, [10, 11])):
        assert ids(ref) == of_delta(ref) == rows


def test_lists_grow_with_the_files_and_not_with_their_square(uri: str) -> None:
    refs = [append(uri, None, 0)]
    for number in range(1, 120):
        refs.append(append(uri, refs[-1], number))
    for number in (0, 1, 31, 32, 33, 34, 60, 100, 119):
        assert ids(refs[number]) == of_delta(refs[number]) == list(range(number + 1))
    lists = [read_manifest(ref) for ref in refs]
    lengths = [len(own.files) for own in lists if own]
    assert sum(lengths) < 120 * (manifest.MAX_CHANGES + 16), "each of all files would be 7,260"
    bases = [own.base for own in lists if own and own.base]
    assert len(bases) > 100
    for version, _ in bases:
        base = read_manifest(refs[version])
        assert base is not None
        assert base.base is None, "a list is one commit away, never more"


def test_the_digest_follows_from_what_came_when(uri: str, tmp_path: Path) -> None:
    second = append(uri, append(uri, None, 1, 2), 3)
    again = str(tmp_path / "again")
    assert append(again, append(again, None, 1, 2), 3).digest == second.digest
    at_once = append(str(tmp_path / "at_once"), None, 1, 2, 3)
    assert at_once.digest != second.digest
    third = append(uri, second, 4)
    assert without(uri, third, 0).digest != without(uri, third, 1).digest


def test_a_base_of_another_content_is_told(uri: str) -> None:
    first = append(uri, None, 1)
    second = append(uri, first, 2)
    log = Path(uri) / "_delta_log" / f"{0:020d}.json"
    log.write_text(log.read_text().replace(first.digest, "0" * 64))
    with pytest.raises(BackendError, match=r"0\.json: is no commit"):
        read_table(second)
    log.unlink()
    with pytest.raises(BackendError, match=r"0\.json: later versions have files that it lists"):
        read_table(second)


def test_a_commit_says_what_it_added_to_delta(uri: str) -> None:
    second = append(uri, append(uri, None, 1, 2), 3)
    info = read_commit(uri, second.version) or {}
    assert (info["operationMetrics"]["num_added_rows"], info["rows"]) == (1, 3)
    actions = (Path(uri) / "_delta_log" / f"{1:020d}.json").read_text().splitlines()
    kinds = [next(iter(json.loads(action))) for action in actions]
    assert kinds.count("add") == 1
    assert "remove" not in kinds


def test_who_follows_the_log_sees_the_new_rows_alone(uri: str) -> None:
    """By the files that a commit added, as Polars and streams of Spark do; and by Delta's Change
    Data Feed, if somebody turned it on for the table."""
    first = append(uri, None, 1, 2, 3)
    table = DeltaTable(uri)
    table.alter.set_table_properties({"delta.enableChangeDataFeed": "true"})
    before = set(DeltaTable(uri).file_uris())
    second = append(uri, first, 4, 5)
    after = set(DeltaTable(uri).file_uris())
    assert before <= after, "no file was removed"
    assert pl.read_parquet(sorted(after - before))["id"].to_list() == [4, 5]
    assert changes(second) == {("insert", 4), ("insert", 5)}
    third = without(uri, second, 0)  # whose file is written anew
    feed = changes(third)
    assert {row for kind, row in feed if kind == "delete"} == {1, 2, 3}
    assert {row for kind, row in feed if kind == "insert"} == {2, 3}, "what stays comes again"
    assert ids(third) == of_delta(third) == [2, 3, 4, 5]


def changes(ref: DatasetVersion) -> set[tuple[str, int]]:
    """Change and `id` of each row in the feed of a version's commit."""
    reader = DeltaTable(ref.uri).load_cdf(ref.version, ref.version, columns=["id", "_change_type"])
    columns = pa.table(reader.read_all()).to_pydict()
    return set(zip(columns["_change_type"], columns["id"], strict=True))
