"""The page of a project: the verdict first, then figures, then words."""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from markupsafe import Markup

from lifecycle.audit.card_trail import status_of
from lifecycle.lineage.graph import Lineage
from lifecycle.lineage.picture import svg
from lifecycle.monitoring.charts import window_charts, worst_windows
from lifecycle.monitoring.history import WindowResult
from lifecycle.monitoring.results import Source
from lifecycle.page.cards import card
from lifecycle.page.events import KINDS, Event, Kind, events
from lifecycle.page.facts import Link, outcome, spell_measure, spell_moment, windows_of
from lifecycle.page.sources import Sources
from lifecycle.page.state import EnvironmentState, VersionState
from lifecycle.project import Project
from lifecycle.runtime.charts import TimelineRow, Tone, timeline
from lifecycle.runtime.html import Cell, templates, write_page

INDEX = "index.html"
VERSIONS_SHOWN = 10
"""Versions of an environment that are open at first."""
EVENTS_SHOWN = 12
SOURCES: dict[Source, str] = {"monitoring": "", "live": ", live predictions"}
LANE_TONES: dict[Kind, Tone] = {"release": "first", "training": "second"}
REASON_LETTERS = 140
"""Of a reason in a list; the whole of the champion's are on the page."""


@dataclass(frozen=True)
class VersionRow:
    """A line in the list of versions."""

    version: VersionState
    metric: str
    outcome: Cell
    card: str
    """Status of its model card."""
    links: tuple[Link, ...]
    parts: tuple[str, ...] = field(default=())


@dataclass(frozen=True)
class Figures:
    """Charts of an environment's windows."""

    title: str
    charts: Markup
    worst: Sequence[WindowResult]


def write_site(project: Project, states: Sequence[EnvironmentState], sources: Sources) -> Path:
    """Write the page, with copies of what it links to, into the folder of the sources.

    Raises:
        OSError: the folder cannot be written.
    """
    return write_page(site_page(project, states, sources), sources.folder / INDEX)


def site_page(project: Project, states: Sequence[EnvironmentState], sources: Sources) -> str:
    """The page of a project as HTML."""
    readable = in_order([state for state in states if not state.problem])
    now = datetime.now(UTC)
    cards = [card(project, state, sources, readable, now) for state in readable]
    all_events = events(readable)
    start = min([event.time for event in all_events], default=now)
    environment = templates()
    environment.filters["day"] = spell_moment
    environment.filters["brief"] = _brief
    return environment.get_template("page/site.html.j2").render(
        project=project,
        now=f"{now:%Y-%m-%d %H:%M} UTC",
        cards=cards,
        unread=[state for state in states if state.problem],
        figures=[figure for state in readable for figure in _figures(project, state)],
        timeline=timeline(_lanes(readable, all_events), start, now) if all_events else "",
        events=[(event, _event_links(event, readable, sources)) for event in all_events],
        events_shown=EVENTS_SHOWN,
        kinds=KINDS,
        envs=[state.env for state in readable],
        versions=[(state, _version_rows(project, state, sources)) for state in readable],
        versions_shown=VERSIONS_SHOWN,
        lineages=[
            (state, svg(state.lineage, _node_links(state, sources)))
            for state in readable
            if state.lineage
        ],
        data=[(state, _data(state.lineage)) for state in readable if state.lineage],
        rules=_rules(project),
        waiting=sources.waiting,  # known when all links are made
    )


def in_order(states: Sequence[EnvironmentState]) -> list[EnvironmentState]:
    """The environment that promotions end in comes first."""
    before = {state.env: state.promotes_from for state in states}

    def steps(env: str) -> int:
        path: list[str] = []
        while before.get(env) and env not in path:
            path.append(env)
            env = before[env]
        return len(path)

    return sorted(states, key=lambda state: (-steps(state.env), state.holder("champion") is None))


def _figures(project: Project, state: EnvironmentState) -> list[Figures]:
    """Charts and worst windows of what arrives, and of what the endpoint answered."""
    windows = {source: windows_of(state, source) for source in SOURCES}
    return [
        Figures(
            f"{state.env}{SOURCES[source]}",
            window_charts(results, project.metric),
            worst_windows(results),
        )
        for source, results in windows.items()
        if results or (source == "monitoring" and not windows["live"])
    ]


# What happened.


