"""The files of a version as its commit lists them, each with the SHA-256 of its bytes.

A version is judged by what its files hold, so a file is hashed before any of it is parsed: a
damaged one may crash a reader, or be read as other numbers. The list is sealed together with the
digest and the note of the version, so that a damaged commit does not pass for another version.
"""

import hashlib
import json
import math
import os
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import IO, Any, NamedTuple

import pyarrow as pa
import pyarrow.fs
from deltalake.fs import DeltaStorageHandler

from lifecycle.errors import BackendError, first_line
from lifecycle.records import DatasetVersion
from lifecycle.runtime.files import temporary_prefix
from lifecycle.runtime.identity import sha256

# Where a table's files are: a folder of this machine, or object storage as deltalake opens it.

Place = tuple[pyarrow.fs.FileSystem, str]
"""A file system, and what a file's name follows in it."""


def place_of(uri: str) -> Place:
    """The file system of a table, and the prefix of its files there."""
    if "://" not in uri:
        return pyarrow.fs.LocalFileSystem(), f"{uri}/"
    if uri.startswith("file://"):
        system, path = pyarrow.fs.FileSystem.from_uri(uri)
        return system, f"{path}/"
    return pyarrow.fs.PyFileSystem(_Storage(uri)), ""


class _Storage(DeltaStorageHandler):
    """Object storage to write to: deltalake's own streams refuse the buffers of pyarrow."""

    def open_output_stream(self, path: str, metadata: Any = None) -> pa.PythonFile:
        return pa.PythonFile(_Stream(self._handler.open_output_stream(path, metadata)))


class _Stream:
    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, data: Any) -> int:
        return int(self._stream.write(bytes(data)))


MANIFEST, SEAL = "manifest", "seal"
"""In a commit: the list of its files as JSON, and the digest of list, content digest and note."""
BASE, REMOVED = "base", "removed"
"""In a commit that lists only what differs from an earlier one: that one's version and content
digest, and which of its files are gone, both as JSON."""
NOTE = "note."
EXPIRED = "expired"
"""In the commit of a version whose rows retention has deleted: the digest it had."""
MAX_CHANGES = 8
"""Entries in which a list may differ from an earlier one in any case."""
CHUNK = 1 << 20
MAX_REMEMBERED = 10_000
TICK_S, FINE_TICK_S = 2.0, 0.05
"""The coarsest clock of a file system, and of one that has fractions of a second."""
_hashed_before: dict[tuple[int, ...], str] = {}
"""A local file, as the file system tells it from others and from what it was before → SHA-256."""
RESTORE = (
    "restore it from a backup, or run again with PREFECT_TASKS_REFRESH_CACHE=true, which makes the "
    "version anew"
)
CHANGED = "it was damaged or changed after it was written"
DAMAGED = f"{CHANGED}; {RESTORE}"


class VersionFile(NamedTuple):
    """A data file of a version."""

    path: str
    """Relative to the table."""
    sha256: str
    first: int
    """Number of its first row in the version."""
    end: int
    """Number after that of its last row; fewer rows are left where some were erased."""


class Manifest(NamedTuple):
    """The files of a version, as its commit lists them."""

    files: list[VersionFile]
    """All of them, or those that its base has not."""
    base: tuple[int, str] | None = None
    """Version and content digest of the commit whose files it has, too; that one lists all."""
    removed: frozenset[str] = frozenset()
    """Paths of the base's files that it has not."""

    def merged(self, files: Sequence[VersionFile]) -> list[VersionFile]:
        """All files, in the order of their rows.

        Args:
            files: those of the base.
        """
        remaining = [file for file in files if file.path not in self.removed]
        return sorted([*remaining, *self.files], key=lambda file: file.first)


def sealed(info: Mapping[str, Any], manifest: Manifest) -> dict[str, str]:
    """A commit's manifest, sealed.

    Args:
        info: what else it says; its digest and note are sealed together with the list.
    """
    content = {MANIFEST: json.dumps([[*file] for file in manifest.files], separators=(",", ":"))}
    if manifest.base:
        content[BASE] = json.dumps(manifest.base)
        content[REMOVED] = json.dumps(sorted(manifest.removed), separators=(",", ":"))
    return content | {SEAL: _seal(info, content)}


