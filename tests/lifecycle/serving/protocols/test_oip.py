"""The Open Inference Protocol: Triton's own client writes the requests and reads the answers."""

import json
import struct
from typing import Any

import numpy as np
import pytest
import tritonclient.http as triton

from lifecycle.errors import (
    MalformedRequestError,
    NotServedError,
    RequestError,
    RequestTooLargeError,
)
from lifecycle.features.encode import FeatureSchema
from lifecycle.project import ColumnSpec
from lifecycle.records import ModelVersion
from lifecycle.serving.protocols import oip
from lifecycle.serving.protocols import oip as oip_info
from lifecycle.serving.records import Answer, PredictionRequest
from lifecycle.training.bundle import BundleSchema

MODEL = ModelVersion(name="p", version=4, uri="models:/p/4", run_id="", digest="d", identity="i")
INPUTS = {
    "age": ColumnSpec(type="integer", minimum=0),
    "income": ColumnSpec(type="number", nullable=True),
    "city": ColumnSpec(type="category", categories=("Rome", "Oslo"), nullable=True),
    "note": ColumnSpec(type="string", nullable=True),
    "member": ColumnSpec(type="boolean"),
    "since": ColumnSpec(type="datetime", nullable=True),
}
NUMBERS = {
    "x": ColumnSpec(type="number"),
    "y": ColumnSpec(type="number", nullable=True),
    "on": ColumnSpec(type="boolean", nullable=True),
}
ROWS = {
    "age": np.array([41, 7], np.int64),
    "income": np.array([1.5, 2.5]),
    "city": np.array(["Rome", "Oslo"], object),
    "note": np.array(["naïve", ""], object),
    "member": np.array([True, False]),
    "since": np.array(["2024-05-01", "2024-05-02T12:00:00"], object),
}


def schema(inputs: dict[str, ColumnSpec], **more: Any) -> BundleSchema:
    given = {"project": "p", "task": "regression", "target": "y", "positive": None}
    given |= {"threshold": None, "hook": None, "hook_digest": "", "inputs": inputs}
    features = FeatureSchema(names=(), kinds=(), levels={})
    return BundleSchema.model_validate(given | {"features": features} | more)


def sent(rows: dict[str, Any], binary: bool, **more: Any) -> tuple[bytes, dict[bytes, bytes]]:
    """Body and headers as Triton's client makes them."""
    inputs = []
    for name, values in rows.items():
        kind = triton.InferInput(name, list(values.shape), _datatype(values))
        kind.set_data_from_numpy(values, binary_data=binary)
        inputs.append(kind)
    body, length = triton.InferenceServerClient.generate_request_body(inputs, **more)
    return body, {} if length is None else {oip.LENGTH: str(length).encode()}


def _datatype(values: Any) -> str:
    from tritonclient.utils import np_to_triton_dtype

    return str(np_to_triton_dtype(values.dtype))


def read(
    body: bytes, headers: dict[bytes, bytes], inputs: Any = INPUTS, **more: Any
) -> PredictionRequest:
    return oip.read(body, headers, schema(inputs), 10, **more)


def request(**changes: Any) -> bytes:
    """JSON for one number `x`."""
    tensor = {"name": "x", "shape": [2], "datatype": "FP64", "data": [1.0, 2.0]}
    return json.dumps({"inputs": [tensor | changes]}).encode()


X = {"x": ColumnSpec(type="number")}


@pytest.mark.parametrize("binary", [True, False])
@pytest.mark.parametrize("shape", [(2,), (2, 1)])
def test_a_tensor_a_column(binary: bool, shape: tuple[int, ...]) -> None:
    rows = {name: values.reshape(shape) for name, values in ROWS.items()}
    asked = read(*sent(rows, binary, request_id="mine"))
    assert (asked.rows, asked.name, asked.records) == (2, "mine", None)
    assert asked.columns is not None
    assert list(asked.columns) == list(INPUTS)
    for name, values in ROWS.items():
        assert list(asked.columns[name]) == values.tolist()
    assert isinstance(asked.columns["income"], np.ndarray) is binary


def test_numbers_are_not_copied() -> None:
    body, headers = sent({"x": np.array([1.0, 2.0])}, binary=True)
    column = (read(body, headers, X).columns or {})["x"]
    assert np.shares_memory(column, np.frombuffer(body, np.uint8))  # type: ignore[arg-type]


