"""Figures about a project in an environment, each with its source, that answer a colleague.

Who sees the page first asks: which version answers, since when, who released it and why, what it
learned from, how good it is, which alarms are open, when and why it was trained last and what that
cost, what waits and for whom, and what failed last.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from lifecycle.audit.model_trail import CROWNING, decisive
from lifecycle.lineage.graph import Lineage
from lifecycle.monitoring.history import StoredQuality, WindowAlarm, WindowResult
from lifecycle.monitoring.results import Source
from lifecycle.page.events import moment
from lifecycle.page.sources import Sources
from lifecycle.page.state import EnvironmentState, VersionState
from lifecycle.project import Project
from lifecycle.records import Attempt, Change, Estimate
from lifecycle.runtime.html import Cell, Tone

SOURCES: tuple[Source, ...] = ("monitoring", "live")
"""Writers of windows of the model; those of the endpoint itself are no windows of answers."""
ALARMS_NAMED = 2
"""Open alarms that are named; the others are counted."""
FAILURES = {
    "reject": "rejected",
    "not released": "not released",
    "rollback": "gone back to",
    "decline": "declined",
}
"""Actions of the trail that are said to have failed, and their words."""
MINUTE_S, HOUR_S, DAY_S = 60.0, 3600.0, 86_400.0
DAYS_FROM = 3
"""An age of so many days and more is told in days."""
LONGEST_IN_UNIT = 100
"""Seconds or minutes are told up to so many; beyond, the next unit is."""
GREW = "grew into"
"""How an incremental version comes from the one before it."""
ORIGINS = ("source", "dataset", "joined")
"""Kinds of nodes that rows come from."""
Link = tuple[str, str]
"""Text and address."""


@dataclass(frozen=True)
class Fact:
    """A figure of a card: its name, its value and where that comes from."""

    name: str
    value: str
    note: str = ""
    links: tuple[Link, ...] = ()
    tone: Tone = "plain"


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


# What it learned from, and how good it is.


def data_fact(state: EnvironmentState, champion: VersionState) -> Fact:
    """The rows that a version learned from, and where they came from."""
    part = champion.parts.get("training", "")
    if not part:
        learned = f"learned in {champion.origin}" if champion.origin else "not recorded"
        return Fact("data", learned, "", (("lineage", "#lineage"),) if state.lineage else ())
    table, _, number = part.rpartition("@")
    value = f"{table} version {number}"
    nodes = {node.id: node for node in state.lineage.nodes} if state.lineage else {}
    if state.lineage is None or part not in nodes:
        return Fact("data", value)
    before = list(_before(state.lineage, part))
    rows = nodes[part].facts.get("rows")
    return Fact(
        "data",
        f"{value}, {rows} rows" if rows else value,
        f"from {', from '.join(before)}" if before else "",
        (("its rows", f"#{state.env}-{part.replace('@', '-')}"),),
    )


def _before(lineage: Lineage, part: str) -> Iterator[str]:
    """Names of the dataset that a part was split from, and of its source."""
    nodes = {node.id: node for node in lineage.nodes}
    at: str | None = part
    while at:
        at = next(
            (
                edge.source
                for edge in lineage.edges
                if edge.target == at and edge.what != GREW and nodes[edge.source].kind in ORIGINS
            ),
            None,
        )
        if at:
            yield nodes[at].name


def quality_facts(
    project: Project, state: EnvironmentState, champion: VersionState, sources: Sources
) -> Iterator[Fact]:
    """The deciding metric at release and in the newest windows, and the drift of the newest."""
    metric = project.metric.replace("_", " ")
    released = champion.metrics.get(project.metric)
    if released:
        baseline = f"baseline {champion.baseline:.3g}" if champion.baseline is not None else ""
        pages = [(name, sources.file(state, file)) for name, file in champion.pages.items()]
        links = [*pages, ("MLflow run", sources.mlflow_run(state, champion))]
        named_links = tuple((name, link) for name, link in links if link)
        yield Fact(f"{metric} at release", spell_measure(released), baseline, named_links)
    windows = windows_of(state)
    page = monitoring_link(state, sources)
    measured = [(window, value) for window in windows if (value := window.quality(project.metric))]
    if measured:
        window, value = measured[-1]
        note = f"window {window.window}, v{window.version}, {value.rows or 0:,} labelled rows"
        note += "" if value.limit is None else f"; alarm limit {value.limit:.3g}"
        tone: Tone = "bad" if value.alarm else "plain"
        name = f"{metric} measured{_other(window, champion)}"
        yield Fact(name, spell_measure(value), note, page, tone)
    estimated = [(window, window.estimated) for window in windows if window.estimated]
    if estimated:
        window, value = estimated[-1]
        note = f"window {window.window}, before its labels"
        name = f"{metric} estimated{_other(window, champion)}"
        yield Fact(name, spell_measure(value), note, page)
    if windows:
        newest = windows[-1]
        alarming = sum(distance.alarm for distance in newest.distances)
        furthest = newest.distances[0] if newest.distances else None
        note = f"window {newest.window}"
        if furthest:
            note += f"; furthest {furthest}, {furthest.ratio:.1f} × its limit"
        text = f"{alarming} of {newest.compared} distances"
        yield Fact("drift", text, note, page, "warn" if alarming else "plain")


def _other(window: WindowResult, champion: VersionState) -> str:
    """Whose a window's number is, where it is not the champion's."""
    return "" if window.version == champion.version else f" of v{window.version}"


# Alarms.


def open_alarms(
    project: Project, state: EnvironmentState
) -> list[tuple[WindowResult, WindowAlarm]]:
    """Alarms of the newest windows of the champion that nobody acknowledged, one per cause.

    The newest come first; the windows are those that monitoring judges by.
    """
    champion = state.holder("champion")
    causes: dict[tuple[object, ...], tuple[WindowResult, WindowAlarm]] = {}
    for source in SOURCES:
        for window in reversed(windows_of(state, source)[-project.monitoring.windows :]):
            if champion is None or window.version != champion.version:
                continue
            for alarm in window.alarms:
                if alarm.id not in state.acknowledged:
                    causes.setdefault((alarm.cause, alarm.slice, alarm.column), (window, alarm))
    return list(causes.values())


def alarm_fact(project: Project, state: EnvironmentState, sources: Sources) -> Fact | None:
    """The open alarms, or when the last one was; None before anything was monitored."""
    windows = [window for window in state.windows if window.source in SOURCES]
    if not windows:
        return None
    alarms = open_alarms(project, state)
    links = (*monitoring_link(state, sources), ("all that happened", "#timeline"))
    if alarms:
        names = [f"{alarm} (window {window.window})" for window, alarm in alarms[:ALARMS_NAMED]]
        if more := len(alarms) - len(names):
            names.append(f"and {more} more")
        severe = any(alarm.severity == "high" for _, alarm in alarms)
        tone: Tone = "bad" if severe else "warn"
        return Fact("open alarms", f"{len(alarms)}", "; ".join(names), links, tone)
    alarming = [window for window in windows if window.alarms]
    note = f"{len(alarming)} of {len(windows)} windows had one"
    if alarming:
        last = max(alarming, key=lambda window: window.alarms[0].time)
        note += f", the last on {spell_moment(last.alarms[0].time)}: {last.alarms[0]}"
        if words := state.acknowledged.get(last.alarms[0].id):
            note += f", acknowledged by {words}"
    return Fact("open alarms", "none", note, links)


# Trainings: the newest one, its reason and its cost.


def training_facts(state: EnvironmentState, sources: Sources) -> Iterator[Fact]:
    """The last training: its moment, reason and result, and how long it took."""
    trained = sorted(
        (version for version in state.versions if version.trained),
        key=lambda version: moment(version.trained),
    )
    attempt = state.attempts[-1] if state.attempts else None
    newest = trained[-1] if trained else None
    if attempt and newest and attempt.version != newest.version:
        if attempt.version is not None or attempt.time < moment(newest.trained):
            attempt = None  # a person trained after the last try
        else:
            newest = None
    if newest is None and attempt is None:
        return
    name = "last retraining" if attempt or len(trained) > 1 else "trained"
    if newest is None:
        assert attempt is not None  # noqa: S101 - one of the two is there
        text = f"{_outcome(attempt)}: {_why_tried(attempt)}"
        yield Fact(name, spell_moment(attempt.time.isoformat()), text, tone="warn")
    else:
        run = sources.flow_run(state, newest.flow_run)
        reason = _why_tried(attempt) if attempt else _why_trained(state, trained)
        text = f"v{newest.version} by {newest.who or 'unknown'}: {outcome(state, newest).text}"
        links: tuple[Link, ...] = ((f"v{newest.version}", f"#{state.env}-v{newest.version}"),)
        links += ((newest.flow_run_name or "Prefect run", run),) if run else ()
        yield Fact(name, spell_moment(newest.trained), f"{text}; {reason}", links)
    seconds = attempt.seconds if newest is None and attempt else newest.seconds if newest else None
    if seconds is not None:
        times = [version.seconds for version in trained if version.seconds is not None]
        note = "time of one run, with tuning and checks"
        if len(times) > 1:
            note += f"; of all {len(times)} versions {spell_seconds(sum(times))}"
        yield Fact("cost of that training", spell_seconds(seconds), note)


def _outcome(attempt: Attempt) -> str:
    return "under way, or killed" if attempt.outcome == "running" else attempt.outcome


def _why_tried(attempt: Attempt) -> str:
    if attempt.by_hand:
        return "a person asked for it"
    reasons = f" ({attempt.reasons[0]})" if attempt.reasons else ""
    return f"asked for by {', '.join(attempt.triggers) or 'nobody'}{reasons}"


def _why_trained(state: EnvironmentState, trained: Sequence[VersionState]) -> str:
    """What monitoring had said between the training before and the last one."""
    if trained[-1].origin:
        return f"it came from {trained[-1].origin}"
    if len(trained) == 1:
        return "the first one"
    begin, end = (moment(version.trained) for version in trained[-2:])
    for monitoring in reversed(state.monitorings):
        if monitoring.asks and begin <= moment(monitoring.time) <= end:
            return f"asked for after window {monitoring.window}, drifted: {monitoring.drifted}"
    return "monitoring had not asked for it"


# What waits.


def challenger_facts(state: EnvironmentState, states: Sequence[EnvironmentState]) -> Iterator[Fact]:
    """The challenger and what decides on it, and the champion of the environment before.

    Args:
        states: all environments.
    """
    arriving = _arriving(state, states)
    challenger = state.holder("challenger")
    if challenger is not None:
        trial = trial_of(state, challenger)
        link = ("its training", f"#{state.env}-v{challenger.version}")
        text = _waits_for(state, trial)
        yield Fact("challenger", f"v{challenger.version}", text, (link,))
    elif arriving is None:
        yield Fact("challenger", "none waits")
    if arriving is not None:
        yield arriving


def trial_of(state: EnvironmentState, challenger: VersionState) -> Change | None:
    """The last decision on a challenger; None before its release began."""
    return next(
        (
            change
            for change in reversed(decisive(state.changes))
            if change.version == challenger.version
        ),
        None,
    )


def _waits_for(state: EnvironmentState, trial: Change | None) -> str:
    """What the challenger waits for."""
    if trial is None:
        return f"waits for a person: lifecycle run release --env {state.env}"
    since = spell_moment(trial.time)
    reason = f": {trial.reasons[0]}" if trial.reasons else ""
    if trial.action in ("canary", "shadow"):
        return f"{trial.action} since {since}{reason} It waits for the gate."
    if trial.action == "reject":
        return f"rejected on {since}{reason} It waits for nobody."
    return f"{trial.action} on {since}{reason}"


def arrival(
    state: EnvironmentState, states: Sequence[EnvironmentState]
) -> tuple[EnvironmentState, VersionState] | None:
    """The environment that promotions come from and its champion, if that is not here."""
    origin = next((other for other in states if other.env == state.promotes_from), None)
    waiting = origin.holder("champion") if origin else None
    holder = state.holder("champion")
    if origin is None or waiting is None or (holder and holder.digest == waiting.digest):
        return None
    return origin, waiting


def refusal(state: EnvironmentState, version: VersionState) -> Change | None:
    """The newest line that says that a version of elsewhere did not get here."""
    return next(
        (
            change
            for change in reversed(state.changes)
            if change.digest == version.digest and change.action in FAILURES
        ),
        None,
    )


def _arriving(state: EnvironmentState, states: Sequence[EnvironmentState]) -> Fact | None:
    arriving = arrival(state, states)
    if arriving is None:
        return None
    origin, waiting = arriving
    link = (f"v{waiting.version} in {origin.env}", f"#{origin.env}-v{waiting.version}")
    if refused := refusal(state, waiting):
        text = f"{FAILURES[refused.action]} by {refused.who} on {spell_moment(refused.time)}"
        return Fact(f"from {origin.env}", f"v{waiting.version}", text, (link,))
    approval = ", then an approval" if state.approval else ""
    text = f"for a person: lifecycle run promote --env {state.env}{approval}"
    return Fact(f"waits in {origin.env}", f"v{waiting.version}", text, (link,))


# What failed last.


def failure_fact(state: EnvironmentState, sources: Sources) -> Fact:
    """The newest release, training or retraining that did not come to its end."""
    failures: list[tuple[str, str, tuple[Link, ...]]] = []
    for change in state.changes:
        if change.action in FAILURES:
            name = f"v{change.version}" if change.version else f"bundle {change.digest[:12]}"
            reason = f": {change.reasons[0]}" if change.reasons else ""
            is_listed = change.version and state.version(change.version)
            place = ((name, f"#{state.env}-v{change.version}"),) if is_listed else ()
            failures.append((change.time, f"{FAILURES[change.action]} {name}{reason}", place))
    for attempt in state.attempts:
        if attempt.outcome == "failed":
            reason = f": {attempt.reasons[-1]}" if attempt.reasons else ""
            failures.append((attempt.time.isoformat(), f"retraining failed{reason}", ()))
    if failed := state.failed_training:
        run = sources.flow_run(state, failed.flow_run)
        text = f"training failed: {failed.reason}"
        failures.append((failed.time, text, (("Prefect run", run),) if run else ()))
    if not failures:
        return Fact("last failure", "none recorded")
    time, text, links = max(failures, key=lambda failure: moment(failure[0]))
    return Fact("last failure", spell_moment(time), text, links)


def monitored_fact(state: EnvironmentState, sources: Sources) -> Fact | None:
    """The last look of monitoring, and its verdict; None if there was none."""
    if not state.monitorings:
        return None
    last = state.monitorings[-1]
    run = sources.flow_run(state, last.flow_run)
    links = (*monitoring_link(state, sources), *([("Prefect run", run)] if run else []))
    verdict = last.verdict if last.asks else "retraining is not asked for"
    note = f"window {last.window}: {verdict}"
    return Fact("last monitored", spell_moment(last.time), note, links)


def monitoring_link(state: EnvironmentState, sources: Sources) -> tuple[Link, ...]:
    """The newest monitoring page that is there."""
    for monitoring in reversed(state.monitorings):
        if link := sources.file(state, monitoring.page):
            return (("monitoring page", link),)
    return ()


# In words.


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


def spell_age(text: str, now: datetime) -> str:
    """Age of a stored moment, in its largest unit."""
    seconds = (now - moment(text)).total_seconds()
    if seconds >= DAYS_FROM * DAY_S:
        return f"{seconds / DAY_S:,.0f} days"
    return f"{seconds / HOUR_S:.0f} h" if seconds >= HOUR_S else spell_seconds(seconds)


def spell_seconds(seconds: float) -> str:
    """A duration in seconds, minutes or hours."""
    for unit, size in (("s", 1.0), ("min", MINUTE_S)):
        if seconds / size < LONGEST_IN_UNIT:
            return f"{seconds / size:,.0f} {unit}"
    return f"{seconds / HOUR_S:,.1f} h"
