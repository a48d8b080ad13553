"""Blocks of rows that are drawn together when the reference is resampled.

Rows of one entity, or next to each other in time, may be alike: resampled one by one, they would
make the limits too narrow. So what is drawn is whole entities, or runs of rows in time that overlap
(Künsch, Annals of Statistics 17, 1989; in a circle: Politis and Romano 1992). Runs side by side say
less: a window as long as a run would be one of as few as there are.
"""

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from lifecycle.profiling.compare import independent_rows

MAX_CELLS = 2048
"""Blocks that the resamples are drawn from: of a larger reference, so many by chance."""
MAX_OVERLAP = 8
"""Cells of a run: the next begins a cell later. As many as `MAX_CELLS` allows."""
MIN_BLOCKS = 50
"""A reference is cut into at least so many runs of rows: fewer say little of how runs differ."""
SERIES_ROWS = 1 << 16
"""Rows in a row that the length of blocks is read off."""


@dataclass(frozen=True)
class ResamplingCells:
    """Rows of the reference in cells, and how many of these the two windows amount to.

    The reference is drawn in blocks, some cells in a row; the current window in pieces, which are
    shorter if it is shorter than a block.
    """

    rows: NDArray[np.intp]
    """(r,): the rows that resamples are drawn from."""
    cell: NDArray[np.intp]
    """(r,): the cell of each."""
    count: int
    per_block: int
    per_piece: int
    reference_blocks: float
    window_cells: float
    words: str
    """What is drawn, for the report."""
    overlaps: bool = False
    """Whether a block or a piece begins in any cell; else where the one before ends."""
    half: NDArray[np.intp] | None = None
    """(r,): which half of a block in time each row is in; None where blocks have no order."""


def cells_of_rows(
    reference_rows: int,
    window_rows: int,
    length: int,
    order: NDArray[np.intp] | None,
    rng: np.random.Generator,
) -> ResamplingCells:
    """Cut the reference into cells, of which runs of `length` rows in time are made.

    Args:
        order: the reference's rows (m,) in the order of time; None for the order they have.
    """
    length = max(1, min(length, reference_rows // 2))
    piece_rows = min(length, window_rows)
    pieces = -(-length // piece_rows)
    blocks = max(1, reference_rows // (pieces * piece_rows))
    cell_rows = -(-piece_rows // max(1, min(MAX_OVERLAP, MAX_CELLS // (blocks * pieces))))
    per_piece = piece_rows // cell_rows
    per_block = pieces * per_piece
    block_rows = per_block * cell_rows
    blocks = max(1, reference_rows // block_rows)
    count = min(blocks, max(2, MAX_CELLS // per_block))
    drawn = (
        np.sort(rng.choice(blocks, count, replace=False)) if count < blocks else np.arange(blocks)
    )
    at = (drawn[:, None] * block_rows + np.arange(block_rows)).ravel()
    at = at[at < reference_rows]
    return ResamplingCells(
        rows=at if order is None else order[at],
        cell=np.arange(len(at)) // cell_rows,
        count=-(-len(at) // cell_rows),
        per_block=per_block,
        per_piece=per_piece,
        reference_blocks=reference_rows / block_rows,
        window_cells=window_rows / cell_rows,
        words="single rows" if length == 1 else f"runs of {length:,} rows in time",
        overlaps=count == blocks and per_block > 1,
        half=None if length == 1 else (2 * np.arange(len(at))) // block_rows,
    )


def cells_of_entities(
    reference: NDArray[np.object_], current: NDArray[np.object_], rng: np.random.Generator
) -> ResamplingCells:
    """Make each entity of the reference a cell.

    Where the current window has fewer rows of an entity than the reference, as many of each are
    drawn. The current window amounts to as many entities as its rows have an effective number of
    (`independent_rows`), so that one entity with half of the rows makes the limits wide.
    """
    codes, entities = pd.factorize(reference, use_na_sentinel=False)
    rows = np.arange(len(codes))
    if len(entities) > MAX_CELLS:
        drawn = np.full(len(entities), -1)
        drawn[rng.choice(len(entities), MAX_CELLS, replace=False)] = np.arange(MAX_CELLS)
        rows, codes = rows[drawn[codes] >= 0], drawn[codes[drawn[codes] >= 0]]
    most = math.ceil(len(current) / len(pd.unique(current)))
    if np.bincount(codes).max() > most:
        mixed = rng.permutation(len(codes))
        rank = pd.Series(codes[mixed]).groupby(codes[mixed]).cumcount().to_numpy()
        sample = np.sort(mixed[rank < most])
        rows, codes = rows[sample], codes[sample]
    sizes = np.bincount(codes).astype(np.float64)
    inequality = float((sizes**2).mean() / sizes.mean() ** 2)
    return ResamplingCells(
        rows=rows,
        cell=codes,
        count=len(sizes),
        per_block=1,
        per_piece=1,
        reference_blocks=len(entities),
        window_cells=max(1.0, independent_rows(current, len(current)) * inequality),
        words="whole entities",
    )


def block_length(series: NDArray[np.floating]) -> int:
    """Length of blocks that keeps the dependence of rows in time: the longest over the columns.

    Politis and White (Econometric Reviews 23, 2004) with the correction of Patton, Politis and
    White (28, 2009), for circular blocks: the autocorrelations up to where they are no more than
    chance, under a flat-top window, make the length that estimates the mean's variance best.

    Args:
        series: bins of the reference's rows in the order of time (m, k).
    """
    rows = len(series)
    most = min(math.ceil(3 * math.sqrt(rows)), rows // MIN_BLOCKS)
    if most < 2:
        return 1
    start = max(0, (rows - SERIES_ROWS) // 2)
    part = series[start : start + SERIES_ROWS]
    lengths = [_length(part[:, at]) for at in range(part.shape[1])]
    return max(1, round(min(most, max(lengths, default=1.0))))


def _length(values: NDArray[np.floating]) -> float:
    rows = len(values)
    centred = values - values.mean()
    if not centred.any():
        return 1.0
    padded = 1 << (2 * rows - 1).bit_length()
    spectrum = np.abs(np.fft.rfft(centred, padded)) ** 2
    within = max(5, math.ceil(math.sqrt(math.log10(rows))))
    most = math.ceil(math.sqrt(rows)) + within
    covariances = np.fft.irfft(spectrum, padded)[: most + within + 1] / rows
    small = np.abs(covariances[1:] / covariances[0]) < 2 * math.sqrt(math.log10(rows) / rows)
    runs = np.convolve(small, np.ones(within, dtype=int), "valid") == within
    significant = int(np.argmax(runs)) if runs.any() else most
    window = min(2 * max(significant, 1), most)
    lags = np.arange(1, window + 1)
    flat_top = np.clip(2 * (1 - lags / window), 0, 1)
    weighted = flat_top * covariances[1 : window + 1]
    slope = 2 * float((lags * weighted).sum())
    level = float(covariances[0] + 2 * weighted.sum())
    if significant == 0 or slope == 0:
        return 1.0
    if level <= 0:
        return math.inf
    return float((2 * slope**2 / (4 / 3 * level**2)) ** (1 / 3) * rows ** (1 / 3))