@pytest.mark.parametrize("dtype", ["f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8"])
@pytest.mark.parametrize("binary", [True, False])
def test_every_kind_of_number(dtype: str, binary: bool) -> None:
    top = np.iinfo(dtype).max if dtype[0] in "iu" else 2.5
    values = np.array([1, top], dtype)
    asked = read(*sent({"x": values}, binary), X)
    assert np.array_equal((asked.columns or {})["x"], values)


def test_missing_values() -> None:
    holes = ROWS | {
        "income": np.array([np.nan, 1], np.float32),
        "city": np.array(["", "Oslo"], object),
        "note": np.array(["", "x"], object),
        "since": np.array(["", "2024-05-01"], object),
    }
    columns = read(*sent(holes, binary=True)).columns or {}
    assert columns["income"] == [None, 1.0]
    assert columns["city"] == [None, "Oslo"]
    assert columns["note"] == ["", "x"]  # a text may be empty
    assert columns["since"] == [None, "2024-05-01"]

    asked = read(request(data=[None, 1.0], name="y"), {}, {"y": NUMBERS["y"]})
    assert (asked.columns or {})["y"] == [None, 1.0]
    with pytest.raises(RequestError, match="row 1: x: must not be NaN"):
        read(*sent({"x": np.array([1, np.nan])}, binary=True), X)


@pytest.mark.parametrize("dtype", ["f4", "f8", "i8"])
@pytest.mark.parametrize("binary", [True, False])
def test_one_tensor_for_all_inputs(dtype: str, binary: bool) -> None:
    values = np.array([[1, 2, 0], [3, 4, 1]], dtype)
    columns = read(*sent({"all": values}, binary), NUMBERS).columns or {}
    assert [list(columns[name]) for name in NUMBERS] == [[1, 3], [2, 4], [False, True]]


def test_missing_values_in_one_tensor() -> None:
    given = {"name": "all", "shape": [2, 3], "datatype": "FP64"}
    nested = request(**given, data=[[1, None, None], [2, 3.5, 1]])
    flat = sent({"all": np.array([[1, np.nan, np.nan], [2, 3.5, 1]])}, binary=True)
    for body, headers in [(nested, {}), flat]:
        columns = read(body, headers, NUMBERS).columns or {}
        assert list(columns["x"]) == [1, 2]
        assert columns["y"] == [None, 3.5]
        assert columns["on"] == [None, True]
    with pytest.raises(RequestError, match="row 0: x: must not be NaN"):
        read(*sent({"all": np.array([[np.nan, 1, 1]])}, binary=True), NUMBERS)
    with pytest.raises(RequestError, match=r"row 1: on: must be 0 or 1, got 2\.0"):
        read(*sent({"all": np.array([[1.0, 1, 1], [1, 1, 2]])}, binary=True), NUMBERS)
    with pytest.raises(RequestError, match="cannot hold city, note, since"):
        read(*sent({"all": np.ones((1, 6))}, binary=True))


def test_the_entity_may_come_along() -> None:
    rows = {"x": np.array([1.0]), "customer": np.array([17])}
    asked = read(*sent(rows, binary=True), X, entity="customer")
    assert (asked.columns or {})["customer"] == [17]
    with pytest.raises(RequestError, match="customer: the model has no such input"):
        read(*sent(rows, binary=True), X)


DATA = {"name": "x", "shape": [1], "datatype": "FP64", "data": [1.0]}


