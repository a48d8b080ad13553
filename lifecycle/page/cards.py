"""An environment in brief: its verdict, its champion, and the figures about it."""

from dataclasses import dataclass

from lifecycle.audit.model_trail import CROWNING, decisive
from lifecycle.monitoring.history import StoredQuality, WindowResult
from lifecycle.monitoring.results import Source
from lifecycle.page.events import moment
from lifecycle.page.sources import Sources
from lifecycle.page.state import EnvironmentState, VersionState
from lifecycle.project import Project
from lifecycle.quality.summary import decides
from lifecycle.records import Change, Estimate
from lifecycle.runtime.html import Cell

NOTHING_TO_DO = "nothing to do"
CROWNED = {"promote": "released", "rollback": "gone back to"}
Link = tuple[str, str]
"""Text and address."""


@dataclass(frozen=True)
class Fact:
    """A figure of a card: its name, its value and where that comes from."""

    name: str
    value: str
    note: str = ""
    links: tuple[Link, ...] = ()
    tone: str = "plain"


@dataclass(frozen=True)
class Card:
    """An environment in brief."""

    env: str
    verdict: Cell
    champion: str
    facts: tuple[Fact, ...]
    reasons: tuple[str, ...] = ()
    """Reasons of the gate for the champion."""


def windows_of(state: EnvironmentState, source: Source | None = None) -> list[WindowResult]:
    """The windows of a source in order; by default those of what arrives, else of live answers."""
    windows = [window for window in state.windows if window.source == (source or "monitoring")]
    if source is None and not windows:
        return windows_of(state, "live")
    return windows


def outcome(state: EnvironmentState, version: VersionState) -> Cell:
    """Return the outcome of a version: champion, replaced, rejected, or where its trial is."""
    if "champion" in version.aliases:
        return Cell("champion", "good")
    for change in reversed(decisive(state.changes)):
        if change.version != version.version or change.action == "deploy":
            continue
        if change.action in CROWNING:
            return Cell("replaced")
        if change.action == "reject":
            return Cell("rejected", "warn")
        return Cell(change.action)
    return Cell("challenger" if "challenger" in version.aliases else "not released")


def card(project: Project, state: EnvironmentState, sources: Sources) -> Card:
    """The figures of an environment, each with its source."""
    champion = state.holder("champion")
    if champion is None:
        text = "no champion: nothing is released here yet"
        return Card(state.env, Cell(text, "warn"), "", tuple(_others(project, state, sources)))
    crowned = _crowned(state, champion.version)
    facts = [
        Fact(
            "champion since",
            spell_moment(crowned.time) if crowned else spell_moment(champion.trained),
            f"{CROWNED[crowned.action]} by {crowned.who}" if crowned else "made champion by hand",
            (("how", f"#{state.env}-v{champion.version}"),),
        ),
        *_quality_facts(project, state, champion, sources),
        *_others(project, state, sources),
    ]
    reasons = crowned.reasons if crowned else ()
    return Card(
        state.env,
        _verdict(project, state, champion.version),
        f"v{champion.version}",
        tuple(facts),
        tuple(reason for reason in reasons if decides(reason)),
    )


def _verdict(project: Project, state: EnvironmentState, champion: int) -> Cell:
    """Advice from the newest look at the newest window."""
    windows = windows_of(state)
    if not windows:
        return Cell("released, and not monitored yet", "plain")
    newest = windows[-1]
    if newest.version != champion:
        return Cell(f"not monitored yet; window {newest.window} was v{newest.version}'s", "plain")
    if state.monitorings and state.monitorings[-1].verdict != NOTHING_TO_DO:
        return Cell(f"retraining is asked for since window {newest.window}", "bad")
    if any(alarm.severity == "high" for alarm in newest.alarms):
        return Cell(f"alarm in window {newest.window}: {newest.alarms[0]}", "bad")
    if newest.alarms:
        return Cell(f"look at window {newest.window}: {newest.alarms[0]}", "warn")
    measured = newest.quality(project.metric)
    quality = "quality holds, nothing drifted" if measured else "nothing drifted"
    return Cell(f"nothing to do: {quality} in window {newest.window}", "good")


