"""Segments, head and packing of a trail: who appends reads no lines, and no crash loses one."""

import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from deltalake import DeltaTable

from benchmarks.damage import DAMAGES, _damaged, changed
from lifecycle.audit import chain as chains
from lifecycle.audit.chain import FAN_IN, HEAD, Chain, _group, _segment
from lifecycle.audit.data_trail import data_chain, record_data
from lifecycle.audit.model_trail import Trail, history, verify
from lifecycle.errors import BackendError
from lifecycle.lake import inventory
from lifecycle.lake.inventory import KEPT_COMMITS
from lifecycle.records import DataChange
from lifecycle.settings import Settings
from tests.support.versions import model

EARLIER = Path(__file__).parent / "trails-0.1.0"
"""Both trails, as 0.1.0 wrote them: a file per line, and no head."""


def append(settings: Settings, number: int) -> DataChange:
    return record_data(settings, "small", "ingest", f"table {number % 3}", number)


def trail(settings: Settings, lines: int) -> Chain[DataChange]:
    for number in range(lines):
        append(settings, number)
    return data_chain(settings, "small")


def versions(chain: Chain[DataChange]) -> list[int | None]:
    return [line.version for line in chain.lines()]


def segments(chain: Chain[DataChange]) -> list[tuple[int, int]]:
    paths = (uri.rpartition("/")[2] for uri in DeltaTable(chain.uri).file_uris())
    return sorted((file.first, file.end) for file in map(_segment, paths))


def test_packing_changes_no_line(settings: Settings) -> None:
    chain = data_chain(settings, "small")
    written = []
    for number in range(70):
        written.append(append(settings, number))
        if number in (6, 7, 8, 63, 69):
            assert chain.lines() == written
            assert chain.broken() is None
        assert len(segments(chain)) == sum(divmod(number + 1, FAN_IN)) - 7 * (number >= 63)
    assert segments(chain) == [(0, 64), *((at, at + 1) for at in range(64, 70))]
    rows = DeltaTable(chain.uri).to_pyarrow_table().sort_by("line").to_pylist()
    assert [row["hash"] for row in rows] == [line.hash for line in written], "any reader of Delta"
    assert len(list(Path(chain.uri).glob("*.parquet"))) == 7, "what was packed is deleted"


def test_the_log_does_not_grow_with_the_lines(settings: Settings) -> None:
    chain = trail(settings, 130)
    names = [file.name for file in (Path(chain.uri) / "_delta_log").iterdir()]
    assert len(names) < KEPT_COMMITS * 1.4
    assert versions(chain) == list(range(130))


@pytest.mark.parametrize("lines", [1, 9, 20])
def test_an_append_opens_no_segment(settings: Settings, lines: int) -> None:
    chain = trail(settings, lines)
    asides = [file.rename(file.with_suffix(".aside")) for file in Path(chain.uri).glob("*.parquet")]
    added = append(settings, lines)
    assert append(settings, lines) == added, "what was said is not said twice"
    for file in asides:
        file.rename(file.with_suffix(".parquet"))
    assert versions(chain) == list(range(lines + 1))
    assert chain.broken() is None


@pytest.mark.parametrize(
    ("sizes", "packed"),
    [
        ([1] * 7, 0),
        ([1] * 8, 8),
        ([8, *[1] * 8], 8),
        ([8] * 7 + [1] * 8, 15),
        ([64] * 7 + [8] * 7 + [1] * 8, 22),
        ([64] * 7 + [8] * 6 + [1] * 8, 8),
        ([100, *[1] * 8], 8),
        ([4096] * 20 + [1] * 7, 0),
        ([4096] * 7 + [512] * 7 + [64] * 7 + [8] * 7 + [1] * 8, 29),
    ],
)
def test_segments_are_packed_as_digits_are_carried(sizes: list[int], packed: int) -> None:
    files, end = [], 0
    for size in sizes:
        files.append(chains.Segment(f"{end}", end, end + size, "digest"))
        end += size
    assert _group(files) == (files[-packed:] if packed else [])


def test_trails_from_before_there_were_segments_are_carried_on(settings: Settings) -> None:
    shutil.copytree(EARLIER / "small", Path(settings.lake) / "small")
    chain = data_chain(settings, "small")
    before = chain.lines()
    assert [str(line) for line in before] == [
        "ingest accepted v0",
        "ingest current v0",
        "erase prediction_log",
    ]
    assert chain.broken() is verify(settings, "small") is None
    again = record_data(settings, "small", "ingest", "current", 0, "b" * 64, ("20 rows",))
    assert again == before[1]
    assert len(list(Path(chain.uri).glob("*.parquet"))) == 3, "reading changes nothing"
    added = append(settings, 3)
    assert added.previous == before[-1].hash
    assert segments(chain) == [(0, 4)]
    for number in range(4, 20):
        append(settings, number)
    assert chain.lines()[:4] == [*before, added]
    assert versions(chain)[3:] == list(range(3, 20))
    assert chain.broken() is None
    models = history(settings, "small")
    Trail(settings, "small", "bert").record("promote", model(2))
    Trail(settings, "small", "bert").record("promote", model(2))
    assert [str(line) for line in history(settings, "small")] == [
        "promote v1",
        "canary v2",
        "promote v2",
    ]
    assert history(settings, "small")[:2] == models


