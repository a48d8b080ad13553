"""The endpoint's pages about itself: health, the model, OpenAPI, docs and metrics."""

from collections.abc import Callable
from contextlib import suppress
from functools import cache
from html import escape
from typing import NamedTuple

import orjson

from lifecycle.errors import NotServedError, RequestError
from lifecycle.serving.labels import LABELS, label_schema
from lifecycle.serving.metrics import Meters
from lifecycle.serving.predictor import ServedModel
from lifecycle.serving.protocols import mlflow, oip
from lifecycle.serving.records import identity
from lifecycle.serving.traffic import Lanes, NoAnswerError

JSON = b"application/json"
TEXT = b"text/plain; charset=utf-8"
METRICS = b"text/plain; version=0.0.4; charset=utf-8"
HTML = b"text/html; charset=utf-8"
READ = ("GET", "HEAD")
PREDICT, INVOCATIONS = POSTS = ("/predict", "/invocations")


class Reply(NamedTuple):
    """An HTTP answer; its length is added by whoever sends it."""

    status: int
    kind: bytes
    content: bytes
    headers: tuple[tuple[bytes, bytes], ...] = ()


class MethodError(RequestError):
    """The path is there, for other methods."""

    status = 405
    allow = b"GET, HEAD"


class PostOnlyError(MethodError):
    """The path takes a body only."""

    allow = b"POST"


class Pages:
    """Everything a replica answers without predicting.

    Args:
        secured: whether the endpoint asks for API keys, for the OpenAPI document.
    """

    def __init__(self, model: ServedModel, lanes: Lanes, meters: Meters, secured: bool) -> None:
        self._model, self._lanes, self._secured = model, lanes, secured
        self._pages: dict[str, Callable[[], Reply]] = {
            "/health": self._health,
            "/ping": lambda: Reply(200, TEXT, mlflow.ping()),
            "/version": lambda: Reply(200, TEXT, mlflow.mlflow_version()),
            "/model": lambda: Reply(200, JSON, orjson.dumps(model.describe())),
            "/docs": self._docs,
            "/metrics": lambda: Reply(200, METRICS, meters.render()),
        }

    async def reply(self, method: str, path: str) -> tuple[Reply, str]:
        """The answer of a path, and its name for the metrics.

        Raises:
            NotServedError: there is no such path.
            MethodError: there is, and it takes other methods.
        """
        page = self._pages.get(path)
        if page is not None:
            _reads(method)
            return page(), path
        if path == "/openapi.json":
            _reads(method)
            return await self._openapi(), path
        if path in POSTS or path == LABELS:
            raise PostOnlyError("this path takes POST")
        if path == "/v2" or path.startswith("/v2/"):
            if path.endswith("/infer"):
                raise PostOnlyError("this path takes POST")
            _reads(method)
            return Reply(200, JSON, await self._oip(path)), "/v2"
        if path.startswith("/docs/static/"):
            _reads(method)
            return self._static(path.removeprefix("/docs/static/")), "/docs/static"
        name = self._model.project.name
        raise NotServedError(f"there is no such path; /{name}/docs lists what there is")

    def _health(self) -> Reply:
        content = {"status": "ok", "model": identity(self._model.model)}
        return Reply(200, JSON, orjson.dumps(content))

    async def _oip(self, path: str) -> bytes:
        champion, candidate = self._model.model, self._lanes.candidate
        if candidate is None:
            return oip.page(path, champion, self._model.schema)
        versions = (champion.version, candidate.version)
        if not oip.names_version(path, candidate.version):
            return oip.page(path, champion, self._model.schema, versions=versions)
        schema = await self._lanes.candidate_schema()
        return oip.page(path, candidate, schema, versions=versions)

    async def _openapi(self) -> Reply:
        from lifecycle.serving.openapi import document  # seldom asked for: no part of the start

        project, candidate, candidate_schema = self._model.project, self._lanes.candidate, None
        if candidate is not None:
            with suppress(NoAnswerError):
                candidate_schema = candidate, await self._lanes.candidate_schema()
        entity = project.contract.columns[project.entity] if project.entity else None
        content = document(
            self._model.model,
            self._model.schema,
            project.serving.max_rows,
            secured=self._secured,
            entity=(project.entity, entity) if project.entity and entity else None,
            candidate=candidate_schema,
            ignore=project.serving.unknown_fields == "ignore",
            label=label_schema(project, self._model.schema),
        )
        return Reply(200, JSON, orjson.dumps(content))

    def _docs(self) -> Reply:

        return Reply(200, HTML, page(self._model.schema.project))

    def _static(self, name: str) -> Reply:

        kind, content = static(name)
        return Reply(200, kind, content)


