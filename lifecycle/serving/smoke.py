"""The smoke test: real requests to the real endpoint, answers equal to the offline model's."""

import json
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from lifecycle.data.classes import most_probable
from lifecycle.errors import ServingError
from lifecycle.records import ModelVersion
from lifecycle.serving.protocol import to_records
from lifecycle.specs import Scalar

TOLERANCE = 1e-9
"""Both sides compute the same 32-bit floats; JSON carries them without loss."""
PATIENCE = 15.0
TIMEOUT = 30.0


def smoke_test(
    url: str,
    model: ModelVersion,
    inputs: pd.DataFrame,
    expected: NDArray[np.float64],
    patience: float = PATIENCE,
    classes: Sequence[Scalar] = (),
) -> int:
    """Send rows over HTTP and compare; how many rows were compared.

    Args:
        url: where the application answers, as `deploy` returns it.
        inputs: rows of input columns, as training saw them.
        expected: the offline model's predictions for them, shape (n,), multiclass (n, k).
        patience: seconds that the proxy may take to route to this version.
        classes: multiclass: what the k columns are.

    Raises:
        ServingError: no answer, another model's answer, or an answer that differs; names the row.
    """
    _wait_for(url, model, patience)
    answer = _request(f"{url}/predict", {"records": to_records(inputs)})
    _check_model(url, answer, model)
    got = _values(url, answer, classes)
    if len(got) != len(expected):
        raise ServingError(f"{url}: {len(got)} predictions for {len(expected)} rows")
    wrong = np.argwhere(~np.isclose(got, expected, rtol=0, atol=TOLERANCE))
    if len(wrong):
        row, *column = wrong[0]
        what = "".join(f", class {classes[at]!r}" for at in column)
        at = (row, *column)
        raise ServingError(
            f"{url}: {len(set(wrong[:, 0]))} of {len(got)} answers differ from the offline "
            f"model's; row {row}{what} is {got[at]:.9g} instead of {expected[at]:.9g}. "
            "Do not release this version"
        )
    return len(got)


def _values(url: str, answer: dict[str, Any], classes: Sequence[Scalar]) -> NDArray[np.float64]:
    """The numbers of an answer, (n,) or (n, k); a class must be its most probable one."""
    try:
        predictions = answer["predictions"]
        if not classes:
            return np.asarray(predictions, dtype=np.float64).reshape(len(predictions))
        rows = [[one["probabilities"][str(value)] for value in classes] for one in predictions]
        named = [one["class"] for one in predictions]
        values = np.asarray(rows, dtype=np.float64).reshape(len(rows), len(classes))
    except (KeyError, TypeError, ValueError):
        kind = f"probabilities of {', '.join(map(str, classes))}" if classes else "numbers"
        raise ServingError(f"{url}: the predictions are no {kind}") from None
    if named != most_probable(values, classes).tolist():
        raise ServingError(f"{url}: a class is named that is not the most probable one")
    return values


def _wait_for(url: str, model: ModelVersion, patience: float) -> None:
    """Until the version itself answers: for a moment the former one may still do."""
    end = time.monotonic() + patience
    while True:
        try:
            _check_model(url, _request(f"{url}/health"), model)
        except ServingError:
            if time.monotonic() > end:
                raise
            time.sleep(0.05)
        else:
            return


def _check_model(url: str, answer: dict[str, Any], model: ModelVersion) -> None:
    answering = answer.get("model") or {}
    if (answering.get("version"), answering.get("digest")) != (model.version, model.digest):
        raise ServingError(
            f"{url}: version {answering.get('version')} answers, not version {model.version}"
        )


def _request(url: str, content: dict[str, Any] | None = None) -> dict[str, Any]:
    body = None if content is None else json.dumps(content).encode()
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"})  # noqa: S310 - our own http URL
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT) as response:  # noqa: S310
            answer = json.loads(response.read())
    except urllib.error.HTTPError as error:
        with error:
            text = error.read().decode(errors="replace")
        raise ServingError(f"{url}: answered {error.code}: {text[:500]}") from None
    except (OSError, ValueError) as error:
        raise ServingError(f"{url}: no answer ({error})") from None
    if not isinstance(answer, dict):
        raise ServingError(f"{url}: answered something else than an object")
    return answer