def test_damage_to_an_earlier_trail_is_never_silent(settings: Settings) -> None:
    """Its files have no digest, its lines have: flips and cuts of its data files."""
    shutil.copytree(EARLIER / "small", Path(settings.lake) / "small")
    chain = data_chain(settings, "small")
    written, draw = chain.lines(), random.Random(5)  # noqa: S311 - nothing secret
    files, told = sorted(Path(chain.uri).glob("*.parquet")), 0
    for number in range(100):
        with changed(_damaged(DAMAGES[number % 2], files, draw)):
            try:
                assert chain.lines() == written
            except BackendError:
                told += 1
    assert told > 50


class Killed(BaseException):
    """Stands for SIGKILL: nothing catches it."""


STEPS = ("put_file", "change_files", "sweep")


@pytest.mark.parametrize("late", [False, True])
def test_a_writer_that_is_killed_anywhere_and_runs_again(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, late: bool
) -> None:
    """Before or after each step of an append that packs: segment, commit, head; then the packed
    segment, its commit, Delta's checkpoint, and what is swept."""
    calls, fatal = 0, -1

    def killing(step: Callable[..., Any]) -> Callable[..., Any]:
        def run(*args: Any, **options: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls == fatal and not late:
                raise Killed
            result = step(*args, **options)
            if calls == fatal:
                raise Killed
            return result

        return run

    for name in STEPS:
        monkeypatch.setattr(chains, name, killing(getattr(chains, name)))
    monkeypatch.setattr(DeltaTable, "create_checkpoint", killing(DeltaTable.create_checkpoint))
    trail(settings, 7)
    for point in range(1, 9):
        fatal = -1
        home = settings.home.with_name(f"killed-{point}")
        shutil.copytree(settings.home, home)
        other = settings.model_copy(update={"home": home})
        chain = data_chain(other, "small")
        calls, fatal = 0, point
        try:
            append(other, 7)
        except Killed:
            assert versions(chain) in (list(range(7)), list(range(8)))
            assert chain.broken() is None
        assert (calls < point) is (point == 8), "seven steps"
        fatal = -1
        for number in range(7, 17):
            append(other, number)
        assert versions(chain) == list(range(17))
        assert chain.broken() is None
        assert len(segments(chain)) < 4, "what was left unpacked is packed later"


WRITER = """
import sys
from lifecycle.audit.data_trail import record_data
from lifecycle.settings import Settings
settings = Settings(home=sys.argv[1])
print("ready", flush=True)
for number in range(100_000):
    record_data(settings, "small", "ingest", sys.argv[2], number)
    print(number, flush=True)
"""


@pytest.mark.component
def test_sigkill_of_two_writers_loses_no_line(settings: Settings) -> None:
    """A line that its writer was told of is there, once; the trail goes on."""
    draw, chain = random.Random(9), data_chain(settings, "small")  # noqa: S311 - nothing secret
    for attempt in range(3):
        names = [f"t{attempt}-{at}" for at in range(2)]
        writers = [
            subprocess.Popen(
                [sys.executable, "-c", WRITER, str(settings.home), name],
                stdout=subprocess.PIPE,
                text=True,
            )
            for name in names
        ]
        assert all(writer.stdout and writer.stdout.readline() for writer in writers)
        time.sleep(0.5 + draw.random())
        for writer in writers:
            writer.send_signal(signal.SIGKILL)
        told = [writer.communicate(timeout=30)[0].split()[-1:] for writer in writers]
        assert chain.broken() is None
        for name, last in zip(names, told, strict=True):
            there = [line.version for line in chain.lines() if line.table == name]
            assert there == list(range(len(there)))
            assert int((last or ["-1"])[0]) <= len(there) - 1 <= int((last or ["-1"])[0]) + 1
    append(settings, 0)
    assert chain.broken() is None
    assert len(chain.lines()) > 6


def test_lines_that_are_packed_while_they_are_read(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    chain, opened = trail(settings, 7), Chain._open

    def slow(self: Chain[DataChange]) -> DeltaTable | None:
        table = opened(self)
        monkeypatch.setattr(Chain, "_open", opened)
        append(settings, 7)
        assert segments(chain) == [(0, 8)]
        return table

    monkeypatch.setattr(Chain, "_open", slow)
    assert versions(chain) == list(range(8))


def test_a_writer_so_slow_that_the_log_has_passed(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its commit's number was given before, and is free again: what it commits would be lost."""
    chain, write = trail(settings, 3), Chain._write

    def slow(self: Chain[DataChange], *args: Any) -> Any:
        monkeypatch.setattr(Chain, "_write", write)
        for number in range(3, 100):
            append(settings, number)
        assert not (Path(chain.uri) / "_delta_log" / f"{4:020d}.json").exists()
        return write(self, *args)

    monkeypatch.setattr(Chain, "_write", slow)
    append(settings, 100)
    assert versions(chain) == list(range(101))
    assert chain.broken() is None

    commit = inventory.change_files

    def nowhere(*_: Any, **__: Any) -> None:
        monkeypatch.setattr(chains, "change_files", commit)
        monkeypatch.setattr(chains, "first_commit", lambda _: 1_000_000)

    monkeypatch.setattr(chains, "change_files", nowhere)
    append(settings, 101)
    assert versions(chain) == list(range(101 + 1)), "it is looked for, and made again"


@pytest.fixture
def files(settings: Settings) -> tuple[Chain[DataChange], list[Path]]:
    chain = trail(settings, 30)
    return chain, sorted(path for path in Path(chain.uri).rglob("*") if path.is_file())


def test_no_damage_is_read_in_silence(files: tuple[Chain[DataChange], list[Path]]) -> None:
    """Flips, cuts, removals and swaps over segments, head and Delta's log."""
    chain, paths = files
    written, told = chain.lines(), ""
    draw = random.Random(17)  # noqa: S311 - nothing secret
    for number in range(100):
        with changed(contents := _damaged(DAMAGES[number % len(DAMAGES)], paths, draw)):
            try:
                assert chain.lines() == written, f"silent: {contents.keys()}"
            except BackendError as error:
                told += f"{error}|"
    assert told.count("|") > 20
    assert "\n" not in told


def test_a_tail_that_is_cut_off_is_told(files: tuple[Chain[DataChange], list[Path]]) -> None:
    """The newest commit, with and without its file, removed or empty."""
    chain, paths = files
    commit = max(path for path in paths if path.suffix == ".json" and path.stem.isdigit())
    segment = max(Path(chain.uri).glob("*.parquet"))
    for lost in ({commit: None}, {commit: None, segment: None}, {segment: None}, {commit: b""}):
        with changed(lost):
            broken = chain.broken() or ""
            assert "has 29 lines, and had 30" in broken or "is missing" in broken
            with pytest.raises(BackendError):
                chain.lines()
            if commit in lost:
                with pytest.raises(BackendError, match="has 29 lines, and had 30"):
                    append_to(chain)
    shutil.rmtree(Path(chain.uri) / "_delta_log")
    assert "the table of the audit trail is gone" in (chain.broken() or "")


def append_to(chain: Chain[DataChange]) -> None:
    line = DataChange(
        time="", who="", reasons=(), run="", action="ingest", table="t", version=1, digest=""
    )
    chain.append(line, lambda _: False)


def test_a_head_that_is_lost_or_late_is_made_again(settings: Settings) -> None:
    chain = trail(settings, 5)
    head = Path(chain.uri) / HEAD
    early = head.read_bytes()
    for number in range(5, 12):
        append(settings, number)
    head.write_bytes(early)
    assert append(settings, 11) == chain.lines()[-1], "said after the head was written"
    append(settings, 12)
    head.unlink()
    append(settings, 13)
    assert versions(chain) == list(range(14))
    assert chain.broken() is None
    head.write_bytes(early[:-9])
    for use in (chain.lines, lambda: append(settings, 14)):
        with pytest.raises(BackendError, match=r"_head\.json: is damaged"):
            use()


def test_a_head_that_is_replaced_while_it_is_read(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bucket may tell the size of the former one and give the bytes of the latter."""
    chain = trail(settings, 3)
    whole = chain._content(HEAD)
    assert whole is not None
    reads = [whole[:-9], whole]
    content = Chain._content

    def torn(chain: Chain[DataChange], path: str) -> bytes | None:
        return reads.pop(0) if path == HEAD and reads else content(chain, path)

    monkeypatch.setattr(Chain, "_content", torn)
    assert len(chain.lines()) == 3
    assert not reads
    monkeypatch.setattr(Chain, "_content", lambda _, path: whole[:-9] if path == HEAD else None)
    assert "is damaged" in (chain.broken() or "")
