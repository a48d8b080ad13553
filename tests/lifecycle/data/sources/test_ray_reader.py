"""Files read by the nodes of a real Ray cluster, one of which is killed meanwhile."""

import os
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from lifecycle.data.ingest import ingest
from lifecycle.data.sources import Spread, open_source, spread
from lifecycle.data.sources.files import Files
from lifecycle.lake.read import read_table
from lifecycle.project import ColumnSpec, Project
from lifecycle.records import Window
from lifecycle.settings import Settings
from tests.support.makers import project_of
from tests.support.nodes import Nodes, driver, nodes
from tests.support.places import Rows, encode, rows

FILES, EACH = 8, 500
SECONDS = 1.0
"""What reading a file takes, so that no node reads them all."""
READERS = "readers.txt"


class Slow(Files):
    """Says which node reads a file; a raylet is the parent of its workers."""

    def read(
        self, name: str, columns: Mapping[str, ColumnSpec], subset: Collection[str] | None = None
    ) -> Iterator[pa.RecordBatch]:
        with (self._folder / READERS).open("a") as said:
            said.write(f"{os.getppid()}\n")
        time.sleep(SECONDS)
        yield from super().read(name, columns, subset)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Nodes]:
    with nodes(3) as running:
        yield running


@pytest.fixture(scope="module")
def on_cluster(cluster: Nodes) -> Iterator[Callable[..., Any]]:
    with driver(cluster) as call:
        yield call


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """Eight files; a cell of the last one makes its column text there."""
    for at in range(FILES):
        data = rows(EACH, at * EACH)
        if at == FILES - 1:
            data[3]["visits"] = "many"
        (tmp_path / f"{at}.csv").write_bytes(encode("csv", data))
    return project_of(tmp_path, {"path": "*.csv"}, max_rejected_share=0.01)


def read(project: Project, settings: Settings) -> Rows:
    source = Spread(Slow(project.source, project.folder), settings)
    batches = source.batches(project.contract.columns)
    return [row for batch in batches for row in batch.to_pylist()]


def readers(project: Project) -> set[int]:
    said = project.folder / READERS
    return set(map(int, said.read_text().split())) if said.exists() else set()


@pytest.mark.system
@pytest.mark.alone
def test_the_nodes_share_the_files_and_the_version_is_the_same(
    project: Project, cluster: Nodes, on_cluster: Callable[..., Any], tmp_path: Path
) -> None:
    joined = Settings(home=tmp_path / "joined", ray_address=cluster.address)
    alone = open_source(project).batches(project.contract.columns)
    assert on_cluster(read, project, joined) == [row for b in alone for row in b.to_pylist()]
    assert len(readers(project) & set(cluster.raylets[1:])) > 1
    assert readers(project) <= set(cluster.raylets)
    theirs = on_cluster(ingest, project, joined, Window())
    ours = ingest(project, Settings(home=tmp_path / "alone"), Window())
    assert (ours.rows_in, ours.rows_rejected) == (FILES * EACH, 1)
    assert theirs.dataset.digest == ours.dataset.digest
    assert theirs.rejected.digest == ours.rejected.digest
    assert read_table(theirs.dataset).equals(read_table(ours.dataset))


@pytest.mark.system
@pytest.mark.alone
def test_a_node_that_is_killed_costs_no_row(
    project: Project, cluster: Nodes, on_cluster: Callable[..., Any], tmp_path: Path
) -> None:
    joined = Settings(home=tmp_path, ray_address=cluster.address)
    killed: list[int] = []

    is_over = threading.Event()

    def kill_one() -> None:
        while not (found := readers(project) & set(cluster.raylets[1:])):
            if is_over.wait(0.05):
                return
        killed.append(min(found))
        cluster.kill(killed[0])

    killer = threading.Thread(target=kill_one)
    killer.start()
    try:
        found = on_cluster(read, project, joined)
    finally:
        is_over.set()
        killer.join()
    alone = open_source(project).batches(project.contract.columns)
    assert killed
    assert found == [row for b in alone for row in b.to_pylist()]


@pytest.mark.parametrize(
    ("settings", "spec", "shared"),
    [
        ({}, {}, False),
        ({"ray_address": "head:6379"}, {}, True),
        ({"ray_address": "head:6379", "lake_uri": "s3://lake"}, {}, False),
        (
            {"ray_address": "head:6379", "lake_uri": "s3://lake"},
            {"path": "s3://bucket/*.csv", "options": {"anon": True}},
            True,
        ),
        ({"ray_address": "head:6379"}, {"path": "rows.db", "format": "delta"}, False),
    ],
)
def test_where_a_source_is_read(
    settings: dict[str, Any], spec: dict[str, Any], shared: bool, project: Project
) -> None:
    source = open_source(project, project.source.model_copy(update=spec))
    assert isinstance(spread(source, Settings(**settings)), Spread) == shared