def _quality_facts(
    project: Project, state: EnvironmentState, champion: VersionState, sources: Sources
) -> list[Fact]:
    metric = project.metric.replace("_", " ")
    facts = []
    released = champion.metrics.get(project.metric)
    evaluation = [
        (name, link) for name, file in champion.pages.items() if (link := sources.file(state, file))
    ]
    run = sources.mlflow_run(state, champion)
    if released:
        baseline = f"baseline {champion.baseline:.3g}" if champion.baseline is not None else ""
        links = (*evaluation, *([("MLflow run", run)] if run else []))
        facts.append(Fact(f"{metric} at release", spell_measure(released), baseline, links))
    windows = windows_of(state)
    page = _monitoring_link(state, sources)
    measured = [(window, value) for window in windows if (value := window.quality(project.metric))]
    if measured:
        window, value = measured[-1]
        text = spell_measure(value)
        note = f"window {window.window}, v{window.version}, {value.rows or 0:,} labelled rows"
        tone = "bad" if value.alarm else "plain"
        facts.append(Fact(f"{metric} measured", text, note, page, tone))
    estimated = [(window, window.estimated) for window in windows if window.estimated]
    if estimated:
        window, value = estimated[-1]
        text = spell_measure(value)
        note = f"window {window.window}, before its labels"
        facts.append(Fact(f"{metric} estimated", text, note, page))
    if windows:
        newest = windows[-1]
        alarming = sum(distance.alarm for distance in newest.distances)
        furthest = newest.distances[0] if newest.distances else None
        note = f"window {newest.window}"
        if furthest:
            note += f"; furthest {furthest}, {furthest.ratio:.1f} × its limit"
        text = f"{alarming} of {newest.compared} distances"
        facts.append(Fact("drift", text, note, page, "warn" if alarming else "plain"))
        alarms = [event for event in windows if event.alarms]
        last = ""
        if alarms:
            alarm = alarms[-1].alarms[0]
            last = f"last {spell_moment(alarm.time)}, in window {alarms[-1].window}: {alarm}"
        facts.append(
            Fact(
                "windows with alarms",
                f"{len(alarms)} of {len(windows)}",
                last,
                (("all", "#timeline"),),
            )
        )
    return facts


def _others(project: Project, state: EnvironmentState, sources: Sources) -> list[Fact]:
    """Challenger, the newest training and the newest release that failed."""
    facts = []
    challenger = state.holder("challenger")
    trial = next(
        (
            change
            for change in reversed(decisive(state.changes))
            if challenger and change.version == challenger.version
        ),
        None,
    )
    if challenger is None:
        facts.append(Fact("challenger", "none"))
    else:
        share = ""
        if trial and trial.action in ("canary", "shadow"):
            share = f"{trial.action} since {spell_moment(trial.time)}: {trial.reasons[0]}"
        facts.append(
            Fact(
                "challenger",
                f"v{challenger.version}",
                share or "not in front of traffic",
                (("its training", f"#{state.env}-v{challenger.version}"),),
            )
        )
    trained = [version for version in state.versions if version.trained]
    if trained:
        newest = max(trained, key=lambda version: version.trained)
        run = sources.flow_run(state, newest.flow_run)
        facts.append(
            Fact(
                "last retraining" if len(trained) > 1 else "trained",
                spell_moment(newest.trained),
                f"v{newest.version} by {newest.who or 'unknown'}: {outcome(state, newest).text}",
                ((newest.flow_run_name or "Prefect run", run),) if run else (),
            )
        )
    if state.monitorings:
        last = state.monitorings[-1]
        run = sources.flow_run(state, last.flow_run)
        links = (*_monitoring_link(state, sources), *([("Prefect run", run)] if run else []))
        note = f"window {last.window}: {last.verdict}"
        facts.append(Fact("last monitored", spell_moment(last.time), note, links))
    return facts


def _monitoring_link(state: EnvironmentState, sources: Sources) -> tuple[Link, ...]:
    for monitoring in reversed(state.monitorings):
        if link := sources.file(state, monitoring.page):
            return (("monitoring page", link),)
    return ()


def _crowned(state: EnvironmentState, version: int) -> Change | None:
    return next(
        (
            change
            for change in reversed(state.changes)
            if change.action in CROWNING and change.version == version
        ),
        None,
    )


def spell_measure(value: Estimate | StoredQuality) -> str:
    """A metric with its interval."""
    if value.value is None:
        return "withdrawn"
    is_point = value.low is None or value.high is None
    interval = "" if is_point else f" ({value.low:.3g} to {value.high:.3g})"
    return f"{value.value:.3g}{interval}"


def spell_moment(text: str) -> str:
    """Day and minute in UTC; a dash where it is not known."""
    return f"{moment(text):%Y-%m-%d %H:%M}" if text else "–"
