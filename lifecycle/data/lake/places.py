"""Where a table's files are: a folder of this machine, or object storage as deltalake opens it."""

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
    return pyarrow.fs.PyFileSystem(DeltaStorageHandler(uri)), ""
