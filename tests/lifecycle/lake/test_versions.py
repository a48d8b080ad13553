"""The lake: exact versions, digests, atomic commits."""

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable, write_deltalake
from deltalake.exceptions import CommitFailedError

from lifecycle.errors import BackendError, FeatureError
from lifecycle.lake import read, table, write
from lifecycle.lake.column_types import to_arrow
from lifecycle.lake.content import Digest, digest_of
from lifecycle.lake.read import open_frames, open_version, read_head, read_version
from lifecycle.lake.table import find_version, history, table_uri
from lifecycle.lake.write import write_batches, write_rows, write_version
from lifecycle.records import DatasetVersion
from lifecycle.settings import Settings


@pytest.fixture
def uri(tmp_path: Path) -> str:
    return str(tmp_path / "lake" / "project" / "table")


def frame_of(rows: int = 5) -> pd.DataFrame:
    index = np.arange(rows)
    frame = pd.DataFrame(
        {
            "whole": index,
            "maybe": pd.array(index, dtype="Int64"),
            "number": index / 3,
            "flag": index % 2 == 0,
            "maybe flag": pd.array(index % 2 == 0, dtype="boolean"),
            "text": pd.Series([f"é{i}" for i in index], dtype="str"),
            "time": pd.date_range("2020-02-28", periods=rows).astype("datetime64[us]"),
        }
    )
    if rows:
        frame.loc[0, ["maybe", "number", "maybe flag", "text", "time"]] = None
    return frame


@pytest.mark.parametrize("rows", [0, 1, 5])
def test_what_is_read_is_what_was_written(uri: str, rows: int) -> None:
    frame = frame_of(rows)
    ref = write_version(frame, uri, note={})
    pd.testing.assert_frame_equal(read_version(ref), frame)
    assert ref.rows == rows
    assert digest_of(read_version(ref)) == ref.digest == digest_of(frame)


def test_many_rows_keep_their_order(uri: str) -> None:
    frame = pd.DataFrame({"i": np.random.default_rng(1).permutation(300_000)})
    batches = iter(to_arrow(frame).to_batches(max_chunksize=1000))
    ref = write_batches(to_arrow(frame).schema, batches, uri, note={}, digest="d")
    pd.testing.assert_frame_equal(read_version(ref), frame)