def manifest_of(info: Mapping[str, Any]) -> Manifest | None:
    """List of files in a commit; None if it was written before commits listed their files.

    Raises:
        ValueError: the commit is not as it was written.
    """
    if MANIFEST not in info and SEAL not in info:
        return None
    content = {key: str(info.get(key, "")) for key in (MANIFEST, BASE, REMOVED) if key in info}
    if info.get(SEAL) != _seal(info, content):
        raise ValueError("what the commit says does not match its checksum")
    files = [VersionFile(*file) for file in json.loads(content.get(MANIFEST, ""))]
    if BASE not in content:
        return Manifest(files)
    version, digest = json.loads(content[BASE])
    return Manifest(files, (version, digest), frozenset(json.loads(content[REMOVED])))


class FileLists(NamedTuple):
    """The files of a version, and those of the commit that its list builds on."""

    base: tuple[int, str]
    """Version and content digest of that commit; the version's own if its list is whole."""
    base_files: list[VersionFile]
    files: list[VersionFile]
    """In the order of their rows."""


def read_lists(ref: DatasetVersion) -> FileLists | None:
    """The files of a version; None where only Delta's log knows them: it was written before commits
    listed their files, or is not there.

    Raises:
        BackendError: a commit cannot be read, is damaged, or is of another version.
    """
    manifest = read_manifest(ref)
    if manifest is None:
        return None
    if manifest.base is None:
        return FileLists((ref.version, ref.digest), manifest.files, manifest.files)
    version, digest = manifest.base
    before = read_manifest(
        ref.model_copy(update={"version": version, "digest": digest}), expired=True
    )
    if before is None or before.base is not None:
        name = commit_name(version)
        raise BackendError(f"{ref.uri}/{name}: later versions have files that it lists; {DAMAGED}")
    return FileLists(manifest.base, before.files, manifest.merged(before.files))


def files_of(ref: DatasetVersion) -> list[VersionFile] | None:
    """The data files of a version in the order of their rows; None as in `read_lists`.

    Raises:
        BackendError: a commit cannot be read, is damaged, or is of another version.
    """
    lists = read_lists(ref)
    return lists.files if lists else None


def builds_on(changes: int, entries: int) -> bool:
    """Tell whether a list is worth writing as what differs from an earlier one: so lists grow with
    the entries, not with their square.

    Args:
        changes: entries in which the two differ.
        entries: of the whole list.
    """
    return changes <= MAX_CHANGES + math.isqrt(2 * entries)


def commit_name(version: int) -> str:
    """Path of a commit in its table."""
    return f"_delta_log/{version:020d}.json"


def read_commit(uri: str, version: int) -> dict[str, Any] | None:
    """Read what a commit says of itself, not yet held against its seal; None if it is not there.

    Raises:
        BackendError: it cannot be read.
    """
    system, prefix = place_of(uri)
    name = commit_name(version)
    try:
        with system.open_input_file(prefix + name) as file:
            content = file.read()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise BackendError(f"{uri}/{name}: cannot be read: {first_line(error)}") from None
    try:
        return commit_info(content)
    except ValueError as error:
        raise BackendError(f"{uri}/{name}: is no commit ({error}): {DAMAGED}") from None


def commit_info(content: bytes) -> dict[str, Any]:
    """Parse what a commit says of itself; nothing if it says nothing.

    Raises:
        ValueError: it is no commit.
    """
    try:
        lines = content.decode().splitlines()
        infos = (json.loads(line)["commitInfo"] for line in lines if '"commitInfo"' in line)
        info: object = next(infos, {})
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(str(error)) from None
    if not isinstance(info, dict):
        raise ValueError("its commitInfo is no object")
    return info


def read_manifest(ref: DatasetVersion, *, expired: bool = False) -> Manifest | None:
    """Read the list of a version's commit; None as in `files_of`.

    Args:
        expired: whether to read that of a version whose rows retention has deleted.

    Raises:
        BackendError: the commit cannot be read, is damaged, or is of another version.
    """
    info = read_commit(ref.uri, ref.version)
    if info is None:
        return None
    if EXPIRED in info and not expired:
        raise BackendError(
            f"{ref.uri}: version {ref.version} cannot be read: retention has deleted its rows "
            "(contract.retention.days)"
        )
    try:
        if not info:
            raise ValueError("it does not say what made it")
        manifest = manifest_of(info)
    except (ValueError, TypeError) as error:
        name = commit_name(ref.version)
        raise BackendError(f"{ref.uri}/{name}: is no commit ({error}): {DAMAGED}") from None
    digest = info.get("digest", info.get(EXPIRED))
    if manifest is not None and digest != ref.digest:
        raise BackendError(
            f"{ref.uri}: version {ref.version} has the digest {str(digest)[:12]}, not "
            f"{ref.digest[:12]} of the reference; the table was made anew since, so prepare the "
            "data again"
        )
    return manifest


