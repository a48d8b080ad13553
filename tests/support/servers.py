"""A web server and an S3 server of the tests' own, on the loopback."""

import hashlib
import json
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any
from urllib.parse import unquote, urlsplit

import boto3

TOKEN = "http-Secret-77"  # noqa: S105 - of a server that lives as long as the tests
KEY = "s3-Secret-42-which-nobody-may-see"


class Web:
    """Files by path; those below `/private/` want the token."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.files: dict[str, bytes] = {}
        self.got: Counter[str] = Counter()
        self.says_versions = True
        """Whether answers have an ETag."""


@contextmanager
def running_web() -> Iterator[Web]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self) -> None:
            self._answer(body=False)

        def do_GET(self) -> None:
            self._answer(body=True)

        def _answer(self, body: bool) -> None:
            path = unquote(urlsplit(self.path).path)
            content = web.files.get(path)
            status = 200 if content is not None else 404
            allowed = self.headers.get("Authorization") == f"Bearer {TOKEN}"
            if path.startswith("/private/") and not allowed:
                status = 401
            content = content if content is not None and status == 200 else b""
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            if web.says_versions:
                self.send_header("ETag", hashlib.sha256(content).hexdigest())
            self.end_headers()
            if body:
                web.got[path] += 1
                self.wfile.write(content)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    web = Web(server.server_address[1])
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield web
    finally:
        server.shutdown()
        server.server_close()


class WebFolder:
    """A folder of the web server."""

    def __init__(self, web: Web, private: bool) -> None:
        self.web = web
        self.secret = TOKEN if private else ""
        self.folder = "/private/" if private else "/open/"
        self.environment = {"WEB_HEADER": f"Bearer {TOKEN}"} if private else {}

    def spec(self, inside: str) -> dict[str, Any]:
        url = f"http://127.0.0.1:{self.web.port}{self.folder}{inside}"
        return {"path": url, **({"credentials": "WEB_HEADER"} if self.secret else {})}

    def write(self, name: str, content: bytes) -> None:
        self.web.files[f"{self.folder}{name}"] = content

    def clear(self) -> None:
        self.web.files.clear()


@contextmanager
def running_s3() -> Iterator[str]:
    """An S3 server; its URL."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    try:
        yield f"http://{host}:{port}"
    finally:
        server.stop()


class Bucket:
    """A bucket of the S3 server."""

    secret = KEY

    def __init__(self, url: str, name: str) -> None:
        self.url, self.name = url, name
        keys = {"key": "reader", "secret": KEY, "client_kwargs": {"region_name": "us-east-1"}}
        self.environment = {"BUCKET_KEYS": json.dumps(keys)}
        self._client = boto3.client(
            "s3",
            endpoint_url=url,
            aws_access_key_id="reader",
            aws_secret_access_key=KEY,
            region_name="us-east-1",
        )
        self._client.create_bucket(Bucket=name)

    def spec(self, inside: str) -> dict[str, Any]:
        return {
            "path": f"s3://{self.name}/{inside}",
            "credentials": "BUCKET_KEYS",
            "options": {"endpoint_url": self.url},
        }

    def write(self, name: str, content: bytes) -> None:
        self._client.put_object(Bucket=self.name, Key=name, Body=content)

    def clear(self) -> None:
        for found in self._client.list_objects_v2(Bucket=self.name).get("Contents", ()):
            self._client.delete_object(Bucket=self.name, Key=found["Key"])
