"""A file in a zip archive, read as if it lay beside it."""

import shutil
import zipfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Protocol

import pyarrow as pa

from lifecycle.data.sources.base import MEMBERS_SHOWN
from lifecycle.errors import SourceError
from lifecycle.project import SourceSpec
from lifecycle.project.data import compression_of
from lifecycle.runtime.files import scratch_file

BLOCK = 1 << 20
"""Bytes unpacked at a time."""


class File(Protocol):
    """Bytes somewhere."""

    name: str
    place: str

    def stamp(self) -> tuple[object, ...]: ...
    def digest(self) -> str: ...
    def open(self) -> pa.NativeFile: ...
    def on_disk(self) -> AbstractContextManager[Path]: ...


def is_zip(spec: SourceSpec, name: str) -> bool:
    """Return whether a file is a zip archive: as declared, else by the ending of its name."""
    if spec.compression == "infer":
        return compression_of(name) == "zip"
    return spec.compression == "zip"


class Zipped:
    """The only file of a zip archive; name, place and identity are the archive's."""

    def __init__(self, archive: File) -> None:
        """Take note of an archive; nothing is opened."""
        self._archive = archive
        self._copy: Path | None = None
        self.name, self.place = archive.name, archive.place

    def stamp(self) -> tuple[object, ...]:
        """Stamp that changes whenever the archive does."""
        return self._archive.stamp()

    def digest(self) -> str:
        """Digest of the archive's bytes."""
        return self._archive.digest()

    def member(self) -> str:
        """Name of the file inside.

        Raises:
            SourceError: it is no zip archive, or holds no file or several.
        """
        with self._open_zip() as archive:
            return self._only(archive).filename

    def open(self) -> pa.NativeFile:
        """The bytes of the file inside, from the first to the last."""
        return pa.OSFile(str(self._unpacked()))

    @contextmanager
    def on_disk(self) -> Iterator[Path]:
        """A copy of the file inside; it goes when nothing needs it any more."""
        yield self._unpacked()

    def __getstate__(self) -> dict[str, object]:
        """Another process unpacks a copy of its own."""
        return vars(self) | {"_copy": None}

    def _unpacked(self) -> Path:
        if self._copy is not None:
            return self._copy
        path = scratch_file(self)
        with self._open_zip() as archive, path.open("wb") as copy:
            member = self._only(archive)
            try:
                with archive.open(member) as stream:
                    shutil.copyfileobj(stream, copy, BLOCK)
            except RuntimeError:
                raise self._error(
                    "is protected by a password; unpack it, and name the file"
                ) from None
            except NotImplementedError:
                raise self._error(
                    "uses a compression that is not supported; pack it again with Deflate"
                ) from None
        self._copy = path
        return self._copy

    @contextmanager
    def _open_zip(self) -> Iterator[zipfile.ZipFile]:
        try:
            with self._archive.on_disk() as path, zipfile.ZipFile(path) as archive:
                yield archive
        except zipfile.BadZipFile as error:
            raise self._error(f"is not sound ({error})") from None

    def _only(self, archive: zipfile.ZipFile) -> zipfile.ZipInfo:
        """The file of an archive that has one, but for what a Mac adds."""
        files = [
            member for member in archive.infolist() if not member.is_dir() and not _hidden(member)
        ]
        if len(files) == 1:
            return files[0]
        if not files:
            raise self._error("holds no file")
        names = ", ".join(member.filename for member in files[:MEMBERS_SHOWN])
        more = f" and {len(files) - MEMBERS_SHOWN} more" if len(files) > MEMBERS_SHOWN else ""
        raise self._error(
            f"holds {len(files)} files, but must hold exactly one: {names}{more}; unpack it, and "
            "name one of them, or their folder"
        )

    def _error(self, problem: str) -> SourceError:
        return SourceError(f"{self.place}: cannot read it: the zip archive {problem}")


def _hidden(member: zipfile.ZipInfo) -> bool:
    return any(part.startswith((".", "__MACOSX")) for part in member.filename.split("/"))
