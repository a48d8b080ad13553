"""Delta tables: a given version, partitions, younger columns, only what is later."""

from datetime import datetime
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import write_deltalake

from lifecycle.data.sources import open_source
from lifecycle.errors import SourceError
from lifecycle.project import Project
from tests.support.makers import project_of
from tests.support.places import Rows, rows, table


def read(project: Project, after: object = None) -> Rows:
    batches = open_source(project).batches(project.contract.columns, after=after)
    return [row for batch in batches for row in batch.to_pylist()]


def test_a_given_version(tmp_path: Path) -> None:
    for count in (3, 5):
        write_deltalake(str(tmp_path / "t"), table(rows(count)), mode="overwrite")
    spec = {"format": "delta", "path": "t"}
    assert read(project_of(tmp_path, spec)) == rows(5)
    old = project_of(tmp_path, {**spec, "version": 0})
    assert read(old) == rows(3)
    assert [part.name for part in open_source(old).parts()] == ["t@0"]
    with pytest.raises(
        SourceError, match=r"cannot read it: .*See that source\.version 7 is there$"
    ):
        read(project_of(tmp_path, {**spec, "version": 7}))


def test_partitions_and_columns_that_came_later(tmp_path: Path) -> None:
    place = str(tmp_path / "t")
    early = table(rows(6)).drop_columns(["weight"])
    write_deltalake(place, early, partition_by=["city"])
    write_deltalake(place, table(rows(6, 6)), mode="append", schema_mode="merge")
    found = sorted(
        read(project_of(tmp_path, {"format": "delta", "path": "t"})), key=lambda r: r["id"]
    )
    assert found == [row | {"weight": None} for row in rows(6)] + rows(6, 6)


@pytest.mark.parametrize(("column", "after"), [("id", 6), ("seen", datetime(2024, 3, 1, 18, 30))])
@pytest.mark.parametrize("zone", [None, "UTC"])
def test_only_what_is_later(tmp_path: Path, column: str, after: object, zone: str | None) -> None:
    data = table(rows(12))
    seen = data["seen"].cast(pa.timestamp("us", zone))
    place = data.schema.get_field_index("seen")
    write_deltalake(str(tmp_path / "t"), data.set_column(place, "seen", seen))
    spec = {"format": "delta", "path": "t", "incremental": {"by": "watermark", "column": column}}
    project = project_of(tmp_path, spec)
    assert read(project, after) == [row for row in rows(12)[7:] if row[column] is not None]
    assert read(project, 99 if column == "id" else datetime(2030, 1, 1)) == []
