"""Damage on disk: a file is held against its digest before any of it is read."""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable

from lifecycle.errors import BackendError
from lifecycle.lake import manifest as manifests
from lifecycle.lake.column_types import to_arrow
from lifecycle.lake.manifest import is_intact
from lifecycle.lake.read import open_rows, open_version, read_table, read_version
from lifecycle.lake.table import history
from lifecycle.lake.write import write_batches, write_version
from lifecycle.records import DatasetVersion

ROOT = Path(__file__).parents[3]


@contextmanager
def flipped(file: Path, bit: int) -> Iterator[None]:
    """A file with one bit flipped, for the block."""
    before = file.read_bytes()
    content = bytearray(before)
    content[bit // 8] ^= 1 << bit % 8
    file.write_bytes(content)
    try:
        yield
    finally:
        file.write_bytes(before)


@pytest.fixture
def ref(tmp_path: Path) -> DatasetVersion:
    frame = pd.DataFrame({"a": np.arange(5000) / 7, "b": [f"t{i}" for i in range(5000)]})
    return write_version(frame, str(tmp_path / "table"), note={"source": "x"})


def data_file(ref: DatasetVersion) -> Path:
    (file,) = Path(ref.uri).glob("part-*.parquet")
    return file


READERS: list[Callable[[DatasetVersion], object]] = [
    read_version,
    read_table,
    lambda ref: list(open_version(ref)),
    lambda ref: list(open_rows(ref, ["a"], 10, 20)),
]


@pytest.mark.parametrize("reader", READERS)
def test_every_reader_tells_the_file_and_the_way_out(
    ref: DatasetVersion, reader: Callable[[DatasetVersion], object]
) -> None:
    assert reader(ref) is not None
    file = data_file(ref)
    with flipped(file, file.stat().st_size * 4 + 3), pytest.raises(BackendError) as told:
        reader(ref)
    assert str(file) in str(told.value)
    assert "damaged or changed after it was written; restore it from a backup" in str(told.value)
    assert "\n" not in str(told.value)
    reader(ref)
    file.unlink()
    with pytest.raises(BackendError, match="this file of the table is missing"):
        reader(ref)


@pytest.mark.parametrize("seed", range(8))
def test_a_flipped_bit_of_a_data_file_is_told(ref: DatasetVersion, seed: int) -> None:
    file = data_file(ref)
    bit = int(np.random.default_rng(seed).integers(file.stat().st_size * 8))
    with flipped(file, bit), pytest.raises(BackendError, match="its SHA-256 is"):
        read_version(ref)


@pytest.mark.system
def test_a_sample_of_flips_of_tables_and_bundle_is_never_silent() -> None:
    """`make bench` does 300, each read in a process apart."""
    command = [sys.executable, "-m", "benchmarks.damage", "20"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "bundle" in done.stdout


def test_what_a_commit_says_is_sealed(ref: DatasetVersion) -> None:
    """Digest, note and files of a version belong together; another version is not this one."""
    log = Path(ref.uri) / "_delta_log" / f"{0:020d}.json"
    text = log.read_text()
    for old, new in (
        (ref.digest, "0" * 64),
        ('"note.source":"x"', '"note.source":"y"'),
        ('"manifest":"[[', '"manifest":"[[['),
        ('"manifest"', '"nanifest"'),
    ):
        assert old in text
        log.write_text(text.replace(old, new))
        with pytest.raises(BackendError, match=r"0\.json: is no commit"):
            read_version(ref)
    log.write_text(text)
    other = ref.model_copy(update={"digest": "f" * 64})
    with pytest.raises(BackendError, match="the table was made anew since"):
        read_version(other)


def test_a_damaged_version_is_made_anew_when_its_content_comes_again(ref: DatasetVersion) -> None:
    frame = read_version(ref)
    again = write_version(frame, ref.uri, note={})
    assert again == ref
    file = data_file(ref)
    content = bytearray(file.read_bytes())
    content[100] ^= 1
    file.write_bytes(content)
    assert not is_intact(ref)
    made = write_version(frame, ref.uri, note={})
    assert (made.version, made.digest) == (1, ref.digest)
    pd.testing.assert_frame_equal(read_version(made), frame)
    table = to_arrow(frame)
    streamed = write_batches(
        table.schema, iter(table.to_batches()), ref.uri, note={}, digest=ref.digest
    )
    assert streamed == made
    assert len(history(ref.uri)) == 2


def test_a_version_of_a_commit_without_a_list_is_read_as_delta_has_it(ref: DatasetVersion) -> None:
    log = Path(ref.uri) / "_delta_log" / f"{0:020d}.json"
    actions = [json.loads(line) for line in log.read_text().splitlines()]
    for action in actions:
        for key in (manifests.MANIFEST, manifests.SEAL):
            action.get("commitInfo", {}).pop(key, None)
    log.write_text("\n".join(map(json.dumps, actions)))
    assert manifests.files_of(ref) is None
    assert len(read_version(ref)) == ref.rows
    assert sum(batch.num_rows for batch in open_rows(ref, ["a"], 7, 10)) == 3


def test_pages_have_checksums_for_readers_that_know_no_commit(ref: DatasetVersion) -> None:
    (file,) = DeltaTable(ref.uri).file_uris()
    content = bytearray(Path(file).read_bytes())
    content[len(content) // 3] ^= 1
    Path(file).write_bytes(content)
    with pytest.raises(OSError, match="CRC"):
        pq.read_table(file, page_checksum_verification=True)


def test_a_file_just_written_is_hashed_once_where_clocks_are_fine(ref: DatasetVersion) -> None:
    if data_file(ref).stat().st_ctime_ns % 1_000_000_000 == 0:
        pytest.skip("this file system tells whole seconds")
    manifests._hashed_before.clear()
    time.sleep(2 * manifests.FINE_TICK_S)
    read_version(ref)
    assert manifests._hashed_before


def test_a_file_is_hashed_again_only_when_it_was_touched(
    ref: DatasetVersion, monkeypatch: pytest.MonkeyPatch
) -> None:
    for tick in ("TICK_S", "FINE_TICK_S"):
        monkeypatch.setattr(manifests, tick, -1.0)
    file = data_file(ref)
    read_version(ref)
    before = dict(manifests._hashed_before)
    assert before
    read_version(ref)
    assert manifests._hashed_before == before
    with flipped(file, 5000), pytest.raises(BackendError, match="SHA-256"):
        read_version(ref)