def _reads(method: str) -> None:
    if method not in READ:
        raise MethodError(f"this path takes {' and '.join(READ)}")


# The /docs page: Swagger UI, served by ourselves, with no other host and no script in the page.

START = "start.js"
PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'self'; \
img-src 'self' data:; style-src 'self' 'unsafe-inline'; base-uri 'none'; form-action 'self'">
<title>{title}</title>
<link rel="icon" href="docs/static/favicon-32x32.png">
<link rel="stylesheet" href="docs/static/swagger-ui.css">
</head>
<body>
<div id="docs">This page needs JavaScript; <a href="openapi.json">openapi.json</a> does not.</div>
<script src="docs/static/swagger-ui-bundle.js"></script>
<script src="docs/static/start.js"></script>
</body>
</html>
"""
SCRIPT = """"use strict";
// This Swagger UI reads OpenAPI 3.0: null as a type of its own becomes `nullable`.
function older(node) {
  if (Array.isArray(node)) return node.map(older);
  if (node === null || typeof node !== "object") return node;
  const made = {};
  for (const [key, value] of Object.entries(node)) made[key] = older(value);
  if (Array.isArray(made.type)) {
    const types = made.type.filter((type) => type !== "null");
    if (types.length < made.type.length) made.nullable = true;
    delete made.type;
    if (types.length === 1) made.type = types[0];
    else made.anyOf = types.map((type) => ({ type }));
  }
  return made;
}
const place = document.getElementById("docs");
// The key stays in this page's memory: never in an address, nor in what a browser keeps.
function withKey(headers, key) {
  const sent = Object.keys(headers).map((name) => name.toLowerCase());
  if (key && !sent.includes("authorization") && !sent.includes("x-api-key")) {
    headers.Authorization = "Bearer " + key;
  }
  return headers;
}
function ask(reason) {
  const form = document.createElement("form");
  const label = document.createElement("label");
  const input = document.createElement("input");
  const button = document.createElement("button");
  label.textContent = reason + " API key or token: ";
  input.type = "password";
  input.autocomplete = "off";
  input.required = true;
  button.textContent = "Open";
  label.append(input);
  form.append(label, button);
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    begin(input.value.trim());
  });
  place.replaceChildren(form);
  input.focus();
}
function show(spec, key) {
  place.replaceChildren();
  SwaggerUIBundle({
    spec: Object.assign(older(spec), { openapi: "3.0.3" }),
    dom_id: "#docs",
    defaultModelsExpandDepth: 0,
    tryItOutEnabled: true,
    validatorUrl: null,
    requestInterceptor: (request) => {
      if (new URL(request.url, location.href).origin === location.origin) {
        request.headers = withKey(request.headers || {}, key);
      }
      return request;
    },
  });
}
function begin(key) {
  fetch("openapi.json", { headers: withKey({}, key) })
    .then((answer) => answer.json().then((content) => ({ answer, content })))
    .then(({ answer, content }) => {
      if (answer.status === 401) ask(key ? content.error + "." : "This endpoint asks for a key.");
      else if (answer.ok) show(content, key);
      else throw content.error;
    })
    .catch((error) => {
      place.textContent = "openapi.json cannot be read: " + error;
    });
}
begin("");
"""
JAVASCRIPT = b"text/javascript; charset=utf-8"
KINDS = {
    START: JAVASCRIPT,
    "swagger-ui-bundle.js": JAVASCRIPT,
    "swagger-ui.css": b"text/css; charset=utf-8",
    "favicon-32x32.png": b"image/png",
}
"""Every file there is, and its content type: no other name is ever looked for."""


def page(title: str) -> bytes:
    """The page; its links are relative, so it has to be at `/<project>/docs`."""
    return PAGE.format(title=escape(title)).encode()


@cache
def static(name: str) -> tuple[bytes, bytes]:
    """Content type and content of a file below `docs/static/`.

    Raises:
        NotServedError: there is no such file.
    """
    if name not in KINDS:
        raise NotServedError("there is no such file")
    if name == START:
        return KINDS[name], SCRIPT.encode()
    from swagger_ui_bundle import swagger_ui_path  # type: ignore[import-untyped]  # it has no types

    return KINDS[name], (swagger_ui_path / name).read_bytes()