def is_intact(ref: DatasetVersion) -> bool:
    """Tell whether the files of a version have the bytes that were written; true where its commit
    lists none."""
    try:
        check_intact(ref)
    except BackendError:
        return False
    return True


def check_intact(ref: DatasetVersion, remedy: str = RESTORE) -> None:
    """See that the files of a version have the bytes that were written.

    Args:
        remedy: what to do about a damaged file.

    Raises:
        BackendError: one has not, or a commit is damaged.
    """
    for file in files_of(ref) or ():
        with verified(ref.uri, file, remedy):
            pass


@contextmanager
def verified(uri: str, file: VersionFile, remedy: str = RESTORE) -> Iterator[pa.NativeFile]:
    """A data file to read, whose bytes are those that were written.

    One in object storage is copied here while it is hashed, so that what is read is what was
    hashed; the copy has no name, so that it is gone with this process.

    Args:
        remedy: what to do about a damaged file.

    Raises:
        BackendError: the file is missing or cannot be read, or its bytes are others.
    """
    place = place_of(uri)
    label = f"{uri}/{file.path}"
    try:
        stream, digest = _hashed(place, file.path)
    except FileNotFoundError:
        raise BackendError(
            f"{label}: cannot be read: this file of the table is missing; {remedy}"
        ) from None
    except OSError as error:
        raise BackendError(f"{label}: cannot be read: {first_line(error)}") from None
    with stream:
        if digest != file.sha256:
            raise BackendError(
                f"{label}: its SHA-256 is {digest[:12]}…, not {file.sha256[:12]}… as it was "
                f"written: {CHANGED}; {remedy}"
            )
        yield stream


class HashingStream:
    """A stream to write to that hashes what passes; for `pyarrow.parquet.ParquetWriter`."""

    closed = False

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self._digest = hashlib.sha256()

    def write(self, data: Any) -> int:
        """Hash and write bytes."""
        self._digest.update(data)
        return int(self._stream.write(data) or 0)

    def flush(self) -> None:
        """Pass it on."""
        self._stream.flush()

    def tell(self) -> int:
        """Bytes so far."""
        return int(self._stream.tell())

    def close(self) -> None:
        """Close what is written to."""
        self.closed = True
        self._stream.close()

    def hexdigest(self) -> str:
        """SHA-256 of all bytes so far."""
        return self._digest.hexdigest()


def _seal(info: Mapping[str, Any], content: Mapping[str, str]) -> str:
    note = {key: value for key, value in info.items() if key.startswith(NOTE)}
    digest = info.get("digest", info.get(EXPIRED))
    return sha256({"digest": digest, "note": note, **content})


def _hashed(place: Place, path: str) -> tuple[pa.NativeFile, str]:
    system, prefix = place
    if isinstance(system, pyarrow.fs.LocalFileSystem):
        return pa.OSFile(prefix + path), _local_digest(prefix + path)
    hashing = hashlib.sha256()
    handle, copy = tempfile.mkstemp(prefix=temporary_prefix())
    try:
        with os.fdopen(handle, "wb") as out, system.open_input_file(prefix + path) as far:
            _copy(far, out, hashing)
        return pa.OSFile(copy), hashing.hexdigest()
    finally:
        os.unlink(copy)


def _local_digest(path: str) -> str:
    """SHA-256 of a file; one unchanged since this process hashed it is not read again."""
    with open(path, "rb") as file:
        state = os.fstat(file.fileno())
        # the time of change is the file system's own: nobody sets it back
        key = (state.st_dev, state.st_ino, state.st_size, state.st_mtime_ns, state.st_ctime_ns)
        if key in _hashed_before:
            return _hashed_before[key]
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    tick = FINE_TICK_S if state.st_ctime_ns % 1_000_000_000 else TICK_S
    if time.time() - state.st_ctime > tick:  # a change in the same tick would not show
        if len(_hashed_before) >= MAX_REMEMBERED:
            _hashed_before.clear()
        _hashed_before[key] = digest
    return digest


def _copy(far: pa.NativeFile, out: IO[bytes], hashing: Any) -> None:
    while part := far.read(CHUNK):
        hashing.update(part)
        out.write(part)
