"""Data steps as Prefect tasks: ingest a window, split it, know which windows have arrived."""

import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date
from typing import Any

from prefect.artifacts import create_table_artifact
from prefect.blocks.system import Secret

from lifecycle.data import ingest, privacy, sources, split, windows
from lifecycle.data.contract import Table
from lifecycle.errors import DataError
from lifecycle.features.join import join_views
from lifecycle.project import Project
from lifecycle.quality.summary import spoken
from lifecycle.records import Ingested, Monitored, Split, Violation, Window
from lifecycle.settings import Settings
from tasks.cluster import reading_cluster
from tasks.events import Details, Event, send_event
from tasks.policies import CACHED, NOT_CACHED, RETRIES, cached_by, checked, slug, task
from tasks.progress import say, step, update

# Credentials of sources: a Prefect Secret block fills the environment variable a project names.


def fill_credentials(project: Project) -> None:
    """Set the variables that the project's sources name and this process lacks.

    The block is called as the variable, in lower case with dashes: `WAREHOUSE_URL` is in
    `warehouse-url`. Where there is no such block either, reading the source says so.
    """
    views = (view.source for view in project.feature_views.values())
    for source in (project.source, *views):
        name = source.credentials
        if name and name not in os.environ and (value := _block(name)):
            os.environ[name] = value


def _block(name: str) -> str | None:
    try:
        block: Any = Secret.load(name.lower().replace("_", "-"))
    except ValueError:  # Prefect's word for a block that is not there
        return None
    value = block.get()  # which has read what looks like JSON
    return value if isinstance(value, str) else json.dumps(value)


EVERY_SECONDS = 1.0
"""How often a long ingestion says how far it is."""
MAX_VIOLATIONS_SHOWN = 8
"""Violations on the screen; the artifact has all."""


def ingest_window(project: Project, settings: Settings, window: Window | None) -> Ingested:
    """Ingest what training learns from; without a window, all before `time.arrives_from`."""
    window = window or windows.first_window(project)
    return _ingest(project, settings, window, "accepted", *_outside(project, settings))


def ingest_current(project: Project, settings: Settings, window: Window | None) -> Ingested:
    """Ingest a current window; without one, the newest period that has arrived."""
    window = window or latest_windows(project, settings)[-1]
    return _ingest(project, settings, window, "current", *_outside(project, settings))


def _outside(project: Project, settings: Settings) -> tuple[str, str, str]:
    """Return the outside inputs of an ingestion: source, today if age matters, erased persons."""
    fill_credentials(project)
    fresh = project.contract.freshness
    today = str(date.today()) if fresh and fresh.max_age_days else ""
    erased_digest = (
        privacy.erased_digest(privacy.erased_hashes(settings, project)) if project.entity else ""
    )
    return sources.source_digest(project), today, erased_digest


@checked
@task(
    name="ingest",
    cache_key_fn=cached_by(
        "data", "project", "window", "table", "source_digest", "today", "erased_digest"
    ),
    **CACHED,
)
def _ingest(
    project: Project,
    settings: Settings,
    window: Window,
    table: Table,
    source_digest: str,
    today: str,
    erased_digest: str,
) -> Ingested:
    """Read, validate, quarantine and write a new version."""
    title = f"reading and validating {spoken(project, window)}"
    with (
        reading_cluster(project, settings),
        step("prepare", title) as report,
        _refusal_sent(project, settings),
    ):
        ingested = ingest.ingest(project, settings, window, table, _progress())
        accepted = ingested.rows_in - ingested.rows_rejected
        share = f"{ingested.rows_in:,} rows in, {accepted:,} accepted"
        if ingested.rejected:
            share += f", {ingested.rows_rejected:,} in quarantine ({ingested.rejected.uri})"
        if ingested.rows_new is not None:
            share += f", {ingested.rows_new:,} new or changed, {ingested.dataset.rows:,} in all"
        report(f"{spoken(project, window)}: {share} → {table} version {ingested.dataset.version}")
    if ingested.violations:
        _show(project, ingested.violations)
    numbers = {"rows": ingested.rows_in, "rejected": ingested.rows_rejected}
    numbers |= {"version": ingested.dataset.version}
    details = Details(reasons=tuple(map(str, ingested.violations)), numbers=numbers)
    send_event(Event.DATA_INGESTED, project, settings, details)
    return ingested


