"""Results of monitoring and retraining for Prometheus: pushed, or left in text files.

A flow ends when it has monitored, so nobody could scrape it. It pushes to the Pushgateway of the
settings. Without one it leaves files in `Settings.gauges_folder`, which the endpoint appends to its
`/metrics` and node exporter's textfile collector reads. What was measured in the newest window
stands there until the next one.
"""

import logging
import time
from collections.abc import Iterable, Sequence
from functools import partial
from http.client import HTTPException
from typing import Literal
from urllib.parse import unquote, urlsplit

from prometheus_client import CollectorRegistry, Gauge, push_to_gateway, write_to_textfile
from prometheus_client.exposition import basic_auth_handler, default_handler

from lifecycle.errors import first_line
from lifecycle.monitoring.results import compared
from lifecycle.project import Project, RetrainingSpec
from lifecycle.quality.gates import quality_limit
from lifecycle.records import Attempt, Evaluation, ModelVersion, Monitored, SliceDrift
from lifecycle.redaction import redact
from lifecycle.settings import Settings

logger = logging.getLogger(__name__)

OUTCOMES = ("released", "finding", "failed", "rolled back")
PLACE = ["version", "slice", "column", "metric"]
Prefix = Literal["monitoring", "live"]
"""Of scored tables, or of windows of the prediction log."""
PUSH_TIMEOUT_S = 5.0
"""Seconds that a push may take: a gateway that is down must not hold a flow up."""


class _Page:
    """Gauges that are replaced together, each labelled with the project."""

    def __init__(self, project: Project, settings: Settings, name: str) -> None:
        self._registry = CollectorRegistry()
        self._project, self._settings, self._name = project.name, settings, name

    def set(
        self,
        name: str,
        text: str,
        samples: Iterable[tuple[Sequence[object], float | None]],
        labels: Sequence[str] = (),
    ) -> None:
        """Add a gauge; a value that is not known is left out."""
        gauge = Gauge(f"lifecycle_{name}", text, ["project", *labels], registry=self._registry)
        for values, value in samples:
            if value is not None:
                gauge.labels(self._project, *map(str, values)).set(value)

    def publish(self) -> None:
        """Push the page, or write its file in one step.

        A gateway that does not take it is a warning: the flow has done its work. Once it has taken
        it, a file from before there was a gateway is removed, since nobody would renew it.

        Raises:
            OSError: the folder cannot be written.
        """
        path = self._settings.gauges_folder(self._project) / f"{self._name}.prom"
        url = self._settings.pushgateway
        if not url:
            write_to_textfile(str(path), self._registry)
            return
        try:
            self._push(url)
        except (OSError, HTTPException, ValueError) as error:
            logger.warning(
                "the gauges %s of %s were not pushed to %s (%s): Prometheus keeps those of the run "
                "before; see that the gateway is up, or correct LIFECYCLE_PUSHGATEWAY",
                *(self._name, self._project, redact(url), first_line(error)),
            )
        else:
            path.unlink(missing_ok=True)

    def _push(self, url: str) -> None:
        """Replace the group of this environment, project and page."""
        parts = urlsplit(url)
        user, password = (unquote(text or "") for text in (parts.username, parts.password))
        log_in = partial(basic_auth_handler, username=user, password=password)
        push_to_gateway(
            parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl(),
            job=f"flows-{self._settings.env}",
            registry=self._registry,
            grouping_key={"env": self._settings.env, "project": self._project, "page": self._name},
            timeout=PUSH_TIMEOUT_S,
            handler=log_in if user else default_handler,
        )


def publish_findings(
    project: Project,
    settings: Settings,
    model: ModelVersion,
    released: Evaluation,
    reports: Sequence[Monitored],
    prefix: Prefix,
    has_newest: bool = True,
) -> None:
    """Publish the newest window's drift and alarms, and the quality of the newest with labels.

    Args:
        reports: findings, the oldest first; of several windows each.
        released: the model's evaluation at release.
        has_newest: whether the newest window is among them; else what was published of it stays.

    Raises:
        OSError: the folder cannot be written.
    """
    if not reports:
        return
    if has_newest:
        _publish_drift(project, settings, model, reports[-1], prefix)
    labelled = [
        (measured, drift.alpha)
        for monitored in reports
        for measured, drift in zip(monitored.quality, monitored.drift, strict=True)
        if measured is not None
    ]
    if labelled:
        _publish_quality(project, settings, model, released, *labelled[-1], prefix)


