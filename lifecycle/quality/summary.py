"""The end of a cycle in words: one list of sections, shown as text and as an HTML page."""

from html import escape
from pathlib import Path

from lifecycle.project import Project
from lifecycle.quality.findings import without_part
from lifecycle.records import (
    DatasetVersion,
    Decision,
    Estimate,
    Evaluation,
    Period,
    Prepared,
    Release,
    Trained,
    Window,
)
from lifecycle.redaction import redact
from lifecycle.runtime.html import Cell, PageSection, Table
from lifecycle.settings import SERVED, Settings

EVALUATION = "evaluation.html"
"""The page of a model's evaluation, in its folder of the reports."""


def sections(
    project: Project,
    settings: Settings,
    prepared: Prepared,
    trainings: list[Trained],
    releases: list[Release],
    periods: list[Period],
) -> list[PageSection]:
    """Data, models, gates, drift and where to look, in the order things happened.

    Args:
        trainings: of each release, in the order of `releases`.
        releases: the first, and those after a retraining.
    """
    first = releases[0]
    return [
        PageSection(
            "Data",
            text=_arrivals(first, periods),
            table=_data(project, prepared, trainings, periods),
        ),
        PageSection(f"Models by {project.metric}", table=_models(project, trainings, releases)),
        *(_gate(release) for release in releases),
        *_way_out(project, trainings[0], first),
        *(_period(project, period) for period in periods),
        _places(project, settings, trainings, releases, periods),
    ]


def as_text(sections: list[PageSection]) -> str:
    """The sections for a terminal, in brief where the stages have told the rest before."""
    lines: list[str] = []
    for section in sections:
        lines += ["", section.title, "─" * len(section.title), *section.text]
        points = section.points if section.brief is None else section.brief
        lines += [f"· {point}" for point in map(_plain, points)]
        if section.table and section.brief is None:
            lines += _aligned(section.table)
        if section.code:
            lines += [section.code]
    return "\n".join(lines[1:])


def decides(reason: str) -> bool:
    """Return whether a gate's reason is shown on a screen; warnings are in pages and artifacts."""
    return " warns: " not in reason


def _aligned(table: Table) -> list[str]:
    rows = [table.header, *(tuple(map(_plain, row)) for row in table.rows)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(table.header))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


def _plain(value: str | Cell) -> str:
    return value if isinstance(value, str) else value.text


def _arrivals(first: Release, periods: list[Period]) -> tuple[str, ...]:
    if periods or first.champion is None:
        return ()
    return ("Nothing in this source arrives later (`time.arrives_from`): nothing to monitor yet.",)


def spoken(project: Project, window: Window) -> str:
    """A window as a person says it: `year 4`, not `4`."""
    return f"{project.time.column} {window}" if project.time else str(window)


def _data(
    project: Project, prepared: Prepared, trainings: list[Trained], periods: list[Period]
) -> Table:
    """The tables that models learned from and were monitored on; a retraining after its period."""
    ingested, split = prepared.ingested, prepared.split
    retrainings = iter(trainings[1:])
    parts = [
        (f"learned from ({spoken(project, ingested.window)})", ingested.dataset),
        ("· train", split.train),
        ("· validation", split.validation),
        ("· holdout", split.holdout),
    ]
    for period in periods:
        parts += [
            (f"arrived ({spoken(project, period.scored.window)})", period.scored.dataset),
            ("· predictions", period.scored.predictions),
        ]
        if period.release:
            retraining = next(retrainings)
            version = retraining.model.version
            parts += [
                (f"· train of v{version}", retraining.split.train),
                (f"· validation of v{version}", retraining.split.validation),
                (f"· holdout of v{version}", retraining.split.holdout),
            ]
    return Table(("data", "rows", "version", "digest"), tuple(_dataset(*part) for part in parts))


def _dataset(name: str, version: DatasetVersion) -> tuple[str, ...]:
    table = f"{Path(version.uri).name} v{version.version}"
    return name, f"{version.rows:,}", table, version.digest[:12]


