"""Stretches of rows by plain tasks, where a flow is not on a node of the cluster."""

import sys
from collections.abc import Iterator
from types import ModuleType, SimpleNamespace
from typing import Any

import pyarrow as pa
import pytest

from lifecycle.errors import RayError
from lifecycle.lake import stretches


@pytest.fixture
def ray(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A `ray` of two CPUs whose tasks run when they are asked for."""
    module, errors = ModuleType("ray"), ModuleType("ray.exceptions")
    module.__dict__.update(
        remote=lambda **_: lambda function: SimpleNamespace(remote=function),
        get=lambda rows: rows,
        cluster_resources=lambda: {"CPU": 2.0},
    )
    errors.__dict__.update(RayError=OSError, RayTaskError=ArithmeticError)
    monkeypatch.setitem(sys.modules, "ray", module)
    monkeypatch.setitem(sys.modules, "ray.exceptions", errors)
    return module


def work(first: int, end: int) -> Iterator[pa.Table]:
    yield pa.table({"row": list(range(first, end))})


def test_every_stretch_comes_once_and_in_order(ray: Any) -> None:
    parts = [{"first": at, "end": at + 3} for at in range(0, 15, 3)]
    rows = stretches._rows_by_tasks(parts, work, "scoring")
    tables = [pa.ipc.open_stream(row["rows"]).read_all() for row in rows]
    assert pa.concat_tables(tables)["row"].to_pylist() == list(range(15))


def test_a_lost_connection_ends_with_one_line(ray: Any) -> None:
    def lost(_: Any) -> None:
        raise ConnectionError("the client is disconnected")

    ray.get = lost
    with pytest.raises(RayError, match=r"^scoring: Ray gave up \(the client is disconnected\);"):
        list(stretches._rows_by_tasks([{"first": 0, "end": 3}], work, "scoring"))
