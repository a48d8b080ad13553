"""The records of many requests at once, out of their JSON as it came.

Arrow reads them beside the interpreter: requests are answered meanwhile, and none of the objects
they were made of has to be kept for the log.
"""

from collections.abc import Mapping, Sequence

import pyarrow as pa

from lifecycle.lake.column_types import storage_type
from lifecycle.lake.prediction_log import ARROW
from lifecycle.project import ColumnSpec
from lifecycle.serving.wire import Asked

ROW_BYTES = 4096
"""A body that has more of them a row is not kept as it came: it may be mostly blanks."""


def light(asked: Asked) -> Asked:
    """What the log needs of a request, in little memory."""
    if not asked.body:
        return asked
    if len(asked.body) > asked.rows * ROW_BYTES:
        return asked._replace(body=b"")
    return Asked(asked.rows, body=asked.body)


def read(asked: Sequence[Asked], inputs: Mapping[str, ColumnSpec]) -> dict[str, pa.Array] | None:
    """The columns of requests that have kept their bodies; None if JSON and contract disagree.

    A moment in time is text still. What is not there is null.
    """
    from pyarrow import json  # the first second of the log, not the replica's start

    rows = pa.struct([(name, _type(spec)) for name, spec in inputs.items()])
    lines = pa.py_buffer(b"\n".join(one.body.replace(b"\n", b" ") for one in asked))
    try:
        table = json.read_json(
            pa.BufferReader(lines),
            read_options=json.ReadOptions(use_threads=False, block_size=lines.size + 1),
            parse_options=json.ParseOptions(
                explicit_schema=pa.schema([("records", pa.list_(rows))]),
                unexpected_field_behavior="ignore",
            ),
        )
    except pa.ArrowException:
        return None
    records = pa.concat_arrays(table.column("records").chunks).flatten()
    if len(records) != sum(one.rows for one in asked):
        return None
    return dict(zip(inputs, records.flatten(), strict=True))


def _type(spec: ColumnSpec) -> pa.DataType:
    kind = storage_type(spec)
    return pa.string() if kind == "datetime" else ARROW[kind]
