"""The Ray Serve deployments: the champion's, which answers HTTP, and a candidate's beside it.

This module is imported by the replicas: what it imports is their cold start.
"""

import sys
import time
from ipaddress import ip_address
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Any

import ray

from lifecycle.errors import RequestError
from lifecycle.project import Project
from lifecycle.records import ModelVersion, Traffic
from lifecycle.runtime.logs import begin_logs
from lifecycle.runtime.nodes import on_this_machine
from lifecycle.runtime.ray_internals import serve_grpc_on_loopback
from lifecycle.runtime.traces import end_traces
from lifecycle.serving.access import RequestReports
from lifecycle.serving.auth import Gatekeeper
from lifecycle.serving.endpoint import EndpointApp
from lifecycle.serving.labels import LabelInbox
from lifecycle.serving.metrics import Meters, Publisher
from lifecycle.serving.node_bundle import local_bundle
from lifecycle.serving.pages import Pages
from lifecycle.serving.prediction_log import PredictionLog
from lifecycle.serving.predictor import Engine, ServedModel
from lifecycle.serving.proxy import METRICS
from lifecycle.serving.records import Answer, PredictionRequest
from lifecycle.serving.traffic import Lanes
from lifecycle.settings import Settings
from lifecycle.training.bundle import BundleSchema

if TYPE_CHECKING:
    from ray.serve.config import AutoscalingContext

    from lifecycle.serving.tokens import TokenVerifier


# When replicas are added or taken away: by requests in work, and by how busy each replica is.
#
# Ray Serve's own policy looks at requests in work alone. A request of few rows is answered in one
# go on the event loop, so whoever counts on that loop always counts none; what tells is how much of
# its time the loop is busy. Requests of many rows are worked on beside it, and there the count
# tells.

BUSY = "busy_share"


class BusyShare:
    """Share of the time between two looks that the calling thread was on a processor."""

    def __init__(self) -> None:
        self._busy, self._looked = time.thread_time(), time.monotonic()

    def look(self) -> float:
        """The share since the last look, in [0, 1]; each look is made by the same thread."""
        busy, now = time.thread_time(), time.monotonic()
        share = (busy - self._busy) / max(now - self._looked, 1e-9)
        self._busy, self._looked = busy, now
        return min(max(share, 0.0), 1.0)


class ByLoad:
    """An autoscaling policy of Ray Serve, which asks it in its controller several times a second.

    Ray keeps the number between the bounds, and waits for the declared delays.

    Args:
        target_busy_share: share of its time that a replica is to be busy.
    """

    def __init__(self, target_busy_share: float) -> None:
        self._target = target_busy_share

    def __call__(self, context: "AutoscalingContext") -> tuple[float, dict[str, Any]]:
        """Replicas wanted, so that neither target is missed, and no state."""
        config: Any = context.config
        in_work = context.total_num_requests / config.get_target_ongoing_requests()
        metrics = (context.raw_metrics or {}).get(BUSY, {})
        busy = sum(points[-1].value for points in metrics.values() if points)
        return max(in_work, busy / self._target), {}


SWITCH_SECONDS = 0.0005
"""How long the log's thread may keep the interpreter while a request waits for it."""


def keep_to_loopback() -> None:
    """Bind the replica's gRPC server to the loopback interface if Ray runs on one machine."""
    address = ray.util.get_node_ip_address()  # type: ignore[no-untyped-call]  # ray has no type
    if ip_address(address).is_loopback:
        serve_grpc_on_loopback()


def token_verifier(settings: Settings, project: str) -> "TokenVerifier | None":
    """Judge of tokens, if the settings name their issuer; its library is imported only then."""
    if not settings.serve_oidc_issuer:
        return None
    from lifecycle.serving.tokens import TokenVerifier

    verifier = TokenVerifier(settings, project)
    Thread(target=verifier.refresh, name="oidc", daemon=True).start()
    return verifier


