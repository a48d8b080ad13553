"""What an environment would have recorded over months, without having run: for pages."""

from datetime import UTC, datetime, timedelta

import numpy as np

from lifecycle.lineage.graph import Edge, Lineage, Node
from lifecycle.monitoring.history import StoredDistance, StoredQuality, WindowAlarm, WindowResult
from lifecycle.page.state import EnvironmentState, Monitoring, VersionState
from lifecycle.records import Change, Estimate

START = datetime(2025, 11, 1, 6, tzinfo=UTC)
COLUMNS = ("age", "visits", "income", "region", "plan", "prediction")
METRIC = "roc_auc"


def recorded_windows(count: int, versions: int = 1, seed: int = 3) -> list[WindowResult]:
    """Days in a row, of which some alarm; the labels of the newest are not there yet."""
    rng = np.random.default_rng(seed)
    return [_window(at, count, 1 + at * versions // max(count, 1), rng) for at in range(count)]


def recorded_state(
    env: str = "dev",
    *,
    versions: int = 3,
    windows: int = 12,
    promotes_from: str = "",
    canary: bool = False,
) -> EnvironmentState:
    """An environment in which every version was tried, and two of three released."""
    champion = max((v for v in range(1, versions + 1) if v % 3), default=0)
    challenger = versions if canary and versions != champion else 0
    changes: list[Change] = []
    states = []
    for version in range(1, versions + 1):
        made = START + timedelta(days=int(360 * (version - 1) / max(versions, 1)))
        aliases = (("champion",) if version == champion else ()) + (
            ("challenger",) if version == challenger else ()
        )
        states.append(_version(version, made, aliases, promotes_from))
        changes += _changes(version, made + timedelta(hours=2), version == challenger)
    return EnvironmentState(
        env=env,
        promotes_from=promotes_from,
        experiment="1",
        reports="/nowhere",
        versions=tuple(reversed(states)),
        changes=tuple(changes),
        windows=tuple(recorded_windows(windows, max(champion, 1))),
        monitorings=tuple(_monitorings(windows)),
        lineage=_lineage(champion) if champion else None,
    )


def _day(at: int) -> datetime:
    return START + timedelta(days=at)


def _window(at: int, count: int, version: int, rng: np.random.Generator) -> WindowResult:
    moved = at % 29 == 17
    value = 0.83 - 0.03 * moved + rng.normal(0, 0.006)
    distances = sorted(
        (
            StoredDistance(
                column=column,
                slice="all",
                metric="kolmogorov_smirnov",
                value=float(
                    (ratio := rng.gamma(6, 0.06) * (2.6 if moved and column == "income" else 1))
                    * 0.1
                ),
                limit=0.1,
                alarm=ratio > 1,
            )
            for column in COLUMNS
        ),
        key=lambda distance: -distance.ratio,
    )
    labelled = at < count - max(count // 10, 1)
    alarms = [
        WindowAlarm(
            comparison="reference",
            cause="features",
            severity="high" if distance.ratio > 1.3 else "low",
            column=distance.column,
            columns=(distance.column,),
            slice="all",
            metric=distance.metric,
            value=distance.value,
            limit=distance.limit,
            time=_day(at + 1).isoformat(),
        )
        for distance in distances
        if distance.alarm
    ]
    return WindowResult(
        window=f"{_day(at):%Y-%m-%d}",
        version=version,
        source="monitoring",
        rows=int(rng.integers(1800, 2600)) if at % 7 < 5 else int(rng.integers(500, 900)),
        measured=(
            StoredQuality(
                metric=METRIC,
                value=value,
                low=value - 0.015,
                high=value + 0.015,
                limit=0.8,
                rows=1500,
                alarm=value < 0.8,
            ),
        )
        if labelled
        else (),
        estimated=StoredQuality(
            metric=f"{METRIC} estimated", value=value + 0.004, low=value - 0.025, high=value + 0.033
        ),
        distances=tuple(distances),
        compared=len(distances),
        alarms=tuple(alarms),
    )


def _version(version: int, made: datetime, aliases: tuple[str, ...], origin: str) -> VersionState:
    value = 0.8 + 0.02 * version / (version + 4)
    return VersionState(
        version=version,
        digest=f"{version:064x}",
        identity=f"{version + 7:064x}",
        aliases=aliases,
        trained=made.isoformat(timespec="milliseconds"),
        seconds=41.0,
        who="deployment retrain" if version > 1 else "ada",
        commit="447d9812" * 5,
        run_id=f"{version:032x}",
        flow_run=f"00000000-0000-4000-8000-{version:012x}",
        flow_run_name=f"{'retrain' if version > 1 else 'train'}-visits-{version}",
        origin=f"{origin} v{version}" if origin else "",
        metrics={METRIC: Estimate(value=value, low=value - 0.01, high=value + 0.01)},
        baseline=0.5,
        parts={
            name: f"{part}@{version - 1}"
            for name, part in (("training", "train"), ("holdout", "holdout"))
        },
    )


def _changes(version: int, time: datetime, pending: bool) -> list[Change]:
    def change(action: str, hours: int, *reasons: str) -> Change:
        return Change(
            time=(time + timedelta(hours=hours)).isoformat(timespec="milliseconds"),
            who="deployment release" if version > 1 else "ada",
            action=action,  # type: ignore[arg-type]
            model="visits",
            version=version,
            digest=f"{version:064x}",
            identity=f"{version + 7:064x}",
            reasons=reasons,
        )

    trial = change("canary", 0, "To 10 % of the entities.", "The gate passed.")
    if pending:
        return [trial]
    if version % 3 == 0:
        return [
            trial,
            change("reject", 1, "roc_auc fell by 0.011 (0.002 to 0.020), more than 0.005."),
        ]
    reasons = (
        "roc_auc 0.812 on the holdout beats the champion's 0.804 by 0.008 (0.003 to 0.013).",
        "It beats the baseline's 0.500 by 0.312.",
        "12 of 12 checks passed.",
    )
    return [trial, change("deploy", 1, *reasons), change("promote", 1, *reasons)]


def _monitorings(windows: int) -> list[Monitoring]:
    return [
        Monitoring(
            window=f"{_day(at):%Y-%m-%d}",
            time=_day(at + 1).isoformat(timespec="milliseconds"),
            verdict="retraining asked for" if at % 29 == 18 else "nothing to do",
            drifted="income" if at % 29 == 17 else "nothing",
            who="deployment monitor",
            flow_run=f"00000000-0000-4000-9000-{at:012x}",
            flow_run_name="monitor-visits",
            page=f"/nowhere/monitoring-{at}.html",
        )
        for at in range(windows)
    ]


def _lineage(champion: int) -> Lineage:
    made = (START).isoformat(timespec="milliseconds")
    nodes = [
        Node(id="source:ab", kind="source", name="visits.csv", digest="ab" * 32),
        Node(
            id=f"accepted@{champion - 1}",
            kind="dataset",
            name=f"accepted version {champion - 1}",
            time=made,
            facts={"rows": "20,186"},
        ),
        *(
            Node(
                id=f"{part}@{champion - 1}",
                kind="part",
                name=f"{part} version {champion - 1}",
                time=made,
                facts={"rows": "9,000"},
            )
            for part in ("train", "validation", "holdout")
        ),
        Node(id="code:cd", kind="code", name="code cdcdcdcdcdcd", digest="cd" * 32),
        Node(
            id="run:1",
            kind="run",
            name="run train-visits",
            time=made,
            facts={"by": "ada", "flow run": "1-2"},
        ),
        Node(
            id=f"model:{champion}", kind="model", name=f"model visits version {champion}", time=made
        ),
        Node(
            id=f"release:{champion}",
            kind="release",
            name=f"release of version {champion}",
            time=made,
        ),
        Node(id="predictions@9", kind="scores", name="predictions version 9", time=made),
        Node(
            id="monitoring:9",
            kind="monitoring",
            name="monitoring of 2025-11-12",
            time=made,
            facts={"report": "/nowhere/m.html"},
        ),
    ]
    model = f"model:{champion}"
    rows = f"accepted@{champion - 1}"
    pairs = [("source:ab", rows, "was ingested as")]
    for part in ("train", "validation", "holdout"):
        of_part = f"{part}@{champion - 1}"
        pairs += [(rows, of_part, "was split into"), (of_part, model, "taught")]
    pairs += [("code:cd", model, "is the code of"), ("run:1", model, "made")]
    pairs += [(model, f"release:{champion}", "became"), (model, "predictions@9", "predicted")]
    pairs += [("predictions@9", "monitoring:9", "was checked in")]
    return Lineage(
        project="visits",
        subject=model,
        nodes=tuple(nodes),
        edges=tuple(Edge(source=a, target=b, what=what) for a, b, what in pairs),
    )
