"""Deployment of bundles on Ray Serve: deploy, share traffic, undeploy."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from lifecycle import errors
from lifecycle.errors import (
    VERDICTS,
    LifecycleError,
    ServingError,
    UnavailableError,
    is_verdict,
    ray_reason,
)
from lifecycle.project import Project
from lifecycle.records import ModelVersion, Traffic
from lifecycle.runtime.identity import code_digest, sha256
from lifecycle.runtime.nodes import on_this_machine
from lifecycle.runtime.ray_internals import with_version
from lifecycle.runtime.remote_driver import on_cluster
from lifecycle.serving.node_bundle import local_bundle
from lifecycle.serving.prediction_log import CLOSE_SECONDS
from lifecycle.serving.predictor import Engine
from lifecycle.serving.proxy import QUIET, quiet_serve, start_proxy
from lifecycle.serving.records import PredictionRequest
from lifecycle.serving.replicas import ByLoad
from lifecycle.serving.traffic import candidate_name
from lifecycle.settings import Settings

logger = logging.getLogger(__name__)

STOP_SECONDS = CLOSE_SECONDS + 10.0
"""How long a replica may finish its requests, and then log them, before it is stopped."""
ANSWER_SECONDS = 60.0
"""How long a replica may take to say which version it serves."""
ATTEMPTS = 3
"""Serve gives its proxies a minute to take a new version, which a busy machine may miss."""


@on_cluster
def deploy(
    bundle: Path,
    model: ModelVersion,
    project: Project,
    settings: Settings,
    engine: Engine = "native",
) -> str:
    """Serve a bundle under `/<project name>`, replacing the version that is served there.

    Ray is connected already; the endpoint lives as long as its Ray. A new version answers once it
    is ready, until then the old one does; no request is lost. It answers everybody, whatever
    candidate there was.

    Args:
        engine: what `predictor.engine_for` found out about the bundle.

    Returns:
        The URL under which `/predict`, `/health` and `/model` are.

    Raises:
        PortInUseError: another process listens on the port.
        ServingError: the model cannot be served; the former one goes on.
        UnavailableError: Ray Serve is late or gone.
    """
    start_proxy(settings)
    _run_champion(bundle, model, project, settings, engine, Traffic())
    return f"{settings.serve_url}/{project.name}"


@on_cluster
def set_traffic(project: Project, settings: Settings, traffic: Traffic) -> None:
    """Share the requests with a candidate, or no longer; every replica follows before this returns.

    No replica is restarted.

    Raises:
        UnavailableError: the project is not served, or a replica does not follow.
    """
    deployed = _deployed(project.name)
    if deployed is None:
        raise UnavailableError(f"{project.name} is not served, so its requests cannot be shared")
    start_proxy(settings)  # it is there; Serve keeps quiet in this process from then on
    # as it was deployed: another project, or another file beside it, would restart the replicas
    bundle, model, as_deployed, engine = deployed
    _run_champion(Path(bundle), model, as_deployed, settings, engine, traffic)


@on_cluster
def serving(project_name: str) -> ModelVersion | None:
    """Return the version that serves a project in the connected Ray; None if there is none."""
    deployed = _deployed(project_name)
    return deployed[1] if deployed else None


@on_cluster
def start_candidate(
    bundle: Path,
    model: ModelVersion,
    project: Project,
    settings: Settings,
    engine: Engine = "native",
) -> None:
    """Start a challenger next to the champion. It gets no requests before `set_traffic`.

    Raises:
        ServingError: the model cannot be served.
        UnavailableError: Ray Serve is late or gone.
    """
    from lifecycle.serving.replicas import CandidateServer

    start_proxy(settings)
    options = _options(project, settings) | {"name": "candidate"}
    application = _bound(CandidateServer, options, (str(bundle), model, project, settings, engine))
    _run(application, candidate_name(project.name), None, model)


def stop_candidate(project_name: str) -> None:
    """Stop the candidate; nothing happens if there is none."""
    undeploy(candidate_name(project_name))


@on_cluster
def undeploy(project_name: str) -> None:
    """Stop serving a project; nothing happens if it is not served. Others keep being served."""
    serve = quiet_serve()
    if project_name in serve.status().applications:
        serve.delete(project_name)


def rehearse(
    bundle: Path, model: ModelVersion, project: Project, settings: Settings, rows: pd.DataFrame
) -> None:
    """Load a bundle and predict rows in a separate process, which may crash without harm.

    Args:
        rows: as clients send them, `online_features.as_requests`.

    Raises:
        ServingError: it does not load, does not predict, or takes its process down.
        BackendError: what it needs, or Ray, is not there.
    """
    import ray

    trial = ray.remote(num_cpus=0, max_retries=0, max_calls=1)(_try)
    try:
        ray.get(trial.remote(bundle, model, project, settings, rows))
    except ray.exceptions.RayTaskError as error:
        cause = error.cause
        if isinstance(cause, LifecycleError) and not is_verdict(cause):
            raise cause from None
        raise ServingError(f"{model.uri} cannot be served: {cause}") from None
    except ray.exceptions.WorkerCrashedError:
        raise ServingError(f"{model.uri} cannot be served: it crashes its process") from None
    except ray.exceptions.RayError as error:
        raise UnavailableError(f"{model.uri} could not be rehearsed: {ray_reason(error)}") from None


def _try(
    bundle: Path, model: ModelVersion, project: Project, settings: Settings, rows: pd.DataFrame
) -> None:
    from lifecycle.serving.predictor import ServedModel
    from lifecycle.serving.records import to_records

    request = PredictionRequest(len(rows), to_records(rows))
    settings = on_this_machine(settings)
    bundle = local_bundle(bundle, model, settings)
    served = ServedModel.open(bundle, model, project, settings=settings)
    predictions = served.answer(request, "rehearsal").predictions
    if not np.isfinite(predictions).all():
        raise ServingError("its predictions are not finite numbers")


def _run_champion(
    bundle: Path,
    model: ModelVersion,
    project: Project,
    settings: Settings,
    engine: Engine,
    traffic: Traffic,
) -> None:
    serve = quiet_serve()
    from lifecycle.serving.replicas import ModelServer

    options = _options(project, settings) | {
        "name": "model",
        "user_config": traffic.model_dump(mode="json"),
        "max_queued_requests": project.serving.max_queued_requests,
        "backpressure_config": {"status_code": 503, "retry_after_s": 1.0},
        "graceful_shutdown_timeout_s": STOP_SECONDS,
        **_scale(project),
    }
    server = serve.ingress()(ModelServer)
    application = _bound(server, options, (str(bundle), model, project, settings, engine))
    _run(application, project.name, f"/{project.name}", model)


def _options(project: Project, settings: Settings) -> dict[str, Any]:
    spec = project.serving
    # serving must not starve the stages of a laptop; on a cluster, who asks for nothing is packed
    # on one node, while who asks for CPUs is spread by Serve
    actor: dict[str, Any] = {"num_cpus": 0 if settings.local_ray else spec.replica_cpus}
    # by itself Serve takes the run's, by which its workers log: another run would restart replicas
    actor["runtime_env"] = {}
    if spec.replica_memory_mb is not None and not settings.local_ray:
        actor["memory"] = spec.replica_memory_mb * 2**20
    return {
        "max_ongoing_requests": spec.max_ongoing_requests,
        "ray_actor_options": actor,
        "max_surge_percent": 25,  # a new replica answers before an old one stops
        "graceful_shutdown_wait_loop_s": 0.1,
        "health_check_period_s": 1.0,
        "health_check_timeout_s": 10.0,
        "max_constructor_retry_count": 1,  # a model that does not load will not do so later
        "logging_config": QUIET,
    }


def _scale(project: Project) -> dict[str, Any]:
    spec = project.serving
    if spec.max_replicas is None:
        return {"num_replicas": spec.replicas}
    from ray.serve.config import AutoscalingPolicy

    return {
        "autoscaling_config": {
            "min_replicas": spec.replicas,
            "initial_replicas": spec.replicas,
            "max_replicas": spec.max_replicas,
            "target_ongoing_requests": spec.target_ongoing_requests,
            "upscale_delay_s": spec.upscale_delay_seconds,
            "downscale_delay_s": spec.downscale_delay_seconds,
            "policy": AutoscalingPolicy(  # type: ignore[no-untyped-call]  # ray has no type
                policy_function=ByLoad, policy_kwargs={"target_busy_share": spec.target_busy_share}
            ),
        }
    }


def _bound(server: Any, options: dict[str, Any], arguments: tuple[Any, ...]) -> Any:
    """The application; replicas stay if only its `user_config` or its scale is another."""
    serve = quiet_serve()
    deployment = serve.deployment(**options)(server)
    return with_version(deployment, replica_version(arguments)).bind(*arguments)


def replica_version(arguments: tuple[Any, ...]) -> str:
    """Digest of a replica's code and arguments; Ray Serve restarts replicas of another one."""
    texts = [getattr(argument, "model_dump_json", argument.__str__)() for argument in arguments]
    return sha256([code_digest("answers"), *texts])


