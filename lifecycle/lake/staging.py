"""Files of a version that is being written: in the table's folder, but in no commit yet.

A marker names the process that writes them. A commit says whose files it took, so the next writer
knows of each marker whether its files belong to a version, are being written, or are left over.
"""

import os
import secrets
import time
from contextlib import suppress
from typing import NamedTuple

import pyarrow.fs

from lifecycle.errors import BackendError
from lifecycle.lake.manifest import HashingStream, VersionFile, place_of
from lifecycle.lake.table import commits

MARKER = "_writing-"
"""Begins a marker's name; Delta does not look at names with an underscore."""
LEFT_AFTER_SECONDS = 24 * 3600.0
"""Age from which a marker of another machine counts as left over."""


class Staged(NamedTuple):
    """A finished file that no commit names yet."""

    file: VersionFile
    size: int
    """Bytes."""
    statistics: str
    """What Delta's log says of its rows, as JSON."""


class StagedFiles:
    """The files of one writer."""

    def __init__(self, uri: str) -> None:
        self.token = secrets.token_hex(8)
        self.files: list[Staged] = []
        self._uri = uri
        self._system, self._prefix = place_of(uri)
        self._marker = f"{MARKER}{self.token}-{os.uname().nodename}-{os.getpid()}"
        self._open_files: list[str] = []
        self._stream: HashingStream | None = None
        self._offered = False

    def open(self) -> HashingStream:
        """A stream to the next file; the caller closes what it writes to it, then calls `close`."""
        if not self._open_files:
            if isinstance(self._system, pyarrow.fs.LocalFileSystem):
                self._system.create_dir(self._prefix, recursive=True)
            _sweep(self._uri)
            with self._system.open_output_stream(self._prefix + self._marker):
                pass
        name = f"part-{self.token}-{len(self._open_files):05d}.parquet"
        self._open_files.append(name)
        self._stream = HashingStream(self._system.open_output_stream(self._prefix + name))
        return self._stream

    def close(self, first: int, end: int, statistics: str) -> None:
        """The file opened last is finished.

        Args:
            first: number of its first row in the version.
            end: number after that of its last row.
            statistics: what Delta's log says of its rows, as JSON.
        """
        assert self._stream is not None  # noqa: S101 - `open` came before
        if not self._stream.closed:
            self._stream.close()
        name = self._open_files[-1]
        size = self._system.get_file_info(self._prefix + name).size
        file = VersionFile(name, self._stream.hexdigest(), first, end)
        self.files.append(Staged(file, size, statistics))

    def offer(self) -> None:
        """A commit of the files is tried; from here on only the log knows whose they are."""
        self._offered = True

    def discard(self) -> None:
        """Delete what belongs to no version, and the marker.

        A commit that failed may have arrived all the same: an answer of object storage gets lost,
        or somebody interrupts. If the log cannot be asked, all is left to the next writer.
        """
        if not self._open_files:
            return
        try:
            is_committed = self._offered and any(
                commit.get("files") == self.token for commit in commits(self._uri)
            )
        except BackendError:
            return
        for name in [] if is_committed else self._open_files:
            _delete(self._system, self._prefix + name)
        _delete(self._system, self._prefix + self._marker)


def _sweep(uri: str) -> None:
    """Delete what writers left that were killed."""
    system, prefix = place_of(uri)
    selector = pyarrow.fs.FileSelector(prefix.rstrip("/") or "/", allow_not_found=True)
    files = {info.base_name: info for info in system.get_file_info(selector)}
    markers = [name for name in files if name.startswith(MARKER)]
    dead = [name for name in markers if not _alive(name, files[name])]
    if not dead:
        return
    committed = {commit.get("files") for commit in commits(uri)}
    for marker in dead:
        token = marker.removeprefix(MARKER).split("-", 1)[0]
        if token not in committed:
            for name in files:
                if name.startswith(f"part-{token}-"):
                    _delete(system, prefix + name)
        _delete(system, prefix + marker)


def _alive(marker: str, info: pyarrow.fs.FileInfo) -> bool:
    """Whether the writer may still be at work."""
    machine, _, process = marker.removeprefix(MARKER).split("-", 1)[1].rpartition("-")
    if machine != os.uname().nodename:
        written = info.mtime.timestamp() if info.mtime else time.time()
        return time.time() - written < LEFT_AFTER_SECONDS
    try:
        os.kill(int(process), 0)
    except (ProcessLookupError, ValueError):
        return False
    except PermissionError:
        return True
    return True


def _delete(system: pyarrow.fs.FileSystem, path: str) -> None:
    with suppress(OSError):  # the next writer tries again
        system.delete_file(path)
