"""Gaps between the groups of a protected attribute, with confidence intervals.

All measures are taken on the same bootstrap resamples. The interval of a gap holds for every pair
of groups at once, because among many groups some two differ by chance. It is the single-step
interval of all pairwise differences (Hothorn, Bretz and Westfall, 2008), with the quantile taken
from the resamples (Romano and Wolf, 2005). The largest gap may thus be picked after the fact.
"""

from collections.abc import Callable, Sequence
from statistics import NormalDist
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lifecycle.features.encode import Floats
from lifecycle.project import Project
from lifecycle.records import Gap
from lifecycle.training.evaluation.evaluate import CONFIDENCE, Own, resamples
from lifecycle.training.evaluation.metrics import Integers, family_of, family_of_own
from lifecycle.training.evaluation.slices import RowGroup

ONE_PAIR = NormalDist().inv_cdf((1 + CONFIDENCE) / 2)
"""How many standard errors the interval of a single difference reaches."""
Measured = Callable[[Integers], Floats]
"""How often each row counts (n,) → one number for each group (groups,); NaN if undefined."""


class _Rates(NamedTuple):
    """One number for each group: a share of rows, or the deciding metric."""

    name: str
    """What it is called where a measure has several."""
    measure: Measured
    least_error: Floats
    """(groups,): no standard error is below it: none of 5 is not known to be none of all."""
    largest: float
    """No difference is above it."""


def fairness_gaps(
    parts: Sequence[RowGroup],
    truth: Floats,
    prediction: Floats,
    entity: NDArray[Any] | None,
    project: Project,
    own: Own,
    threshold: float | None = None,
) -> tuple[Gap, ...]:
    """The largest difference between the groups of each protected attribute, by several measures.

    For every task the difference of the deciding metric. For binary also, as fairlearn defines
    them, the demographic parity difference (Agarwal et al., 2018), the equal opportunity difference
    and the equalized odds difference (Hardt et al., 2016): the difference of the true positive
    rate, and the larger one of those of true and false positive rate.

    Groups with fewer than `evaluation.min_rows` rows are left out.

    Args:
        parts: what `slices.parts_of` says.
        threshold: binary: the probability from which a row counts as positive; None is 0.5.
    """
    chosen = prediction >= (0.5 if threshold is None else threshold)
    groups = {
        attribute: [
            part
            for part in parts
            if part.by == attribute and part.mask.sum() >= project.evaluation.min_rows
        ]
        for attribute in project.protected
    }
    groups = {attribute: masks for attribute, masks in groups.items() if len(masks) > 1}
    if not groups:
        return ()
    rates = {
        attribute: _all_rates(masks, truth, prediction, chosen, project, own, threshold)
        for attribute, masks in groups.items()
    }
    every = [group for several in rates.values() for group in several]
    ones_row = np.ones(len(truth), dtype=np.int64)
    values = [group.measure(ones_row) for group in every]
    drawn: list[list[Floats]] = [[] for _ in every]
    for weights in resamples(len(truth), project.split.seed, entity):
        for sample, group in zip(drawn, every, strict=True):
            sample.append(group.measure(weights))
    gaps: list[Gap] = []
    sampled = iter(zip(values, map(np.array, drawn), strict=True))
    for attribute, several in rates.items():
        names = [part.value for part in groups[attribute]]
        pairs = [_pairs(group, *next(sampled)) for group in several]
        metric, *shares = pairs
        gaps += _gap(attribute, f"{project.metric} difference", names, metric)
        if shares:
            selected, right, wrong = shares
            gaps += _gap(attribute, "demographic parity difference", names, selected)
            gaps += _gap(attribute, "equal opportunity difference", names, right)
            gaps += _gap(attribute, "equalized odds difference", names, [*right, *wrong], True)
    return tuple(gaps)


def _all_rates(
    groups: Sequence[RowGroup],
    truth: Floats,
    prediction: Floats,
    chosen: NDArray[np.bool_],
    project: Project,
    own: Own,
    threshold: float | None,
) -> list[_Rates]:
    """The deciding metric; for binary also the shares predicted positive of all, of the positive
    and of the negative rows.
    """
    metric = project.metric
    family = (
        family_of_own(metric, own[metric])
        if metric in own
        else family_of(metric, project.task, threshold)
    )
    at = family.names.index(metric)
    measures = [family.prepare(truth[part.mask], prediction[part.mask]) for part in groups]

    def measured(weights: Integers) -> Floats:
        of_group = (weights[part.mask] for part in groups)
        return np.array(
            [
                measure(rates)[at] if rates.any() else np.nan
                for measure, rates in zip(measures, of_group, strict=True)
            ]
        )

    rates = [_Rates("", measured, np.zeros(len(groups)), np.inf)]
    if project.task == "binary":
        everyone = np.ones(len(truth), dtype=bool)
        rates += [
            _shares("", groups, everyone, chosen),
            _shares("true positive rate", groups, truth == 1, chosen),
            _shares("false positive rate", groups, truth == 0, chosen),
        ]
    return rates


