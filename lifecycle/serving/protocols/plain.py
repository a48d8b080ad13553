"""The plain protocol: records in, predictions out.

POST /<project>/predict[?explain=true]  {"records": [{"age": 41, "city": "Rome"}, …]}
200  {"predictions": [0.73, …], "model": {"name", "version", "digest"}, "id": "…"}
     binary with a `decision`: "predicted": ["yes", …] besides
     multiclass: {"predictions": [{"class": "b", "probabilities": {"a": 0.2, "b": 0.8}}, …], …}
     explained: "explanations": [{"bias": 0.1, "contributions": {"age": -0.3, …}}, …] besides;
     multiclass: one such object a class, by its name
4xx  {"error": "row 0: age: …"}
"""

from collections.abc import Collection
from typing import Any
from urllib.parse import parse_qsl

import numpy as np
import orjson
from numpy.typing import NDArray

from lifecycle.errors import MalformedRequestError, RequestError
from lifecycle.serving.body import as_list, check_records, load_json
from lifecycle.serving.records import Answer, PredictionRequest, identity

SHAPE = 'the body must be {"records": [{column: value, …}, …]} and nothing else'
EXPLAIN = {"true": True, "false": False}


def read(
    body: bytes, max_rows: int, explain: bool = False, fields: Collection[str] | None = None
) -> PredictionRequest:
    """The records of a request's body.

    Args:
        explain: what `wants_explanation` says of the request's query.
        fields: fields of a record that are looked at, where others are ignored; None is all.

    Raises:
        MalformedRequestError: no JSON, or another shape than `{"records": [{…}]}`.
        RequestTooLargeError: too many rows, or too deep.
        RequestError: no row, or a value that is a list or an object.
    """
    request = load_json(body)
    if type(request) is not dict or len(request) != 1 or "records" not in request:
        raise MalformedRequestError(SHAPE)
    records = check_records(request["records"], max_rows, "records", fields)
    return PredictionRequest(len(records), records, explain=explain, body=body)


def wants_explanation(query: bytes) -> bool:
    """Return whether a request's query string asks for the features' contributions.

    Raises:
        RequestError: a parameter is not `explain`, or its value is neither true nor false.
    """
    if not query:
        return False
    explain = False
    for name, value in parse_qsl(query.decode("latin-1"), keep_blank_values=True):
        if name != "explain":
            raise RequestError(f"unknown query parameter {name[:60]!r}: there is explain=true only")
        if value not in EXPLAIN:
            raise RequestError(f"explain must be true or false, got {value[:60]!r}")
        explain = EXPLAIN[value]
    return explain


def write(answer: Answer) -> bytes:
    """An answer as JSON; floats keep every bit."""
    content: dict[str, Any] = {
        "predictions": _chosen(answer) if answer.classes else answer.predictions,
        "model": identity(answer.model),
        "id": answer.id,
    }
    if answer.labels:
        content["predicted"] = answer.chosen
    if answer.contributions is not None:
        content["explanations"] = _explanations(answer, answer.contributions)
    return orjson.dumps(content, default=as_list, option=orjson.OPT_SERIALIZE_NUMPY)


def _chosen(answer: Answer) -> list[dict[str, Any]]:
    names = [str(value) for value in answer.classes]
    return [
        {"class": item, "probabilities": dict(zip(names, row, strict=True))}
        for item, row in zip(answer.chosen, answer.predictions.tolist(), strict=True)
    ]


def _explanations(answer: Answer, contributions: NDArray[np.float64]) -> list[dict[str, Any]]:
    rows = contributions.tolist()
    if not answer.classes:
        return [_explanation(answer.names, row) for row in rows]
    classes = [str(value) for value in answer.classes]
    return [
        {
            name: _explanation(answer.names, values)
            for name, values in zip(classes, row, strict=True)
        }
        for row in rows
    ]


def _explanation(names: tuple[str, ...], values: list[float]) -> dict[str, Any]:
    return {"bias": values[-1], "contributions": dict(zip(names, values[:-1], strict=True))}
