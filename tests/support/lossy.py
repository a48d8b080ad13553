"""A way to an S3 server that fails at one write: `python -m tests.support.lossy URL`.

A process of its own, since deltalake keeps Python's lock while it waits for an answer. It prints
its own URL. A GET of `/-/NUMBER/KIND` answers how many writes there were since the last one, and
plans the next failure: at the write with that number, `lost` ends the connection once the server
has done it, so that nobody hears of it; from that write on `dead` ends every connection before, and
`silent` answers nothing, as a server that was stopped. 0: none.
"""

import http.client
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock
from urllib.parse import urlsplit

HOST = "127.0.0.1"
LASTING = ("dead", "silent")
OWN = ("content-length", "connection", "transfer-encoding")


class Way(ThreadingHTTPServer):
    """Counts writes, and knows what fails."""

    daemon_threads = True

    def __init__(self, behind: str) -> None:
        super().__init__((HOST, 0), Forward)
        self.behind = urlsplit(behind).netloc
        self._lock = Lock()
        self._writes, self._at, self._kind = 0, 0, ""

    def plan(self, at: int, kind: str) -> int:
        """Plan the next failure; the number of writes since the last plan."""
        with self._lock:
            writes, self._writes = self._writes, 0
            self._at, self._kind = at, kind
        return writes

    def failure(self, method: str) -> str:
        """How a request fails; empty if it does not."""
        with self._lock:
            is_write = method in ("PUT", "POST", "DELETE")
            self._writes += is_write
            if self._at and self._kind in LASTING:
                return self._kind if self._writes >= self._at else ""
            return self._kind if self._at and is_write and self._writes == self._at else ""


class Forward(BaseHTTPRequestHandler):
    """Hands a request on, and its answer back."""

    protocol_version = "HTTP/1.1"
    server: Way

    def _forward(self) -> None:
        if self.path.startswith("/-/"):
            _, _, at, kind = self.path.split("/")
            self._answer(200, {}, str(self.server.plan(int(at), kind)).encode())
            return
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        failure = self.server.failure(self.command)
        while failure == "silent":
            time.sleep(0.05)
            failure = self.server.failure("GET") or "dead"
        if failure != "dead":
            behind = http.client.HTTPConnection(self.server.behind, timeout=30)
            behind.request(self.command, self.path, body, dict(self.headers))
            answer = behind.getresponse()
            content = answer.read()
            behind.close()
        if failure:
            self.close_connection = True
            return
        headers = {k: v for k, v in answer.getheaders() if k.lower() not in OWN}
        length = answer.getheader("content-length") if self.command == "HEAD" else None
        self._answer(answer.status, headers, content, length)

    def _answer(
        self, status: int, headers: dict[str, str], content: bytes, length: str | None = None
    ) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("content-length", length or str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _forward

    def log_message(self, *_: object) -> None:
        pass


if __name__ == "__main__":
    way = Way(sys.argv[1])
    sys.stdout.write(f"http://{HOST}:{way.server_port}\n")
    sys.stdout.flush()
    way.serve_forever(0.05)
