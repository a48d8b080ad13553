"""Train part against holdout: copies, units, missing values and targets out of reach.

The limits know how many rows the holdout has: what chance does to so few rows is no finding.
"""

import math
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from lifecycle.features.encode import Floats
from lifecycle.lake.row_hash import frame_hashes
from lifecycle.profiling.compare import compare_numbers, kolmogorov_smirnov
from lifecycle.project import TaskKind

ALPHA = 0.01
"""How rarely chance alone may exceed a limit."""
MAX_COPIES, MAX_NEW, MAX_MISSING = 0.05, 0.01, 0.2
"""Shares of the holdout's rows: copies of train rows, new values, and missing beyond train's."""
MAX_BEYOND = 0.25
"""Share of a numeric target beyond what was learned from: trees cannot answer there."""
COINCIDENCE = 100
"""Columns that depend on each other meet more often than independent ones; this allows for it."""
LEAST_FACTOR, LEAST_TARGET_FACTOR = 2.0, 3.0
"""A pound is 0.45 kilograms; what grows by less may be growth, and a target may grow by more."""
FAR_RATIO, SEPARATE_DISTANCE = 20.0, 0.95
"""Median and spread so many times as large, values so far apart (Kolmogorov-Smirnov): no season."""
SAMPLE = 10_000
"""Rows from which it is estimated how often rows meet by coincidence."""
LEAST_VALUES = 30
"""Fewer numbers than these, or fewer than ten distinct ones, have no shape to recognise."""
FAHRENHEIT = (1.8, 32.0)


# Parts of the data with the model's predictions, and samples of them.

SEED = 42
"""deepchecks' own `random_state`."""


@dataclass(frozen=True)
class PredictedPart:
    """A part of the data, as the model sees it, with truth and the model's answers."""

    features: pd.DataFrame
    """(n, k): features after the hook; categories not encoded."""
    truth: NDArray[np.float64]
    """(n,): 0 or 1 for binary, the class's code for multiclass, otherwise the target's own unit;
    NaN where it is missing."""
    prediction: NDArray[np.float64]
    """(n,): probability of 1, or the value; (n, classes) for multiclass: probabilities."""
    entity: NDArray[Any] | None = None
    """(n,): who or what each row is about."""
    time: NDArray[Any] | None = None
    """(n,): the time column."""
    threshold: float = 0.5
    """Binary: the probability from which a row counts as positive."""


def draw(part: PredictedPart, rows: int | None = None) -> PredictedPart:
    """Draw at most `rows` rows with a truth, at random without replacement; the order is kept.

    Each of deepchecks' checks would draw these rows again, and search the whole index for every
    prediction. So they are drawn once, before deepchecks gets them.
    """
    places = np.flatnonzero(np.isfinite(part.truth))
    if rows is not None and len(places) > rows:
        places = np.sort(np.random.RandomState(SEED).choice(places, rows, replace=False))
    elif len(places) == len(part.truth):
        return part
    return PredictedPart(
        features=part.features.iloc[places],
        truth=part.truth[places],
        prediction=part.prediction[places],
        entity=None if part.entity is None else part.entity[places],
        time=None if part.time is None else part.time[places],
        threshold=part.threshold,
    )


class ComparisonFinding(NamedTuple):
    """Finding of the comparison of one column, or of all columns."""

    subject: str
    text: str
    failed: bool


def share_limit(allowed: float, rows: int) -> float:
    """The share that chance exceeds with probability `ALPHA` where `allowed` is the true one.

    The normal limit of a binomial share, with one row more for small parts.
    """
    if rows == 0:
        return 1.0
    deviation = math.sqrt(allowed * (1 - allowed) / rows)
    return min(1.0, allowed + NormalDist().inv_cdf(1 - ALPHA) * deviation + 1 / rows)


def copies(train: pd.DataFrame, holdout: pd.DataFrame) -> ComparisonFinding:
    """Holdout rows that equal a train row, in features and target, beyond what is natural.

    Rows of few coarse columns repeat by themselves. That is natural as far as train rows repeat
    each other, and as far as the columns' values would meet by coincidence: `COINCIDENCE` times as
    often as in independent columns.

    Args:
        train, holdout: (n, k + 1) and (m, k + 1): the features and the target, same columns.
    """
    learned, tested = (frame_hashes(part).to_numpy() for part in (train, holdout))
    share = float(np.isin(tested, learned).mean())
    repeated = float(pd.Series(learned).duplicated(keep=False).mean())
    natural = min(repeated, COINCIDENCE * _coincidence(train))
    limit = share_limit(MAX_COPIES + natural * (1 - MAX_COPIES), len(tested))
    text = (
        f"{share:.2%} of the holdout's {len(tested):,} rows equal a row of the train part; "
        f"{natural:.2%} are natural in such columns; limit {limit:.2%}."
    )
    return ComparisonFinding("rows", text, share > limit)


