"""Parts are row numbers of a version: small, exact, and gone with its rows."""

import time
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from lifecycle.data.ingest import ingest
from lifecycle.data.split import divide, split_dataset
from lifecycle.errors import BackendError
from lifecycle.lake import table as lake_table
from lifecycle.lake.read import open_rows, open_version, part_of, read_version, row_numbers
from lifecycle.project import Project
from lifecycle.records import DatasetVersion, Window
from lifecycle.settings import Settings
from tests.support.grow import declare, put, rows


def of(ref: DatasetVersion) -> list[int]:
    return [int(id) for id in read_version(ref, ["id"])["id"]]


@pytest.fixture
def grow(tmp_path: Path) -> Project:
    declared = declare(tmp_path)({"by": "files"})
    return declared.model_copy(update={"entity": "id"})


def test_the_parts_are_the_versions_rows(grow: Project, settings: Settings) -> None:
    put(grow, "a.csv", rows(*range(200)))
    dataset = ingest(grow, settings, Window()).dataset
    split = split_dataset(grow, settings, ingest(grow, settings, Window()))
    frame = read_version(dataset)
    masks = divide(frame, grow).masks
    for name, part in (
        ("train", split.train),
        ("validation", split.validation),
        ("holdout", split.holdout),
    ):
        expected = frame[masks[name]].reset_index(drop=True).astype({"y": "int64"})
        pd.testing.assert_frame_equal(read_version(part), expected)
        batches = [batch.to_pandas() for batch in open_version(part)]
        assert pd.concat(batches)["id"].tolist() == expected["id"].tolist()
        assert part_of(part) == dataset
        numbers = np.concatenate([some["__row"] for some in open_rows(part, ["id"])])
        assert (
            numbers.tolist() == row_numbers(part).tolist() == np.flatnonzero(masks[name]).tolist()
        )
        (file,) = Path(part.uri).glob("*.parquet")
        assert pq.read_schema(file).names == ["row", "__row"], "no value of a row is copied"
    assert part_of(dataset) is None


def test_a_grown_part_writes_the_numbers_of_its_new_rows(grow: Project, settings: Settings) -> None:
    put(grow, "a.csv", rows(*range(500)))
    first = split_dataset(grow, settings, ingest(grow, settings, Window()))
    put(grow, "b.csv", rows(*range(500, 520)))
    second = split_dataset(grow, settings, ingest(grow, settings, Window()))
    new = second.train.rows - first.train.rows
    assert 0 < new <= 20
    files = sorted(Path(second.train.uri).glob("*.parquet"), key=lambda file: file.stat().st_mtime)
    assert [len(pq.read_table(file)) for file in files] == [first.train.rows, new]
    assert of(second.train)[: first.train.rows] == of(first.train)
    again = split_dataset(grow, settings, ingest(grow, settings, Window()))
    assert again == second


def test_replaced_rows_leave_gaps_in_the_numbers(grow: Project, settings: Settings) -> None:
    put(grow, "a.csv", rows(*range(200)))
    split_dataset(grow, settings, ingest(grow, settings, Window()))
    put(grow, "b.csv", rows(*range(0, 200, 7), text="b"))
    done = ingest(grow, settings, Window())
    split = split_dataset(grow, settings, done)
    everyone = [id for part in (split.train, split.validation, split.holdout) for id in of(part)]
    assert sorted(everyone) == list(range(200))
    assert row_numbers(split.train).max() >= 200
    texts = read_version(split.train, ["id", "text"]).set_index("id")["text"]
    assert all(text == ("b" if id % 7 == 0 else "a") for id, text in texts.items())


def test_a_part_of_another_version_than_it_says(grow: Project, settings: Settings) -> None:
    put(grow, "a.csv", rows(*range(200)))
    split = split_dataset(grow, settings, ingest(grow, settings, Window()))
    log = Path(split.train.uri) / "_delta_log" / f"{0:020d}.json"
    text = log.read_text()
    for old in ('"note.part_of"', '"note.not_null"', '"commitInfo"'):
        log.write_text(text.replace(old, old[:3] + "X" + old[4:]))
        with pytest.raises(BackendError, match="is no commit"):
            read_version(split.train)


def test_a_lake_that_moved_has_its_parts(grow: Project, settings: Settings, tmp_path: Path) -> None:
    put(grow, "a.csv", rows(*range(200)))
    split = split_dataset(grow, settings, ingest(grow, settings, Window()))
    before = of(split.train)
    moved = tmp_path / "moved"
    (settings.home / "lake").rename(moved)
    uri = split.train.uri.replace(str(settings.home / "lake"), str(moved))
    assert of(split.train.model_copy(update={"uri": uri})) == before


def test_a_damaged_part_is_made_anew(grow: Project, settings: Settings) -> None:
    put(grow, "a.csv", rows(*range(200)))
    ingested = ingest(grow, settings, Window())
    split = split_dataset(grow, settings, ingested)
    before = of(split.train)
    (file,) = Path(split.train.uri).glob("*.parquet")
    file.write_bytes(file.read_bytes()[:-9])
    with pytest.raises(BackendError, match="its SHA-256 is"):
        read_version(split.train)
    again = split_dataset(grow, settings, ingested)
    assert (again.train.version, again.train.digest) == (1, split.train.digest)
    assert of(again.train) == before
    assert again.holdout == split.holdout


def test_a_new_part_is_not_looked_for_in_the_whole_history(
    grow: Project, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(12):
        put(grow, f"{number:02d}.csv", rows(*range(100 * number, 100 * number + 100)))
        split = split_dataset(grow, settings, ingest(grow, settings, Window()))
        time.sleep(0.002)  # so that the clock of commits, milliseconds, tells them apart
    uris = {split.train.uri, split.validation.uri, split.holdout.uri}
    numbers: dict[str, set[int]] = {uri: set() for uri in uris}
    read_commit = lake_table.read_commit

    def counted(uri: str, version: int) -> object:
        if uri in numbers:
            numbers[uri].add(version)
        return read_commit(uri, version)

    monkeypatch.setattr(lake_table, "read_commit", counted)
    put(grow, "later.csv", rows(*range(5_000, 5_100)))
    split_dataset(grow, settings, ingest(grow, settings, Window()))
    assert all(min(read) >= 10 for read in numbers.values()), numbers
