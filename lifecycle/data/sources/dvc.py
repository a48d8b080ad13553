"""Files tracked by DVC: the `.dvc` file says which bytes are meant, without DVC being installed.

Fields of a `.dvc` file and places of its cache: https://dvc.org/doc/user-guide/project-structure.
"""

import configparser
import hashlib
from collections.abc import Iterator
from pathlib import Path

import yaml

from lifecycle.errors import SourceError


def tracked(pointer: Path) -> tuple[Path, str]:
    """The file whose bytes a `.dvc` file means, and `md5:…`, which identifies them.

    The file in the workspace counts if its MD5 is the one tracked, else the one in DVC's cache.

    Raises:
        SourceError: it is no `.dvc` file of one file, or neither place has these bytes.
    """
    try:
        known = yaml.safe_load(pointer.read_text(encoding="utf-8"))
        (out,) = known["outs"]
        name, md5 = str(out["path"]), str(out["md5"])
    except FileNotFoundError:
        raise SourceError(f"source.path: no file {pointer}; correct source.path") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError, TypeError, ValueError, KeyError):
        raise SourceError(
            f"{pointer}: cannot read it: it is not what `dvc add FILE` writes for one file"
        ) from None
    if md5.endswith(".dir"):
        raise SourceError(
            f"{pointer}: it tracks a folder; track its files one by one with `dvc add FOLDER/*`"
        )
    workspace = pointer.parent / name
    for file in (workspace, *_cached(pointer.resolve().parent, md5)):
        if file.is_file() and _md5(file) == md5:
            return file, f"md5:{md5}"
    state = "is another version" if workspace.is_file() else "is missing"
    raise SourceError(
        f"{pointer}: {workspace} {state}, and DVC's cache does not have the tracked one; run: "
        f"dvc pull {pointer.name}"
    )


def _cached(folder: Path, md5: str) -> Iterator[Path]:
    """Where DVC 3, and DVC 2 before it, keep a file."""
    root = next((at for at in (folder, *folder.parents) if (at / ".dvc").is_dir()), None)
    if root is None:
        return
    cache = root / ".dvc" / "cache"
    for name in ("config", "config.local"):
        declared = configparser.ConfigParser()
        declared.read(root / ".dvc" / name, encoding="utf-8")
        if declared.has_option("cache", "dir"):  # relative paths start at the file that has them
            cache = root / ".dvc" / Path(declared.get("cache", "dir")).expanduser()
    yield cache / "files" / "md5" / md5[:2] / md5[2:]
    yield cache / md5[:2] / md5[2:]


def _md5(file: Path) -> str:
    with file.open("rb") as stream:  # a name for bytes, not a protection of them
        return hashlib.file_digest(stream, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
