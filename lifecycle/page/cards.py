"""An environment in brief: its verdict, its champion, and the figures about it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from lifecycle.audit.model_trail import CROWNING
from lifecycle.environments import DEV
from lifecycle.page import facts
from lifecycle.page.events import moment
from lifecycle.page.facts import Fact, spell_age, spell_moment, windows_of
from lifecycle.page.sources import Sources
from lifecycle.page.state import EnvironmentState, VersionState
from lifecycle.project import Project
from lifecycle.quality.summary import decides
from lifecycle.records import Change
from lifecycle.runtime.html import Cell, Tone

CROWNED = {"promote": "released", "rollback": "gone back to"}
TRIALS = ("canary", "shadow")
LATE = timedelta(days=2)
"""After which a verdict of monitoring is out of date, as the alert `MonitoringLate` has it."""
ID_LETTERS = 8
"""Of an alarm's id, which may be cut short."""


@dataclass(frozen=True)
class Duty:
    """Action of a person that something waits for."""

    text: str
    """An action, and since when it waits."""
    command: str
    tone: Tone


@dataclass(frozen=True)
class Card:
    """An environment in brief."""

    env: str
    verdict: Cell
    champion: str
    facts: tuple[Fact, ...]
    to_do: tuple[Duty, ...] = ()
    trial: str = ""
    """The version that answers beside the champion."""
    reasons: tuple[str, ...] = ()
    """Reasons of the gate for the champion."""


def card(
    project: Project,
    state: EnvironmentState,
    sources: Sources,
    states: Sequence[EnvironmentState] = (),
    now: datetime | None = None,
) -> Card:
    """The figures of an environment, each with its source.

    Args:
        states: all environments, for what waits in one of them to come here.
        now: by default the present; ages are told by it.
    """
    now = now or datetime.now(UTC)
    alarms = facts.alarm_fact(project, state, sources)
    later = [
        facts.monitored_fact(state, sources),
        *facts.training_facts(state, sources),
        *facts.challenger_facts(state, states),
        facts.failure_fact(state, sources),
    ]
    to_do = tuple(_to_do(project, state, states, now))
    champion = state.holder("champion")
    if champion is None:
        text = "no champion: nothing is released here yet"
        visible = tuple(fact for fact in later if fact)
        return Card(state.env, Cell(text, "warn"), "", visible, to_do)
    crowned = _crowned(state, champion.version)
    every = [
        _since(state, champion, crowned),
        facts.data_fact(state, champion),
        *facts.quality_facts(project, state, champion, sources),
        alarms,
        *later,
    ]
    reasons = crowned.reasons if crowned else ()
    verdict = _verdict(project, state, champion.version, now)
    if verdict.tone == "good" and not to_do:
        verdict = Cell(f"nothing to do: {verdict.text}", "good")
    return Card(
        state.env,
        verdict,
        f"v{champion.version}",
        tuple(fact for fact in every if fact),
        to_do,
        _trial(state),
        _in_weight([reason for reason in reasons if decides(reason)]),
    )


def _trial(state: EnvironmentState) -> str:
    challenger = state.holder("challenger")
    trial = facts.trial_of(state, challenger) if challenger else None
    return f"{trial.action} v{trial.version}" if trial and trial.action in TRIALS else ""


def _since(state: EnvironmentState, champion: VersionState, crowned: Change | None) -> Fact:
    return Fact(
        "champion since",
        spell_moment(crowned.time) if crowned else spell_moment(champion.trained),
        f"{CROWNED[crowned.action]} by {crowned.who}" if crowned else "made champion by hand",
        (("how", f"#{state.env}-v{champion.version}"),),
    )


