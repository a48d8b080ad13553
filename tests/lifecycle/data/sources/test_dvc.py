"""Files and folders tracked by DVC: the bytes the pointer names, wherever they are."""

import gzip
import json
import shutil
from pathlib import Path

import pytest

from lifecycle.data.sources import open_source, read_source, source_digest
from lifecycle.data.sources.base import Part
from lifecycle.errors import SourceError
from lifecycle.project import Project
from tests.support.makers import project_of
from tests.support.places import encode, md5_of, rows, track

CONTENT = encode("csv", rows(4))
MD5 = md5_of(CONTENT)
MANY = {"1/a.csv": encode("csv", rows(4)), "2/b.csv": encode("csv", rows(3, 4))}
CACHE = ".dvc/cache/files/md5"


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """A repository whose pointer is there and whose file is not."""
    (tmp_path / ".dvc").mkdir()
    (tmp_path / "data").mkdir()
    out = f"outs:\n- md5: {MD5}\n  size: {len(CONTENT)}\n  hash: md5\n  path: in.csv\n"
    (tmp_path / "data" / "in.csv.dvc").write_text(out)
    return project_of(tmp_path, {"path": "data/in.csv.dvc"})


@pytest.fixture
def folder(tmp_path: Path) -> Project:
    """A folder tracked with its files there, and no file in the cache."""
    for name, content in (
        MANY | {"_SUCCESS": b"", "_old/c.csv": CONTENT, "notes.md": b"x"}
    ).items():
        file = tmp_path / "data" / "many" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
    track(tmp_path / "data" / "many", tmp_path / ".dvc" / "cache")
    return project_of(tmp_path, {"path": "data/many.dvc"})


def cached(cache: Path, content: bytes = CONTENT, md5: str = MD5) -> None:
    (cache / md5[:2]).mkdir(parents=True, exist_ok=True)
    (cache / md5[:2] / md5[2:]).write_bytes(content)


def test_the_tracked_hash_is_the_digest(project: Project, tmp_path: Path) -> None:
    (tmp_path / "data" / "in.csv").write_bytes(CONTENT)
    assert source_digest(project) == f"md5:{MD5}"
    assert len(read_source(project)) == 4


@pytest.mark.parametrize("cache", [CACHE, ".dvc/cache", "a %, b/files/md5"])
@pytest.mark.parametrize("changed", [True, False])
def test_the_cache_has_what_the_workspace_has_not(
    project: Project, tmp_path: Path, cache: str, changed: bool
) -> None:
    if changed:
        (tmp_path / "data" / "in.csv").write_bytes(encode("csv", rows(9)))
    if cache.startswith("a"):
        (tmp_path / ".dvc" / "config").write_text('[cache]\n    dir = "../a %, b"\n')
    cached(tmp_path / cache)
    assert open_source(project).parts() == (Part("in.csv", f"md5:{MD5}"),)
    assert len(read_source(project)) == 4


def test_a_compressed_file_in_the_cache(project: Project, tmp_path: Path) -> None:
    """Its name there does not end as it does in the workspace."""
    content = gzip.compress(CONTENT)
    cached(tmp_path / CACHE, content, md5_of(content))
    out = f"outs:\n- md5: {md5_of(content)}\n  path: in.csv.gz\n"
    (tmp_path / "data" / "in.csv.gz.dvc").write_text(out)
    assert len(read_source(project_of(tmp_path, {"path": "data/in.csv.gz.dvc"}))) == 4


def test_a_broken_cache_does_not_count(project: Project, tmp_path: Path) -> None:
    cached(tmp_path / CACHE, CONTENT[:-1])
    with pytest.raises(SourceError, match=r"in\.csv is missing, .*run: dvc pull in\.csv\.dvc"):
        open_source(project).parts()
    (tmp_path / "data" / "in.csv").write_bytes(b"other")
    with pytest.raises(SourceError, match=r"in\.csv is another version, .*dvc pull in\.csv\.dvc"):
        open_source(project).parts()


@pytest.mark.parametrize("text", ["outs: []", "{", "outs:\n- path: in.csv\n"])
def test_other_pointers(project: Project, tmp_path: Path, text: str) -> None:
    (tmp_path / "data" / "in.csv.dvc").write_text(text)
    with pytest.raises(SourceError, match="not what `dvc add` writes for one file or folder"):
        open_source(project).parts()


@pytest.mark.parametrize("gone", [(), ("2/b.csv",), tuple(MANY)])
def test_a_folder_has_the_parts_that_were_tracked(
    folder: Project, tmp_path: Path, gone: tuple[str, ...]
) -> None:
    many = tmp_path / "data" / "many"
    for name in gone:
        (many / name).unlink()
        cached(tmp_path / CACHE, MANY[name], md5_of(MANY[name]))
    (many / "notes.md").unlink()  # is not asked for
    (many / "1" / "new.csv").write_bytes(CONTENT)  # is not tracked
    expected = [Part(name, f"md5:{md5_of(content)}") for name, content in MANY.items()]
    assert list(open_source(folder).parts()) == expected
    assert list(read_source(folder)["id"]) == list(range(7))


def test_a_folder_is_read_from_the_cache_alone(folder: Project, tmp_path: Path) -> None:
    before = source_digest(folder)
    shutil.rmtree(tmp_path / "data" / "many")
    for content in MANY.values():
        cached(tmp_path / CACHE, content, md5_of(content))
    assert source_digest(folder) == before
    assert len(read_source(folder)) == 7


def test_what_a_folder_is_missing(folder: Project, tmp_path: Path) -> None:
    file = tmp_path / "data" / "many" / "2" / "b.csv"
    file.write_bytes(b"other")
    with pytest.raises(SourceError, match=r"2/b\.csv is another version, .*dvc pull many\.dvc"):
        open_source(folder).parts()
    file.unlink()
    with pytest.raises(SourceError, match=r"2/b\.csv is missing, .*run: dvc pull many\.dvc"):
        open_source(folder).parts()
    (listing,) = (tmp_path / CACHE).glob("*/*.dir")
    listing.write_text(json.dumps([]))
    with pytest.raises(SourceError, match=r"list of the files of .*many; run: dvc pull many\.dvc"):
        open_source(folder).parts()


def test_a_folder_without_a_file_of_the_format(folder: Project, tmp_path: Path) -> None:
    other = project_of(tmp_path, {"path": "data/many.dvc", "format": "parquet"})
    with pytest.raises(SourceError, match=r"folder .*many has no file of source\.format parquet"):
        open_source(other).parts()