def _shares(
    name: str, groups: Sequence[RowGroup], of: NDArray[np.bool_], chosen: NDArray[np.bool_]
) -> _Rates:
    """The share of rows predicted positive, among those that `of` selects.

    Its least error is that of Agresti and Coull (1998), with two rows of either kind more.
    """
    cells = np.full(len(of), 2 * len(groups))  # what is in no group is counted last
    for at, part in enumerate(groups):
        cells[part.mask & of] = 2 * at
    cells[chosen & (cells < 2 * len(groups))] += 1

    def counted(weights: Integers) -> NDArray[Any]:
        counts = np.bincount(cells, weights, 2 * len(groups) + 1)[:-1]
        return counts.reshape(-1, 2).T  # not chosen and chosen, (groups,) each

    def measure(weights: Integers) -> Floats:
        others, selected = counted(weights)
        rows = others + selected
        empty = np.full(len(rows), np.nan)
        shares: Floats = np.divide(selected, rows, out=empty, where=rows > 0)
        return shares

    others, selected = counted(np.ones(len(of), dtype=np.int64))
    smooth = (selected + 2) / (others + selected + 4)
    least = np.sqrt(smooth * (1 - smooth) / (others + selected + 4))
    return _Rates(name, measure, least, 1.0)


def _gap(
    attribute: str,
    measure: str,
    names: Sequence[str],
    pairs: Sequence["_Pair"],
    rated: bool = False,
) -> list[Gap]:
    """The largest difference of all pairs; nothing with fewer than two groups that have one.

    Args:
        rated: whether the measure's name says which rate it is.
    """
    if not pairs:
        return []
    differences = np.array([pair.difference for pair in pairs])
    errors = np.array([pair.error for pair in pairs])
    deviations = np.array([pair.deviations for pair in pairs])
    furthest = deviations[:, np.isfinite(deviations).any(axis=0)]
    widest = pairs[int(differences.argmax())]
    low, high = 0.0, widest.rates.largest  # where no resample has the rates
    if furthest.size:
        reach = float(np.quantile(np.nanmax(furthest, axis=0), CONFIDENCE))
        reach = max(reach, ONE_PAIR)  # less is no certainty but a rate that never varies
        low = float((differences - reach * errors).max())
        high = float((differences + reach * errors).max())
    return [
        Gap(
            attribute=attribute,
            measure=f"{measure} ({widest.rates.name})" if rated else measure,
            value=widest.difference,
            lowest=names[widest.lowest],
            highest=names[widest.highest],
            low=min(max(low, 0.0), widest.difference),
            high=min(max(high, widest.difference), widest.rates.largest),
        )
    ]


class _Pair(NamedTuple):
    """Two groups."""

    rates: _Rates
    difference: float
    """Of the whole part: highest minus lowest, 0 or more."""
    error: float
    """Its standard error."""
    deviations: Floats
    """(resamples,): how far each is from it, in standard errors; NaN where it is undefined."""
    lowest: int
    highest: int


def _pairs(rates: _Rates, values: Floats, drawn: Floats) -> list[_Pair]:
    """Every two groups that have a value.

    Args:
        values: (groups,)
        drawn: (resamples, groups)
    """
    defined = np.flatnonzero(np.isfinite(values))
    order = defined[np.argsort(values[defined], kind="stable")]
    pairs: list[_Pair] = []
    for place, lowest in enumerate(order):
        for highest in order[place + 1 :]:
            difference = float(values[highest] - values[lowest])
            differences = drawn[:, highest] - drawn[:, lowest]
            finite = differences[np.isfinite(differences)]
            spread = float(finite.std(ddof=1)) if len(finite) > 1 else 0.0
            least = float(np.hypot(rates.least_error[lowest], rates.least_error[highest]))
            error = max(spread, least)
            deviation = (
                np.abs(differences - difference) / error if error else np.zeros(len(differences))
            )
            pairs.append(_Pair(rates, difference, error, deviation, int(lowest), int(highest)))
    return pairs
