"""Constant load on an endpoint: every answer is kept, with its version or what went wrong."""

import http.client
import json
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from typing import Any
from urllib.parse import urlsplit


class Load:
    """Clients that ask one after the other, on connections they keep; none of them tries again.

    Args:
        url: of an application; `/predict` below it is asked.
        records: `rows` of them a request, in turn.
        retries: how often a client may ask again after a failure.
        pause: seconds a client waits after an answer.
    """

    def __init__(
        self,
        url: str,
        records: list[dict[str, Any]],
        clients: int,
        retries: int,
        rows: int,
        pause: float = 0.0,
    ) -> None:
        self.versions: Counter[int] = Counter()
        self.failures: list[str] = []
        self.answers: list[tuple[float, int]] = []
        """When each came (monotonic seconds), and from which version."""
        self._place = urlsplit(url)
        self._bodies = [
            json.dumps({"records": records[at : at + rows]}) for at in range(0, len(records), rows)
        ]
        self._turn = count()
        self._retries, self._pause = retries, pause
        self._ended = threading.Event()
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._ask) for _ in range(clients)]

    @property
    def total(self) -> int:
        return len(self.answers) + len(self.failures)

    def wait_for(self, total: int, seconds: float = 120.0) -> None:
        """Until so many requests were made."""
        end = time.monotonic() + seconds
        while self.total < total:
            assert time.monotonic() < end, f"{self.total} requests in {seconds:.0f} s"
            time.sleep(0.05)

    def _ask(self) -> None:
        connection: http.client.HTTPConnection | None = None
        while not self._ended.wait(self._pause):
            body = self._bodies[next(self._turn) % len(self._bodies)]
            problem = ""
            for _ in range(self._retries + 1):
                connection = connection or self._connect()
                try:
                    connection.request("POST", f"{self._place.path}/predict", body)
                    response = connection.getresponse()
                    content = response.read()
                    if response.status == 200:
                        problem = ""
                        break
                    waits = "retry-after" if response.getheader("Retry-After") else ""
                    problem = f"{response.status} {waits} {content[:200]!r}"
                except (OSError, http.client.HTTPException) as error:
                    problem = f"{type(error).__name__}: {error}"
                connection.close()
                connection = None
            with self._lock:
                if problem:
                    self.failures.append(problem)
                else:
                    version = json.loads(content)["model"]["version"]
                    self.versions[version] += 1
                    self.answers.append((time.monotonic(), version))
        if connection is not None:
            connection.close()

    def _connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection(self._place.hostname or "", self._place.port, timeout=30)


@contextmanager
def load(
    url: str,
    records: list[dict[str, Any]],
    clients: int = 4,
    retries: int = 0,
    rows: int = 1,
    pause: float = 0.0,
) -> Iterator[Load]:
    """Load for the block."""
    made = Load(url, records, clients, retries, rows, pause)
    for thread in made._threads:
        thread.start()
    try:
        yield made
    finally:
        made._ended.set()
        for thread in made._threads:
            thread.join()