@pytest.mark.parametrize("most", [10_000, 3])
def test_mixed_runs_of_rows_come_back_in_order(monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    """The writer's threads take turns: with a few runs nothing is copied, with many it is."""
    monkeypatch.setattr(read, "RUNS", most)
    rows = np.r_[4:7, 0:2, 7:9, 2:4]
    mixed = pa.table({"value": rows * 10, table.ROW: rows})
    assert read._in_order(mixed)["value"].to_pylist() == list(range(0, 90, 10))


def test_some_rows_of_a_table(uri: str) -> None:
    frame = frame_of(80_000)
    rows = np.random.default_rng(1).random(80_000) < 0.4
    ref = write_rows(to_arrow(frame), pa.array(rows), uri, note={})
    part = frame[rows].reset_index(drop=True)
    pd.testing.assert_frame_equal(read_version(ref), part)
    assert write_version(part, uri, note={}) == ref
    files = DeltaTable(uri).file_uris()
    assert sum(pq.read_metadata(file).num_rows for file in files) == rows.sum()


def test_frames_of_a_version_and_its_first_rows_read_no_further(
    uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    frame = pd.DataFrame({"n": np.arange(100), "maybe": pd.array([1, None] * 50, "Int64")})
    version = write_version(frame, uri, note={})
    monkeypatch.setattr("lifecycle.lake.read.BATCH", 30)
    frames = list(open_frames(version))
    assert [len(some) for some in frames] == [30, 30, 30, 10]
    pd.testing.assert_frame_equal(pd.concat(frames, ignore_index=True), read_version(version))
    sizes = []

    def spy(*arguments: Any) -> Iterator[pa.RecordBatch]:
        for batch in open_version(*arguments):
            sizes.append(batch.num_rows)
            yield batch

    monkeypatch.setattr("lifecycle.lake.read.open_version", spy)
    for rows, count in ((3, 1), (30, 1), (40, 2), (500, 4)):
        sizes.clear()
        pd.testing.assert_frame_equal(read_head(version, rows, ["maybe"]), frame[["maybe"]][:rows])
        assert len(sizes) == count


def test_selected_columns(uri: str) -> None:
    ref = write_version(frame_of(), uri, note={})
    assert list(read_version(ref, ["text", "whole"])) == ["text", "whole"]


def test_versions_stay_what_they_were(uri: str) -> None:
    first = write_version(frame_of(3), uri, note={"window": "one"})
    second = write_version(pd.DataFrame({"other": [1.5]}), uri, note={"window": "two"})
    assert (first.version, second.version) == (0, 1)
    assert len(read_version(first)) == 3
    assert list(read_version(second)) == ["other"]
    table = history(uri)
    assert table["rows"].tolist() == [3, 1]
    assert table["digest"].tolist() == [first.digest, second.digest]
    assert table["note"].tolist() == [{"window": "one"}, {"window": "two"}]


def test_the_same_content_is_not_written_twice(uri: str) -> None:
    first = write_version(frame_of(3), uri, note={})
    write_version(frame_of(4), uri, note={})
    assert write_version(frame_of(3), uri, note={"later": "yes"}) == first
    assert len(history(uri)) == 2

    def never() -> Iterator[pa.RecordBatch]:
        raise AssertionError("the stream was opened")
        yield

    assert write_batches(pa.schema([]), never(), uri, note={}, digest=first.digest) == first


def test_no_table_no_version_and_a_replaced_table(uri: str) -> None:
    assert history(uri).empty
    assert find_version(uri, "x") is None
    ref = write_version(frame_of(3), uri, note={})
    with pytest.raises(BackendError, match="version 7 cannot be read"):
        read_version(ref.model_copy(update={"version": 7}))
    with pytest.raises(BackendError, match="has 3 rows, not the 4 of the reference"):
        read_version(ref.model_copy(update={"rows": 4}))
    with pytest.raises(BackendError, match="cannot be read"):
        read_version(ref.model_copy(update={"uri": f"{uri}-none"}))


def test_an_unwritable_place(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(BackendError):
        write_version(frame_of(), f"{tmp_path}/file/table", note={})


def test_table_uri(settings: Settings) -> None:
    assert table_uri(settings, "p", "train") == f"{settings.home}/lake/p/train"


def _write_for_ever(uri: str) -> None:
    seed = 0
    while True:
        seed += 1
        frame = pd.DataFrame(np.random.default_rng(seed).random((20_000, 5))).rename(columns=str)
        write_version(frame, uri, note={})


def test_a_killed_writer_leaves_whole_versions_only(uri: str) -> None:
    write_version(frame_of(), uri, note={})
    context = multiprocessing.get_context("spawn")
    writer = context.Process(target=_write_for_ever, args=(uri,))
    writer.start()
    deadline = time.monotonic() + 60
    while len(history(uri)) < 4 and time.monotonic() < deadline:
        time.sleep(0.02)
    assert writer.pid
    os.kill(writer.pid, signal.SIGKILL)
    writer.join()
    table = history(uri)
    assert len(table) >= 4
    for digest in table["digest"]:
        ref = find_version(uri, digest)
        assert ref is not None
        assert digest_of(read_version(ref)) == digest
    assert write_version(frame_of(7), uri, note={}).rows == 7


def test_a_second_writer_in_between_loses_nothing(uri: str) -> None:
    write_version(frame_of(1), uri, note={})
    schema = pa.schema([pa.field("a", pa.int64(), nullable=False)])

    def slow() -> Iterator[pa.RecordBatch]:
        yield pa.record_batch({"a": [1]}, schema=schema)
        other = threading.Thread(target=write_version, args=(frame_of(2), uri), kwargs={"note": {}})
        other.start()
        other.join()
        yield pa.record_batch({"a": [2]}, schema=schema)

    slow_one = write_batches(schema, slow(), uri, note={}, digest="slow")
    assert history(uri)["rows"].tolist() == [1, 2, 2]
    assert read_version(slow_one)["a"].tolist() == [1, 2]


def test_writers_that_are_always_faster_are_not_waited_for_for_ever(
    uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_version(frame_of(1), uri, note={})
    numbers = iter(range(2, 20))
    commit = write.VersionWriter._commit

    def second(self: write.VersionWriter, digest: str, note: dict[str, str]) -> None:
        stale = DeltaTable(uri)
        monkeypatch.setattr(write.VersionWriter, "_commit", commit)
        write_version(frame_of(next(numbers)), uri, note={})
        monkeypatch.setattr(write.VersionWriter, "_commit", second)
        monkeypatch.setattr(write, "DeltaTable", lambda _: stale)
        try:
            commit(self, digest, note)
        finally:
            monkeypatch.setattr(write, "DeltaTable", DeltaTable)

    monkeypatch.setattr(write.VersionWriter, "_commit", second)
    with pytest.raises(BackendError, match="run again"):
        write_version(frame_of(100), uri, note={})
    left = {path.name for path in Path(uri).glob("*.parquet")}
    known = {Path(file).name for v in range(6) for file in DeltaTable(uri, version=v).file_uris()}
    assert left == known


def test_what_a_killed_writer_left_is_deleted_by_the_next(uri: str) -> None:
    write_version(frame_of(1), uri, note={})
    context = multiprocessing.get_context("spawn")
    writer = context.Process(target=_write_and_wait, args=(uri,))
    writer.start()
    deadline = time.monotonic() + 60
    while len(list(Path(uri).glob("part-*"))) < 2 and time.monotonic() < deadline:
        time.sleep(0.02)
    assert writer.pid
    os.kill(writer.pid, signal.SIGKILL)
    writer.join()
    assert len(list(Path(uri).glob("part-*"))) == 2
    write_version(frame_of(2), uri, note={})
    assert len(list(Path(uri).glob("part-*"))) == 2
    assert not list(Path(uri).glob("_writing-*"))


def _write_and_wait(uri: str) -> None:
    write.GROUP = 1  # else a file is opened with the 65,536th row
    writer = write.VersionWriter(to_arrow(frame_of(3)).schema, uri)
    for batch in to_arrow(frame_of(3)).to_batches():
        writer.write(batch)
    time.sleep(60)


def test_batch_by_batch_as_it_was_written(uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(write, "GROUP", 1000)
    monkeypatch.setattr(write, "FILE_ROWS", 4000)
    monkeypatch.setattr(read, "BATCH", 900)
    frame = frame_of(10_000)
    rows = to_arrow(frame)
    batches_of_700 = iter(rows.to_batches(700))  # gathered until there is a group of them
    ref = write_batches(rows.schema, batches_of_700, uri, note={}, digest=digest_of(frame))
    files = DeltaTable(uri).file_uris()
    assert [pq.read_metadata(file).num_rows for file in sorted(files)] == [4200, 4200, 1600]
    batches = list(open_version(ref))
    assert max(batch.num_rows for batch in batches) <= 900
    assert pa.Table.from_batches(batches).equals(to_arrow(frame))
    some = list(open_version(ref, ["text", "whole"]))
    assert pa.Table.from_batches(some).equals(to_arrow(frame[["text", "whole"]]))
    with pytest.raises(BackendError, match="not the 4 of the reference"):
        list(open_version(ref.model_copy(update={"rows": 4})))
    with pytest.raises(BackendError, match="cannot be read"):
        list(open_version(ref.model_copy(update={"version": 9})))


def test_tables_of_deltas_own_writer_are_read_in_order(uri: str) -> None:
    rows = np.r_[4:7, 0:2, 7:9, 2:4]
    for turn in (slice(0, 5), slice(5, 9)):
        some = pa.table({"value": rows[turn] * 10, table.ROW: rows[turn]})
        write_deltalake(uri, some, mode="append")
    ref = DatasetVersion(uri=uri, version=1, digest="", rows=9)
    values = pa.Table.from_batches(list(open_version(ref)))["value"].to_pylist()
    assert values == list(range(0, 90, 10))


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_the_digest_does_not_depend_on_batches(size: int) -> None:
    frame = frame_of(50)
    frame.loc[[3, 20, 21], ["maybe", "text", "time"]] = None
    digest = Digest(to_arrow(frame).schema)
    for batch in to_arrow(frame).to_batches(max_chunksize=size):
        digest.add(batch)
    assert digest.hexdigest() == digest_of(frame)
    changed = frame.copy()
    changed.loc[3, "maybe"] = 0  # what a missing value is filled with
    assert digest_of(changed) != digest_of(frame)


def test_a_stream_that_fails_writes_nothing_and_says_why(uri: str) -> None:
    schema = pa.schema([pa.field("a", pa.int64(), nullable=False)])

    def broken() -> Iterator[pa.RecordBatch]:
        yield pa.record_batch({"a": [1]}, schema=schema)
        raise FeatureError("the hook failed")

    with pytest.raises(FeatureError, match="the hook failed"):
        write_batches(schema, broken(), uri, note={}, digest="broken")
    assert history(uri).empty


@pytest.mark.parametrize("answer", [CommitFailedError, OSError, KeyboardInterrupt])
def test_a_commit_whose_answer_was_lost_is_kept(
    uri: str, monkeypatch: pytest.MonkeyPatch, answer: type[BaseException]
) -> None:
    """Object storage may say no to a commit that it has taken; its files are the version's."""
    write_version(frame_of(1), uri, note={})
    commit = write.VersionWriter._commit

    def lost(self: write.VersionWriter, digest: str, note: dict[str, str]) -> None:
        commit(self, digest, note)
        raise answer("lost")

    monkeypatch.setattr(write.VersionWriter, "_commit", lost)
    with suppress(BackendError, KeyboardInterrupt):
        write_version(frame_of(3), uri, note={})
    monkeypatch.undo()
    found = write_version(frame_of(3), uri, note={})
    assert found.version == 1
    pd.testing.assert_frame_equal(read_version(found), frame_of(3))
    assert not list(Path(uri).glob("_writing-*"))


def test_versions_keep_their_numbers_though_one_more_comes_while_they_are_read(
    uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """deltalake counts down from the version it opened, whatever came since."""

    class Late(DeltaTable):
        def history(self, limit: int | None = None) -> list[dict[str, Any]]:
            monkeypatch.undo()
            write_version(frame_of(3), uri, note={})
            return super().history(limit)

    first = write_version(frame_of(1), uri, note={})
    second = write_version(frame_of(2), uri, note={})
    monkeypatch.setattr(table, "DeltaTable", Late)
    assert find_version(uri, first.digest) == first
    assert find_version(uri, second.digest) == second


def test_the_log_says_how_many_values_are_missing(
    uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(write, "GROUP", 2)
    monkeypatch.setattr(write, "FILE_ROWS", 2)
    frame = frame_of(5)
    frame.loc[3, "text"] = None
    content = to_arrow(frame)
    batches = iter(content.to_batches(max_chunksize=2))
    made = write_batches(content.schema, batches, uri, note={}, digest="d")
    files = pa.table(DeltaTable(made.uri).get_add_actions(flatten=True)).to_pydict()
    assert len(files["path"]) > 1
    for name in frame.columns:
        assert sum(files[f"null_count.{name}"]) == frame[name].isna().sum()
    bounds = [values for name, values in files.items() if name.startswith(("min.", "max."))]
    assert {value for values in bounds for value in values} <= {None}, "they name persons"