def node_name() -> str:
    """Name of this Ray node, for the counts of its replicas; nodes may share a home."""
    return str(ray.get_runtime_context().get_node_id())[:16]


def model_labels(model: ModelVersion, role: str) -> dict[str, str]:
    """Labels of a replica's log lines."""
    return {"model": model.name, "model_version": str(model.version), "role": role}


class ModelServer:
    """A replica of the champion: it loads its model once and answers HTTP as `EndpointApp` does."""

    def __init__(
        self, bundle: str, model: ModelVersion, project: Project, settings: Settings, engine: Engine
    ) -> None:
        keep_to_loopback()
        begin_logs(settings, **model_labels(model, "champion"))
        sys.setswitchinterval(SWITCH_SECONDS)
        self._deployed = (bundle, model, project, engine)
        settings = on_this_machine(settings)
        path = local_bundle(Path(bundle), model, settings)
        served = ServedModel.open(path, model, project, engine, settings)
        self._views = served.views
        if self._views is not None:
            self._views.follow()
        folder = settings.folder(METRICS, project.name, node_name())
        gauges = None if settings.pushgateway else settings.gauges_folder(project.name)
        self._meters = meters = Meters(folder, model, "champion", gauges)
        self._publisher = None if settings.local_ray else Publisher(folder, project.name)
        self._log = (
            PredictionLog(settings, project, meters) if project.serving.log_predictions else None
        )
        if self._log is None:  # otherwise the log sweeps
            meters.sweep()
        gate = Gatekeeper(
            settings.keys_file,
            project.name,
            project.serving.max_replicas or project.serving.replicas,
            required=settings.needs_keys,
            tokens=token_verifier(settings, project.name),
        )
        self._lanes = Lanes(served)
        self._busy = BusyShare()
        pages = Pages(served, self._lanes, meters, secured=settings.needs_keys)
        self._endpoint = EndpointApp(
            served, self._lanes, gate, self._log, meters, pages, LabelInbox(project, settings)
        )
        self._endpoint.reports = RequestReports.of(settings, model)

    def __serve_build_asgi_app__(self) -> EndpointApp:
        return self._endpoint

    def reconfigure(self, traffic: dict[str, Any]) -> None:
        """Apply a traffic setting. Serve calls this at the start and after `set_traffic`."""
        self._lanes.follow(Traffic.model_validate(traffic))

    async def record_autoscaling_stats(self) -> dict[str, float]:
        """Asked by Serve every few seconds, on the event loop, where replicas may come and go."""
        return {BUSY: self._busy.look()}

    def deployed(self) -> tuple[str, ModelVersion, Project, Engine]:
        """The bundle this replica serves, and how."""
        return self._deployed

    def __del__(self) -> None:
        """Close the log, the views and the metrics. Serve calls this after the last request."""
        if self._log is not None:
            self._log.close()
        if self._views is not None:
            self._views.close()
        if self._publisher is not None:
            self._publisher.close()
        self._meters.close()
        end_traces()


class CandidateServer:
    """A replica of a challenger under trial: it answers the champion's replicas, not HTTP."""

    def __init__(
        self, bundle: str, model: ModelVersion, project: Project, settings: Settings, engine: Engine
    ) -> None:
        keep_to_loopback()
        begin_logs(settings, **model_labels(model, "candidate"))
        settings = on_this_machine(settings)
        path = local_bundle(Path(bundle), model, settings)
        self._served = ServedModel.open(path, model, project, engine, settings)
        if self._served.views is not None:
            self._served.views.follow()

    def answer(self, request: PredictionRequest, name: str) -> tuple[Answer, float] | RequestError:
        """The answer with the seconds it took, or why there is none."""
        started = time.perf_counter()
        try:
            return self._served.answer(request, name), time.perf_counter() - started
        except RequestError as error:
            return error

    def schema(self) -> BundleSchema:
        """Return the schema of the model's requests and answers."""
        schema: BundleSchema = self._served.schema
        return schema
