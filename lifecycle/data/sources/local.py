"""Files on this machine: by path, glob, folder, `package://name/inside`, or tracked by DVC."""

import glob
import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa

from lifecycle.data.sources.dvc import tracked
from lifecycle.errors import SourceError
from lifecycle.project import SourceSpec
from lifecycle.project.data import EXTENSIONS, suffix_of
from lifecycle.runtime.identity import file_digest

PACKAGE_SCHEME = "package://"


class LocalFile:
    """One file on this machine."""

    def __init__(
        self, path: Path, name: str, digest: str | None = None, place: Path | None = None
    ) -> None:
        """Take note of a file.

        Args:
            name: what the part is called.
            digest: what is known to identify the bytes.
            place: where the file belongs, for messages and for what its ending says; by default
                where its bytes are.
        """
        self.path = path
        self.place = str(place or path)
        self.name = name
        self._digest = digest

    def stamp(self) -> tuple[object, ...]:
        """What changes when the file does."""
        stat = self.path.stat()
        return stat.st_size, stat.st_mtime_ns, stat.st_ino

    def digest(self) -> str:
        """SHA-256 of the bytes, or what else is known to identify them."""
        self._digest = self._digest or file_digest(self.path)  # `Files` sees if the file changes
        return self._digest

    def open(self) -> pa.NativeFile:
        """The bytes, from the first to the last."""
        return pa.OSFile(str(self.path))

    @contextmanager
    def on_disk(self) -> Iterator[Path]:
        """A path for readers that jump about."""
        yield self.path


def local_files(spec: SourceSpec, folder: Path) -> list[LocalFile]:
    """The files that `source.path` means, in the order of their names.

    Args:
        folder: where relative paths start.

    Raises:
        SourceError: there are none.
    """
    path = spec.path
    if path.startswith(PACKAGE_SCHEME):
        found = _packaged(path)
        return [LocalFile(found, found.name)]
    place = folder / Path(path).expanduser()
    if place.is_dir():
        return _inside(place, spec)
    if place.suffix == ".dvc":
        return _tracked(place, spec)
    if place.is_file():
        return [LocalFile(place, place.name)]
    if glob.has_magic(path):
        start = fixed_folder(place)
        matches = sorted(Path(match) for match in glob.glob(str(place), recursive=True))
        files = [file for file in matches if file.is_file()]
        if files:
            return [LocalFile(file, file.relative_to(start).as_posix()) for file in files]
        raise SourceError(f"source.path: no file matches {place}; correct the pattern")
    raise SourceError(
        f"source.path: no file {place}; correct source.path (relative paths start at the "
        "project file's folder) or name another file with --source"
    )


def wanted(name: str, spec: SourceSpec) -> bool:
    """Whether a file of a folder is one to read: of the format's ending, and not hidden.

    Args:
        name: its path within the folder.
    """
    hidden = any(part.startswith((".", "_")) for part in name.split("/"))
    return not hidden and suffix_of(name) in EXTENSIONS.get(spec.format, ())


def nothing_in(place: str, spec: SourceSpec) -> SourceError:
    """A folder without files of the format."""
    ends = ", ".join(EXTENSIONS.get(spec.format, ()))
    return SourceError(
        f"source.path: the folder {place} has no file of source.format {spec.format} ({ends}, "
        "perhaps compressed); name another folder, or set source.format to what they are"
    )


def _inside(place: Path, spec: SourceSpec) -> list[LocalFile]:
    names = sorted(f.relative_to(place).as_posix() for f in place.rglob("*") if f.is_file())
    files = [LocalFile(place / name, name) for name in names if wanted(name, spec)]
    if not files:
        raise nothing_in(str(place), spec)
    return files


def _tracked(pointer: Path, spec: SourceSpec) -> list[LocalFile]:
    files = tracked(pointer, lambda name: wanted(name, spec))
    if not files:
        raise nothing_in(str(pointer.with_suffix("")), spec)
    return [LocalFile(file.path, file.name, file.digest, file.place) for file in files]


def fixed_folder(pattern: Path) -> Path:
    """The folder above the first wildcard of a path."""
    parts = list(pattern.parts)
    first = next(place for place, part in enumerate(parts) if glob.has_magic(part))
    return Path(*parts[:first])


def _packaged(path: str) -> Path:
    package, _, inside = path.removeprefix(PACKAGE_SCHEME).partition("/")
    found = importlib.util.find_spec(package) if package.isidentifier() else None
    if found is None or not found.submodule_search_locations:
        raise SourceError(
            f"source.path: {path}: package {package!r} is not installed; "
            "install it or name a file by its path"
        )
    for root in found.submodule_search_locations:
        if (file := Path(root) / inside).is_file():
            return file
    raise SourceError(f"source.path: {path}: package {package!r} has no file {inside!r}")
