"""Limits of a window's distances with a known rate of false alarms over all of them together.

The reference is resampled in blocks, in pairs: one draw of its own size, one of the size of the
window at hand. The distances of the pairs are what chance makes where nothing has changed. Each
distance is put in its own standard deviations over the pairs, and the largest of a pair counts: its
quantile is one limit for all, which knows how the columns hang together (the max-T of Westfall and
Young, Resampling-Based Multiple Testing, 1993; for blocks Romano and Wolf, Econometrica 73, 2005).
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import scipy  # scipy loads `stats`, which takes a second, when it is used
from numpy.typing import NDArray

from lifecycle.monitoring.blocks import ResamplingCells
from lifecycle.monitoring.sketch import BINS, Codes, Floats, NumericSketch, Sketch

Weights = NDArray[np.float32]

Item = TypeVar("Item")

TOGETHER = 16
"""Measures that are counted with one product of matrices."""
COUNTED_TOGETHER = 1 << 17
"""Cells drawn that are counted at once: in the processor's cache it takes a third of the time."""
BEYOND = 10
"""Pairs of draws that are beyond the limit: it is the quantile that so many exceed."""
SIGHT_RESAMPLES = 300
"""Pairs for the power: a share of 90 % of them is known to 1.7 points."""
SIGHT = 0.9
"""How surely a shift has to be found for the report to say that it would have been seen."""
SHIFTS = (0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.5, 0.6, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0)
"""Shifts in standard deviations that are tried, of which the smallest found is told."""


@dataclass(frozen=True)
class Measure:
    """One distance of the family: of a column, in all rows or in a slice."""

    sketch: Sketch
    codes: Codes
    """(r,): bins of the rows that resamples are drawn from; -1 where a row does not count."""
    reference_rows: int
    """Rows of the whole reference that count, of `Draws.reference_rows`."""
    current_rows: int
    values: Floats | None = None
    """(r,): the values themselves, of a number whose shifts are tried."""


