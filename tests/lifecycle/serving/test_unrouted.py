"""A path without a project is answered with the projects there are, by Serve's own proxy, too."""

import asyncio
import json
import os
import subprocess
import sys
import textwrap
from typing import Any

import httpx
import pytest

from lifecycle.ingress.config import REFUSALS
from lifecycle.runtime.servers import free_port
from lifecycle.serving.unrouted import Unrouted
from tests.support.small import ROOT


def proxy(routes: bytes) -> Any:
    """Answers as Serve's proxy does, and below `/small` as a replica."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        status, kind, body = 404, b"text/plain", b"Path not found. Ping http://.../-/routes"
        if scope["path"] == "/-/routes":
            status, kind, body = 200, b"application/json", routes
        elif scope["path"].startswith("/small"):
            kind, body = b"application/json", b'{"error": "there is no such path"}'
        headers = [(b"content-type", kind), (b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        for at in range(0, len(body), 10):
            part = body[at : at + 10]
            await send({"type": "http.response.body", "body": part, "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    return Unrouted(app)


def asked(path: str, routes: bytes = b'{"/small": "small", "/large": "large"}') -> httpx.Response:
    async def send() -> httpx.Response:
        transport = httpx.ASGITransport(proxy(routes))
        async with httpx.AsyncClient(transport=transport, base_url="http://proxy") as client:
            return await client.post(path, json={"records": []})

    return asyncio.run(send())


@pytest.mark.parametrize("path", ["/", "/predict", "/nope/x?y=1"])
def test_the_projects_are_listed(path: str) -> None:
    answer = asked(path)
    assert (answer.status_code, answer.headers["content-type"]) == (404, "application/json")
    told = answer.json()
    assert told["error"].startswith(REFUSALS[404])
    assert (told["projects"], told["example"]) == (["/large", "/small"], "/large/predict")


def test_a_replicas_404_and_other_answers_pass() -> None:
    assert asked("/small/nope").json() == {"error": "there is no such path"}
    assert asked("/-/routes").json() == {"/small": "small", "/large": "large"}


@pytest.mark.parametrize("routes", [b"{}", b"Route table is not populated yet."])
def test_before_anything_is_served(routes: bytes) -> None:
    assert asked("/predict", routes).json() == {"error": REFUSALS[404]}


SCRIPT = textwrap.dedent(
    """
    import json, sys, httpx
    from pathlib import Path
    from lifecycle.runtime.cluster import connect_ray
    from lifecycle.serving.proxy import start_proxy
    from lifecycle.settings import Settings

    settings = Settings(home=Path(sys.argv[1]), serve_port=int(sys.argv[2]))
    with connect_ray(settings):
        from ray import serve

        @serve.deployment(ray_actor_options={"num_cpus": 0})
        class Small:
            async def __call__(self, request):
                return {"here": True}

        start_proxy(settings)
        serve.run(Small.bind(), name="small", route_prefix="/small")
        answers = [httpx.get(f"{settings.serve_url}{path}") for path in ("/small", "/", "/nope")]
        posted = httpx.post(f"{settings.serve_url}/predict", json={})
        print(json.dumps([[a.status_code, a.json()] for a in [*answers, posted]]))
    """
)


@pytest.mark.system
def test_the_real_serve_without_haproxy(tmp_path: Any) -> None:
    """With it: `test_a_path_of_no_project_is_told_the_projects` in test_app.py."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path), str(free_port())],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=os.environ | {"RAY_SERVE_ENABLE_HA_PROXY": "0"},
        timeout=240,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    here, *others = json.loads(done.stdout.strip().splitlines()[-1])
    assert here == [200, {"here": True}]
    for status, told in others:
        assert status == 404
        assert (told["projects"], told["example"]) == (["/small"], "/small/predict")
