"""Causes of alarms: 200 injected incidents, and the cause that is named first.

Windows are drawn as in `benchmarks.monitoring`, from the half of the persons (health_visits) or
weeks (bike_sharing) that the model has not learned from, and get a time for each row, an hour
apart, as rows of a prediction log have one. An incident changes the rows of the data; features and
predictions are made from what has been changed. Nothing of the incident is told to the code.
"""

import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import xgboost as xgb
from numpy.typing import NDArray

from benchmarks.monitoring import DATA, REFERENCE_ROWS, ROOT, WEEK
from benchmarks.result import Result, information, limit
from lifecycle.errors import DataError
from lifecycle.features.encode import build_features, labels, load_hook
from lifecycle.monitoring.causes import alarms_of, find_causes
from lifecycle.monitoring.drift import drift_report
from lifecycle.monitoring.results import drift_alarms, quality_alarms, quality_rows
from lifecycle.monitoring.scored import OpenWindow, categorical_features, feature_sources
from lifecycle.project import DriftSpec, Project
from lifecycle.project.loader import load_project
from lifecycle.records import BROKEN, CHANGED, Alarm, CauseKind, Window
from lifecycle.training.evaluation.evaluate import Measurement, evaluate

EACH, FIRST = 10, 10
"""Incidents of a kind in a table, and the number of the first: the rules were made on those before,
which had other rows, references and strengths."""
QUIET = 50
"""Windows of a table that nothing was done to."""
ROWS = (2_000, 10_000)
START = pd.Timestamp("2024-01-01")
FACTORS = (1000.0, 100.0, 60.0, 41.0, 24.0, 12.0, 10.0, 3.6, 2.54, 2.20462, 1.60934)
FILLS = ("missing", 0.0, -1.0, -999.0, 9999.0, "mean")
CLOSE = 0.05
"""Share of the window's rows by which a first bad time may be off."""
KINDS: tuple[CauseKind, ...] = (*BROKEN, *CHANGED)


class Table(NamedTuple):
    """A table with its model."""

    name: str
    project: Project
    frame: pd.DataFrame
    blocks: list[NDArray[np.intp]]
    """Rows that are drawn together, of those that the model has not seen."""
    predict: Callable[[pd.DataFrame], NDArray[np.float64]]
    categorical: tuple[str, ...]
    sources: dict[str, frozenset[str]]
    numbers: tuple[str, ...]
    """Columns of the data that are broken."""
    levels: tuple[str, ...]
    """Columns of the data that segments and names are of."""


class Incident(NamedTuple):
    """Rows of a window after something was done to them, and what it was."""

    kind: CauseKind
    rows: pd.DataFrame
    column: str = ""
    segment: str = "all"
    since: int = 0
    """The first row that is changed."""
    window: Window = Window()


def tables() -> list[Table]:
    """The two tables.

    Raises:
        DataError: bike_sharing's file is not there.
    """
    file = DATA / "bike_sharing_hour.csv"
    if not file.is_file():
        raise DataError(f"{file}: not there; LIFECYCLE_SHARED_DATA says in which folder it is")
    hours = pd.read_csv(file, parse_dates=["dteday"])
    weeks = [np.arange(at, min(at + WEEK, len(hours))) for at in range(0, len(hours), WEEK)]
    from examples.health_visits.person_years import rows

    years = rows()
    persons = [np.asarray(at) for at in years.groupby("zper").indices.values()]
    health = ("income", "mdeoff", "xage", "mhi", "xghindx", "disea", "pioff")
    return [
        _table("health_visits", years, persons, health, ("site", "plan")),
        _table(
            "bike_sharing",
            hours,
            weeks,
            ("temp", "hum", "windspeed"),
            ("season", "weekday", "weathersit"),
        ),
    ]