def _verdict(project: Project, state: EnvironmentState, champion: int, now: datetime) -> Cell:
    """What the newest look at the newest window found."""
    windows = windows_of(state)
    if not windows:
        return Cell("released, and not monitored yet", "plain")
    newest = windows[-1]
    if newest.version != champion:
        return Cell(f"not monitored yet; window {newest.window} was v{newest.version}'s", "plain")
    if state.monitorings and state.monitorings[-1].asks:
        return Cell(f"retraining is asked for since window {newest.window}", "bad")
    alarms = [alarm for alarm in newest.alarms if alarm.id not in state.acknowledged]
    if any(alarm.severity == "high" for alarm in alarms):
        return Cell(f"alarm in window {newest.window}: {alarms[0]}", "bad")
    if alarms:
        return Cell(f"look at window {newest.window}: {alarms[0]}", "warn")
    if age := _lateness(state, now):
        return Cell(f"not monitored for {age}, so nothing is known of it now", "warn")
    if newest.alarms:
        return Cell(f"the alarms of window {newest.window} are acknowledged", "good")
    measured = newest.quality(project.metric)
    quality = "quality holds, nothing drifted" if measured else "nothing drifted"
    return Cell(f"{quality} in window {newest.window}", "good")


def _lateness(state: EnvironmentState, now: datetime) -> str:
    """How long ago monitoring looked last, if it should have since; it is not scheduled in dev."""
    if state.env == DEV or not state.monitorings:
        return ""
    time = state.monitorings[-1].time
    return spell_age(time, now) if now - moment(time) > LATE else ""


def _to_do(
    project: Project,
    state: EnvironmentState,
    states: Sequence[EnvironmentState],
    now: datetime,
) -> Iterator[Duty]:
    """What waits for a person here, the most urgent first."""
    file, env = project.file.name, f"--env {state.env}"
    if age := _lateness(state, now):
        yield Duty(
            f"have it monitored, the last time was {age} ago", f"lifecycle doctor {env}", "warn"
        )
    if (asking := _asking(state)) is not None:
        text = f"retrain, unless a deployment does; asked for {spell_age(asking, now)} ago"
        yield Duty(text, f"lifecycle run retrain {file} {env}", "bad")
    for _, alarm in facts.open_alarms(project, state)[: facts.ALARMS_NAMED]:
        age = spell_age(alarm.time, now)
        yield Duty(
            f"look at {alarm.cause}: {alarm.column}, found {age} ago, and say what it was",
            f"lifecycle alarms {file} acknowledge {alarm.id[:ID_LETTERS]} --reason '…' {env}",
            "bad" if alarm.severity == "high" else "warn",
        )
    challenger = state.holder("challenger")
    if challenger is not None and facts.trial_of(state, challenger) is None:
        text = f"release v{challenger.version}, or leave it"
        yield Duty(text, f"lifecycle run release {file} {env}", "warn")
    arriving = facts.arrival(state, states)
    if arriving is not None and facts.refusal(state, arriving[1]) is None:
        origin, waiting = arriving
        crowned = _crowned(origin, waiting.version)
        since = f", champion there for {spell_age(crowned.time, now)}" if crowned else ""
        approval = "; somebody has to approve" if state.approval else ""
        text = f"promote v{waiting.version} of {origin.env}{since}, or leave it{approval}"
        yield Duty(text, f"lifecycle run promote {file} {env}", "warn")


def _asking(state: EnvironmentState) -> str | None:
    """When monitoring asked for the retraining that nobody has tried yet."""
    if not (state.monitorings and state.monitorings[-1].asks):
        return None
    time = state.monitorings[-1].time
    tries = [attempt.time for attempt in state.attempts]
    tries += [moment(version.trained) for version in state.versions if version.trained]
    return None if any(later > moment(time) for later in tries) else time


def _in_weight(reasons: Sequence[str]) -> tuple[str, ...]:
    """The reasons with the comparison with the champion before it first: that is why it is one."""
    return tuple(sorted(reasons, key=lambda reason: "than champion" not in reason))


def _crowned(state: EnvironmentState, version: int) -> Change | None:
    return next(
        (
            change
            for change in reversed(state.changes)
            if change.action in CROWNING and change.version == version
        ),
        None,
    )
