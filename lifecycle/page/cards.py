"""An environment in brief: its verdict, its champion, and the figures about it."""

from collections.abc import Sequence
from dataclasses import dataclass

from lifecycle.audit.model_trail import CROWNING
from lifecycle.page import facts
from lifecycle.page.facts import Fact, spell_moment, windows_of
from lifecycle.page.sources import Sources
from lifecycle.page.state import EnvironmentState, VersionState
from lifecycle.project import Project
from lifecycle.quality.summary import decides
from lifecycle.records import Change
from lifecycle.runtime.html import Cell

CROWNED = {"promote": "released", "rollback": "gone back to"}


@dataclass(frozen=True)
class Card:
    """An environment in brief."""

    env: str
    verdict: Cell
    champion: str
    facts: tuple[Fact, ...]
    reasons: tuple[str, ...] = ()
    """Reasons of the gate for the champion."""


def card(
    project: Project,
    state: EnvironmentState,
    sources: Sources,
    states: Sequence[EnvironmentState] = (),
) -> Card:
    """The figures of an environment, each with its source.

    Args:
        states: all environments, for what waits in one of them to come here.
    """
    later = [
        *facts.training_facts(state, sources),
        *facts.challenger_facts(state, states),
        facts.failure_fact(state, sources),
        facts.monitored_fact(state, sources),
    ]
    champion = state.holder("champion")
    if champion is None:
        text = "no champion: nothing is released here yet"
        visible = tuple(fact for fact in later if fact)
        return Card(state.env, Cell(text, "warn"), "", visible)
    crowned = _crowned(state, champion.version)
    every = [
        _since(state, champion, crowned),
        facts.data_fact(state, champion),
        *facts.quality_facts(project, state, champion, sources),
        facts.alarm_fact(project, state, sources),
        *later,
    ]
    reasons = crowned.reasons if crowned else ()
    return Card(
        state.env,
        _verdict(project, state, champion.version),
        f"v{champion.version}",
        tuple(fact for fact in every if fact),
        _in_weight([reason for reason in reasons if decides(reason)]),
    )


def _since(state: EnvironmentState, champion: VersionState, crowned: Change | None) -> Fact:
    return Fact(
        "champion since",
        spell_moment(crowned.time) if crowned else spell_moment(champion.trained),
        f"{CROWNED[crowned.action]} by {crowned.who}" if crowned else "made champion by hand",
        (("how", f"#{state.env}-v{champion.version}"),),
    )


def _verdict(project: Project, state: EnvironmentState, champion: int) -> Cell:
    """Advice from the newest look at the newest window."""
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
    if newest.alarms:
        return Cell(
            f"nothing to do: the alarms of window {newest.window} are acknowledged", "plain"
        )
    measured = newest.quality(project.metric)
    quality = "quality holds, nothing drifted" if measured else "nothing drifted"
    return Cell(f"nothing to do: {quality} in window {newest.window}", "good")


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