@pytest.mark.parametrize(
    ("body", "error", "says"),
    [
        (b"", MalformedRequestError, "not JSON"),
        (b"[" * 9999, RequestTooLargeError, "too deeply"),
        (b"[]", MalformedRequestError, "the body must be an inference request"),
        (b"{}", MalformedRequestError, "inputs: must be a list"),
        (b'{"inputs": [1]}', MalformedRequestError, r"inputs\[0\]: must be a tensor"),
        (request(name="z"), RequestError, "input z: not a column of the model; one tensor"),
        (request(datatype="FP7"), MalformedRequestError, "x: datatype must be one of BYTES, BOOL"),
        (request(datatype="BYTES", data=["a", "b"]), RequestError, "must be FP64 or another numb"),
        (request(shape=[1]), MalformedRequestError, r"2 elements, its shape \[1\] means 1"),
        (request(shape=[2, 2]), MalformedRequestError, "x: shape must be"),
        (request(shape=[2, True]), MalformedRequestError, "x: shape must be"),
        (request(shape=[-1]), MalformedRequestError, "x: shape must be"),
        (request(shape=[0], data=[]), RequestError, "got 0 rows"),
        (request(shape=[11]), RequestTooLargeError, "got 11 rows, allowed are 1 to 10"),
        (request(data=None), MalformedRequestError, "x: data must be a list"),
        (request(data=[1, "2"]), RequestError, "row 1: x: must be FP64, got str"),
        (request(data=[1, True]), RequestError, "row 1: x: must be FP64, got bool"),
        (request(data=[1, [2]]), RequestError, "row 1: x: must be FP64, got list"),
        (request(data=[[1], [2]]), RequestError, "row 0: x: must be FP64, got list"),
        (
            request(data=[[1], 2], shape=[2, 1]),
            MalformedRequestError,
            r"does not have the shape \[2, 1",
        ),
        (
            request(datatype="INT8", data=[1, 128]),
            RequestError,
            "row 1: x: 128 is out of range for INT8",
        ),
        (
            request(datatype="UINT64", data=[-1, 1]),
            RequestError,
            "row 0: x: -1 is out of range for UINT64",
        ),
        (request(parameters=[]), MalformedRequestError, "input x: parameters must be an object"),
        (request(parameters={"shared_memory_region": "r"}), RequestError, "shared_memory_region"),
        (request(parameters={"binary_data_size": 16}), MalformedRequestError, "data in its JSON"),
        (json.dumps({"inputs": [DATA, DATA]}).encode(), MalformedRequestError, "occurs twice"),
        (json.dumps({"inputs": [DATA], "id": 1}).encode(), MalformedRequestError, "id: must be"),
        (
            json.dumps({"inputs": [DATA], "outputs": [{"name": "z"}]}).encode(),
            RequestError,
            "output 'z': the model has predict, each once",
        ),
    ],
)
def test_requests_that_are_refused(body: bytes, error: type[RequestError], says: str) -> None:
    with pytest.raises(RequestError, match=says) as caught:
        read(body, {}, X)
    assert type(caught.value) is error


def test_a_tensor_that_is_missing_or_of_other_length() -> None:
    with pytest.raises(RequestError, match="input age: this tensor is missing"):
        read(*sent({k: v for k, v in ROWS.items() if k != "age"}, binary=True))
    with pytest.raises(MalformedRequestError, match="income: has 1 rows, age has 2"):
        read(*sent(ROWS | {"income": np.array([1.0])}, binary=True))


def binary(datatype: str, raw: bytes, rows: int = 1, **changes: Any) -> tuple[bytes, Any]:
    size = {"binary_data_size": len(raw)} | changes
    tensor = {"name": "x", "shape": [rows], "datatype": datatype, "parameters": size}
    head = json.dumps({"inputs": [tensor]}).encode()
    return head + raw, {oip.LENGTH: str(len(head)).encode()}


@pytest.mark.parametrize(
    ("kind", "given", "says"),
    [
        ("number", binary("FP64", bytes(7)), r"is 7, FP64 of shape \[1\] has 8 bytes"),
        ("number", binary("FP64", bytes(8), binary_data_size=9), "is 9, but .* 8 bytes left"),
        ("number", binary("FP64", bytes(9), binary_data_size=8), "1 bytes that belong to no input"),
        ("number", binary("FP64", bytes(8), binary_data_size=-8), "must be a number of bytes"),
        ("boolean", binary("BOOL", b"\x01\x02", 2), "row 1: x: a BOOL is the byte 0 or 1"),
        ("string", binary("BYTES", b"\x01\0"), "row 0: x: a BYTES element ends before"),
        ("string", binary("BYTES", struct.pack("<I", 2**32 - 1)), "row 0: x: a BYTES element"),
        ("string", binary("BYTES", b"\x01\0\0\0\xff"), "row 0: x: is not UTF-8"),
        ("string", binary("BYTES", b"\0\0\0\0" * 2), "has 2 elements, its shape"),
    ],
)
def test_bytes_that_do_not_add_up(kind: Any, given: Any, says: str) -> None:
    with pytest.raises(RequestError, match=says):
        read(*given, {"x": ColumnSpec(type=kind)})


@pytest.mark.parametrize("length", [b"-1", b"1e3", b"99999", b"9" * 5000, b""])
def test_a_wrong_length_of_the_json(length: bytes) -> None:
    with pytest.raises(MalformedRequestError, match="Inference-Header-Content-Length"):
        read(request(), {oip.LENGTH: length}, X)


def received(asked: PredictionRequest, answer: Answer) -> triton.InferResult:
    """An answer as Triton's client sees it."""
    body, headers = oip.write(answer, asked.outputs)
    length = dict(headers).get(oip.LENGTH)
    return triton.InferenceServerClient.parse_response_body(
        body, header_length=None if length is None else int(length)
    )


