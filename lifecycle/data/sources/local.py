"""Files on this machine: by path, glob, folder, `package://name/inside`, or tracked by DVC."""

import configparser
import glob
import hashlib
import importlib.util
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import yaml

from lifecycle.errors import SourceError
from lifecycle.project import SourceSpec
from lifecycle.project.data import EXTENSIONS, suffix_of
from lifecycle.runtime.identity import file_digest

# Files tracked by DVC: a `.dvc` file says which bytes are meant, without DVC being installed.
#
# Fields of a `.dvc` file and places of its cache: https://dvc.org/doc/user-guide/project-structure.

FOLDER = ".dir"
"""What the hash of a folder ends with; the cache has a list of its files under it."""


class Tracked(NamedTuple):
    """A file that DVC knows."""

    name: str
    """Within the folder that is tracked, or the file's own."""
    place: Path
    """Where it belongs in the workspace."""
    path: Path
    """Where its bytes are: there, or in DVC's cache."""
    digest: str
    """`md5:…`, which identifies the bytes."""


def tracked(pointer: Path, is_wanted: Callable[[str], bool]) -> list[Tracked]:
    """The file whose bytes a `.dvc` file means, or those of its folder in the order of their names.

    A file in the workspace counts if its MD5 is the one tracked, else the one in DVC's cache.

    Args:
        is_wanted: whether to look for a file of a folder, by its name.

    Raises:
        SourceError: it is no `.dvc` file of one file or folder, or neither place has these bytes.
    """
    out, md5 = _out(pointer)
    caches = tuple(_caches(pointer.resolve()))
    if not md5.endswith(FOLDER):
        return [Tracked(out.name, out, _cached_file(pointer, caches, out, md5), f"md5:{md5}")]
    files = {name: file for name, file in _listed(pointer, caches, out, md5) if is_wanted(name)}
    return [
        Tracked(name, out / name, _cached_file(pointer, caches, out / name, file), f"md5:{file}")
        for name, file in sorted(files.items())
    ]


def _out(pointer: Path) -> tuple[Path, str]:
    """Return the file or folder that a DVC pointer tracks, and its MD5."""
    try:
        outputs = yaml.safe_load(pointer.read_text(encoding="utf-8"))
        (out,) = outputs["outs"]
        return pointer.parent / str(out["path"]), str(out["md5"])
    except FileNotFoundError:
        raise SourceError(f"source.path: no file {pointer}; correct source.path") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError, TypeError, ValueError, KeyError):
        raise SourceError(
            f"{pointer}: cannot read it: it is not what `dvc add` writes for one file or folder"
        ) from None


def _listed(pointer: Path, caches: Sequence[Path], folder: Path, md5: str) -> list[tuple[str, str]]:
    """Name and MD5 of each file of a folder."""
    for listing in _cached(caches, md5):
        if listing.is_file() and _md5(listing) == md5.removesuffix(FOLDER):
            return [(file["relpath"], file["md5"]) for file in json.loads(listing.read_bytes())]
    raise SourceError(
        f"{pointer}: DVC's cache is missing the list of the files of {folder}; run: "
        f"dvc pull {pointer.name} (or dvc commit {pointer.name}, if the list was never there)"
    )


def _cached_file(pointer: Path, caches: Sequence[Path], workspace: Path, md5: str) -> Path:
    for file in (workspace, *_cached(caches, md5)):
        if file.is_file() and _md5(file) == md5:
            return file
    state = "is another version" if workspace.is_file() else "is missing"
    raise SourceError(
        f"{pointer}: {workspace} {state}, and DVC's cache does not have the tracked one; run: "
        f"dvc pull {pointer.name}"
    )


def _cached(caches: Sequence[Path], md5: str) -> list[Path]:
    return [cache / md5[:2] / md5[2:] for cache in caches]


def _caches(pointer: Path) -> Iterator[Path]:
    """Yield the folders in which DVC 3, then DVC 2, store files by their hash."""
    root = next((at for at in pointer.parents if (at / ".dvc").is_dir()), None)
    if root is None:
        return
    cache = root / ".dvc" / "cache"
    for name in ("config", "config.local"):
        declared = configparser.ConfigParser(interpolation=None)
        declared.read(root / ".dvc" / name, encoding="utf-8")
        if declared.has_option("cache", "dir"):  # relative paths start at the file that has them
            place = declared.get("cache", "dir").strip("\"'")
            cache = root / ".dvc" / Path(place).expanduser()
    yield cache / "files" / "md5"
    yield cache


def _md5(file: Path) -> str:
    with file.open("rb") as stream:  # a name for bytes, not a protection of them
        return hashlib.file_digest(stream, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


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
        """Stamp that changes whenever the file does."""
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
        root = _packaged(path)
        return [LocalFile(root, root.name)]
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


def is_readable(name: str, spec: SourceSpec) -> bool:
    """Return whether a file of a folder is read: it has the format's ending and is not hidden.

    Args:
        name: the path of the file within the folder.
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
    files = [LocalFile(place / name, name) for name in names if is_readable(name, spec)]
    if not files:
        raise nothing_in(str(place), spec)
    return files


def _tracked(pointer: Path, spec: SourceSpec) -> list[LocalFile]:
    files = tracked(pointer, lambda name: is_readable(name, spec))
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
    spec = importlib.util.find_spec(package) if package.isidentifier() else None
    if spec is None or not spec.submodule_search_locations:
        raise SourceError(
            f"source.path: {path}: package {package!r} is not installed; "
            "install it or name a file by its path"
        )
    for root in spec.submodule_search_locations:
        if (file := Path(root) / inside).is_file():
            return file
    raise SourceError(f"source.path: {path}: package {package!r} has no file {inside!r}")
