"""Files of a folder, local or in object storage, replaced whole or not at all."""

import os
import shutil
from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory, TemporaryFile
from typing import IO, Any
from urllib.request import url2pathname

from pydantic import ValidationError

from lifecycle.data.sources.credentials import EXTRAS
from lifecycle.errors import BackendError
from lifecycle.project import Project
from lifecycle.records import DatasetVersion, Learner, ModelVersion, Split, Trained
from lifecycle.release.artifacts import RECORD
from lifecycle.release.mlflow_store import backend_errors, connect
from lifecycle.release.registry import versions
from lifecycle.runtime.files import replacing
from lifecycle.settings import Settings

CHUNK = 16 << 20
"""Bytes per read or write."""


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
            BackendError: it cannot be listed, or its bucket is not there: what was never looked
                at must not pass for empty.
        """
        try:
            with self._errors_of(self.path, "list"):
                return sorted(self.fs.find(self.path))
        except FileNotFoundError:
            pass
        bucket = self.path.partition("/")[0]
        if not self.local and not self.fs.exists(bucket):
            raise BackendError(
                f"{self.label(self.path)}: there is no {bucket}, or this user may not list "
                "it; check the name and the storage's variables (docs/how-to/deploy.md)"
            )
        return []

    def sizes(self) -> dict[str, int]:
        """Bytes of every file below, by path of `fs`; none if the folder is not there.

        Raises:
            BackendError: it cannot be listed.
        """
        try:
            with self._errors_of(self.path, "list"):
                details = self.fs.find(self.path, detail=True)
        except FileNotFoundError:
            return {}
        return {path: int(detail["size"] or 0) for path, detail in details.items()}

    def label(self, path: str) -> str:
        """A path of `fs` as a user knows it."""
        return path if self.local else str(self.fs.unstrip_protocol(path))

    def inside(self, path: str) -> str:
        """A path of `fs` as seen from here."""
        return path[len(self.path.rstrip("/")) + 1 :]

    def read(self, path: str) -> bytes:
        with self._errors_of(path, "read"):
            return bytes(self.fs.cat_file(path))

    def read_all(self, paths: Collection[str]) -> dict[str, bytes]:
        """Small files by path; those of object storage are asked for at the same time."""
        if self.local or not paths:
            return {path: self.read(path) for path in paths}
        with self._errors_of(self.path, "read"):
            return dict(self.fs.cat(list(paths)))

    @contextmanager
    def open(self, path: str) -> Iterator[IO[bytes]]:
        """A file to read and to seek in.

        One in object storage is copied here first, once for all who read in it; the copy has no
        name, so that it is gone with this process.
        """
        with ExitStack() as stack:
            with self._errors_of(path, "read"):
                file: IO[bytes]
                if self.local:
                    file = stack.enter_context(open(path, "rb"))
                else:
                    file = stack.enter_context(TemporaryFile())
                    with self.fs.open(path, "rb", cache_type="none") as remote:
                        shutil.copyfileobj(remote, file, CHUNK)
                    file.seek(0)
            yield file

    def modified(self, path: str) -> float:
        """Return the time at which a file was written, in Unix seconds."""
        with self._errors_of(path, "read"):
            return float(self.fs.modified(path).timestamp())

    def write(self, path: str, data: bytes) -> None:
        """Replace a file's content in one step."""
        with self.replacing(path) as scratch:
            scratch.write_bytes(data)

    @contextmanager
    def replacing(self, path: str) -> Iterator[Path]:
        """A local file to write to, which takes the place of `path` when the block ends well."""
        if not self.local:
            with TemporaryDirectory() as scratch:
                scratch_file = Path(scratch) / "file"
                yield scratch_file
                with self._errors_of(path, "write"):  # seen whole or not at all
                    self.fs.put_file(str(scratch_file), path)
            return
        place = Path(path)
        with replacing(place) as scratch_file:
            yield scratch_file
            if place.exists():
                os.chmod(scratch_file, place.stat().st_mode)

    def remove(self, path: str) -> None:
        """Delete a file; one that is gone already is no error."""
        with suppress(FileNotFoundError), self._errors_of(path, "delete"):
            self.fs.rm_file(path)

    @contextmanager
    def _errors_of(self, path: str, verb: str) -> Iterator[None]:
        """Every file system raises its own errors; a file that is not there stays one."""
        try:
            yield
        except FileNotFoundError:
            raise
        except Exception as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            raise BackendError(f"{self.label(path)}: cannot {verb}: {reason}") from None


