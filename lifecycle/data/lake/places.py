"""Where a table's files are: a folder of this machine, or object storage as deltalake opens it."""

from typing import Any

import pyarrow as pa
import pyarrow.fs
from deltalake.fs import DeltaStorageHandler

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