@contextmanager
def _refusal_sent(project: Project, settings: Settings) -> Iterator[None]:
    """Send an event if the data are refused."""
    try:
        yield
    except DataError as error:
        details = Details(reasons=tuple(str(error).splitlines()))
        send_event(Event.DATA_REFUSED, project, settings, details)
        raise


def _progress() -> Callable[[int], None]:
    started = last_report = time.monotonic()

    def tell(rows: int) -> None:
        nonlocal last_report
        now = time.monotonic()
        if now - last_report >= EVERY_SECONDS:
            last_report = now
            rate = rows / (now - started)
            update("prepare", f"{rows:,} rows read, {rate:,.0f} a second", notable=False)

    return tell


def _show(project: Project, violations: tuple[Violation, ...]) -> None:
    """Show the first violations of the contract on the screen, and store all as an artifact."""
    key = f"{slug(project)}-contract"
    lines = [f"· {violation}" for violation in violations[:MAX_VIOLATIONS_SHOWN]]
    if len(violations) > MAX_VIOLATIONS_SHOWN:
        lines += [
            f"· and {len(violations) - MAX_VIOLATIONS_SHOWN} more: "
            f"`make ui`, then Artifacts in Prefect, {key};",
            f"  of the rejected rows: lifecycle rejected {project.file}",
        ]
    say("contract", "\n".join(["violations:", *lines]))
    create_table_artifact(
        key=key,
        table=[
            violation.model_dump(exclude={"examples"}) | {"examples": "; ".join(violation.examples)}
            for violation in violations
        ],
        description="Violations of the contract",
    )


@checked
@task(name="split", cache_key_fn=cached_by("data", "project", "ingested"), **CACHED)
def split_parts(project: Project, settings: Settings, ingested: Ingested) -> Split:
    """Divide a dataset version into train, validation and holdout."""
    with step("prepare", "splitting") as report:
        parts = split.split_dataset(project, settings, ingested)
        report(
            f"train {parts.train.rows:,}, validation {parts.validation.rows:,}, "
            f"holdout {parts.holdout.rows:,}, withheld {parts.withheld:,}: {parts.rule}"
        )
    return parts


@task(name="arriving-windows", **NOT_CACHED)
def arriving_windows(project: Project, settings: Settings) -> list[Window]:
    """Periods from `time.arrives_from` on, oldest first; none without it."""
    if project.time is None or project.time.arrives_from is None:
        return []
    fill_credentials(project)
    windows_found = windows.arriving(project, sources.open_source(project))
    if not windows_found:
        say("arrivals", "none: this source has no rows after `time.arrives_from`")
    return windows_found


def latest_windows(project: Project, settings: Settings) -> list[Window]:
    """The periods monitoring looks at, after the one that the first of them is compared with.

    All rows where there are no periods.
    """
    return arriving_windows(project, settings)[-project.monitoring.windows - 1 :] or [Window()]


def window_through(project: Project, settings: Settings, monitored: Monitored) -> Window:
    """Everything up to and including the newest monitored window."""
    return Window(last=monitored.drift[-1].window.last)


# Feature views as a Prefect task: joined to what was ingested, before anything is split.


def with_views(project: Project, settings: Settings, ingested: Ingested) -> Ingested:
    """The same, its dataset joined with the project's views; nothing happens without views."""
    return _join(project, settings, ingested) if project.feature_views else ingested


# what serving looks up is the view's newest version, which a cached result would not make newest;
# the same facts, rows and functions are found in the lake
@task(name="views", **NOT_CACHED, **RETRIES)
def _join(project: Project, settings: Settings, ingested: Ingested) -> Ingested:
    """Compute the features of each view, and join what was known at the time of each row."""
    names = ", ".join(project.feature_views)
    with step("prepare", f"joining {names} to {ingested.dataset.rows:,} rows") as report:
        joined = join_views(project, settings, ingested.dataset)
        report(
            f"{len(project.view_columns)} features of {names}, as known at the time of each of "
            f"{joined.rows:,} rows → joined version {joined.version}"
        )
    return ingested.model_copy(update={"dataset": joined})