def _publish_drift(
    project: Project, settings: Settings, model: ModelVersion, monitored: Monitored, prefix: Prefix
) -> None:
    page = _Page(project, settings, prefix)
    drift = monitored.drift[-1]
    columns = [
        (
            (
                model.version,
                each.slice if isinstance(each, SliceDrift) else "all",
                each.column,
                each.test,
            ),
            each,
        )
        for each in compared(drift, "reference")
    ]
    distances = [(place, each.statistic) for place, each in columns]
    page.set(f"{prefix}_distance", "Distance from the reference.", distances, PLACE)
    limits = [(place, each.alarm_limit) for place, each in columns]
    page.set(f"{prefix}_distance_limit", "Distance from which there is an alarm.", limits, PLACE)
    version = [model.version]
    rows = [(version, float(drift.current_rows))]
    page.set(f"{prefix}_rows", "Rows of the newest window.", rows, ["version"])
    severities = [alarm.severity for alarm in monitored.alarms if alarm.window == drift.window]
    counts = [([*version, level], severities.count(level)) for level in ("low", "high")]
    page.set(f"{prefix}_alarms", "Alarms in the newest window.", counts, ["version", "severity"])
    verdict = [(version, float(not monitored.decision.passed))]
    page.set(f"{prefix}_retraining_asked", "1: retraining is asked for.", verdict, ["version"])
    now = [((), time.time())]
    page.set(f"{prefix}_timestamp_seconds", "When the newest window was monitored.", now)
    estimated = monitored.estimates[-1] if monitored.estimates else None
    if estimated is not None:
        estimate = estimated.estimate
        values = zip(
            ("value", "low", "high"), (estimate.value, estimate.low, estimate.high), strict=True
        )
        page.set(
            f"{prefix}_estimate",
            "Quality estimated before the labels, with its 95 % interval.",
            [((model.version, estimated.metric, bound), value) for bound, value in values],
            ["version", "metric", "bound"],
        )
        withdrawn = [(version, float(bool(estimated.grade.withdrawn)))]
        page.set(
            f"{prefix}_estimate_withdrawn", "1: the estimate was wrong.", withdrawn, ["version"]
        )
    page.publish()


def _publish_quality(
    project: Project,
    settings: Settings,
    model: ModelVersion,
    released: Evaluation,
    measured: Evaluation,
    alpha: float,
    prefix: Prefix,
) -> None:
    page = _Page(project, settings, f"{prefix}_quality")
    bounds = [
        ((model.version, name, bound), value)
        for name, estimate in measured.metrics.items()
        for bound, value in (
            ("value", estimate.value),
            ("low", estimate.low),
            ("high", estimate.high),
        )
    ]
    text = "Quality of the newest window with labels, with its 95 % interval."
    page.set(f"{prefix}_quality", text, bounds, ["version", "metric", "bound"])
    limit = quality_limit(measured, released, project.monitoring, project.metric, alpha)
    limits = [((model.version, project.metric), limit)]
    page.set(f"{prefix}_quality_limit", "Quality that is an alarm.", limits, ["version", "metric"])
    labels = [([model.version], float(measured.rows))]
    page.set(f"{prefix}_labels", "Labels of that window.", labels, ["version"])
    page.publish()


def publish_tries(
    project: Project, settings: Settings, attempts: Sequence[Attempt], useless: int
) -> None:
    """Publish how the machine's own tries ended, and how many of the newest brought nothing.

    Raises:
        OSError: the folder cannot be written.
    """
    page = _Page(project, settings, "retraining")
    spec: RetrainingSpec = project.retraining
    own = [attempt.outcome for attempt in attempts if not attempt.by_hand]
    counts = [([outcome], float(own.count(outcome))) for outcome in OUTCOMES]  # type: ignore[arg-type]
    page.set("retraining_tries", "Tries of the machine, by their outcome.", counts, ["outcome"])
    text = "Tries in a row without a release that holds."
    page.set("retraining_useless_tries", text, [((), float(useless))])
    text = "Useless tries after which it stops."
    page.set("retraining_give_up_after", text, [((), float(spec.give_up_after))])
    began = attempts[-1].time.timestamp() if attempts else None
    page.set("retraining_last_try_timestamp_seconds", "When the last try began.", [((), began)])
    page.publish()
