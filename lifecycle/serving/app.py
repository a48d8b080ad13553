"""The Ray Serve application: one deployment, four routes, every answer JSON.

This module is imported by the replicas: what it imports is their cold start.
"""

import json
import logging
import uuid
from importlib import import_module
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import ray
from fastapi import FastAPI, Request, Response
from ray import serve
from starlette.exceptions import HTTPException

from lifecycle.errors import RequestError
from lifecycle.project import Project
from lifecycle.records import ModelVersion
from lifecycle.serving.predictor import ServedModel

logger = logging.getLogger(__name__)

REFUSED, FAILED = 422, 500

api = FastAPI(title="lifecycle", openapi_url=None, docs_url=None, redoc_url=None)


def _json(content: dict[str, Any], status: int = 200) -> Response:
    return Response(json.dumps(content), status, media_type="application/json")


def _keep_to_loopback() -> None:
    """On a one-machine Ray, keep the replica's gRPC server off the machine's other interfaces.

    Serve opens it on all of them after the replica's `__init__`, without a setting for it, and it
    unpickles what it is sent.
    """
    address = ray.util.get_node_ip_address()  # type: ignore[no-untyped-call]  # ray has no type
    if not ip_address(address).is_loopback:
        return
    replica: Any = import_module("ray.serve._private.replica")
    add_port = replica.add_port_to_grpc_server

    def add_loopback_port(server: Any, address: str) -> Any:
        return add_port(server, address.replace("[::]", "127.0.0.1"))

    replica.add_port_to_grpc_server = add_loopback_port


@api.exception_handler(HTTPException)
async def _no_such_route(_request: Request, error: HTTPException) -> Response:
    return _json({"error": error.detail}, error.status_code)


@serve.ingress(api)  # it copies `api` and what its routes use here, so all that stands above
class ModelServer:
    """A replica: it loads its model once and answers."""

    def __init__(self, bundle: str, model: ModelVersion, project: Project) -> None:
        _keep_to_loopback()
        self._served = ServedModel.open(Path(bundle), model, project)

    @api.post("/predict")
    async def predict(self, request: Request) -> Response:
        """Predictions for `{"records": [{…}]}`."""
        name = uuid.uuid4().hex
        try:
            predictions = self._served.answer(await request.body())
        except RequestError as error:
            return _json({"error": str(error), "id": name}, REFUSED)
        except Exception:
            # whatever a features hook does must not reach the client as a traceback
            logger.exception("request %s failed", name)
            problem = "the model could not answer this request; the server's log has the cause"
            return _json({"error": problem, "id": name}, FAILED)
        return _json({"predictions": predictions, "model": self._served.identity(), "id": name})

    @api.get("/health")
    async def health(self) -> Response:
        """Ready, and with which model."""
        return _json({"status": "ok", "model": self._served.identity()})

    @api.get("/model")
    async def model(self) -> Response:
        """What the model takes and gives."""
        return _json(self._served.describe())

    @api.get("/openapi.json")
    async def openapi(self) -> Response:
        """The routes for machines, with this model's fields and classes."""
        return _json(self._served.openapi())
