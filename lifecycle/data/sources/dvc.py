"""Files tracked by DVC: a `.dvc` file says which bytes are meant, without DVC being installed.

Fields of a `.dvc` file and places of its cache: https://dvc.org/doc/user-guide/project-structure.
"""

import configparser
import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import yaml

from lifecycle.errors import SourceError

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


def tracked(pointer: Path, wanted: Callable[[str], bool]) -> list[Tracked]:
    """The file whose bytes a `.dvc` file means, or those of its folder in the order of their names.

    A file in the workspace counts if its MD5 is the one tracked, else the one in DVC's cache.

    Args:
        wanted: whether to look for a file of a folder, by its name.

    Raises:
        SourceError: it is no `.dvc` file of one file or folder, or neither place has these bytes.
    """
    out, md5 = _out(pointer)
    caches = tuple(_caches(pointer.resolve()))
    if not md5.endswith(FOLDER):
        return [Tracked(out.name, out, _found(pointer, caches, out, md5), f"md5:{md5}")]
    files = {name: file for name, file in _listed(pointer, caches, out, md5) if wanted(name)}
    return [
        Tracked(name, out / name, _found(pointer, caches, out / name, file), f"md5:{file}")
        for name, file in sorted(files.items())
    ]


def _out(pointer: Path) -> tuple[Path, str]:
    """What is tracked, and its MD5."""
    try:
        known = yaml.safe_load(pointer.read_text(encoding="utf-8"))
        (out,) = known["outs"]
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


def _found(pointer: Path, caches: Sequence[Path], workspace: Path, md5: str) -> Path:
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
    """Where DVC 3, and DVC 2 before it, keep files by their hash."""
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
