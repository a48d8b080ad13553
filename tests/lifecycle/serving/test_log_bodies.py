"""Requests kept as their JSON are logged as the same requests kept as records are."""

from collections.abc import Callable
from typing import Any

import orjson
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lifecycle.project import ColumnSpec, Project
from lifecycle.serving.prediction_log import ROW_BYTES, Entry, LogRows, light, read_bodies
from lifecycle.serving.protocols import plain
from lifecycle.serving.records import PredictionRequest
from tests.support.log_writer import said

INPUTS = {
    "age": ColumnSpec(type="number", nullable=True),
    "visits": ColumnSpec(type="integer", nullable=True),
    "city": ColumnSpec(type="category", categories=("Rome", "Oslo", "Lima"), nullable=True),
}
ODD = st.one_of(st.none(), st.booleans(), st.integers(-(2**52), 2**52), st.text(max_size=5))
RECORD = st.fixed_dictionaries(
    {},
    optional={
        "age": st.one_of(st.floats(allow_nan=False, allow_infinity=False), ODD),
        "visits": st.one_of(st.integers(-(2**53), 2**53), ODD),
        "city": st.one_of(st.sampled_from(["Rome", "Oslo", 'with "quotes"\n']), ODD),
        "unknown": ODD,
    },
)
REQUEST = st.lists(RECORD, min_size=1, max_size=3)


def entries(requests: list[list[dict[str, Any]]], pretty: bool) -> list[Entry]:
    option = orjson.OPT_INDENT_2 if pretty else None
    bodies = [orjson.dumps({"records": records}, option=option) for records in requests]
    return [
        Entry(f"r{at}", at, 1, said(f"r{at}", [0.5] * len(records)), "", None, plain.read(body, 9))
        for at, (records, body) in enumerate(zip(requests, bodies, strict=True))
    ]


@pytest.mark.parametrize("pretty", [False, True])
def test_bodies_and_records_give_the_same_rows(
    make_project: Callable[..., Project], pretty: bool
) -> None:
    rows = LogRows(make_project(), b"k" * 32)

    @given(st.lists(REQUEST, min_size=1, max_size=4))
    @settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
    def compare(requests: list[list[dict[str, Any]]]) -> None:
        kept = entries(requests, pretty)
        as_records = [one._replace(request=one.request._replace(body=b"")) for one in kept]
        as_bodies = [one._replace(request=light(one.request)) for one in kept]
        assert rows.table(as_bodies).equals(rows.table(as_records))

    compare()


def test_bodies_as_promised_are_read_without_making_objects() -> None:
    records = [{"age": 41, "visits": 3, "city": "Rome"}, {"age": 1e3, "city": None}]
    kept = [one.request for one in entries([records, records[:1]], pretty=True)]
    found = read_bodies(kept, INPUTS)
    assert found is not None
    assert found["age"].equals(pa.array([41.0, 1000.0, 41.0]))
    assert found["visits"].to_pylist() == [3, None, 3]
    assert found["city"].to_pylist() == ["Rome", None, "Rome"]


@pytest.mark.parametrize("age", [b'"41"', b"true", b'1, "age": 2', b"[1]"])
def test_bodies_that_disagree_with_the_contract_are_left_to_the_other_way(age: bytes) -> None:
    asked = PredictionRequest(1, body=b'{"records": [{"age": ' + age + b"}]}")
    assert read_bodies([asked], INPUTS) is None


def test_what_is_kept_is_small() -> None:
    [entry] = entries([[{"age": 1}]], pretty=False)
    assert light(entry.request) == PredictionRequest(1, body=entry.request.body)
    padded = entry.request._replace(body=entry.request.body + b" " * ROW_BYTES)
    assert light(padded) == PredictionRequest(1, [{"age": 1}])
