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
from lifecycle.runtime.traces import below
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
            traced = below(partial(_work_on, work=work), f"{stage} of rows")
            rows = rows_of(items.flat_map(traced), stage)
        for row in rows:
            if row["error"] is not None:
                raise row["error"]
            yield pa.ipc.open_stream(row["rows"]).read_all()


def _rows_by_tasks(
    stretches: list[dict[str, Any]], work: Work, stage: str
) -> Iterator[dict[str, Any]]:
    """The same by plain tasks, which Ray Client knows: Ray Data has to be called on a node.

    As many stretches are under way as the cluster has CPUs; results come in their order.
    """
    import ray
    from ray.exceptions import RayError as AnyRayError
    from ray.exceptions import RayTaskError

    remote: Any = ray.remote(num_cpus=1)(below(_list_of, f"{stage} of rows"))
    cpus: float = ray.cluster_resources().get("CPU", 1)  # type: ignore[no-untyped-call]  # Ray's
    running: deque[Any] = deque()
    queue = iter(stretches)
    try:
        running.extend(remote.remote(stretch, work) for stretch in islice(queue, max(1, int(cpus))))
        while running:
            rows: list[dict[str, Any]] = ray.get(running.popleft())
            running.extend(remote.remote(stretch, work) for stretch in islice(queue, 1))
            yield from rows
    except RayTaskError:  # not an error of ours, so its trace is wanted
        raise
    except (AnyRayError, ConnectionError) as error:
        raise RayError(f"{stage}: Ray gave up ({ray_reason(error)}); run again") from None


def _list_of(stretch: dict[str, Any], work: Work) -> list[dict[str, Any]]:
    return list(_work_on(stretch, work))


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
