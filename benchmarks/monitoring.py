"""Monitoring: how often windows without drift alarm, what is found, and what it costs.

Windows are drawn with replacement from two public tables, whole persons (health_visits) or runs of
a week (bike_sharing), and so are the references they are compared with: nothing has changed between
them, and rows hang together as they do in the tables. How they were drawn is not told to the code.
"""

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import scipy
from numpy.typing import NDArray

from benchmarks.result import Result, information, ratio
from lifecycle.errors import DataError
from lifecycle.features.encode import build_features, labels, load_hook
from lifecycle.monitoring.drift import drift_report
from lifecycle.monitoring.scored import OpenWindow, categorical_features
from lifecycle.project import DriftSpec, Project
from lifecycle.project.loader import load_project
from lifecycle.records import DriftReport, Window

ROOT = Path(__file__).parents[1]
DATA = Path(os.environ.get("LIFECYCLE_SHARED_DATA", ROOT.parent / "shared" / "data"))
SIZES, COLUMNS = (200, 2_000, 20_000), (5, 20, 100)
REFERENCE_ROWS = 10_000
WINDOWS, PER_REFERENCE = 1_000, 5
"""Windows of a configuration, and how many of them are compared with one reference: they share what
chance made of it."""
ALARMS = (4, 17)
"""The 95 % band of the number of alarms at a rate of 1 % in 1,000 windows."""
WEEK = 168
SHIFT, SHIFT_ROWS, SHIFT_COLUMNS, SHIFT_WINDOWS, SHIFT_PER_REFERENCE = 0.25, 2_000, 20, 200, 25
LARGE_ROWS, LARGE_COLUMNS = 1_000_000, 20


class Population(NamedTuple):
    """A table to draw windows from."""

    name: str
    features: pd.DataFrame
    """The project's features, then mixtures of them."""
    answer: NDArray[np.float64]
    truth: NDArray[np.float64]
    categorical: tuple[str, ...]
    project: Project
    blocks: list[NDArray[np.intp]]
    """Rows that are drawn together."""
    sizes: NDArray[np.intp]
    """How many each block has."""


def populations() -> list[Population]:
    """The two tables.

    Raises:
        DataError: bike_sharing's file is not there.
    """
    file = DATA / "bike_sharing_hour.csv"
    if not file.is_file():
        raise DataError(f"{file}: not there; LIFECYCLE_SHARED_DATA says in which folder it is")
    project = load_project(ROOT / "examples" / "bike_sharing" / "project.yaml")
    hours = pd.read_csv(file, parse_dates=["dteday"])
    weeks = [(start + np.arange(WEEK)) % len(hours) for start in range(0, len(hours), 24)]
    bikes = _population("bike_sharing", project, hours, weeks)
    health = load_project(ROOT / "examples" / "health_visits" / "project.yaml")
    from examples.health_visits.person_years import rows

    years = rows()
    persons = [np.asarray(at) for at in years.groupby("zper").indices.values()]
    return [_population("health_visits", health, years, persons), bikes]


def _population(
    name: str, project: Project, frame: pd.DataFrame, blocks: list[NDArray[np.intp]]
) -> Population:
    rng = np.random.default_rng(5)
    features = build_features(frame, project, load_hook(project)).reset_index(drop=True)
    categorical = categorical_features(features, project)
    numbers = features.drop(columns=[*categorical]).select_dtypes("number").astype(float)
    numbers = numbers.fillna(numbers.mean())
    standard = ((numbers - numbers.mean()) / numbers.std().replace(0, 1)).to_numpy()
    truth = labels(frame, project)
    weights = np.linalg.lstsq(standard, truth - truth.mean(), rcond=None)[0]
    answer = standard @ weights + truth.mean()
    missing = max(COLUMNS) - len(features.columns)
    mixing = rng.normal(size=(standard.shape[1], missing)) * (rng.random(missing) < 0.5)
    mixtures = standard @ mixing / 3 + rng.normal(size=(len(features), missing))
    names = [f"mixture{at}" for at in range(missing)]
    features = pd.concat([features, pd.DataFrame(mixtures, columns=names)], axis=1)
    sizes = np.array([len(block) for block in blocks])
    return Population(name, features, answer, truth, categorical, project, blocks, sizes)


