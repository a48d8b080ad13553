"""Data steps as Prefect tasks: ingest a window, split it, know which windows have arrived."""

from datetime import date

from prefect import task

from lifecycle.data import arrivals, ingest, sources, split
from lifecycle.project import Project
from lifecycle.quality.summary import spoken
from lifecycle.records import Ingested, Monitored, Split, Window
from lifecycle.settings import Settings
from tasks.policies import CACHED, NOT_CACHED, cached_by
from tasks.progress import say, step


def ingest_window(project: Project, settings: Settings, window: Window | None) -> Ingested:
    """Ingest what training learns from; without a window, all before `time.arrives_from`."""
    window = window or arrivals.first_window(project)
    return _ingest(project, settings, window, "accepted", *_freshness_of_source(project))


def ingest_current(project: Project, settings: Settings, window: Window | None) -> Ingested:
    """Ingest a current window; without one, the newest period that has arrived."""
    window = window or latest_windows(project, settings)[-1]
    return _ingest(project, settings, window, "current", *_freshness_of_source(project))


def _freshness_of_source(project: Project) -> tuple[str, str]:
    """What of the outside an ingestion depends on: the file, and today if age matters."""
    fresh = project.contract.freshness
    today = str(date.today()) if fresh and fresh.max_age_days else ""
    return sources.source_digest(project), today


@task(
    name="ingest",
    cache_key_fn=cached_by("project", "window", "table", "source_digest", "today"),
    **CACHED,
)
def _ingest(
    project: Project,
    settings: Settings,
    window: Window,
    table: ingest.Table,
    source_digest: str,
    today: str,
) -> Ingested:
    """Read, validate, quarantine and write a new version."""
    with step("prepare", f"reading and validating {spoken(project, window)}") as done:
        ingested = ingest.ingest(project, settings, window, table, source_digest)
        share = f"{ingested.rows_in:,} rows in, {ingested.dataset.rows:,} accepted"
        if ingested.rejected:
            share += f", {ingested.rows_rejected:,} in quarantine ({ingested.rejected.uri})"
        done(f"{spoken(project, window)}: {share} → {table} version {ingested.dataset.version}")
    return ingested


@task(name="split", cache_key_fn=cached_by("project", "ingested"), **CACHED)
def split_parts(project: Project, settings: Settings, ingested: Ingested) -> Split:
    """Divide a dataset version into train, validation and holdout."""
    with step("prepare", "splitting") as done:
        parts = split.split_dataset(project, settings, ingested)
        done(
            f"train {parts.train.rows:,}, validation {parts.validation.rows:,}, "
            f"holdout {parts.holdout.rows:,}, withheld {parts.withheld:,}: {parts.rule}"
        )
    return parts


@task(name="arriving-windows", **NOT_CACHED)
def arriving_windows(project: Project, settings: Settings) -> list[Window]:
    """Periods from `time.arrives_from` on, oldest first; none without it."""
    found = arrivals.periods(project, sources.read_source(project))
    if not found:
        say("arrivals", "none: nothing in this source is later (`time.arrives_from`)")
    return found


def latest_windows(project: Project, settings: Settings) -> list[Window]:
    """The periods monitoring looks at, oldest first; all rows where there are no periods."""
    return arriving_windows(project, settings)[-project.monitoring.windows :] or [Window()]


def window_through(project: Project, settings: Settings, monitored: Monitored) -> Window:
    """Everything up to and including the newest monitored window."""
    return Window(last=monitored.drift[-1].window.last)
