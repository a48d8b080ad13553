"""Sources: what is read as what, and one clear message for each unusable file."""

import importlib
import sys
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from lifecycle.data.sources import open_source, read_source, source_digest
from lifecycle.errors import SourceError
from lifecycle.project import Project

MakeProject = Callable[..., Project]


@pytest.fixture
def source(make_project: MakeProject, tmp_path: Path) -> Callable[[bytes], Project]:
    def write(content: bytes) -> Project:
        project = make_project()
        (tmp_path / "small.csv").write_bytes(content)
        return project

    return write


HEADER = b"customer,age,visits,city,bought\n"


def test_text_stays_text_and_numbers_become_numbers(source: Callable[[bytes], Project]) -> None:
    frame = read_source(source(HEADER + b"007,,3,01,1\n8,40.5,,NA,0\n"))
    assert frame["city"].tolist() == ["01", "NA"]
    assert frame["visits"].tolist() == [3, pd.NA]
    assert frame["age"].isna().tolist() == [True, False]


def test_a_quoted_value_may_have_separators_and_line_ends(
    source: Callable[[bytes], Project],
) -> None:
    frame = read_source(source(HEADER + b'1,2,3,"New\nYork, NY",1\n2,2,3,Rome,0\n'))
    assert frame["city"].tolist() == ["New\nYork, NY", "Rome"]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "cannot read it: it is empty"),
        (HEADER, "has a header but no rows"),
        (b"\x00\x01\x02\xff" * 300, "it is binary, not text"),
        (HEADER + b"1,2,3,Rome,1\n1,2\n", "Expected 5 columns, got 2"),
        (HEADER + b"1,2,3,Rome,1\n1,2,3,Rome,1,9\n", "Expected 5 columns, got 6"),
        (HEADER + b"1,2,3,R\xf6m,1\n", "column 'city' has bytes that are not utf-8"),
        (HEADER + b"1,2,\xf6,Rome,1\n", "column 'visits' has bytes that are not utf-8"),
        (b"customer,age,visits,city,city\n1,2,3,a,b\n", "more than one 'city'"),
    ],
)
def test_unusable_files(source: Callable[[bytes], Project], content: bytes, says: str) -> None:
    with pytest.raises(SourceError) as caught:
        read_source(source(content))
    assert says in str(caught.value)
    assert "small.csv" in str(caught.value)


def test_parquet_without_pandas_index(make_project: MakeProject, tmp_path: Path) -> None:
    """Rows count from 0, and the numbers pandas had for them are no column of the data."""
    project = make_project(source={"path": "small.parquet", "format": "parquet"})
    visits = pd.array([3, None, 5], dtype="Int64")
    frame = pd.DataFrame({"visits": visits, "age": [1.5, None, 2.5]}, index=[7, 3, 9])
    frame.to_parquet(tmp_path / "small.parquet")
    read = read_source(project)
    pd.testing.assert_frame_equal(read, frame.reset_index(drop=True))


def test_missing_file_says_where_it_looked(make_project: MakeProject, tmp_path: Path) -> None:
    project = make_project()
    (tmp_path / "small.csv").unlink()
    for act in (read_source, source_digest):
        with pytest.raises(SourceError, match=r"no file .*small\.csv.*--source"):
            act(project)


def test_a_folder_is_its_files_of_the_format(make_project: MakeProject, tmp_path: Path) -> None:
    project = make_project()
    rows = len(read_source(project))
    (tmp_path / "more.csv").write_bytes((tmp_path / "small.csv").read_bytes())
    assert len(read_source(project.with_source(tmp_path))) == 2 * rows


def test_unknown_encoding(make_project: MakeProject) -> None:
    project = make_project(source={"path": "small.csv", "encoding": "utf-99"})
    with pytest.raises(SourceError, match=r"source\.encoding"):
        read_source(project)


def test_another_encoding_and_separator(make_project: MakeProject, tmp_path: Path) -> None:
    project = make_project(source={"path": "small.csv", "encoding": "latin-1", "separator": ";"})
    content = "customer;age;visits;city;bought\n1;2;3;Århus;1\n"
    (tmp_path / "small.csv").write_bytes(content.encode("latin-1"))
    assert read_source(project)["city"].tolist() == ["Århus"]


def test_parquet(make_project: MakeProject, tmp_path: Path) -> None:
    project = make_project(source={"path": "small.parquet", "format": "parquet"})
    frame = pd.read_csv(tmp_path / "small.csv")
    frame.to_parquet(tmp_path / "small.parquet", index=False)
    pd.testing.assert_frame_equal(read_source(project), frame)
    (tmp_path / "small.parquet").write_bytes(b"PAR1 but not really")
    with pytest.raises(SourceError, match="cannot read it"):
        read_source(project)


def test_a_packaged_file_is_found_without_importing_its_package(
    make_project: MakeProject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "carrier_of_data"
    (package / "inside").mkdir(parents=True)
    (package / "__init__.py").write_text("raise RuntimeError('imported')")
    (package / "inside" / "file.csv").write_text("a\n1\n")
    monkeypatch.syspath_prepend(tmp_path)
    importlib.invalidate_caches()
    project = make_project().with_source("package://carrier_of_data/inside/file.csv")
    assert read_source(project)["a"].tolist() == ["1"]
    assert "carrier_of_data" not in sys.modules


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("package://not_installed_at_all/x.csv", "'not_installed_at_all' is not installed"),
        ("package://statsmodels/no/such.csv", "has no file 'no/such.csv'"),
    ],
)
def test_packaged_file_that_is_not_there(make_project: MakeProject, path: str, says: str) -> None:
    with pytest.raises(SourceError, match=says):
        open_source(make_project().with_source(path)).parts()


def test_digest_follows_the_bytes(source: Callable[[bytes], Project]) -> None:
    first = source_digest(source(HEADER + b"1,2,3,Rome,1\n"))
    assert first != source_digest(source(HEADER + b"1,2,3,Rome,0\n"))
    assert first == source_digest(source(HEADER + b"1,2,3,Rome,1\n"))
