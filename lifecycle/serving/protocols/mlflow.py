"""MLflow's scoring protocol, as `mlflow models serve` speaks it for the same registered model.

POST /invocations   JSON with exactly one of
                    dataframe_split    {"columns": […], "data": [[…], …]}
                    dataframe_records  [{column: value, …}, …]
                    instances, inputs  records, rows in the schema's order, or {column: [values]}
                    or text/csv with a header line
200 {"predictions": [0.73, …]}, multiclass [[0.2, 0.8], …]; version and prediction id as headers
GET  /ping, /version
"""

import csv
import re
from collections.abc import Collection, Iterable, Mapping
from email.message import Message
from functools import cache
from importlib.metadata import version
from io import StringIO
from typing import Any

import orjson

from lifecycle.errors import MalformedRequestError, RequestError
from lifecycle.lake.column_types import coerce
from lifecycle.project import ColumnSpec
from lifecycle.serving.body import check_columns, check_records, check_rows, load_object
from lifecycle.serving.records import Answer, Headers, PredictionRequest

FieldNames = Collection[str] | None
KEYS = ("dataframe_split", "dataframe_records", "instances", "inputs")
SHAPE = f"an object with one of {', '.join(KEYS)}"
JSON, CSV = "application/json", "text/csv"
UTF_8 = ("utf-8", "utf8")
JSON_TYPES = frozenset({JSON, "application/x-www-form-urlencoded", "application/octet-stream"})
"""Content types read as JSON: `curl -d` sends the second if nobody says otherwise."""
NAN = re.compile(rb'"(?:[^"\\]|\\.)*+"?|NaN', re.DOTALL)
"""A text, so that a NaN in it is left alone, or a NaN."""


def read(
    body: bytes,
    headers: Headers,
    inputs: Mapping[str, ColumnSpec],
    max_rows: int,
    fields: Collection[str] | None = None,
) -> PredictionRequest:
    """The rows of a scoring request.

    NaN, which MLflow's own clients write for a missing number, is taken as null.

    Args:
        inputs: the model's columns, in order.
        fields: columns that are looked at, where others are ignored; None is all.

    Raises:
        MalformedRequestError: neither JSON nor CSV, or none of the protocol's shapes.
        RequestTooLargeError: too many rows, or too deep.
        RequestError: no row, or a value that is a list or an object.
    """
    if _content_type(headers) == CSV:
        return _read_csv(body, inputs, max_rows)
    if b"NaN" in body:
        body = NAN.sub(lambda match: b"null" if match[0] == b"NaN" else match[0], body)
    request = load_object(body, SHAPE)
    if "params" in request:
        raise RequestError("params: the model has none; leave them out")
    if len(request) != 1 or (key := next(iter(request))) not in KEYS:
        raise MalformedRequestError(
            f"the body must be {SHAPE}; got {', '.join(request)[:100] or 'an empty one'}"
        )
    content = request[key]
    if key == "dataframe_records":
        return _from_records(content, max_rows, key, fields)
    if key == "dataframe_split":
        return _from_split(content, max_rows, key, fields)
    if type(content) is dict:
        return _from_columns(content, max_rows, key, fields)
    if type(content) is list and content and type(content[0]) is list:
        return _from_rows(content, list(inputs), max_rows, key, fields)
    return _from_records(content, max_rows, key, fields)


def write(answer: Answer) -> bytes:
    """Write MLflow's answer: one number per row, or for multiclass one probability per class."""
    content = {"predictions": answer.predictions}
    return orjson.dumps(
        content, default=lambda values: values.tolist(), option=orjson.OPT_SERIALIZE_NUMPY
    )


def answer_headers(answer: Answer) -> list[tuple[bytes, bytes]]:
    """Build headers with model version and prediction id, for which MLflow's JSON has no field."""
    return [
        (b"x-model-version", b"%d" % answer.model.version),
        (b"x-prediction-id", answer.id.encode()),
    ]


@cache
def mlflow_version() -> bytes:
    """The answer of GET /version: that of MLflow, as its own server says; `text/plain`."""
    return version("mlflow").encode()


def ping() -> bytes:
    """The answer of GET /ping; of a server that is not ready, with status 503."""
    return b"\n"