def _table(
    name: str,
    frame: pd.DataFrame,
    blocks: list[NDArray[np.intp]],
    numbers: tuple[str, ...],
    levels: tuple[str, ...],
) -> Table:
    project = load_project(ROOT / "examples" / name / "project.yaml")
    rng = np.random.default_rng(7)
    frame = frame.reset_index(drop=True)
    mixed = rng.permutation(len(blocks))
    half = len(blocks) // 2
    learned = np.concatenate([blocks[at] for at in mixed[:half]])
    features = build_features(frame, project, load_hook(project))
    categorical = categorical_features(features, project)
    levels_of = {column: pd.Index(features[column].map(str).unique()) for column in categorical}

    def matrix(rows: pd.DataFrame) -> NDArray[np.float64]:
        columns = [
            levels_of[str(column)].get_indexer(rows[column].map(str)).astype(float)
            if column in levels_of
            else rows[column].to_numpy(dtype=float, na_value=np.nan)
            for column in features.columns
        ]
        return np.column_stack(columns)

    binary = project.task == "binary"
    parameters = {
        "objective": "binary:logistic" if binary else "count:poisson",
        "max_depth": 4,
        "eta": 0.1,
        "nthread": 2,
    }
    truth = labels(frame, project)
    data = xgb.QuantileDMatrix(matrix(features.iloc[learned]), label=truth[learned])
    booster = xgb.train(parameters, data, 100)
    return Table(
        name,
        project,
        frame,
        [blocks[at] for at in mixed[half:]],
        lambda rows: booster.inplace_predict(matrix(rows)).astype(np.float64),
        categorical,
        feature_sources(frame.head(64), project),
        numbers,
        levels,
    )


def draw(table: Table, rows: int, rng: np.random.Generator) -> pd.DataFrame:
    """Draw rows of whole blocks; a block drawn twice is two entities."""
    sizes = np.array([len(block) for block in table.blocks])
    drawn = rng.integers(len(sizes), size=rows + 1)
    first = 0 if table.project.entity else int(rng.integers(sizes[drawn[0]]))
    drawn = drawn[: int(np.searchsorted(np.cumsum(sizes[drawn]), first + rows)) + 1]
    at = np.concatenate([table.blocks[block] for block in drawn])[first : first + rows]
    frame = table.frame.iloc[at].reset_index(drop=True)
    frame["_entity"] = np.repeat(np.arange(len(drawn)), sizes[drawn])[first : first + rows]
    if table.project.entity:  # rows of a person do not arrive one after another
        frame = frame.iloc[rng.permutation(len(frame))].reset_index(drop=True)
    frame["_time"] = START + pd.to_timedelta(np.arange(len(frame)), unit="h")
    return frame


def open_rows(table: Table, rows: pd.DataFrame) -> OpenWindow:
    """The window as monitoring sees it."""
    project = table.project
    features = build_features(rows, project, load_hook(project)).reset_index(drop=True)
    return OpenWindow(
        features,
        table.predict(features),
        labels(rows, project),
        rows["_entity"].to_numpy().astype(object) if project.entity else None,
        project.task,
        project.target,
        time=rows["_time"].to_numpy(),
    )


# What is done to the rows.