def draw(population: Population, rows: int, columns: int, rng: np.random.Generator) -> OpenWindow:
    """Draw a window of whole blocks, cut to its rows; a block drawn twice is two entities."""
    at, entity = _drawn_rows(population, rows, rng)
    has_entity = population.project.entity is not None
    start = pd.Timestamp("2024-01-01").to_datetime64()
    return OpenWindow(
        population.features.iloc[at, :columns].reset_index(drop=True),
        population.answer[at],
        population.truth[at],
        entity.astype(object) if has_entity else None,
        population.project.task,
        population.project.target,
        time=None if has_entity else start + np.arange(rows) * np.timedelta64(1, "h"),
    )


def _drawn_rows(
    population: Population, rows: int, rng: np.random.Generator
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Rows of the population that make a window, and the number of the block of each."""
    drawn = rng.integers(len(population.blocks), size=rows + 1)
    sizes = population.sizes[drawn]
    has_entity = population.project.entity is not None
    first = 0 if has_entity else int(rng.integers(sizes[0]))  # a window begins in any hour
    drawn = drawn[: int(np.searchsorted(np.cumsum(sizes), first + rows)) + 1]
    at = np.concatenate([population.blocks[block] for block in drawn])[first : first + rows]
    return at, np.repeat(np.arange(len(drawn)), population.sizes[drawn])[:rows]


def compare(
    population: Population,
    reference: OpenWindow,
    current: OpenWindow,
    like: DriftReport | None = None,
) -> DriftReport:
    return drift_report(
        reference,
        current,
        DriftSpec(),
        Window(),
        population.categorical,
        with_visible=False,
        like=like,
    )


class Pair(NamedTuple):
    """Two windows to compare."""

    reference: OpenWindow
    current: OpenWindow


def pairs(population: Population, rows: int, columns: int, windows: int) -> Iterator[Pair]:
    """Yield windows without drift, `PER_REFERENCE` for each reference; always the same."""
    rng = np.random.default_rng([rows, columns])
    for at in range(windows):
        if at % PER_REFERENCE == 0:
            reference = draw(population, REFERENCE_ROWS, columns, rng)
        yield Pair(reference, draw(population, rows, columns, rng))


def _shifted_columns(population: Population) -> list[str]:
    features = population.features.iloc[:, :SHIFT_COLUMNS]
    return [
        str(name)
        for name in features.columns
        if name not in population.categorical and features[name].nunique() > 50
    ]


def shifted_pairs(population: Population, windows: int) -> Iterator[tuple[str, Pair]]:
    """Yield windows in which one continuous column has moved, with its name; each in turn."""
    rng = np.random.default_rng(23)
    names = _shifted_columns(population)
    for at in range(windows):
        if at % SHIFT_PER_REFERENCE == 0:
            reference = draw(population, REFERENCE_ROWS, SHIFT_COLUMNS, rng)
        name = names[at % len(names)]
        current = draw(population, SHIFT_ROWS, SHIFT_COLUMNS, rng)
        current.features[name] += SHIFT * population.features[name].std()
        yield name, Pair(reference, current)


def count_alarms(population: Population, rows: int, columns: int, windows: int) -> tuple[int, int]:
    """Windows without drift beyond the limit by chance, and those that alarm."""
    beyond = alarms = 0
    report: DriftReport | None = None
    for at, pair in enumerate(pairs(population, rows, columns, windows)):
        report = compare(population, *pair, report if at % PER_REFERENCE else None)
        beyond += any(column.statistic > column.chance for column in report.columns)
        alarms += bool(report.alarms)
    return beyond, alarms


def measure(rounds: int) -> Iterator[Result]:
    """The rate of false alarms, the power, and the time against SciPy."""
    tables = populations()
    for population in tables:
        yield _power(population)
        yield _best_power(population)
    yield from _times(rounds)
    for columns in COLUMNS:
        for population in tables:
            for rows in SIZES:
                yield _false_alarms(population, rows, columns)


def _false_alarms(population: Population, rows: int, columns: int) -> Result:
    beyond, alarms = count_alarms(population, rows, columns, WINDOWS)
    low, high = ALARMS
    return Result(
        name=f"monitoring: {population.name}, {rows:,} rows × {columns} columns, windows of "
        f"{WINDOWS:,} without drift beyond chance ({low} to {high})",
        value=beyond,
        unit="windows",
        bar=high,
        holds=low <= beyond <= high,
        detail=f"{alarms} of them alarm, the others are too small to; target and prediction count "
        f"as well; {PER_REFERENCE} windows for each reference of {REFERENCE_ROWS:,} rows",
    )


def _power(population: Population) -> Result:
    """How often a shift of one continuous column is found, with its threshold."""
    counts: dict[str, list[int]] = {}
    report: DriftReport | None = None
    for at, (name, pair) in enumerate(shifted_pairs(population, SHIFT_WINDOWS)):
        report = compare(population, *pair, report if at % SHIFT_PER_REFERENCE else None)
        hits = counts.setdefault(name, [0, 0])
        hits[0] += any(column.column == name for column in report.alarms)
        hits[1] += 1
    share = sum(hits for hits, _ in counts.values()) / SHIFT_WINDOWS
    each = ", ".join(f"{name} {hits}/{tries}" for name, (hits, tries) in counts.items())
    return Result(
        name=f"monitoring: {population.name}, {SHIFT:g} σ in one of {SHIFT_COLUMNS} columns at "
        f"{SHIFT_ROWS:,} rows found (at least)",
        value=round(share, 3),
        unit="share",
        bar=0.9,
        holds=share >= 0.9,
        detail=f"{SHIFT_WINDOWS} windows, each continuous column in turn: {each}",
    )


def _best_power(population: Population) -> Result:
    """How often the best test of one column finds the shift, told all but whether there is one.

    It knows the mean without drift and how the means of windows vary, which no reference says
    exactly, and takes them for normal (Neyman and Pearson 1933).
    """
    rng = np.random.default_rng(29)
    names = _shifted_columns(population)
    values = population.features[names].to_numpy(dtype=float)
    values = (values - np.nanmean(values, axis=0)) / np.nanstd(values, axis=0)
    drawn = (_drawn_rows(population, SHIFT_ROWS, rng)[0] for _ in range(WINDOWS))
    deviations = np.std([np.nanmean(values[at], axis=0) for at in drawn], axis=0)
    family = SHIFT_COLUMNS + 2  # prediction and target, too
    with_column, share = (
        scipy.stats.norm.sf(scipy.stats.norm.isf(tail) - SHIFT / deviations)
        for tail in (0.01, 0.01 / family / 2)
    )
    each = ", ".join(f"{name} {sd:.3f} σ" for name, sd in zip(names, deviations, strict=True))
    return information(
        f"monitoring: {population.name}, {SHIFT:g} σ in one of {SHIFT_COLUMNS} columns at "
        f"{SHIFT_ROWS:,} rows, found by the best test of columns one by one",
        [float(share.mean())],
        "share",
        f"told the mean and its deviation between windows; {with_column.mean():.1%} if also told "
        f"which column may move, and which way; deviations: {each}",
    )


def _times(rounds: int) -> Iterator[Result]:
    rng = np.random.default_rng(3)

    def window() -> OpenWindow:
        values = rng.normal(size=(LARGE_ROWS, LARGE_COLUMNS))
        frame = pd.DataFrame(values, columns=[f"c{at}" for at in range(LARGE_COLUMNS)])
        missing = np.full(LARGE_ROWS, np.nan)
        return OpenWindow(frame, values[:, 0].copy(), missing, None, "regression", "y")

    reference, current = window(), window()

    def run_lifecycle() -> object:
        return drift_report(reference, current, DriftSpec(), Window(), ())

    def bare() -> object:
        sides = (reference.features, current.features)
        return [
            scipy.stats.ks_2samp(*(side[name] for side in sides), method="asymp")
            for name in sides[0].columns
        ]

    _seconds(run_lifecycle), _seconds(bare)  # both are warm from here on
    pairs = [(_seconds(run_lifecycle), _seconds(bare)) for _ in range(rounds)]
    own, twin = zip(*pairs, strict=True)
    yield ratio(
        f"monitoring: {LARGE_ROWS:,} × {LARGE_COLUMNS} against as many, ours with limits and "
        "power / bare SciPy KS",
        own,
        twin,
        4,
        "s of wall time",
    )


def _seconds(run: Callable[[], Any]) -> float:
    started = time.perf_counter()
    run()
    return time.perf_counter() - started