def _content_type(headers: Headers) -> str:
    if headers.get(b"content-type", b"") in (b"", b"application/json"):
        return JSON
    message = Message()
    message["content-type"] = headers[b"content-type"].decode("latin-1")
    kind = message.get_content_type()
    if kind != CSV and kind not in JSON_TYPES:
        raise MalformedRequestError(f"content-type: must be {JSON} or {CSV}, got {kind[:60]!r}")
    if (charset := str(message.get_param("charset", "utf-8"))).lower() not in UTF_8:
        raise MalformedRequestError(f"content-type: only utf-8 is supported, got {charset[:60]!r}")
    return kind


def _from_records(content: Any, max_rows: int, key: str, fields: FieldNames) -> PredictionRequest:
    records = check_records(content, max_rows, key, fields)
    return PredictionRequest(len(records), records)


def _from_split(content: Any, max_rows: int, key: str, fields: FieldNames) -> PredictionRequest:
    if type(content) is not dict or not {"columns", "data"} <= content.keys():
        raise MalformedRequestError(f'{key}: must be {{"columns": […], "data": [[…], …]}}')
    if extra := content.keys() - {"columns", "data", "index"}:
        raise MalformedRequestError(f"{key}: unknown key {min(extra)[:60]!r}")
    return _from_rows(content["data"], content["columns"], max_rows, key, fields)


def _from_rows(
    data: Any, columns: Any, max_rows: int, key: str, fields: FieldNames
) -> PredictionRequest:
    """Rows as lists of values, in the order of `columns`."""
    if type(columns) is not list or not all(type(name) is str for name in columns):
        raise MalformedRequestError(f"{key}: columns must be a list of names")
    if len(set(columns)) < len(columns):
        raise MalformedRequestError(f"{key}: a column is named twice")
    if type(data) is not list:
        raise MalformedRequestError(f"{key}: must be a list of rows")
    check_rows(len(data), max_rows, key)
    for row, values in enumerate(data):
        if type(values) is not list or len(values) != len(columns):
            length_text = f"{len(values)} values" if type(values) is list else "no list"
            raise MalformedRequestError(
                f"{key}: row {row}: must be {len(columns)} values ({', '.join(columns)[:100]}), "
                f"got {length_text}"
            )
    by_name = dict(zip(columns, map(list, zip(*data, strict=True)), strict=True))
    check_columns(by_name, max_rows, key, fields)
    return PredictionRequest(len(data), None, by_name)


def _from_columns(
    content: dict[str, Any], max_rows: int, key: str, fields: FieldNames
) -> PredictionRequest:
    """A list of values a column; or one value each, which is one row."""
    if content and not any(type(values) is list for values in content.values()):
        return _from_records([content], max_rows, key, fields)
    return PredictionRequest(check_columns(content, max_rows, key, fields), None, content)


def _read_csv(body: bytes, inputs: Mapping[str, ColumnSpec], max_rows: int) -> PredictionRequest:
    try:
        text = body.decode("utf-8-sig")
        columns, data = _csv_rows(csv.reader(StringIO(text, newline=""), strict=True), max_rows)
    except UnicodeDecodeError:
        raise MalformedRequestError("the body is not UTF-8") from None
    except csv.Error as error:
        raise MalformedRequestError(f"the body is not CSV: {error}") from None
    request = _from_rows(data, columns, max_rows, "csv", None)
    cells = request.columns or {}
    typed = {name: _typed(list(cells[name]), inputs.get(name)) for name in cells}
    return request._replace(columns=typed)


def _csv_rows(lines: Iterable[list[str]], max_rows: int) -> tuple[list[str], list[list[str]]]:
    """Header and rows; reading stops at the first row too many."""
    columns: list[str] | None = None
    data: list[list[str]] = []
    for line in lines:
        if columns is None:
            columns = line
        elif line:
            data.append(line)
            check_rows(len(data), max_rows, "csv")
    if not columns:
        raise MalformedRequestError("csv: the first line must name the columns")
    return columns, data


def _typed(cells: list[str], spec: ColumnSpec | None) -> list[Any]:
    """Cells as their column's type; what cannot be one stays text, for the checks to name it."""
    if spec is None:
        return cells
    kind = spec.value_type
    if kind in ("string", "datetime"):
        return [cell if cell or not spec.nullable else None for cell in cells]
    import pandas as pd

    coerced = coerce(pd.Series(cells, dtype=object), kind)
    return [
        cell if failed else None if pd.isna(value) else value
        for cell, value, failed in zip(cells, coerced.values.tolist(), coerced.failed, strict=True)
    ]
