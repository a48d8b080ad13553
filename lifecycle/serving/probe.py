"""One connection to the endpoint, for the smoke test: patient where the endpoint is late.

An endpoint that is late, busy or not routed yet says nothing about a model, so such answers are
asked for again until time is up. No proxy lies between: the endpoint is our own.
"""

import http.client
import json
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self
from urllib.parse import urlsplit

from lifecycle.errors import ServingError, UnavailableError

TIMEOUT_S = 30.0
PAUSE_S = 0.1
LATER = {
    401: "does not take the smoke test's key: every node with replicas must reach the file of keys "
    "(LIFECYCLE_SERVE_KEYS)",
    404: "has no such path",
    408: "takes too long to read a request",
    429: "has no room for the smoke test's requests",
    502: "gets no answer from the model",
    503: "has no replica that can answer",
    504: "gets no answer from the model in time",
}
"""Status → what an endpoint that answers so says about itself; it may answer otherwise later."""


@dataclass(frozen=True)
class Access:
    """Credentials and certificates for an endpoint.

    Attributes:
        key: API key; a release's own one tells its requests from those of clients in the prediction
            log, also where no key is asked for.
        certificate: PEM file of the endpoint's own certificate, the only one trusted.
    """

    key: str = ""
    certificate: Path | None = None


OPEN_ACCESS = Access()


class ProbeAnswer(NamedTuple):
    """Answer of the endpoint with status 200."""

    content: dict[str, Any]
    headers: Mapping[str, str]
    """Names in lower case."""
    seconds: float
    """From the request to the last byte of the answer."""


class Probe:
    """A connection kept open between requests. Use it in a `with`.

    Args:
        url: of the application.
        patience: seconds that the endpoint may be late, over all requests together.
    """

    def __init__(self, url: str, access: Access, patience: float) -> None:
        self.url = url
        self.end = time.monotonic() + patience
        parts = urlsplit(url)
        self._path = parts.path
        host, port = parts.hostname or "", parts.port
        self._http: http.client.HTTPConnection
        if parts.scheme == "https":
            trusted = _trusting(access.certificate)
            self._http = http.client.HTTPSConnection(host, port, timeout=TIMEOUT_S, context=trusted)
        else:
            self._http = http.client.HTTPConnection(host, port, timeout=TIMEOUT_S)
        self._headers = {"Content-Type": "application/json"}
        if access.key:
            self._headers["Authorization"] = f"Bearer {access.key}"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._http.close()

    def ask(self, path: str, content: dict[str, Any] | None = None) -> ProbeAnswer:
        """The answer to a GET, or with content to a POST.

        Raises:
            UnavailableError: none in time, or the endpoint is not ready.
            ServingError: the model cannot answer, or the answer is no object.
        """
        body = None if content is None else json.dumps(content).encode()
        while True:
            status, answer = self._send(path, body)
            if isinstance(answer, ProbeAnswer):
                return answer
            if status and status not in LATER:
                raise ServingError(f"{self.url}{path}: answered {status}: {answer[:500]}")
            self.wait(f"{self.url}{path}: {LATER.get(status, answer)}")

    def wait(self, problem: str) -> None:
        """Let a moment pass before another try.

        Raises:
            UnavailableError: time is up; says what the problem is.
        """
        if time.monotonic() > self.end:
            raise UnavailableError(f"{problem}; run the release again when it does")
        time.sleep(PAUSE_S)

    def _send(self, path: str, body: bytes | None) -> tuple[int, "ProbeAnswer | str"]:
        """Status (0 without one) and the answer, or what is said instead of it."""
        start = time.perf_counter()
        try:
            method = "GET" if body is None else "POST"
            self._http.request(method, f"{self._path}{path}", body, self._headers)
            response = self._http.getresponse()
            raw = response.read()
        except (OSError, http.client.HTTPException) as error:
            self._http.close()
            return 0, f"does not answer ({error or type(error).__name__})"
        seconds = time.perf_counter() - start
        if response.status != http.client.OK:
            return response.status, raw.decode(errors="replace")
        try:
            content = json.loads(raw)
        except ValueError:
            content = None
        if not isinstance(content, dict):
            raise ServingError(f"{self.url}{path}: the answer is not a JSON object")
        headers = {name.lower(): value for name, value in response.getheaders()}
        return response.status, ProbeAnswer(content, headers, seconds)


def _trusting(certificate: Path | None) -> ssl.SSLContext:
    """A context that takes this certificate and no other; the address need not be in it."""
    context = ssl.create_default_context(cafile=str(certificate) if certificate else None)
    if certificate:
        context.check_hostname = False
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    return context