def output(name: str, as_bytes: bool) -> triton.InferRequestedOutput:
    return triton.InferRequestedOutput(name, binary_data=as_bytes)


@pytest.mark.parametrize("wanted", [None, [output("predict", True)], [output("predict", False)]])
def test_numbers_go_back(wanted: Any) -> None:
    asked = read(*sent({"x": np.ones(2)}, True, outputs=wanted, request_id="mine"), X)
    values = np.array([0.1, 1 / 3])
    answer = Answer(id="a1", model=MODEL, predictions=values, requested=asked.name)
    result = received(asked, answer)
    assert np.array_equal(result.as_numpy("predict"), values)
    said = result.get_response()
    assert (said["model_name"], said["model_version"], said["id"]) == ("p", "4", "mine")
    assert said["parameters"] == {"id": "a1"}


def test_without_an_id_none_goes_back() -> None:
    asked = read(request(), {}, X)
    assert asked.outputs == (("predict", False),)
    content = json.loads(oip.write(Answer("a1", MODEL, np.ones(1)), asked.outputs)[0])
    assert "id" not in content


@pytest.mark.parametrize("as_bytes", [True, False])
@pytest.mark.parametrize(
    ("classes", "datatype"),
    [(("a", "é"), "BYTES"), ((1, 2), "INT64"), ((1, 2.5), "FP64"), ((False, True), "BOOL")],
)
def test_classes_go_back(classes: Any, datatype: str, as_bytes: bool) -> None:
    found = schema(X, task="multiclass", classes=classes)
    wanted = [output("probabilities", as_bytes), output("predict", as_bytes)]
    body, headers = sent({"x": np.ones(2)}, True, outputs=wanted)
    asked = oip.read(body, headers, found, 10)
    values = np.array([[0.25, 0.75], [1, 0]])
    answer = Answer("a1", MODEL, values, classes, [classes[1], classes[0]])
    result = received(asked, answer)
    assert result.get_output("predict")["datatype"] == datatype
    chosen = [v.decode() if isinstance(v, bytes) else v for v in result.as_numpy("predict")]
    assert chosen == [classes[1], classes[0]]
    assert np.array_equal(result.as_numpy("probabilities"), values)
    assert [one["name"] for one in result.get_response()["outputs"]] == ["probabilities", "predict"]


def test_paths_of_inference() -> None:
    assert oip.infer_target("/v2/models/p/infer") == ("p", "")
    assert oip.infer_target("/v2/models/p/versions/4/infer") == ("p", "4")
    for path in ["/v2/models/infer", "/v2/models/p/versions//infer", "/v2/models/../p/infer", "/"]:
        assert oip.infer_target(path) is None


def test_what_is_told_of_server_and_model() -> None:
    found = schema(INPUTS, task="multiclass", classes=("a", "b"))

    def page(path: str, **more: Any) -> Any:
        return json.loads(oip_info.page(path, MODEL, found, **more))

    assert page("/v2")["extensions"] == ["binary_tensor_data"]
    assert page("/v2/health/live") == {"live": True}
    assert page("/v2/health/ready", is_ready=False) == {"ready": False}
    assert page("/v2/models/p/ready") == {"name": "p", "ready": True}
    assert page("/v2/models/p/versions/4/ready") == {"name": "p", "ready": True}
    told = page("/v2/models/p")
    assert page("/v2/models/p/versions/4") == told
    assert (told["name"], told["versions"], told["platform"]) == ("p", ["4"], "xgboost")
    kinds = ["INT64", "FP64", "BYTES", "BYTES", "BOOL", "BYTES"]
    assert [one["datatype"] for one in told["inputs"]] == kinds
    assert told["outputs"] == [
        {"name": "predict", "datatype": "BYTES", "shape": [-1]},
        {"name": "probabilities", "datatype": "FP64", "shape": [-1, 2]},
    ]


@pytest.mark.parametrize(
    "path",
    [
        "/v2/",
        "/v2/models",
        "/v2/models/q",
        "/v2/models/../p",
        "/v2/models/p/versions/5",
        "/v2/models/p/versions/4/x",
        "/v2/models/p/versions/",
        "/v2/models/p/",
        "/v2/models/%70",
        "/v2/models/p/versions/04",
        "/v2/models/p\x00",
        "/v2/health",
    ],
)
def test_paths_that_are_none(path: str) -> None:
    with pytest.raises(NotServedError):
        oip_info.page(path, MODEL, schema(X))
