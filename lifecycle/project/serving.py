"""The sections on serving: the endpoint, how a challenger takes over, batch inference."""

import re
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from lifecycle.project.base import Loss, Section

ORIGIN = re.compile(r"\*|https?://([a-z0-9.-]+|\[[0-9a-f:]+\])(:[0-9]{1,5})?")


def _is_origin(text: str) -> str:
    if not ORIGIN.fullmatch(text):
        raise ValueError(
            f"{text!r} is not an origin: write scheme, host and port in lower case as browsers "
            "send them, such as https://shop.example or http://localhost:3000, or *"
        )
    return text


Origin = Annotated[str, AfterValidator(_is_origin)]
"""A site as the header `Origin` names it, or `*`."""


class RolloutSpec(Section):
    """Rollout of a challenger, and the limits that end it."""

    policy: Literal["straight", "canary", "shadow"] = "straight"
    """`straight`: all requests at once. `canary`: in steps. `shadow`: first it answers beside the
    champion, and its answers are compared, never returned."""
    steps: tuple[Annotated[float, Field(gt=0, le=1)], ...] = (0.01, 0.1, 0.5, 1.0)
    """Canary: shares of the entities, by a hash, so that an entity keeps its version."""
    bake_seconds: float = Field(default=60.0, gt=0)
    """How long each step is held, and how long a shadow answers."""
    min_requests: int = Field(default=20, ge=1)
    """Answers of the challenger a step needs before it may go on; it bakes longer if they lack."""
    max_wait_seconds: float = Field(default=3600.0, gt=0)
    """After this long without `min_requests` the step fails."""
    max_error_rate: float = Field(default=0.01, ge=0, le=1)
    """Share of the challenger's requests that may fail, beyond the champion's."""
    max_p99_ratio: float = Field(default=2.0, gt=0)
    """How much longer the challenger's 99th percentile may be than the champion's."""
    max_p99_milliseconds: float = Field(default=10.0, gt=0)
    """A 99th percentile up to this never fails a step, whatever the ratio."""
    max_prediction_drift: float = Field(default=0.25, gt=0)
    """Distance of its predictions from the champion's: Kolmogorov-Smirnov's statistic, or Cramer's
    V of the classes."""
    max_quality_loss: Loss = "5%"
    """Where labels have come: how much worse than the champion's the gate's metric may be, a number
    in the metric's own units or a share of the champion's, such as `5%`."""

    @model_validator(mode="after")
    def _rising(self) -> Self:
        if not self.steps or list(self.steps) != sorted(set(self.steps)) or self.steps[-1] != 1:
            raise ValueError(f"steps: they must rise and end with 1.0, got {list(self.steps)}")
        return self


class ServingSpec(Section):
    """The Ray Serve application; host and port belong to the settings."""

    replicas: int = Field(default=1, ge=1)
    """Replicas, or with `max_replicas` the fewest."""
    max_replicas: int | None = Field(default=None, ge=1)
    """Autoscaling up to this many replicas; without it their number is fixed."""
    replica_cpus: float = Field(default=0.5, gt=0)
    """CPUs that a replica asks of a cluster, so that Ray spreads replicas and finds room for them;
    a Ray of this machine alone is not asked."""
    replica_memory_mb: int | None = Field(default=None, ge=1)
    """The same of memory, in MiB; without it none is asked for."""
    target_ongoing_requests: float = Field(default=2.0, gt=0)
    """Autoscaling: requests in work per replica that it aims at; it heeds those of many rows."""
    target_busy_share: float = Field(default=0.6, gt=0, le=1)
    """Autoscaling: share of its time that a replica answers, at which it aims; requests of few rows
    are answered one after the other and never seen waiting."""
    upscale_delay_seconds: float = Field(default=10.0, ge=0)
    downscale_delay_seconds: float = Field(default=60.0, ge=0)
    max_ongoing_requests: int = Field(default=100, ge=1)
    """Requests one replica works on at the same time; more wait."""
    max_queued_requests: int = Field(default=1000, ge=1)
    """Requests that may wait at a replica before it answers 503 with `Retry-After`."""
    max_rows: int = Field(default=10_000, ge=1)
    """Rows of one request, at most."""
    max_body_bytes: int = Field(default=16 * 2**20, ge=1)
    """Bytes of one request's body, at most, after decompression."""
    unknown_fields: Literal["refuse", "ignore"] = "refuse"
    """Fields of a request that the model does not take: an error, or left out and counted."""
    allowed_origins: tuple[Origin, ...] = ()
    """Sites whose pages may ask the endpoint from a browser, such as `https://shop.example`; `*`
    for all. Without any, browsers keep its answers from pages of other sites."""
    smoke_rows: int = Field(default=25, ge=1)
    """Holdout rows sent over HTTP, together and alone, before a model becomes champion."""
    max_p99_milliseconds: float | None = Field(default=None, gt=0)
    """What a request for one row may take in the smoke test (99th percentile, over HTTP); a slower
    model is rejected. Without it the latency is only reported."""
    log_predictions: bool = True
    """Whether answers are recorded in the Delta table `prediction_log`."""
    rollout: RolloutSpec = RolloutSpec()

    @model_validator(mode="after")
    def _bounds(self) -> Self:
        if self.max_replicas is not None and self.max_replicas < self.replicas:
            raise ValueError(f"max_replicas: {self.max_replicas} is below {self.replicas=}")
        if self.rollout.policy != "straight" and not self.log_predictions:
            raise ValueError(
                f"rollout.policy: {self.rollout.policy} compares logged predictions: set "
                "log_predictions: true, or policy: straight"
            )
        return self


class ScoringSpec(Section):
    """Batch inference."""

    ray_data_above_rows: int = Field(default=2_000_000, ge=1)
    """Datasets with more rows are scored on Ray Data where a cluster is joined; smaller ones, and
    all on one machine, in one process that reads a few rows at a time."""
