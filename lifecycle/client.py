"""A small client of the endpoint: rows in, predictions out, errors as this project's own.

Example:
    with Client("http://127.0.0.1:8000/health_visits", key="…") as client:
        predictions = client.predict(frame)
        predictions.values
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import httpx
import numpy as np
from numpy.typing import NDArray

from lifecycle.errors import (
    AccessError,
    BackendError,
    MalformedRequestError,
    NotServedError,
    RateLimitError,
    RequestError,
    RequestTooLargeError,
    ServingError,
)
from lifecycle.project import Scalar
from lifecycle.runtime.traces import outgoing

if TYPE_CHECKING:
    import pandas as pd

TIMEOUT = 30.0
LONGEST_WAIT = 10.0
"""Seconds: a `Retry-After` beyond it is not waited for."""
BUSY = (429, 503)
BROKEN = (httpx.NetworkError, httpx.RemoteProtocolError, httpx.ConnectTimeout)
"""Failures of a connection, after which another may do; one that is only slow would be again."""
ERRORS: dict[int, type[RequestError]] = {
    400: MalformedRequestError,
    401: AccessError,
    404: NotServedError,
    413: RequestTooLargeError,
    422: RequestError,
    429: RateLimitError,
}


@dataclass(frozen=True, slots=True)
class Predictions:
    """Predictions of one model version."""

    values: NDArray[np.float64]
    """(rows,): probability of the positive class, value or count; multiclass (rows, classes)."""
    classes: tuple[str, ...]
    """Multiclass: names of the columns of `values`; empty otherwise."""
    chosen: tuple[Scalar, ...]
    """The class of each row: multiclass the most probable one, binary with a `decision` what the
    threshold makes of it; empty otherwise."""
    model: str
    version: int
    id: str
    """Prediction id; row i is `<id>-<i>` in the prediction log."""
    explanations: tuple[dict[str, Any], ...] = ()
    """A row's `{"bias": …, "contributions": {feature: …}}`, multiclass one a class."""


class Client:
    """A connection to one project's endpoint; close it, or use it in a `with`.

    A request is sent once more if the connection fails or the endpoint is busy: predicting twice
    changes nothing. It carries the span that OpenTelemetry has open, as W3C Trace Context.

    Args:
        url: with the project, as `http://127.0.0.1:8000/health_visits`.
        key: API key, where the endpoint asks for one.
        timeout: seconds for each step of a request (connect, send, receive).
        verify: False takes any certificate; a path is that of the authority's certificates.

    >>> with Client(url, key="secret") as client:  # the screen of `lifecycle serve` has the URL
    ...     predictions = client.predict([{"age": 1}, {"age": 2}])
    >>> predictions.values.tolist(), predictions.version
    ([0.25, 0.75], 4)
    """

    def __init__(
        self,
        url: str,
        key: str | None = None,
        timeout: float = TIMEOUT,
        verify: bool | str = True,
    ) -> None:
        self._url = url.rstrip("/")
        headers = {} if key is None else {"Authorization": f"Bearer {key}"}
        self._http = httpx.Client(headers=headers, timeout=timeout, verify=_trusted(verify))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the connections."""
        self._http.close()

    def predict(
        self, rows: "pd.DataFrame | Sequence[Mapping[str, Any]]", explain: bool = False
    ) -> Predictions:
        """Predictions for rows, in their order.

        Args:
            rows: a frame of input columns, or one mapping of column to value a row.
            explain: whether the contributions of the features are wanted.

        Raises:
            RequestError: the endpoint refuses the rows or the key, with its message.
            BackendError: it cannot be reached, stays busy, or fails.
        """
        answer = self._ask("POST", "/predict", {"explain": "true"} if explain else {}, rows)
        try:
            return _predictions(answer)
        except (KeyError, IndexError, TypeError, ValueError) as error:
            raise ServingError(
                f"{self._url}: the answer has an unexpected shape ({error!r})"
            ) from None

    def model(self) -> dict[str, Any]:
        """Return the model's description: version, task, inputs, classes.

        Raises:
            RequestError: the endpoint refuses the key.
            BackendError: the endpoint cannot be reached, stays busy, or fails.
        """
        return self._ask("GET", "/model", {})

    def ready(self) -> bool:
        """Return whether the endpoint answers now; never raises if it cannot be reached."""
        try:
            return self._http.get(f"{self._url}/v2/health/ready").status_code == httpx.codes.OK
        except httpx.TransportError:
            return False

    def _ask(
        self, method: str, path: str, query: dict[str, str], rows: Any = None
    ) -> dict[str, Any]:
        content = None if rows is None else {"records": _records(rows)}
        request = self._http.build_request(
            method, f"{self._url}{path}", params=query, json=content, headers=outgoing()
        )
        answer = self._send_twice(request)
        if answer.status_code != httpx.codes.OK:
            raise _error(self._url, answer)
        try:
            reply = answer.json()
        except ValueError:
            reply = None
        if not isinstance(reply, dict):
            raise ServingError(f"{self._url}{path}: the answer is not a JSON object")
        return reply

    def _send_twice(self, request: httpx.Request) -> httpx.Response:
        try:
            answer = self._http.send(request)
        except BROKEN:
            return self._send(request)
        except httpx.TransportError as error:
            raise self._unreachable(error) from None
        wait = _wait(answer) if answer.status_code in BUSY else None
        if wait is None:
            return answer
        time.sleep(wait)
        return self._send(request)

    def _send(self, request: httpx.Request) -> httpx.Response:
        try:
            return self._http.send(request)
        except httpx.TransportError as error:
            raise self._unreachable(error) from None

    def _unreachable(self, error: httpx.TransportError) -> BackendError:
        reason = str(error) or type(error).__name__
        return BackendError(f"{self._url}: no answer ({reason}); is the endpoint running there?")


def _trusted(verify: bool | str) -> Any:
    if isinstance(verify, bool):
        return verify
    import ssl

    return ssl.create_default_context(cafile=verify)


def _records(rows: Any) -> list[dict[str, Any]]:
    if not hasattr(rows, "columns"):
        return [dict(row) for row in rows]
    from lifecycle.serving.records import to_records

    return to_records(rows)


def _wait(answer: httpx.Response) -> float | None:
    """Seconds to wait before asking again; None if that is too long."""
    header = answer.headers.get("Retry-After", "0")
    wait = float(header) if header.isdecimal() else 0.0  # a date is not worth reading
    return wait if wait <= LONGEST_WAIT else None


def _error(url: str, answer: httpx.Response) -> Exception:
    """The endpoint's refusal as an error of ours, with its message."""
    try:
        message = str(answer.json()["error"])
    except (ValueError, KeyError, TypeError):
        message = answer.text[:500] or "no reason"
    kind = ERRORS.get(answer.status_code)
    if kind is not None:
        return kind(message)
    return ServingError(f"{url}: answered {answer.status_code}: {message}")


def _predictions(answer: dict[str, Any]) -> Predictions:
    predictions, model = answer["predictions"], answer["model"]
    classes: tuple[str, ...] = ()
    chosen: tuple[Scalar, ...] = tuple(answer.get("predicted", ()))
    values: Any = predictions
    if isinstance(predictions[0], dict):
        classes = tuple(predictions[0]["probabilities"])
        chosen = tuple(value["class"] for value in predictions)
        values = [[value["probabilities"][name] for name in classes] for value in predictions]
    return Predictions(
        values=np.asarray(values, dtype=np.float64),
        classes=classes,
        chosen=chosen,
        model=model["name"],
        version=model["version"],
        id=answer["id"],
        explanations=tuple(answer.get("explanations", ())),
    )
