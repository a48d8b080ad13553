"""A server that gives planned answers to the client."""

import json
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

MODEL = {"name": "p", "version": 4, "digest": "d"}
GOOD = {"predictions": [0.25, 0.75], "model": MODEL, "id": "a1"}
SLOW = b"slow"
ROWS = [{"age": 1, "city": "Rome"}, {"age": 2, "city": "Oslo"}]


class Server(HTTPServer):
    """Answers in turn with what is planned, the last again and again."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.planned: list[tuple[int | None, Any, dict[str, str]]] = [(200, GOOD, {})]
        self.asked: list[tuple[str, str | None, Any]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/p"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        asked = (self.path, self.headers["Authorization"], json.loads(body) if body else None)
        self.server.asked.append(asked)
        plan = self.server.planned
        status, content, headers = plan.pop(0) if len(plan) > 1 else plan[0]
        if content == SLOW:
            time.sleep(0.6)
        if status is None:  # as a server that dies
            self.close_connection = True
            return
        answer = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(answer))} | headers).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(answer)

    do_POST = do_GET

    def log_message(self, *_: object) -> None:
        pass