def _models(project: Project, trainings: list[Trained], releases: list[Release]) -> Table:
    """Every evaluation next to what it was compared with, on the same holdout."""
    rows: list[tuple[str | Cell, ...]] = []
    now = releases[-1].champion
    for trained, release in zip(trainings, releases, strict=True):
        model, champion = release.challenger, release.champion_evaluation
        if not release.decision.passed:
            outcome = Cell("not promoted", "warn")
        elif now is not None and model.version == now.version:
            outcome = Cell("champion", "good")
        else:
            outcome = Cell("replaced")
        rows.append(("baseline", _spell(trained.baseline, project), "", _rows(trained.baseline)))
        name = f"{model.name} v{model.version} ({model.digest[:12]})"
        rows.append((name, _spell(release.evaluation, project), outcome, _rows(release.evaluation)))
        if champion:
            rows.append((f"· {champion.subject}", _spell(champion, project), "", _rows(champion)))
    return Table(
        ("model", f"{project.metric} [95 % interval]", "outcome", "holdout rows"), tuple(rows)
    )


def _spell(evaluation: Evaluation, project: Project) -> str:
    return spell(evaluation.metrics[project.metric])


def spell(estimate: Estimate) -> str:
    """A metric as a person reads it: value and interval."""
    return f"{estimate.value:.4f} [{estimate.low:.4f}, {estimate.high:.4f}]"


def _rows(evaluation: Evaluation) -> str:
    return f"{evaluation.rows:,}"


def _gate(release: Release) -> PageSection:
    outcome = "the champion goes on serving" if release.champion else "nothing is served"
    verdict = "passed" if release.decision.passed else f"not passed: {outcome}"
    model = release.challenger
    reasons, blocking = release.decision.reasons, release.decision.blocking
    others = (reason for reason in reasons if decides(reason) and reason not in blocking)
    brief = (*blocking, *others)
    return PageSection(f"Gate for v{model.version}: {verdict}", points=reasons, brief=brief)


def _way_out(project: Project, trained: Trained, first: Release) -> list[PageSection]:
    """Build the advice for a first model that only checks keep from being served."""
    blocking = first.decision.blocking
    checks = [check for check in blocking if check.startswith("Check ")]
    if first.champion or not checks:
        return []
    names = dict.fromkeys(without_part(name) for name in trained.checks.failed)
    lines = [f'    "{name}": why it is fine' for name in names]
    text = (
        "Look at the pages below first: these checks block because one would act on them. Mend the "
        f"data or the roles of columns; or say in {project.file} why it is fine, and run again:"
    )
    return [
        PageSection("What to do", text=(text,), code="\n".join(["checks:", "  accept:", *lines]))
    ]


def _period(project: Project, period: Period) -> PageSection:
    monitored: Decision = period.monitored.decision
    verdict = "nothing to do" if monitored.passed else "retraining asked for"
    drift = period.monitored.drift[-1]
    labels = (drift.labels,) if drift.labels else ()
    columns = (*drift.drifted, drift.predictions, *labels)
    table = Table(
        ("drift", "test", "statistic", "limit"),
        tuple((c.column, c.test, f"{c.statistic:.3f}", f"{c.limit:.3g}") for c in columns),
    )
    title = f"Arrived: {spoken(project, period.scored.window)}: {verdict}"
    return PageSection(title, points=monitored.reasons, brief=monitored.reasons, table=table)


def _places(
    project: Project,
    settings: Settings,
    trainings: list[Trained],
    releases: list[Release],
    periods: list[Period],
) -> PageSection:
    folder = settings.folder("reports", project.name)
    evaluations = {
        f"evaluation v{release.challenger.version}": folder
        / release.challenger.digest[:12]
        / EVALUATION
        for release in releases
    }
    pages = [(name, path) for name, path in evaluations.items() if path.exists()]
    for trained in trainings:
        version = trained.model.version
        pages += [(f"checks v{version}", path) for path in trained.checks.reports]
    pages += [("monitoring", period.monitored.report) for period in periods]
    lines = [f"{name:<14} {path}" for name, path in pages]
    store = redact(settings.tracking_uri)
    is_local = not settings.tracking_uri.startswith(SERVED)
    lines += [
        f"MLflow         {f'`make ui` says where its pages are ({store})' if is_local else store}",
        "Prefect        `make ui` says where its pages are",
    ]
    links = (
        f'<a href="{escape(path.as_uri())}">{escape(f"{name}: {path.name}")}</a>'
        for name, path in pages
    )
    endpoints = [release.endpoint for release in releases if release.endpoint]
    serve = f"make serve PROJECT={project.file}   # then, in another terminal:"
    code = f"{serve}\n{endpoints[-1].curl}" if endpoints else ""
    return PageSection(
        "Where to look", text=tuple(lines), code=code, html=f"<p>{' · '.join(links)}</p>"
    )