def _run(application: Any, name: str, prefix: str | None, model: ModelVersion) -> None:
    serve = quiet_serve()
    for attempt in range(1, ATTEMPTS + 1):
        try:
            serve.run(application, name=name, route_prefix=prefix)
        except TimeoutError as error:
            if attempt < ATTEMPTS:
                logger.warning("Ray Serve is late, as on a busy machine: trying again (%s)", error)
                continue
            raise UnavailableError(
                f"Ray Serve was not ready for /{name} in time: {ray_reason(error)}"
            ) from None
        except RuntimeError as error:  # what Serve raises where a replica does not start
            raise _failure(name, model, _cause(name, error)) from None
        except Exception as error:
            raise UnavailableError(f"Ray Serve cannot serve /{name}: {ray_reason(error)}") from None
        return


def _failure(name: str, model: ModelVersion, cause: str) -> ServingError | UnavailableError:
    """Build the error for a replica that did not start.

    A `ServingError` blames the model, an `UnavailableError` the machine or a service.

    Args:
        cause: the last line of the replica's error: its class and its message.
    """
    kind = getattr(errors, cause.partition(":")[0].rpartition(".")[2], None)
    judged = kind is None or issubclass(kind, VERDICTS)
    message = f"{model.uri} cannot be served as /{name}: {cause}"
    return ServingError(message) if judged else UnavailableError(message)


def _deployed(project_name: str) -> tuple[str, ModelVersion, Project, Engine] | None:
    serve = quiet_serve()
    if project_name not in serve.status().applications:
        return None
    handle = serve.get_app_handle(project_name)
    try:
        answer: tuple[str, ModelVersion, Project, Engine]
        answer = handle.deployed.remote().result(timeout_s=ANSWER_SECONDS)
    except Exception as error:
        raise UnavailableError(
            f"{project_name} is served, but no replica says which version: {ray_reason(error)}"
        ) from None
    return answer


def _cause(name: str, error: Exception) -> str:
    """The last line of what the replica said, without its traceback."""
    serve = quiet_serve()
    application = serve.status().applications.get(name)
    messages = [d.message for d in application.deployments.values()] if application else []
    lines = [line.strip() for line in (messages[0] if messages else str(error)).splitlines()]
    return next((line for line in reversed(lines) if line), type(error).__name__)
