"""What to look at first, in a sentence each, the worst on top."""

from collections.abc import Iterator

from lifecycle.profiling.bars import short
from lifecycle.profiling.record import ColumnProfile, Finding, Summary

CLOSE = 0.9
"""From here on two columns say nearly the same."""
MOSTLY = 0.5
OUTLIERS = 0.01
RARE = 0.05
SHOWN = 8
NAMES = {"number": "numbers", "time": "times", "category": "categories", "text": "text"}
ORDER = ("bad", "warn", "plain")


def findings(summary: Summary) -> tuple[Finding, ...]:
    """Findings of a profile that is complete otherwise."""
    if not summary.rows:
        return (Finding(tone="bad", text="There are no rows."),)
    found = [
        *_leakage(summary),
        *_target(summary),
        *_columns(summary),
        *_rows(summary),
        *_drifted(summary),
        *_close(summary),
    ]
    return tuple(sorted(found, key=lambda finding: ORDER.index(finding.tone)))


def _leakage(summary: Summary) -> Iterator[Finding]:
    roles = {column.name: column.role for column in summary.columns}
    told = set()
    for name, why in summary.suspects.items():
        if why in told:  # two columns whose sum is the target share one reason
            continue
        told.add(why)
        if roles[name] in ("input", ""):
            text = f"{short(name)}: {why}. Is it known before the target is? If not, it is leakage."
            yield Finding(tone="bad", text=text)
        else:
            text = f"{short(name)}: {why}; it is {roles[name]} and no feature."
            yield Finding(tone="plain", text=text)


def _target(summary: Summary) -> Iterator[Finding]:
    target = next((one for one in summary.columns if one.role == "target"), None)
    if target is None:
        return
    if target.distinct < 2:
        yield Finding(tone="bad", text=f"The target {short(target.name)} does not vary.")
    if target.missing:
        text = f"The target is missing in {target.missing:,} rows ({target.missing_share:.1%})."
        yield Finding(tone="warn", text=text)
    if summary.task == "binary" and summary.base and not target.hidden:
        share = summary.base[0]
        if min(share, 1 - share) < RARE:
            text = f"The target is rarely its rarer value: {min(share, 1 - share):.2%} of the rows."
            yield Finding(tone="warn", text=text)


def _columns(summary: Summary) -> Iterator[Finding]:
    columns = summary.columns
    groups: list[tuple[str, list[ColumnProfile]]] = [
        ("constant", [one for one in columns if one.constant and one.role != "target"]),
        (
            "missing in more than half the rows",
            [one for one in columns if one.missing_share > MOSTLY and not one.constant],
        ),
        ("with infinite values, left out here", [one for one in columns if one.infinite]),
        (
            "with more than 1 % of the values far out (beyond three interquartile ranges)",
            [one for one in columns if (one.outliers or 0) > OUTLIERS],
        ),
    ]
    for what, found in groups:
        if found:
            tone = "plain" if what.startswith("with more") else "warn"
            yield Finding.model_validate({"tone": tone, "text": f"{_names(found)}: {what}."})
    for one in columns:
        if one.misfits:
            cells = f"{one.misfits:,} of {summary.rows:,} cells"
            be = "is not, and counts" if one.misfits == 1 else "are not, and count"
            text = f"{short(one.name)}: {NAMES[one.kind]}, but {cells} {be} as missing."
            yield Finding(tone="warn", text=text)


def _rows(summary: Summary) -> Iterator[Finding]:
    if summary.duplicates:
        share = summary.duplicates / summary.rows
        rows = "1 row repeats" if summary.duplicates == 1 else f"{summary.duplicates:,} rows repeat"
        text = f"{rows} an earlier row in every column ({share:.1%})."
        yield Finding(tone="warn", text=text)
    if summary.rejected:
        text = f"{summary.rejected:,} rows of the source break the contract and are not in here."
        yield Finding(tone="warn", text=text)
    if summary.periods and (empty := [bar for bar in summary.periods.bars if not bar.rows]):
        text = f"{len(empty)} of {len(summary.periods.bars)} periods between the first and the last"
        yield Finding(tone="warn", text=f"{text} have no rows, such as {empty[0].label}.")


def _drifted(summary: Summary) -> Iterator[Finding]:
    found = [one for one in summary.columns if one.drift and one.drift.drifted]
    if found:
        far = sorted(found, key=lambda one: -one.drift.statistic if one.drift else 0.0)
        yield Finding(tone="warn", text=f"Drifted against {summary.against}: {_names(far)}.")


def _close(summary: Summary) -> Iterator[Finding]:
    aside = {summary.target, *(one.name for one in summary.columns if one.role == "leakage")}
    close = [
        pair
        for pair in summary.pairs
        if abs(pair.value) >= CLOSE and not {pair.first, pair.second} & aside
    ]
    if close:
        few = [f"{short(one.first)} and {short(one.second)} ({one.value:.2f})" for one in close[:3]]
        more = f" and {len(close) - 3} more pairs" if len(close) > 3 else ""
        yield Finding(tone="plain", text=f"Say nearly the same: {', '.join(few)}{more}.")


def _names(columns: list[ColumnProfile]) -> str:
    names = ", ".join(short(one.name) for one in columns[:SHOWN])
    return names + (f" and {len(columns) - SHOWN} more" if len(columns) > SHOWN else "")
