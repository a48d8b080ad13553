"""Requests: what is refused, how it is said, and that what is accepted equals training's types."""

import json
import shlex
import subprocess
from typing import Any

import numpy as np
import pandas as pd
import pytest

from lifecycle.errors import RequestError
from lifecycle.project import ColumnSpec
from lifecycle.serving.records import MAX_PROBLEMS_SHOWN, curl_command, to_frame, to_records

INPUTS = {
    "age": ColumnSpec(type="integer", minimum=0, maximum=120),
    "income": ColumnSpec(type="number", nullable=True),
    "member": ColumnSpec(type="boolean"),
    "city": ColumnSpec(type="category", categories=("Rome", "Oslo")),
    "plan": ColumnSpec(type="category", categories=(1, 2, 3)),
    "note": ColumnSpec(type="string", nullable=True),
    "since": ColumnSpec(type="datetime"),
    "visits": ColumnSpec(type="integer", nullable=True),
}
ROW: dict[str, Any] = {
    "age": 41,
    "income": 1234.5,
    "member": True,
    "city": "Rome",
    "plan": 2,
    "note": "x",
    "since": "2024-05-01T12:00:00",
    "visits": 3,
}


def test_a_good_row_has_the_types_of_training() -> None:
    frame = to_frame([ROW], INPUTS)
    assert list(frame) == list(INPUTS)
    assert [str(t) for t in frame.dtypes] == [
        "int64",
        "float64",
        "bool",
        "object",
        "int64",
        "object",
        "datetime64[us]",
        "Int64",
    ]
    assert to_records(frame) == [ROW]


def test_null_where_the_contract_allows_it() -> None:
    frame = to_frame([ROW | {"income": None, "note": None, "visits": None}], INPUTS)
    assert frame[["income", "note", "visits"]].isna().all(axis=None)
    assert to_records(frame) == [ROW | {"income": None, "note": None, "visits": None}]


def test_the_order_of_fields_and_three_point_zero_do_not_matter() -> None:
    changed = dict(reversed(list((ROW | {"age": 41.0, "income": 7}).items())))
    frame = to_frame([changed], INPUTS)
    assert list(frame) == list(INPUTS)
    assert frame["age"][0] == 41
    assert frame["age"].dtype == np.int64


def test_a_time_with_a_zone_becomes_utc() -> None:
    frame = to_frame([ROW | {"since": "2024-05-01T12:00:00+02:00"}], INPUTS)
    assert frame["since"][0] == pd.Timestamp("2024-05-01T10:00:00")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"age": "41"}, 'row 0: age: must be a whole number, got "41"'),
        ({"age": 41.5}, "row 0: age: must be a whole number, got 41.5"),
        ({"age": True}, "row 0: age: must be a whole number, got true"),
        ({"age": None}, "row 0: age: must not be null"),
        ({"age": 121}, "row 0: age: must be at most 120, got 121"),
        ({"age": -1}, "row 0: age: must be at least 0, got -1"),
        ({"age": 10**30}, "row 0: age: must be a whole number"),
        ({"income": "much"}, 'row 0: income: must be a finite number, got "much"'),
        (
            {"income": "1.234,5"},
            'row 0: income: must be a finite number, got "1.234,5", which is text: send a JSON',
        ),
        ({"income": 10**400}, "row 0: income: must be a finite number"),
        ({"income": [1]}, r"row 0: income: must be a finite number, got \[1\]"),
        ({"member": 1}, "row 0: member: must be true or false, got 1"),
        ({"city": "Lima"}, "row 0: city: must be one of 'Rome', 'Oslo'; got 'Lima'"),
        ({"city": 1}, "row 0: city: must be text, got 1"),
        ({"plan": "2"}, 'row 0: plan: must be a whole number, got "2"'),
        ({"plan": True}, "row 0: plan: must be a whole number, got true"),
        ({"note": 5}, "row 0: note: must be text, got 5"),
        ({"since": "yesterday"}, "row 0: since: must be an ISO 8601 date or time"),
        ({"since": 20240501}, "row 0: since: must be an ISO 8601 date or time"),
        ({"shoe": 44}, "row 0: shoe: unknown field"),
    ],
)
def test_what_is_refused_and_how(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(RequestError, match=message):
        to_frame([ROW | changes], INPUTS)


def test_a_missing_field_is_named_with_its_row() -> None:
    short = {k: v for k, v in ROW.items() if k != "city"}
    with pytest.raises(RequestError, match=r"^row 1: city: this field is missing$"):
        to_frame([ROW, short], INPUTS)


def test_many_problems_are_listed_up_to_a_limit() -> None:
    with pytest.raises(RequestError) as caught:
        to_frame([ROW | {"age": "x", "shoe": 1} for _ in range(1000)], INPUTS)
    lines = str(caught.value).splitlines()
    assert len(lines) == MAX_PROBLEMS_SHOWN + 1
    assert lines[0].startswith("row 0: age")
    assert lines[-1].startswith("… and")


def test_the_curl_command_survives_a_shell() -> None:
    rows = pd.DataFrame({"city": ["L'Aquila $HOME `x`"], "age": [None]})
    words = shlex.split(curl_command("http://127.0.0.1:1/p", rows))
    assert words[:3] == ["curl", "-s", "http://127.0.0.1:1/p/predict"]
    echoed = subprocess.run(
        ["sh", "-c", curl_command("U", rows).replace("curl", "printf '%s\\n'", 1)],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    assert json.loads(echoed[-1]) == {"records": to_records(rows)}