def _lanes(states: Sequence[EnvironmentState], all_events: Sequence[Event]) -> list[TimelineRow]:
    lanes = []
    for state in states:
        for kind, name in KINDS.items():
            moments = [
                (event.time, f"{event.time:%Y-%m-%d} {event.text}")
                for event in reversed(all_events)
                if event.env == state.env and event.kind == kind
            ]
            if moments:
                tone = LANE_TONES.get(kind, "alarm")
                lanes.append(TimelineRow(f"{state.env} {name}", moments, tone))
    return lanes


def _event_links(event: Event, states: Sequence[EnvironmentState], sources: Sources) -> list[Link]:
    state = next(state for state in states if state.env == event.env)
    links = []
    if event.version and state.version(event.version):
        links.append((f"v{event.version}", f"#{event.env}-v{event.version}"))
    if run := sources.flow_run(state, event.flow_run):
        links.append(("Prefect run", run))
    if event.page and (page := sources.file(state, event.page)):
        links.append(("page", page))
    return links


def _version_rows(project: Project, state: EnvironmentState, sources: Sources) -> list[VersionRow]:
    rows = []
    holder = state.holder("champion")
    champion = None if holder is None else holder.version
    for version in state.versions:
        estimate = version.metrics.get(project.metric)
        links = [
            ("MLflow", sources.mlflow_run(state, version)),
            ("Prefect", sources.flow_run(state, version.flow_run)),
            *(
                (name, sources.file(state, file, copied=bool(version.aliases)))
                for name, file in version.pages.items()
            ),
        ]
        rows.append(
            VersionRow(
                version,
                spell_measure(estimate) if estimate else "–",
                outcome(state, version),
                status_of(version.version, state.changes, champion),
                tuple((name, link) for name, link in links if link),
                tuple(sorted(set(version.parts.values()))),
            )
        )
    return rows


def _node_links(state: EnvironmentState, sources: Sources) -> dict[str, str]:
    """Links of the boxes of the lineage."""
    links: dict[str, str] = {}
    for node in state.lineage.nodes if state.lineage else ():
        if node.kind == "monitoring":
            links[node.id] = sources.file(state, node.facts["report"])
        elif node.kind == "run":
            links[node.id] = sources.flow_run(state, node.facts.get("flow run", ""))
        elif node.kind == "model":
            links[node.id] = f"#{state.env}-v{node.id.rpartition(':')[2]}"
        elif node.kind in ("dataset", "part", "view", "joined", "scores"):
            links[node.id] = f"#{state.env}-{node.id.replace('@', '-')}"
    return {id: link for id, link in links.items() if link}


def _data(lineage: Lineage) -> list[object]:
    """The dataset versions around the champion."""
    kinds = ("source", "dataset", "part", "view", "joined", "scores")
    return [node for node in lineage.nodes if node.kind in kinds]


def _rules(project: Project) -> list[str]:
    """Rules of release and monitoring that the project declares, in words."""
    gate, rollout, retraining = project.gate, project.serving.rollout, project.retraining
    metric = project.metric.replace("_", " ")
    chance = f"{gate.confidence:.0%} sure"
    lines = [
        f"A version is released if its {metric} on the holdout beats the champion's by more than "
        f"{gate.gain_over_champion:g}, {chance}, and the baseline's by {gate.gain_over_baseline:g}"
        + (f"; the floor is {gate.floor:g}." if gate.floor is not None else "."),
    ]
    if rollout.policy == "canary":
        steps = ", ".join(f"{share:.0%}" for share in rollout.steps)
        lines.append(
            f"It gets {steps} of the entities, one after the other, and goes back at the first "
            "bad look."
        )
    elif rollout.policy == "shadow":
        lines.append("It answers in the shadow of the champion before it takes over.")
    else:
        lines.append("It takes over at once.")
    triggers = " or ".join(retraining.triggers) or "nothing"
    lines.append(
        f"Monitoring asks for retraining on {triggers}; it looks at the newest "
        f"{project.monitoring.windows} windows, and allows "
        f"{project.monitoring.false_alarms} an alarm by chance."
    )
    lines.append(
        f"To go back to the version before: lifecycle run release {project.file.name} --rollback."
    )
    return lines


def _brief(text: str) -> str:
    return textwrap.shorten(text, REASON_LETTERS, placeholder=" …")