def open_folder(uri: str, **options: Any) -> Folder:
    """The folder at a path or URI.

    Its listings are not kept: others write, and Delta does so behind the back of fsspec.

    Args:
        options: of its file system.

    Raises:
        BackendError: there is no file system for it.
    """
    from fsspec.core import url_to_fs
    from fsspec.implementations.local import LocalFileSystem

    if uri.startswith("file://"):
        uri = url2pathname(uri.removeprefix("file://"))
    if "://" not in uri:  # a path, whatever is in it: `::` would be a chain of file systems
        return Folder(LocalFileSystem(use_listings_cache=False), os.path.abspath(uri))
    try:
        fs, path = url_to_fs(uri, use_listings_cache=False, **options)
    except ImportError as error:
        scheme = uri.partition("://")[0]
        mend = f"pip install 'lifecycle-flows[{EXTRAS[scheme]}]'" if scheme in EXTRAS else error
        raise BackendError(
            f"{uri}: the package that reads {scheme}:// is not installed; run: {mend}"
        ) from None
    except (ValueError, OSError) as error:
        raise BackendError(f"{uri}: cannot be opened ({error})") from None
    return Folder(fs, str(path))


def _protocols(fs: Any) -> tuple[str, ...]:
    protocol = fs.protocol
    return (protocol,) if isinstance(protocol, str) else tuple(protocol)


# Old versions of objects, which a bucket with versioning keeps.
#
# They are never deleted here: whoever turned versioning on wanted them, perhaps by law. What still
# names a person is told until the bucket's own rule has let it expire.

OLD_VERSION_NOTE = " (an old version that the bucket keeps)"
VERSION = "?versionId="


def kept_versions(folder: Folder) -> Iterator[tuple[Folder, str]]:
    """Old versions below a folder of S3, each with the folder that opens it.

    Raises:
        BackendError: they cannot be listed.
    """
    if not hasattr(folder.fs, "call_s3"):
        return
    old = open_folder(folder.label(folder.path), version_aware=True)
    bucket, _, key = folder.path.rstrip("/").partition("/")
    query = {"Bucket": bucket, "Prefix": f"{key}/" if key else ""}
    while True:
        try:
            page = old.fs.call_s3("list_object_versions", **query)
        except Exception as error:  # s3fs passes on what botocore raises
            if "NotImplemented" in f"{error!r}{error.__cause__!r}":
                return  # a server that keeps none
            reason = " ".join(str(error).split())
            raise BackendError(
                f"{folder.label(folder.path)}: old versions, if the bucket keeps any ({reason}); "
                "allow s3:ListBucketVersions and s3:GetObjectVersion"
            ) from None
        for version in page.get("Versions", ()):
            if not version["IsLatest"]:
                yield old, f"{bucket}/{version['Key']}{VERSION}{version['VersionId']}"
        if not page.get("IsTruncated"):
            return
        query["KeyMarker"] = page["NextKeyMarker"]
        query["VersionIdMarker"] = page["NextVersionIdMarker"]


# Model versions that were trained or measured on rows of a person.


def learners(
    project: Project, settings: Settings, tables: Mapping[str, Mapping[int, int]]
) -> tuple[Learner, ...]:
    """Models of the project, newest first, whose parts hold rows that were found.

    Args:
        tables: table → version → rows of theirs.

    Raises:
        BackendError: the registry cannot be reached.
    """
    learners_of_project = []
    for model, aliases in versions(project.name, settings).items():
        split = split_of(model, settings)
        if split is None:
            continue
        learned = _rows_of_part(split.train, tables) + _rows_of_part(split.validation, tables)
        measured = _rows_of_part(split.holdout, tables)
        if learned or measured:
            learners_of_project.append(
                Learner(model=model, aliases=aliases, learned=learned, measured=measured)
            )
    return tuple(learners_of_project)


def _rows_of_part(part: DatasetVersion, tables: Mapping[str, Mapping[int, int]]) -> int:
    return tables.get(part.uri.rpartition("/")[2], {}).get(part.version, 0)


def split_of(model: ModelVersion, settings: Settings) -> Split | None:
    """Split that the model was trained on; None if its record is gone."""
    connect(settings)
    import mlflow

    try:
        with backend_errors(settings):
            text = mlflow.artifacts.load_text(f"runs:/{model.run_id}/{RECORD}")
        return Trained.model_validate_json(text).split
    except ValidationError:
        return None
