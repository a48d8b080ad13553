"""The smoke test: real requests to the real endpoint, answers equal to the offline model's.

Every protocol is asked for all rows at once and for single rows, since other code answers few rows
than many (`predictor.FEW`). Answers are equal within `PARITY` of the model's largest one: models
compute with 32-bit floats, which carry 7 digits, and treelite adds up the trees in another order
than XGBoost. An answer near 0 may be the sum of large leaves, so its own size is no measure. JSON
carries numbers without loss.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from lifecycle.errors import ServingError
from lifecycle.features.encode import most_probable
from lifecycle.project import Scalar
from lifecycle.records import ModelVersion
from lifecycle.serving.predictor import PARITY
from lifecycle.serving.probe import OPEN_ACCESS, Access, Probe, ProbeAnswer
from lifecycle.serving.records import Records, to_records

PATIENCE_S = 120.0
TIMED_REQUESTS = 100
"""Single rows that the latency is measured with: the fewest with a 99th percentile."""
SINGLE_ROWS = 5
"""Single rows that each of the other protocols is asked for."""
ROUNDS = 3
"""How often the latency may be measured until it is below its limit: a machine is busy at times."""
MILLISECONDS = 1000.0

Values = NDArray[np.float64]


class Smoke(NamedTuple):
    """Result of a smoke test: rows compared and latencies."""

    rows: int
    """Number of rows compared, each over every protocol."""
    p50_milliseconds: float
    """Median time of a request for one row over the plain protocol: network, queue and replica."""
    p99_milliseconds: float


class Offline(NamedTuple):
    """Rows, and what the offline model predicts for them."""

    inputs: pd.DataFrame
    """Rows as clients send them."""
    predictions: Values
    """Shape (n,), multiclass (n, k)."""
    classes: Sequence[Scalar] = ()
    """Multiclass: what the k columns are."""
    largest: float | None = None
    """Largest prediction on the holdout, by size; without it the largest of these."""

    @property
    def tolerance(self) -> float:
        """How far an answer may be from its prediction."""
        rows_largest = float(np.abs(self.predictions).max(initial=0))
        return PARITY * (rows_largest if self.largest is None else self.largest)


class Wire(NamedTuple):
    """Encodes rows and decodes predictions for one protocol."""

    path: str
    write: Callable[[Records], dict[str, Any]]
    read: Callable[[dict[str, Any], Sequence[Scalar]], Values]
    """Predictions (n,), multiclass (n, k). Raises LookupError, TypeError or ValueError."""
    version: Callable[[ProbeAnswer], object]
    """The model version that an answer names."""


def smoke_test(
    url: str,
    model: ModelVersion,
    offline: Offline,
    *,
    access: Access = OPEN_ACCESS,
    patience: float = PATIENCE_S,
    max_p99_milliseconds: float | None = None,
) -> Smoke:
    """Send rows over HTTP and compare.

    Args:
        url: where the application answers, as `deploy` returns it.
        patience: seconds that the endpoint may be late, over all requests together.
        max_p99_milliseconds: what the 99th percentile may be; without it anything.

    Raises:
        UnavailableError: no answer in time, or another version's.
        ServingError: an answer that differs, or a latency above its limit; names the row.
    """
    records = to_records(offline.inputs)
    with Probe(url, access, patience) as probe:
        _wait_for(probe, model)
        tensors = probe.ask(f"/v2/models/{model.name}").content["inputs"]
        wires = (PLAIN, _tensor_wire(model.name, tensors), SCORING)
        for wire in wires:
            _compare(probe, wire, model, records, offline)
            for row in range(min(SINGLE_ROWS, len(records))):
                _compare(probe, wire, model, records[row : row + 1], offline, row)
        best = _measure(probe, model, records, offline)
        for _ in range(ROUNDS - 1):
            if max_p99_milliseconds is None or best.p99_milliseconds <= max_p99_milliseconds:
                return best
            smoke = _measure(probe, model, records, offline)
            best = min(best, smoke, key=lambda measured: measured.p99_milliseconds)
    if max_p99_milliseconds is not None and best.p99_milliseconds > max_p99_milliseconds:
        raise ServingError(
            f"{url}: one row takes {best.p99_milliseconds:.3g} ms (99th percentile of "
            f"{TIMED_REQUESTS} requests, the best of {ROUNDS} rounds), and "
            f"serving.max_p99_milliseconds is {max_p99_milliseconds:g}"
        )
    return best


def _measure(probe: Probe, model: ModelVersion, records: Records, offline: Offline) -> Smoke:
    """Every row alone, over and over if they are few; each answer is compared, too."""
    seconds = []
    for number in range(max(TIMED_REQUESTS, len(records))):
        row = number % len(records)
        record = records[row : row + 1]
        seconds.append(_compare(probe, PLAIN, model, record, offline, row))
    p50, p99 = (np.percentile(seconds, (50, 99)) * MILLISECONDS).tolist()
    return Smoke(len(records), p50, p99)


def _compare(
    probe: Probe,
    wire: Wire,
    model: ModelVersion,
    records: Records,
    offline: Offline,
    first: int = 0,
) -> float:
    """Ask one protocol for records; how long the answer took, in seconds.

    Args:
        first: the row that the first record is.
    """
    place = f"{probe.url}{wire.path}"
    content = wire.write(records)
    while True:
        answer = probe.ask(wire.path, content)
        version = wire.version(answer)
        if str(version) == str(model.version):
            break
        probe.wait(f"{place}: version {version} answers, not version {model.version}")
    expected, classes = offline.predictions[first : first + len(records)], offline.classes
    try:
        predictions = wire.read(answer.content, classes).reshape(len(records), *expected.shape[1:])
    except (LookupError, TypeError, ValueError):
        kind = f"probabilities of {', '.join(map(str, classes))}" if classes else "numbers"
        raise ServingError(
            f"{place}: the predictions are not {kind}, one per row of {len(records)}"
        ) from None
    wrong = np.argwhere(~(np.abs(predictions - expected) <= offline.tolerance))  # NaN is wrong, too
    if not len(wrong):
        return answer.seconds
    row, *column = wrong[0]
    label = "".join(f", class {classes[at]!r}" for at in column)
    at = (row, *column)
    how = "asked alone" if len(records) == 1 else f"asked with {len(records) - 1} others"
    raise ServingError(
        f"{place}: {len(set(wrong[:, 0]))} of {len(predictions)} answers differ from the offline "
        f"model's; row {first + row}{label}, {how}, is {predictions[at]:.9g} instead of "
        f"{expected[at]:.9g}. Do not release this version"
    )


def _wait_for(probe: Probe, model: ModelVersion) -> None:
    """Wait until this version answers: the previous one may still do so for a moment."""
    while True:
        answering = probe.ask("/health").content.get("model") or {}
        version = answering.get("version")
        if (version, answering.get("digest")) == (model.version, model.digest):
            return
        probe.wait(f"{probe.url}: version {version} answers, not version {model.version}")


def _plain_values(content: dict[str, Any], classes: Sequence[Scalar]) -> Values:
    predictions = content["predictions"]
    if not classes:
        return np.asarray(predictions, dtype=np.float64)
    rows = [
        [prediction["probabilities"][str(value)] for value in classes] for prediction in predictions
    ]
    values = np.asarray(rows, dtype=np.float64)
    _check_classes([prediction["class"] for prediction in predictions], values, classes)
    return values


def _tensor_values(content: dict[str, Any], classes: Sequence[Scalar]) -> Values:
    outputs: Mapping[str, Any] = {output["name"]: output["data"] for output in content["outputs"]}
    if not classes:
        return np.asarray(outputs["predict"], dtype=np.float64)
    values = np.asarray(outputs["probabilities"], dtype=np.float64).reshape(-1, len(classes))
    _check_classes(outputs["predict"], values, classes)
    return values


def _check_classes(predicted: Sequence[Scalar], values: Values, classes: Sequence[Scalar]) -> None:
    """Check that the class named for each row is the most probable one.

    Raises:
        ServingError: another class is named.
    """
    if list(predicted) != most_probable(values, classes).tolist():
        raise ServingError("the endpoint names a class that is not the most probable one")


def _tensor_wire(name: str, tensors: Sequence[Mapping[str, Any]]) -> Wire:
    """The Open Inference Protocol, one tensor per column.

    Args:
        tensors: `inputs` of the model's metadata.
    """
    kinds = {tensor["name"]: tensor["datatype"] for tensor in tensors}

    def write(records: Records) -> dict[str, Any]:
        shape = [len(records)]
        inputs = [
            {
                "name": column,
                "datatype": kind,
                "shape": shape,
                "data": [record[column] for record in records],
            }
            for column, kind in kinds.items()
        ]
        return {"inputs": inputs}

    path = f"/v2/models/{name}/infer"
    return Wire(path, write, _tensor_values, lambda answer: answer.content.get("model_version"))


PLAIN = Wire(
    "/predict",
    lambda records: {"records": records},
    _plain_values,
    lambda answer: (answer.content.get("model") or {}).get("version"),
)
SCORING = Wire(
    "/invocations",
    lambda records: {"dataframe_records": records},
    lambda content, _: np.asarray(content["predictions"], dtype=np.float64),
    lambda answer: answer.headers.get("x-model-version"),
)
