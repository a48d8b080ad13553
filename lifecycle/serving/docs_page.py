"""The /docs page: Swagger UI, served by ourselves, with no other host and no script in the page."""

from functools import cache
from html import escape

from lifecycle.errors import NotServedError

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
fetch("openapi.json")
  .then((answer) => answer.json())
  .then((spec) => SwaggerUIBundle({
    spec: Object.assign(older(spec), { openapi: "3.0.3" }),
    dom_id: "#docs",
    defaultModelsExpandDepth: 0,
    tryItOutEnabled: true,
    validatorUrl: null,
  }))
  .catch((error) => {
    document.getElementById("docs").textContent = "openapi.json cannot be read: " + error;
  });
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
