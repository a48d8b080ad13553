"""Files of a folder, local or in object storage, replaced whole or not at all."""

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from lifecycle.errors import BackendError

ASIDE = ".aside-"
"""Begins the name of what is not in place yet; one that a killed process left is deleted."""


@dataclass(frozen=True)
class Folder:
    """A folder of a file system that fsspec knows."""

    fs: Any
    path: str

    @property
    def local(self) -> bool:
        return bool(getattr(self.fs, "local_file", False) or "file" in _protocols(self.fs))

    def __truediv__(self, name: str) -> "Folder":
        return Folder(self.fs, f"{self.path.rstrip('/')}/{name}")

    def files(self) -> list[str]:
        """Every file below, as paths of `fs`; none if the folder is not there.

        Raises:
            BackendError: it cannot be listed.
        """
        try:
            self.fs.invalidate_cache()
            return sorted(self.fs.find(self.path)) if self.fs.exists(self.path) else []
        except Exception as error:  # each file system raises its own
            raise BackendError(f"{self.path}: cannot list: {error}") from None

    def inside(self, path: str) -> str:
        """A path of `fs` as seen from here."""
        return path[len(self.path.rstrip("/")) + 1 :]

    def read(self, path: str) -> bytes:
        return bytes(self.fs.cat_file(path))

    def write(self, path: str, data: bytes) -> None:
        """Replace a file's content in one step."""
        with self.replacing(path) as aside:
            aside.write_bytes(data)

    @contextmanager
    def replacing(self, path: str) -> Iterator[Path]:
        """A local file to write to, which takes the place of `path` when the block ends well."""
        if not self.local:
            with TemporaryDirectory() as scratch:
                made = Path(scratch) / "file"
                yield made
                self.fs.put_file(str(made), path)  # one PUT: seen whole or not at all
            return
        place = Path(path)
        made = place.with_name(f"{ASIDE}{secrets.token_hex(8)}")
        try:
            yield made
            if place.exists():
                os.chmod(made, place.stat().st_mode)
            made.replace(place)
        finally:
            made.unlink(missing_ok=True)

    def remove(self, path: str) -> None:
        """Delete a file; one that is gone already is no error."""
        with suppress(FileNotFoundError):
            self.fs.rm_file(path)


def open_folder(uri: str) -> Folder:
    """The folder at a path or URI.

    Raises:
        BackendError: there is no file system for it.
    """
    from fsspec.core import url_to_fs

    try:
        fs, path = url_to_fs(uri)
    except (ImportError, ValueError, OSError) as error:
        raise BackendError(f"{uri}: cannot be opened ({error})") from None
    return Folder(fs, str(path))


def _protocols(fs: Any) -> tuple[str, ...]:
    named = fs.protocol
    return (named,) if isinstance(named, str) else tuple(named)
