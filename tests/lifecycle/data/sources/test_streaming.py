"""Large sources: in order, in batches, and never in memory as a whole."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
import sqlalchemy as sa
from deltalake import write_deltalake

from lifecycle.data.sources import open_source
from lifecycle.data.sources.files import Files
from lifecycle.project import SourceSpec
from tests.support.makers import project_of

ROWS = 400_000
MOST_BYTES = 100 << 20
"""Of Arrow at any time; the rows take more than 300 MB."""
FILL = "some text to fill the row with, " * 8


def _table() -> pa.Table:
    numbers = np.random.default_rng(5).normal(size=ROWS)
    text = pa.array([f"{FILL}{n}" for n in range(ROWS)])
    columns = {"id": np.arange(ROWS), "weight": numbers, "note": text, "code": text, "city": text}
    return pa.table(columns)


def _csv(table: pa.Table, folder: Path) -> dict[str, str]:
    pa.csv.write_csv(table, folder / "in.csv")
    return {"path": "in.csv"}


def _parquet(table: pa.Table, folder: Path) -> dict[str, str]:
    pq.write_table(table, folder / "in.parquet", row_group_size=ROWS)
    return {"path": "in.parquet", "format": "parquet"}


def _jsonl(table: pa.Table, folder: Path) -> dict[str, str]:
    with (folder / "in.jsonl").open("w") as file:
        for n in range(ROWS):
            file.write(f'{{"id": {n}, "code": "{FILL}{n}", "note": "{FILL}", "weight": {n / 7}}}\n')
    return {"path": "in.jsonl", "format": "jsonl"}


def _delta(table: pa.Table, folder: Path) -> dict[str, str]:
    write_deltalake(str(folder / "in"), table)
    return {"path": "in", "format": "delta"}


def _function(table: pa.Table, folder: Path) -> dict[str, str]:
    pq.write_table(table, folder / "in.parquet", row_group_size=ROWS // 8)
    code = f"ParquetFile({str(folder / 'in.parquet')!r}).iter_batches(200_000)"
    text = f"from pyarrow.parquet import ParquetFile\ndef rows():\n    return {code}\n"
    (folder / "big.py").write_text(text)
    return {"format": "python", "function": "big:rows"}


@pytest.fixture(scope="module")
def table() -> pa.Table:
    return _table()


@pytest.mark.parametrize("write", [_csv, _parquet, _jsonl, _delta, _function])
def test_files_and_tables_stream(
    table: pa.Table, tmp_path: Path, write: Callable[[pa.Table, Path], dict[str, str]]
) -> None:
    project = project_of(tmp_path, write(table, tmp_path))
    source = open_source(project)
    source.parts()
    before, most, next_row, batches = pa.total_allocated_bytes(), 0, 0, 0
    for batch in source.batches(project.contract.columns):
        assert batch.num_rows <= 65_536
        assert batch["id"][0].as_py() == next_row
        next_row += batch.num_rows
        batches += 1
        most = max(most, pa.total_allocated_bytes() - before)
    assert next_row == ROWS
    assert batches > ROWS // 65_536
    assert most < MOST_BYTES, f"{most >> 20} MB"


@pytest.mark.parametrize("options", [{}, {"pool_pre_ping": True}])
def test_a_database_streams(
    database: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    options: dict[str, bool],
) -> None:
    monkeypatch.setenv("WAREHOUSE_URL", database)
    query = "SELECT n AS id, repeat('x', 200) || n AS code FROM generate_series(0, 149999) AS n"
    spec = {"format": "sql", "query": query, "credentials": "WAREHOUSE_URL", "options": options}
    project = project_of(tmp_path, spec)
    source = open_source(project)
    before, most, found = pa.total_allocated_bytes(), 0, []
    for batch in source.batches(project.contract.columns):
        assert batch.num_rows <= 65_536
        most = max(most, pa.total_allocated_bytes() - before)
        found.append(batch["id"])
    assert np.array_equal(np.concatenate(found), np.arange(150_000))
    assert len(found) > 2
    assert most < MOST_BYTES


def test_a_big_sqlite_answer_comes_in_batches(tmp_path: Path) -> None:
    engine = sa.create_engine(f"sqlite:///{tmp_path}/n.db")
    engine.connect().close()
    engine.dispose()
    query = (
        "WITH RECURSIVE n(id) AS (SELECT 0 UNION ALL SELECT id + 1 FROM n WHERE id < 69999) "
        "SELECT id, printf('%03d', id) AS code FROM n"
    )
    (tmp_path / "n.db").touch()
    project = project_of(tmp_path, {"format": "sql", "query": query, "path": "sqlite:///n.db"})
    sizes = [b.num_rows for b in open_source(project).batches(project.contract.columns)]
    assert sizes == [65_536, 70_000 - 65_536]


def test_a_wide_file_comes_in_few_batches(tmp_path: Path) -> None:
    """Each costs something a column: of seventy rows each, time grew with the square of those."""
    names = [f"x{at}" for at in range(1_000)]
    row = ",".join(["0.123456"] * len(names))
    (tmp_path / "wide.csv").write_text("\n".join([",".join(names), *[row] * 1_000]) + "\n")
    source = Files(SourceSpec(path="wide.csv"), tmp_path)
    sizes = [batch.num_rows for batch in source.batches({})]
    assert sum(sizes) == 1_000
    assert len(sizes) <= 2
