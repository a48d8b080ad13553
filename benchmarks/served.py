"""The servers that `benchmarks.serving` compares, each a process: `python -m benchmarks.served …`.

A server prints one JSON line when it answers, and ends when its standard input does. All have the
same booster and answer the same request.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil

PATIENCE = 180.0
KINDS = ("ours", "noop", "minimal", "ray_default", "fastapi")


def plain(folder: Path, port: int) -> None:
    """FastAPI on uvicorn, as one writes it by hand; this never returns."""
    import uvicorn
    import xgboost
    from fastapi import FastAPI, Request

    booster = xgboost.Booster({"nthread": 1})
    booster.load_model(folder / "model.ubj")
    names = booster.feature_names or []
    app = FastAPI()

    @app.post("/predict")
    async def predict(request: Request) -> dict[str, Any]:
        records = (await request.json())["records"]
        rows = np.array([[record[name] for name in names] for record in records], dtype="f4")
        return {"predictions": booster.inplace_predict(rows).tolist()}

    uvicorn.run(app, host="127.0.0.1", port=port, log_level="warning", access_log=False)


def ray_default(folder: Path, port: int) -> None:
    """Ray Serve with its defaults and a handler as one writes it by hand."""
    import ray
    import xgboost
    from ray import serve
    from starlette.requests import Request

    class Model:
        def __init__(self, file: str) -> None:
            self.booster = xgboost.Booster({"nthread": 1})
            self.booster.load_model(file)

        async def __call__(self, request: Request) -> dict[str, Any]:
            records = (await request.json())["records"]
            names = self.booster.feature_names or []
            rows = np.array([[record[name] for name in names] for record in records], dtype="f4")
            return {"predictions": self.booster.inplace_predict(rows).tolist()}

    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False)
    serve.start(http_options={"host": "127.0.0.1", "port": port})
    served = serve.deployment(name="Model")(Model)
    serve.run(served.bind(str(folder / "model.ubj")), name="m", route_prefix="/")


def minimal(_folder: Path, port: int) -> None:
    """The smallest Ray Serve application there is, with Ray's defaults."""
    import ray
    from ray import serve
    from starlette.requests import Request

    class Hello:
        async def __call__(self, _: Request) -> dict[str, Any]:
            return {"predictions": []}

    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False)
    serve.start(http_options={"host": "127.0.0.1", "port": port})
    served = serve.deployment(name="Hello")(Hello)
    serve.run(served.bind(), name="hello", route_prefix="/")


def serve_endpoint(folder: Path, port: int, version: int = 1) -> None:
    """Our application, and beside it one without a prediction log."""
    from lifecycle.serving.deployment import deploy

    project, settings, model, bundle = serve_inputs(folder, port)
    model = model.model_copy(update={"version": version})
    deploy(bundle, model, project, settings, "treelite")
    silent = project.serving.model_copy(update={"log_predictions": False})
    quiet = project.model_copy(update={"name": "quiet", "serving": silent})
    if (folder / "quiet").exists():
        deploy(bundle, model, quiet, settings, "treelite")


def noop(folder: Path, port: int) -> None:
    """A handler that reads the request and answers a constant, as our own Serve is configured."""
    from ray import serve
    from starlette.requests import Request
    from starlette.responses import Response

    from lifecycle.serving.deployment import _options
    from lifecycle.serving.proxy import start_proxy

    class NoOp:
        async def __call__(self, request: Request) -> Response:
            await request.body()
            return Response(b'{"predictions":[0.5]}', media_type="application/json")

    project, settings, _, _ = serve_inputs(folder, port)
    start_proxy(settings)
    served = serve.deployment(name="noop", **_options(project, settings))(NoOp)
    serve.run(served.bind(), name="noop", route_prefix="/noop")


def serve_inputs(folder: Path, port: int) -> tuple[Any, Any, Any, Path]:
    """Project, settings, model and bundle that `serving.prepare` left in the folder."""
    from lifecycle.project.loader import load_project
    from lifecycle.records import ModelVersion
    from lifecycle.settings import Settings

    model = ModelVersion.model_validate_json((folder / "model.json").read_text())
    settings = Settings(home=folder / "home", serve_port=port)
    project = load_project(folder / "project.yaml")
    return project, settings, model, folder / "bundles" / model.digest


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kind", choices=KINDS)
    parser.add_argument("folder", type=Path)
    parser.add_argument("port", type=int)
    options = parser.parse_args()
    arguments = (options.folder, options.port)
    if options.kind == "fastapi":
        plain(*arguments)
    if options.kind in ("ray_default", "minimal"):
        {"ray_default": ray_default, "minimal": minimal}[options.kind](*arguments)
        print(json.dumps({"ready": True}), flush=True)
        sys.stdin.read()
        return
    from lifecycle.runtime.cluster import connect_ray

    _, settings, _, _ = serve_inputs(*arguments)
    with connect_ray(settings):
        {"ours": serve_endpoint, "noop": noop}[options.kind](*arguments)
        print(json.dumps({"ready": True}), flush=True)
        for line in sys.stdin:  # the number of the version to deploy next
            serve_endpoint(*arguments, int(line))
            print(json.dumps({"version": int(line)}), flush=True)


class Server:
    """One of them as a process.

    Args:
        url: what it answers a POST of the body on.
        talks: whether it says on its standard output what it has done, and nothing else.
    """

    def __init__(self, command: list[str], url: str, body: bytes, talks: bool = False) -> None:
        self.url = url
        started = time.monotonic()
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE if talks else subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
        )
        self.tree = psutil.Process(self._process.pid)
        while True:
            assert self._process.poll() is None, f"{command} ended"
            assert time.monotonic() - started < PATIENCE, f"{command} does not answer"
            with suppress(httpx.TransportError):
                answer = httpx.post(url, content=body, headers={"content-type": "application/json"})
                if answer.status_code == 200:
                    break
            time.sleep(0.02)
        self.seconds = time.monotonic() - started
        """From the start of its process to the first correct answer."""
        self.answer: str = answer.text

    def redeploy(self, version: int) -> None:
        """Have our server replace its version."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{version}\n".encode())
        self._process.stdin.flush()
        while b'"version"' not in self._process.stdout.readline():
            assert self._process.poll() is None, "the server ended"

    def memory(self) -> float:
        """Proportional set size of the process and all below it, in MB."""
        total = 0
        for process in [self.tree, *self.tree.children(recursive=True)]:
            with suppress(psutil.Error):  # it has just ended
                total += process.memory_full_info().pss
        return total / 1e6

    def stop(self) -> None:
        children = self.tree.children(recursive=True)
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.terminate()
            self._process.wait(30)
        for child in children:
            if child.is_running():
                child.terminate()


def server(kind: str, folder: Path, port: int, path: str, body: bytes) -> Server:
    """Start one of `KINDS` and wait for its first answer."""
    command = [sys.executable, "-m", "benchmarks.served", kind, str(folder), str(port)]
    return Server(command, f"http://127.0.0.1:{port}{path}", body, talks=kind == "ours")


if __name__ == "__main__":
    main()