def _coincidence(rows: pd.DataFrame) -> float:
    """Share of rows that another one would equal if the columns were independent.

    Estimated on `SAMPLE` rows. A column that another coarse one determines adds nothing and is left
    out.
    """
    sample = rows if len(rows) <= SAMPLE else rows.sample(SAMPLE, random_state=0)
    codes = pd.DataFrame(
        {
            at: pd.factorize(sample.iloc[:, at], use_na_sentinel=False)[0]
            for at in range(rows.shape[1])
        }
    )
    logs = np.full(len(sample), math.log(len(rows)))
    coarse: list[Hashable] = []
    for at in sorted(codes, key=lambda at: -codes[at].nunique()):
        counts = codes[at].map(codes[at].value_counts()).to_numpy()
        if codes[at].nunique() <= len(sample) / 10:
            if any(
                len(codes[[other, at]].drop_duplicates()) <= codes[other].nunique() * 1.05
                for other in coarse
            ):
                continue
            coarse.append(at)
        logs += np.log(counts / len(sample))
    return float(np.minimum(np.exp(logs), 1.0).mean())


def duplicated(part: PredictedPart) -> float:
    """Share of rows that equal one before them: features, target, entity and time."""
    columns = {"(target)": part.truth, "(entity)": part.entity, "(time)": part.time}
    rows = part.features.assign(**{n: v for n, v in columns.items() if v is not None})
    hashes = frame_hashes(rows)
    return float(hashes.duplicated().mean())


def conflicting(part: PredictedPart) -> float:
    """Share of rows whose features another row has with another label."""
    hashes = frame_hashes(part.features).reset_index(drop=True)
    labels = pd.Series(part.truth).groupby(hashes).transform("nunique")
    return float((labels > 1).mean())


def missing(train: pd.DataFrame, holdout: pd.DataFrame) -> Iterator[ComparisonFinding]:
    """Columns of which the holdout lacks many more cells than the train part."""
    for name in train.columns:
        before, after = (float(part[name].isna().mean()) for part in (train, holdout))
        if after <= before:
            continue
        limit = share_limit(min(before + MAX_MISSING, 1.0), len(holdout))
        if after > limit:
            text = (
                f"{name} is missing in {after:.1%} of the holdout's rows, {before:.1%} of train's"
            )
            yield ComparisonFinding(str(name), text, True)


def unit_factor(train: Floats, holdout: Floats, least: float = LEAST_FACTOR) -> str | None:
    """Describe the change of unit that explains a column's drift; None if there is none.

    The factor is the ratio of the medians of absolute values other than 0, at least `least` or at
    most 1 / `least`. It explains the drift if, divided by it, the holdout is as close to the train
    part as two samples are by chance (Kolmogorov-Smirnov), and was three times as far away before;
    or if it is so large, with so few values in the range of train, that no season or trend explains
    it. Degrees Celsius and Fahrenheit are tried as well.
    """
    a, b = (values[np.isfinite(values)] for values in (train, holdout))
    if min(len(a), len(b)) < LEAST_VALUES or len(np.unique(a)) < 10 or len(np.unique(b)) < 10:
        return None
    distance, by_chance = compare_numbers(a, b, ALPHA)
    chance = by_chance + 0.05
    if distance <= chance:
        return None
    close = min(chance, distance / 3)
    scale, offset = FAHRENHEIT
    by_offset = {
        "Fahrenheit instead of Celsius": (b - offset) / scale,
        "Celsius instead of Fahrenheit": b * scale + offset,
    }
    for words, values in by_offset.items():
        if kolmogorov_smirnov(a, values) <= close:
            return words
    if not (np.any(a) and np.any(b)):
        return None
    sizes, sizes_now = np.abs(a[a != 0]), np.abs(b[b != 0])
    factor = float(np.median(sizes_now) / np.median(sizes))
    ratios = factor, float(np.std(b) / np.std(a))
    is_far = min(ratios) >= FAR_RATIO or max(ratios) <= 1 / FAR_RATIO
    is_far = is_far and kolmogorov_smirnov(sizes, sizes_now) >= SEPARATE_DISTANCE
    explained = not 1 / least < factor < least and kolmogorov_smirnov(a, b / factor) <= close
    return f"{float(f'{factor:.3g}'):g} times" if is_far or explained else None


