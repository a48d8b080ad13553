"""A row of the table, and how rounds are summed up."""

import statistics
from collections.abc import Sequence
from typing import TypedDict


class Result(TypedDict):
    """One row of results.json; `bar` is an upper limit unless the name says `at least`."""

    name: str
    value: float
    unit: str
    bar: float | None
    holds: bool | None
    detail: str


def ratio(name: str, own: Sequence[float], bare: Sequence[float], bar: float, unit: str) -> Result:
    """Median of the rounds' ratios against an upper bar; the detail gives both medians.

    Args:
        unit: unit and meaning of the two numbers, such as `s of wall time`.
    """
    ratios = [own_value / bare_value for own_value, bare_value in zip(own, bare, strict=True)]
    value = round(statistics.median(ratios), 3)
    detail = (
        f"ours {statistics.median(own):.4g}, bare {statistics.median(bare):.4g} {unit}; median of "
        f"{len(ratios)} interleaved rounds, from {min(ratios):.2f} to {max(ratios):.2f}"
    )
    return Result(name=name, value=value, unit="×", bar=bar, holds=value <= bar, detail=detail)


def limit(name: str, values: Sequence[float], unit: str, bar: float, detail: str) -> Result:
    """Median of the rounds against an upper bar."""
    value = round(statistics.median(values), 5)
    spread = f"{detail}; median of {len(values)} rounds, {min(values):.4g} to {max(values):.4g}"
    return Result(name=name, value=value, unit=unit, bar=bar, holds=value <= bar, detail=spread)


def at_least(name: str, values: Sequence[float], unit: str, bar: float, detail: str) -> Result:
    """Median of the rounds against a lower bar."""
    value = round(statistics.median(values), 3)
    spread = f"{detail}; median of {len(values)} rounds, {min(values):.4g} to {max(values):.4g}"
    name = f"{name} (at least)"
    return Result(name=name, value=value, unit=unit, bar=bar, holds=value >= bar, detail=spread)


def information(name: str, values: Sequence[float], unit: str, detail: str) -> Result:
    """A median without a bar."""
    value = round(statistics.median(values), 3)
    return Result(name=name, value=value, unit=unit, bar=None, holds=None, detail=detail)
