"""Rows of a version, worked on by stretches of their numbers where Ray has room."""

from collections import deque
from collections.abc import Callable, Generator, Iterator
from functools import partial
from itertools import islice
from typing import Any

import pyarrow as pa

from lifecycle.errors import LifecycleError, RayError, ray_reason
from lifecycle.lake.read import numbers_end
from lifecycle.project import Project
from lifecycle.records import DatasetVersion
from lifecycle.runtime.cluster import connect_ray, ray_data, rows_of
from lifecycle.runtime.remote_driver import is_remote
from lifecycle.settings import Settings

STRETCH = 500_000
"""Row numbers that one task of Ray Data has."""
Work = Callable[[int, int], Iterator[pa.Table]]
"""Makes tables of the rows with numbers from one on up to another one."""


def is_for_ray(rows: int, project: Project, settings: Settings) -> bool:
    """Tell whether so many rows are worked on by Ray Data.

    A Ray of this machine has no room that this process has not, and takes a gigabyte for itself.
    """
    return rows > project.scoring.ray_data_above_rows and not settings.local_ray


def on_ray(
    version: DatasetVersion, work: Work, settings: Settings, stage: str
) -> Generator[pa.Table]:
    """Tables that are made of a version's rows where Ray has room, brought back in order.

    Args:
        work: what runs there; it and all that it holds can be pickled.
        stage: what is under way, for messages.

    Raises:
        LifecycleError: whatever `work` raised.
        RayError: Ray cannot be joined, or a process or node of it is gone for good.
    """
    end = numbers_end(version)
    stretches = [
        {"first": first, "end": min(first + STRETCH, end)} for first in range(0, end, STRETCH)
    ]
    if not stretches:
        return
    with connect_ray(settings):
        if is_remote():
            rows = _rows_by_tasks(stretches, work, stage)
        else:
            items = ray_data().from_items(stretches, override_num_blocks=len(stretches))
            rows = rows_of(items.flat_map(partial(_work_on, work=work)), stage)
        for row in rows:
            if row["error"] is not None:
                raise row["error"]
            yield pa.ipc.open_stream(row["rows"]).read_all()


def _work_on(stretch: dict[str, Any], work: Work) -> Iterator[dict[str, Any]]:
    """Run the work, in a process of Ray's.

    Tables travel as Arrow streams, and an error of ours is returned: raised, Ray would wrap it in
    its own and print it.
    """
    try:
        for table in work(stretch["first"], stretch["end"]):
            yield {"rows": _packed(table), "error": None}
    except LifecycleError as error:
        yield {"rows": b"", "error": error}


def _packed(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table)
    return bytes(sink.getvalue())