def units(train: pd.DataFrame, holdout: pd.DataFrame) -> Iterator[ComparisonFinding]:
    """Numeric columns whose values in the holdout are those of another unit."""
    for name in train.select_dtypes("number").columns:
        a, b = (part[name].to_numpy(dtype=np.float64, na_value=np.nan) for part in (train, holdout))
        if words := unit_factor(a, b):
            text = (
                f"{name} in the holdout looks like that of the train part in another unit: {words}"
            )
            yield ComparisonFinding(str(name), text, True)


def target_unit(train: Floats, holdout: Floats) -> ComparisonFinding | None:
    """A numeric target of another unit, or out of the range that the train part has."""
    if words := unit_factor(train, holdout, LEAST_TARGET_FACTOR):
        return ComparisonFinding(
            "target", f"the target in the holdout is {words} that of train", True
        )
    beyond = float(((holdout < train.min()) | (holdout > train.max())).mean())
    limit = share_limit(MAX_BEYOND, len(holdout))
    text = (
        f"{beyond:.1%} of the holdout's targets lie outside the {train.min():.4g} to "
        f"{train.max():.4g} of the train part, limit {limit:.1%}"
    )
    return ComparisonFinding("target", text, True) if beyond > limit else None


def new_category_limits(train: pd.DataFrame, rows: int) -> dict[str, float]:
    """Column → share of a holdout of `rows` that may have categories the train part has not.

    That a next row has an unseen value has the probability of the share of values seen once (Good,
    1953, The population frequencies of species, eq. 9).
    """
    limits = {}
    for name in train.columns:
        counts = train[name].value_counts()
        unseen = float((counts == 1).sum()) / max(int(counts.sum()), 1)
        limits[str(name)] = share_limit(max(unseen, MAX_NEW), rows)
    return limits


def nearly_constant(train: pd.DataFrame, rows: int) -> list[str]:
    """Columns of which so few rows may well have one value only, though train has others."""
    names = []
    for name in train.columns:
        shares = train[name].value_counts(normalize=True, dropna=False)
        if len(shares) > 1 and float(shares.iloc[0]) ** rows >= ALPHA:
            names.append(str(name))
    return names


class PartComparison(NamedTuple):
    """Comparison of the full parts, before deepchecks gets samples of them."""

    copies: ComparisonFinding
    missing: list[ComparisonFinding]
    units: list[ComparisonFinding]
    targets: list[ComparisonFinding]
    """Findings on numeric targets out of range or in another unit."""
    new_categories: dict[str, float]
    """Categorical column → share of new categories that the holdout may have."""
    nearly_constant: list[str]
    levels: int
    """Most categories of a column, or classes."""
    duplicates: dict[str, float]
    """Part → share of its rows that equal another one before them, in every column."""
    conflicts: dict[str, float]
    """Part → share of its rows with equal features and another label; classification only."""


def compare_parts(
    train: PredictedPart,
    holdout: PredictedPart,
    task: TaskKind,
    categorical: Sequence[str],
    rows: int,
) -> PartComparison:
    """Compare the features and the target of both parts.

    Args:
        categorical: features that are categories.
        rows: the holdout's rows that deepchecks looks at.
    """
    parts = [part.features.assign(**{"(target)": part.truth}) for part in (train, holdout)]
    names = [name for name in train.features if name in categorical]
    target = target_unit(train.truth, holdout.truth) if task in ("regression", "count") else None
    counts = [train.features[name].nunique() for name in names]
    if task in ("binary", "multiclass"):
        counts.append(len(np.unique(train.truth)))
    parts_by_name = {"train": train, "holdout": holdout}
    return PartComparison(
        copies=copies(*parts),
        missing=list(missing(train.features, holdout.features)),
        units=list(units(train.features, holdout.features)),
        targets=[target] if target else [],
        new_categories=new_category_limits(train.features[names], rows),
        nearly_constant=nearly_constant(train.features, rows),
        levels=max(counts, default=0),
        duplicates={name: duplicated(part) for name, part in parts_by_name.items()},
        conflicts={
            name: conflicting(part)
            for name, part in parts_by_name.items()
            if task in ("binary", "multiclass")
        },
    )
