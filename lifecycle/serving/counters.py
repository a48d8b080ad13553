"""Counters of a process in a memory-mapped file, which survive when the process is killed.

Each process of a folder has a file of named 64-bit floats and writes only there. It holds a lock on
the file for as long as it lives, so that the kernel tells the others when it is gone.
"""

import fcntl
import json
import mmap
import shutil
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lifecycle.runtime.files import replacing, write_atomic

CELLS = 2048
NAME_BYTES = 504
CELL = np.dtype([("name", f"S{NAME_BYTES}"), ("value", "<f8")])
SUFFIX = ".counts"
FOLDED = "folded.json"
"""What processes that are gone had counted."""
LOCK = "folding.lock"

Name = tuple[str, tuple[tuple[str, str], ...]]
"""A metric's name and its labels, as (label, value)."""
Values = dict[Name, float]


class Snapshot(NamedTuple):
    """Snapshot of a folder of counters."""

    alive: dict[str, Values]
    dead: dict[str, Values]
    """Processes that are gone and not folded yet."""
    folded: Values
    """The sums of all others."""


class Counters:
    """The numbers of this process.

    `cells[i] += 1` costs 0.1 µs and is on record at once. It is no atomic step: one cell belongs to
    one thread.
    """

    def __init__(self, folder: Path) -> None:
        """Make the file; nobody sees it before it is locked.

        Raises:
            OSError: the folder cannot be written.
        """
        folder.mkdir(parents=True, exist_ok=True)
        self.token = uuid.uuid4().hex
        """Names this process among all there ever were."""
        self._path = folder / f"{self.token}{SUFFIX}"
        with replacing(self._path) as temporary:
            self._file = temporary.open("x+b")
            fcntl.flock(self._file, fcntl.LOCK_EX)
            self._file.truncate(CELLS * CELL.itemsize)  # sparse: what is not used takes no room
        self._map = mmap.mmap(self._file.fileno(), CELLS * CELL.itemsize)
        self._bytes = memoryview(self._map)
        self.cells = self._bytes.cast("d")
        self._places: dict[Name, int] = {}

    def cell(self, name: str, /, **labels: object) -> int:
        """Return the index in `cells` of a counter, which starts at 0.

        After `CELLS` names, more counters share a cell that nobody reads: counting must not fail.
        """
        key = (name, tuple((label, str(value)) for label, value in labels.items()))
        place = self._places.get(key)
        if place is None:
            text = json.dumps(key).encode()
            number = len(self._places)
            if number >= CELLS - 1 or len(text) > NAME_BYTES:
                return CELLS * CELL.itemsize // 8 - 1
            start = number * CELL.itemsize
            # one byte last, so that a reader sees a whole name or none
            self._map[start + 1 : start + len(text)] = text[1:]
            self._map[start : start + 1] = text[:1]
            place = self._places[key] = (start + NAME_BYTES) // 8
        return place

    def close(self) -> None:
        """Close the file; other processes take over its numbers."""
        self.cells.release()
        self._bytes.release()
        self._map.close()
        self._file.close()


def snapshot(folder: Path) -> Snapshot:
    """All numbers of a folder; what is folded meanwhile is neither left out nor counted twice."""
    while True:
        before = _folded_text(folder)
        tokens, folded = _parsed(before)
        alive: dict[str, Values] = {}
        dead: dict[str, Values] = {}
        is_gone = False
        for path in folder.glob(f"*{SUFFIX}"):
            token = path.name.removesuffix(SUFFIX)
            if token in tokens:
                continue
            try:
                living = _is_alive(path)
                (alive if living else dead)[token] = _read(path)
            except FileNotFoundError:
                is_gone = True
        if not is_gone and before == _folded_text(folder):
            return Snapshot(alive, dead, folded)


def fold(folder: Path, settle: Callable[[str, Values], Values]) -> None:
    """Add up the numbers of ended processes, and remove their files.

    Killed in between and run again, each is counted once. If another process is at it, nothing is
    done.

    Args:
        settle: token and numbers → what is added to the sums; what it raises leaves the rest as is.
    """
    with (folder / LOCK).open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return
        totals = snapshot(folder)
        settled = {token: settle(token, values) for token, values in totals.dead.items()}
        stale, _ = _parsed(_folded_text(folder))
        if settled:
            sums = total([totals.folded, *settled.values()])
            tokens = {token for token in stale if (folder / f"{token}{SUFFIX}").exists()}
            text = json.dumps([sorted({*settled, *tokens}), [[*k, v] for k, v in sums.items()]])
            write_atomic(folder / FOLDED, text)
        for token in {*settled, *stale}:
            (folder / f"{token}{SUFFIX}").unlink(missing_ok=True)


def clear(folder: Path) -> None:
    """Delete the counts of all ended processes, and the folder if nobody counts in it."""
    if folder.is_dir():
        fold(folder, lambda _token, _values: {})
        (folder / FOLDED).unlink(missing_ok=True)
        if not any(folder.glob(f"*{SUFFIX}")):
            shutil.rmtree(folder, ignore_errors=True)  # of a node that is not there any more


def total(several: list[Values]) -> Values:
    """Add up the numbers of the same name."""
    sums: Values = {}
    for values in several:
        for name, value in values.items():
            sums[name] = sums.get(name, 0.0) + value
    return sums


def _is_alive(path: Path) -> bool:
    with path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def _read(path: Path) -> Values:
    return dict(_names(np.fromfile(path, dtype=CELL)))


def _names(cells: NDArray[np.void]) -> Iterator[tuple[Name, float]]:
    used = int(np.argmin(cells["name"] != b""))
    for text, value in cells[:used].tolist():
        yield _name(json.loads(text)), value


def _name(raw: list[Any]) -> Name:
    return raw[0], tuple((label, value) for label, value in raw[1])


def _folded_text(folder: Path) -> str:
    try:
        return (folder / FOLDED).read_text()
    except FileNotFoundError:
        return "[[], []]"


def _parsed(text: str) -> tuple[set[str], Values]:
    tokens, values = json.loads(text)
    return set(tokens), {_name(entry[:2]): entry[2] for entry in values}
