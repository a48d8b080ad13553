"""Files tracked by DVC: the bytes its pointer names, wherever they are."""

import hashlib
from pathlib import Path

import pytest

from lifecycle.data.sources import open_source, read_source, source_digest
from lifecycle.errors import SourceError
from lifecycle.project import Project
from tests.lifecycle.data.sources.conftest import project_of
from tests.lifecycle.data.sources.places import encode, rows

CONTENT = encode("csv", rows(4))
MD5 = hashlib.md5(CONTENT, usedforsecurity=False).hexdigest()


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """A repository whose pointer is there and whose file is not."""
    (tmp_path / ".dvc").mkdir()
    (tmp_path / "data").mkdir()
    out = f"outs:\n- md5: {MD5}\n  size: {len(CONTENT)}\n  hash: md5\n  path: in.csv\n"
    (tmp_path / "data" / "in.csv.dvc").write_text(out)
    return project_of(tmp_path, {"path": "data/in.csv.dvc"})


def cached(cache: Path, content: bytes = CONTENT) -> None:
    (cache / MD5[:2]).mkdir(parents=True)
    (cache / MD5[:2] / MD5[2:]).write_bytes(content)


def test_the_tracked_hash_is_the_digest(project: Project, tmp_path: Path) -> None:
    (tmp_path / "data" / "in.csv").write_bytes(CONTENT)
    assert source_digest(project) == f"md5:{MD5}"
    assert len(read_source(project)) == 4


@pytest.mark.parametrize("cache", [".dvc/cache/files/md5", ".dvc/cache", "elsewhere/files/md5"])
@pytest.mark.parametrize("changed", [True, False])
def test_the_cache_has_what_the_workspace_has_not(
    project: Project, tmp_path: Path, cache: str, changed: bool
) -> None:
    if changed:
        (tmp_path / "data" / "in.csv").write_bytes(encode("csv", rows(9)))
    if cache.startswith("elsewhere"):
        (tmp_path / ".dvc" / "config").write_text("[cache]\n    dir = ../elsewhere\n")
    cached(tmp_path / cache)
    assert source_digest(project) == f"md5:{MD5}"
    assert len(read_source(project)) == 4


def test_a_broken_cache_does_not_count(project: Project, tmp_path: Path) -> None:
    cached(tmp_path / ".dvc" / "cache" / "files" / "md5", CONTENT[:-1])
    with pytest.raises(SourceError, match=r"in\.csv is missing, .*run: dvc pull in\.csv\.dvc"):
        open_source(project).parts()
    (tmp_path / "data" / "in.csv").write_bytes(b"other")
    with pytest.raises(SourceError, match=r"in\.csv is another version, .*dvc pull in\.csv\.dvc"):
        open_source(project).parts()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("outs: []", "not what `dvc add FILE` writes"),
        ("{", "not what `dvc add FILE` writes"),
        (f"outs:\n- md5: {MD5}.dir\n  path: data\n", "it tracks a folder"),
    ],
)
def test_other_pointers(project: Project, tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "data" / "in.csv.dvc").write_text(text)
    with pytest.raises(SourceError, match=says):
        open_source(project).parts()