class Draws:
    """Pairs of draws from the reference, as weights of its cells; the same for all measures.

    Args:
        alpha: how rarely any distance may be beyond its limit by chance.
    """

    def __init__(
        self, cells: ResamplingCells, rows: tuple[int, int], alpha: float, rng: np.random.Generator
    ) -> None:
        self.alpha = alpha
        self.reference_rows, self.current_rows = rows
        self.count = math.ceil(BEYOND / alpha)
        self._cells = cells
        size = cells.reference_blocks * cells.per_block
        self._reference = _runs(rng, cells, size, cells.per_block, self.count)
        self._current = _runs(rng, cells, cells.window_cells, cells.per_piece, self.count)

    def limits(self, measures: Sequence[Measure]) -> Floats:
        """Distance of each measure that chance exceeds, with any of the others, in `alpha`."""
        columns: list[Floats] = []
        for part in _parts(measures):
            counted = [(measure.codes, measure.sketch.bins) for measure in part]
            sides = zip(
                part,
                self._shares(self._reference, counted),
                self._shares(self._current, counted),
                strict=True,
            )
            columns += [measure.sketch.distances(*pair) for measure, *pair in sides]
        distances = np.stack(columns, axis=1).astype(np.float64)
        centre, spread = distances.mean(axis=0), distances.std(axis=0)
        standardised = (distances - centre) / np.where(spread > 0, spread, 1)
        largest = np.sort(standardised.max(axis=1))
        limit = float(largest[min(math.ceil((self.count + 1) * (1 - self.alpha)), self.count) - 1])
        sizes = np.array(
            [self._size(measure) * self._beyond_blocks(measure) for measure in measures]
        )
        few = _few_blocks(self._cells.reference_blocks, self.alpha / len(measures))
        bound: Floats = (centre + limit * spread) * sizes * few
        return bound

    def visible(self, measures: Sequence[Measure], limits: Sequence[float]) -> list[float | None]:
        """Smallest shift of each number, in standard deviations, found in 90 % of the draws.

        None for what has few values, and where even the largest shift is not found so often.

        Args:
            limits: distance from which a measure alarms.
        """
        shifts: list[float | None] = [None] * len(measures)
        numbers = [at for at, measure in enumerate(measures) if _is_shiftable(measure)]
        for part in _parts(numbers):
            tried = [(measures[at], limits[at]) for at in part]
            for at, shift in zip(part, self._smallest_shifts(tried), strict=True):
                shifts[at] = shift
        return shifts

    def _smallest_shifts(self, tried: Sequence[tuple[Measure, float]]) -> list[float | None]:
        """Search the shifts of all measures at once, halving what is left of each in a round."""
        counted = [(measure.codes, measure.sketch.bins) for measure, _ in tried]
        reference = self._shares(self._reference[:SIGHT_RESAMPLES], counted)
        low, high = [0] * len(tried), [len(SHIFTS)] * len(tried)
        while any(least < most for least, most in zip(low, high, strict=True)):
            middle = [(least + most) // 2 for least, most in zip(low, high, strict=True)]
            shifted = [
                _shifted(measure, SHIFTS[min(at, len(SHIFTS) - 1)])
                for (measure, _), at in zip(tried, middle, strict=True)
            ]
            counted = [(codes, bins) for codes, bins, _ in shifted]
            current = self._shares(self._current[:SIGHT_RESAMPLES], counted)
            for at, (measure, limit) in enumerate(tried):
                if low[at] == high[at]:
                    continue
                distances = measure.sketch.distances(reference[at], current[at])
                distances = np.maximum(distances, shifted[at][2])
                if (distances > limit / self._size(measure)).mean() >= SIGHT:
                    high[at] = middle[at]
                else:
                    low[at] = middle[at] + 1
        return [SHIFTS[at] if at < len(SHIFTS) else None for at in low]

    def _shares(
        self, weights: Weights, counted: Sequence[tuple[Codes, int]]
    ) -> list[NDArray[np.float32]]:
        """Share of each bin in each draw, (draws, bins) for each of several codes (r,)."""
        cells = self._cells
        counts = []
        for codes, bins in counted:
            at = (cells.cell * bins + codes)[codes >= 0]
            counts.append(np.bincount(at, minlength=cells.count * bins).reshape(-1, bins))
        sums = weights @ np.concatenate(counts, axis=1).astype(np.float32)
        ends = np.cumsum([bins for _, bins in counted])[:-1]
        parts = np.split(sums, ends, axis=1)
        return [part / np.maximum(part.sum(axis=1, keepdims=True), 1e-9) for part in parts]

    def _beyond_blocks(self, measure: Measure) -> float:
        """Return how much wider the limit is for what hangs together across the ends of blocks.

        The variance V(l) of blocks of l rows lacks a part that goes with 1/l, so that
        2 V(l) - V(l/2) lacks none (Politis and Romano, Journal of Time Series Analysis 16, 1995).
        A window of k blocks in a row lacks 1/k of that part rightly.
        """
        half = self._cells.half
        if half is None:
            return 1.0
        bins = measure.sketch.bins
        long, short = (_variance(measure.codes, bins, blocks) for blocks in (half // 2, half))
        if long <= 0:
            return 1.0
        missing = min(max(1 - short / long, 0.0), 1.0)
        blocks = self._cells.window_cells / self._cells.per_block
        sides = (1 / self.current_rows, 1 / self.reference_rows)
        shares = (1 - 1 / max(blocks, 1), 1 - 1 / self._cells.reference_blocks)
        added = sum(side * share for side, share in zip(sides, shares, strict=True)) / sum(sides)
        return math.sqrt(1 + missing * added)

    def _size(self, measure: Measure) -> float:
        """Return how much wider the limit is where the window has fewer rows of it than drawn.

        A distance by chance goes with √(1/n + 1/m).
        """
        n, m = measure.current_rows, measure.reference_rows
        drawn = self.current_rows * m / self.reference_rows
        return math.sqrt((1 / max(n, 1) + 1 / max(m, 1)) / (1 / max(drawn, 1) + 1 / max(m, 1)))


def _variance(codes: Codes, bins: int, block: NDArray[np.intp]) -> float:
    """Variance of the blocks' counts of all bins, per row."""
    counted = codes >= 0
    count = int(block[-1]) + 1
    at = block[counted] * bins + codes[counted]
    counts = np.bincount(at, minlength=count * bins).reshape(count, bins)
    below = np.cumsum(counts, axis=1)
    return float(below.var(axis=0).sum()) * count / len(codes)


def _parts(items: Sequence[Item]) -> Iterator[Sequence[Item]]:
    """Cut what is counted at once: one product of matrices for several measures is faster."""
    for start in range(0, len(items), TOGETHER):
        yield items[start : start + TOGETHER]


def _is_shiftable(measure: Measure) -> bool:
    """Judge whether a shift means something: of a few repeated values the smallest would show."""
    values = measure.values
    return (
        isinstance(measure.sketch, NumericSketch)
        and values is not None
        and len(np.unique(values[~np.isnan(values)])) > BINS
    )


def _shifted(measure: Measure, shift: float) -> tuple[Codes, int, float]:
    """Bins of the rows after a shift, how many bins there are, and what lies beyond all."""
    sketch, values = measure.sketch, measure.values
    assert isinstance(sketch, NumericSketch) and values is not None  # noqa: S101, PT018 - a number's
    moved = values + shift * sketch.scale
    codes = np.where(measure.codes < 0, -1, sketch.codes(moved)).astype(np.int16)
    return codes, sketch.bins, sketch.overshoot(moved)


def _runs(
    rng: np.random.Generator, cells: ResamplingCells, size: float, length: int, resamples: int
) -> Weights:
    """How often each cell is in each of the draws (resamples, cells) of runs of cells.

    Args:
        size: cells of a draw.
        length: cells of a run.
    """
    length = min(length, cells.count)
    if length == 1:
        return _weights(rng, size, cells.count, resamples)
    if not cells.overlaps:
        runs = _weights(rng, size / length, -(-cells.count // length), resamples)
        return np.repeat(runs, length, axis=1)[:, : cells.count]
    starts = _weights(rng, size / length, cells.count, resamples)
    sums = np.cumsum(np.concatenate([starts[:, 1 - length :], starts], axis=1), axis=1)
    sums[:, length:] -= sums[:, :-length].copy()
    weights: Weights = np.maximum(sums[:, length - 1 :], 0)  # a part of a run leaves rounding
    return weights


def _weights(rng: np.random.Generator, count: float, cells: int, resamples: int) -> Weights:
    """How often each cell is in each of the draws (resamples, cells) of `count` cells.

    A part of a cell is a cell with a smaller weight. For many draws from each cell their numbers
    are nearly independent (the Poisson bootstrap).
    """
    cells_drawn = max(1, int(count))
    if cells_drawn > 4 * cells:
        return rng.poisson(count / cells, (resamples, cells)).astype(np.float32)
    weights = np.empty((resamples, cells), dtype=np.float32)
    step = max(1, COUNTED_TOGETHER // max(cells_drawn, cells))
    for first in range(0, resamples, step):
        part = weights[first : first + step]
        drawn = rng.integers(0, cells, (len(part), cells_drawn))
        drawn += cells * np.arange(len(part))[:, None]
        part[:] = np.bincount(drawn.ravel(), minlength=part.size).reshape(part.shape)
    if (fraction := count - cells_drawn) > 0:
        weights[np.arange(resamples), rng.integers(0, cells, resamples)] += np.float32(fraction)
    return weights


def _few_blocks(blocks: float, tail: float) -> float:
    """Return how much wider a limit is for what few blocks say of their own spread.

    Their standard deviation has `blocks` - 1 degrees of freedom, as Student's t has it.
    """
    freedom = max(blocks - 1, 1.0)
    student, normal = (
        float(quantile)
        for quantile in (
            scipy.stats.t.isf(tail / 2, freedom),
            scipy.stats.norm.isf(tail / 2),
        )
    )
    return student / normal * math.sqrt(1 + 1 / freedom)