def incident(table: Table, kind: CauseKind, number: int) -> Incident:
    """A window with an incident, the same for the same number."""
    rng = np.random.default_rng([KINDS.index(kind), number, len(table.name)])
    count = ROWS[number % len(ROWS)]
    rows = draw(table, count, rng)
    since = 0 if number % 3 == 0 else int(count * rng.uniform(0.2, 0.6))
    column = str(rng.choice(table.numbers))
    level, segment = _segment(table, rows, rng)
    everywhere = number % 3 != 1
    inside = np.arange(count) >= since
    if not everywhere:
        inside &= level
    name = "all" if everywhere else segment
    if kind == "unit changed":
        return _unit(rows, column, inside, rng, Incident(kind, rows, column, name, since))
    if kind == "missing or filled":
        return _filled(rows, column, inside, rng, Incident(kind, rows, column, name, since))
    if kind == "level renamed":
        return _renamed(table, rows, np.arange(count) >= since, since, rng)
    if kind == "stuck value":
        return _stuck(rows, column, inside, rng, Incident(kind, rows, column, name, since))
    if kind == "late feed":
        return _late(rows, level, everywhere, name, rng)
    if kind == "duplicated batch":
        first = int(rng.integers(0, count // 2))
        batch = rows.iloc[first : first + int(count * rng.uniform(0.1, 0.5))]
        both = pd.concat([rows, batch]).sort_values("_time", kind="stable")
        return Incident(kind, both.reset_index(drop=True), since=first)
    if kind == "concept shift":
        return _concept(table, rows, inside, rng, Incident(kind, rows, "", name, since))
    return _drawn(table, kind, rows, since, column, number, rng)


def _segment(
    table: Table, rows: pd.DataFrame, rng: np.random.Generator
) -> tuple[NDArray[np.bool_], str]:
    """A level with 10 to 60 % of the rows."""
    levels = [
        (name, level)
        for name in table.levels
        for level, share in rows[name].value_counts(normalize=True).items()
        if 0.1 <= share <= 0.6
    ]
    name, level = levels[rng.integers(len(levels))]
    return (rows[name] == level).to_numpy(), f"{name}={level}"


def _unit(
    rows: pd.DataFrame,
    column: str,
    inside: NDArray[np.bool_],
    rng: np.random.Generator,
    case: Incident,
) -> Incident:
    factor = float(rng.choice(FACTORS))
    if rng.random() < 0.5:
        factor = 1 / factor
    values = rows[column].astype(float)
    rows[column] = np.where(inside, values * factor, values)
    return case


def _filled(
    rows: pd.DataFrame,
    column: str,
    inside: NDArray[np.bool_],
    rng: np.random.Generator,
    case: Incident,
) -> Incident:
    fill = FILLS[rng.integers(len(FILLS))]
    values = rows[column].astype(float)
    value = np.nan if fill == "missing" else values.mean() if fill == "mean" else fill
    lost = inside & (rng.random(len(rows)) < rng.uniform(0.3, 0.9))
    rows[column] = np.where(lost, value, values)
    return case


def _renamed(
    table: Table,
    rows: pd.DataFrame,
    inside: NDArray[np.bool_],
    since: int,
    rng: np.random.Generator,
) -> Incident:
    column = str(rng.choice(table.levels))
    shares = rows[column].value_counts(normalize=True)
    level = rng.choice(shares[shares > 0.08].index.to_numpy())
    name = f"{level}.0" if rng.random() < 0.5 else f"L{level}"
    texts = rows[column].astype(object)
    rows[column] = texts.where(~(inside & (texts == level)), name)
    return Incident("level renamed", rows, column, "all", since)


def _stuck(
    rows: pd.DataFrame,
    column: str,
    inside: NDArray[np.bool_],
    rng: np.random.Generator,
    case: Incident,
) -> Incident:
    end = int(min(len(rows), case.since + len(rows) * rng.uniform(0.3, 0.8)))
    inside &= np.arange(len(rows)) < end
    at = np.flatnonzero(inside)
    rows.loc[inside, column] = rows[column].iloc[at[0]]
    return case


def _late(
    rows: pd.DataFrame,
    level: NDArray[np.bool_],
    everywhere: bool,
    name: str,
    rng: np.random.Generator,
) -> Incident:
    since = int(len(rows) * rng.uniform(0.5, 0.9))
    window = Window(first=str(START), last=str(rows["_time"].iloc[-1]))
    lost = np.arange(len(rows)) >= since
    if not everywhere:
        lost &= level
    remainder = rows[~lost].reset_index(drop=True)
    return Incident("late feed", remainder, "", name, since, window)


def _concept(
    table: Table,
    rows: pd.DataFrame,
    inside: NDArray[np.bool_],
    rng: np.random.Generator,
    case: Incident,
) -> Incident:
    target = table.project.target
    truth = rows[target]
    if table.project.task == "binary":
        changed = inside & (rng.random(len(rows)) < rng.uniform(0.3, 0.7))
        rows[target] = np.where(changed, 1 - truth, truth)
        return case
    factor = float(rng.choice([0.4, 0.5, 0.6, 1.5, 1.8, 2.2]))
    rows[target] = np.where(inside, np.round(truth * factor), truth).astype(int)
    return case


def _drawn(
    table: Table,
    kind: CauseKind,
    rows: pd.DataFrame,
    since: int,
    column: str,
    number: int,
    rng: np.random.Generator,
) -> Incident:
    """Rows drawn anew from `since` on, with other chances; each row stays as it was."""
    count = len(rows)
    pool = draw(table, 8 * count, rng)
    values = pool[column].astype(float)
    tilt = ((values - values.mean()) / values.std()).clip(-3, 3).fillna(0.0)
    strength = float(rng.uniform(0.6, 1.4) * rng.choice([-1, 1]))
    segment, origin = "all", column
    chances: pd.Series[float]
    if kind == "covariate shift":
        chances = pd.Series(np.exp(strength * tilt))
    elif kind == "label shift":
        truth = pool[table.project.target].astype(float)
        truth = truth if table.project.task == "binary" else pd.Series(np.log1p(truth))
        chances = pd.Series(np.exp(strength * (truth - truth.mean()) / truth.std()))
        origin = ""
    else:
        level, segment = _segment(table, pool, rng)
        origin = segment.partition("=")[0]
        if number % 2:
            chances = pd.Series(np.where(level, rng.uniform(4, 8), 1.0))
        else:
            inner = np.exp(1.5 * np.sign(strength) * tilt)
            chances = pd.Series(np.where(level, inner / inner[level].mean(), 1.0))
            origin = column
    share = (chances / chances.sum()).to_numpy()
    at = np.sort(rng.choice(len(pool), count - since, replace=False, p=share))
    both = pd.concat([rows.iloc[:since], pool.iloc[at]]).reset_index(drop=True)
    both["_time"] = rows["_time"]
    both["_entity"] = np.where(np.arange(count) < since, both["_entity"], both["_entity"] + 10**6)
    return Incident(kind, both, origin, segment, since)


# Results of the incidents.


class Outcome(NamedTuple):
    """Result of monitoring an incident."""

    case: Incident
    alarms: list[Alarm]
    seconds: float
    """CPU time of all threads: what else runs does not count."""

    @property
    def right(self) -> bool:
        return bool(self.alarms) and self.alarms[0].cause == self.case.kind

    @property
    def column(self) -> bool:
        return not self.case.column or self.case.column in self.alarms[0].columns[:1]

    @property
    def segment(self) -> bool:
        return self.alarms[0].slice == self.case.segment

    @property
    def since(self) -> bool:
        """Tell whether the first bad time is that of the first changed row, about."""
        if not self.alarms[0].since:
            return False
        hours = (pd.Timestamp(self.alarms[0].since) - START) / pd.Timedelta("1h")
        return bool(abs(hours - self.case.since) <= CLOSE * len(self.case.rows))


@cache
def _reference(at: int, number: int) -> tuple[Table, OpenWindow, Any]:
    table = _tables()[at]
    window = open_rows(table, draw(table, REFERENCE_ROWS, np.random.default_rng([91, number])))
    return table, window, _measured(table, window)


@cache
def _tables() -> list[Table]:
    return tables()


def _measured(table: Table, window: OpenWindow) -> Any:
    settings = Measurement(table.project.task, 17, groups=window.entity)
    return evaluate(window.truth, window.prediction, settings, "", "v1", partial=True)


def run(at: int, case: Incident, number: int) -> Outcome:
    """Monitor a window with an incident in it."""
    table, reference, released = _reference(at, FIRST + number % 4)
    current = open_rows(table, case.rows)
    measured = _measured(table, current)
    spec = DriftSpec()
    started = time.process_time()
    report = drift_report(
        reference,
        current,
        spec,
        case.window,
        table.categorical,
        alpha=0.005,
        with_visible=False,
    )
    alarms = [*drift_alarms(report, "reference")]
    judged = [*quality_rows(measured, released, table.project, report.alpha)]
    alarms += quality_alarms(judged, report.window)
    causes = find_causes(
        reference,
        current,
        report,
        table.categorical,
        spec,
        table.sources,
        is_worse=any(alarm.cause == "quality" for alarm in alarms),
    )
    results = alarms_of(causes, report, alarms, "reference")
    return Outcome(case, results, time.process_time() - started)


def measure(_rounds: int) -> Iterator[Result]:
    """One round: what is measured is no time, but for the last row, which is CPU time."""
    outcomes: dict[CauseKind, list[Outcome]] = {kind: [] for kind in KINDS}
    for at, table in enumerate(_tables()):
        for kind in KINDS:
            for number in range(FIRST, FIRST + EACH):
                outcomes[kind].append(run(at, incident(table, kind, number), number))
    everything = [outcome for kind in KINDS for outcome in outcomes[kind]]
    for kind, results in outcomes.items():
        yield _kind(kind, results)
    right = [outcome for outcome in everything if outcome.right]
    silent = sum(not outcome.alarms for outcome in everything)
    detail = (
        f"{len(right)} of {len(everything)} incidents; {silent} did not alarm, and count as wrong"
    )
    share = len(right) / len(everything)
    yield information("causes: right cause first", [share], "share", detail) | {
        "bar": 0.8,
        "holds": share >= 0.8,
    }
    loud = [outcome for outcome in everything if outcome.alarms]
    count = sum(len(outcome.alarms) for outcome in loud)
    detail = f"{count} alarms of {len(loud)} windows that alarm"
    yield limit("causes: alarms per cause", [count / len(loud)], "alarms", 1.1, detail)
    for name, subset in (
        ("column", [outcome for outcome in right if outcome.case.column]),
        ("segment", right),
        ("first bad time", right),
    ):
        hits = sum(getattr(o, "since" if name == "first bad time" else name) for o in subset)
        detail = f"{hits} of {len(subset)} incidents whose cause is right"
        yield information(f"causes: right {name}", [hits / len(subset)], "share", detail)
    alarms = [
        len(
            run(
                at, Incident("segment", draw(table, ROWS[number % 2], _seed(number))), number
            ).alarms
        )
        for at, table in enumerate(_tables())
        for number in range(QUIET)
    ]
    detail = f"of {len(alarms)} windows that nothing was done to"
    yield information("causes: windows with an alarm", [sum(map(bool, alarms))], "windows", detail)
    yield _time([o.seconds for o in everything if len(o.case.rows) >= ROWS[-1]])


def _time(seconds: list[float]) -> Result:
    detail = (
        f"{len(seconds)} windows of {ROWS[-1]:,} rows: drift, limits and cause, the slowest; CPU "
        f"of all threads, half of them {statistics.median(seconds):.2f} s and less"
    )
    return limit("causes: seconds of a large window", [max(seconds)], "s", 1.0, detail)


def _seed(number: int) -> np.random.Generator:
    return np.random.default_rng([77, number])


def _kind(kind: CauseKind, results: list[Outcome]) -> Result:
    wrong = Counter(o.alarms[0].cause if o.alarms else "no alarm" for o in results if not o.right)
    words = ", ".join(f"{name} {count}" for name, count in wrong.most_common()) or "none"
    share = sum(o.right for o in results) / len(results)
    detail = f"{len(results)} incidents; named instead: {words}"
    return information(f"causes: {kind}, named first", [share], "share", detail)
