"""Files that are not on this machine: HTTP(S), S3, Google Cloud Storage, Azure, through fsspec."""

import glob
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pyarrow as pa

from lifecycle.data.sources.credentials import Credentials
from lifecycle.data.sources.local import is_readable, nothing_in
from lifecycle.errors import SourceError
from lifecycle.project import SourceSpec
from lifecycle.project.data import without_secrets
from lifecycle.runtime.files import scratch_file
from lifecycle.runtime.identity import file_digest, sha256

BLOCK = 8 << 20
"""Bytes fetched at a time."""
IDENTITIES = ("md5Hash", "content_md5", "Content-MD5", "Digest", "ETag", "etag")
"""What servers call that which says the content, as fsspec hands it on; the best first."""
TIMES = ("LastModified", "last_modified", "updated", "mtime")
"""What they call the time of the last change, for those that have nothing better."""


class RemoteFile:
    """One object of a server."""

    def __init__(self, system: Any, path: str, name: str, place: str) -> None:
        """Take note of an object.

        Args:
            system: the fsspec file system.
            path: what that calls it.
        """
        self._system, self._path = system, path
        self.name, self.place = name, place
        self._copy: Path | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Another process makes a copy of its own."""
        return vars(self) | {"_copy": None}

    def stamp(self) -> tuple[object, ...]:
        """Stamp that changes whenever the object does; empty if the server gives none."""
        self._system.invalidate_cache()
        info = self._system.info(self._path)
        stamp = next((info[key] for key in (*IDENTITIES, *TIMES) if info.get(key)), None)
        return () if stamp is None else (str(stamp), info.get("size"))

    def digest(self) -> str:
        """SHA-256 over what the server says of the content, else over the bytes."""
        stamp = self.stamp()
        return sha256(stamp) if stamp else file_digest(self._fetched())

    def open(self) -> pa.NativeFile:
        """The bytes, from the first to the last."""
        if self._copy:
            return pa.OSFile(str(self._copy))
        return pa.PythonFile(self._stream(), mode="r")

    @contextmanager
    def on_disk(self) -> Iterator[Path]:
        """A copy for readers that jump about; it goes when this object does."""
        yield self._fetched()

    def _stream(self) -> Any:
        if "http" in self._system.protocol:
            return self._system.open(self._path, block_size=0)  # one request, whole
        return self._system.open(self._path, block_size=BLOCK, cache_type="readahead")

    def _fetched(self) -> Path:
        if self._copy is None:
            path = scratch_file(self)
            with path.open("wb") as copy, self._stream() as stream:
                shutil.copyfileobj(stream, copy, BLOCK)
            self._copy = path
        return self._copy


def remote_files(spec: SourceSpec, credentials: Credentials) -> list[RemoteFile]:
    """The objects that `source.path` means, in the order of their names.

    Raises:
        SourceError: there are none.
        ImportError: the package for this kind of URL is not installed.
    """
    system, path = filesystem(spec, credentials)
    place = without_secrets(spec.path)
    last = unquote(place.rstrip("/").rpartition("/")[2]) or place
    if urlsplit(spec.path).scheme in ("http", "https"):
        return [RemoteFile(system, path, last, place)]
    system.invalidate_cache()
    if glob.has_magic(path):
        start = path[: min(path.find(sign) for sign in "*?[" if sign in path)].rpartition("/")[0]
        paths = sorted(system.glob(path))
        if not paths:
            raise SourceError(f"source.path: no object matches {place}; correct the pattern")
    elif system.isfile(path):
        return [RemoteFile(system, path, last, place)]
    else:
        start = path.rstrip("/")
        within = len(start) + 1
        paths = sorted(f for f in system.find(start) if is_readable(f[within:], spec))
        if not paths and not system.exists(start):
            raise SourceError(f"source.path: no object {place}; correct source.path")
        if not paths:
            raise nothing_in(place, spec)
    scheme = urlsplit(spec.path).scheme
    return [
        RemoteFile(system, file, file.removeprefix(f"{start}/"), f"{scheme}://{file}")
        for file in paths
    ]


def filesystem(spec: SourceSpec, credentials: Credentials) -> tuple[Any, str]:
    """The fsspec file system of a URL, and what that calls the object.

    Raises:
        ImportError: the package for this kind of URL is not installed.
        SourceError: the credentials do not fit.
    """
    import fsspec  # heavy, and only for such sources

    options: dict[str, Any] = dict(spec.options)
    if urlsplit(spec.path).scheme in ("http", "https"):
        if credentials.value:
            options["client_kwargs"] = {"headers": {"Authorization": credentials.value}}
    else:
        options |= credentials.options()
    # not the instance of another source, which may have other credentials
    system, path = fsspec.core.url_to_fs(spec.path, skip_instance_cache=True, **options)
    return system, path
