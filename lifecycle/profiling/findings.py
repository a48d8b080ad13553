"""Findings of a profile, one sentence each, the most serious first."""

from collections.abc import Iterator

from lifecycle.profiling.bars import short
from lifecycle.profiling.record import ColumnProfile, Finding, Summary

CLOSE = 0.9
"""From here on two columns say nearly the same."""
MOSTLY = 0.5
OUTLIERS = 0.01
RARE = 0.05
MAX_NAMES_SHOWN = 8
NAMES = {"number": "numbers", "time": "times", "category": "categories", "text": "text"}
ORDER = ("bad", "warn", "plain")


def findings(summary: Summary) -> tuple[Finding, ...]:
    """Findings of a profile that is complete otherwise."""
    if not summary.rows:
        return (Finding(tone="bad", text="There are no rows."),)
    results = [
        *_leakage(summary),
        *_target(summary),
        *_columns(summary),
        *_rows(summary),
        *_drifted(summary),
        *_close(summary),
    ]
    return tuple(sorted(results, key=lambda finding: ORDER.index(finding.tone)))


def _leakage(summary: Summary) -> Iterator[Finding]:
    roles = {column.name: column.role for column in summary.columns}
    names = set()
    for name, reason in summary.suspects.items():
        if reason in names:  # two columns whose sum is the target share one reason
            continue
        names.add(reason)
        if roles[name] in ("input", ""):
            text = (
                f"{short(name)}: {reason}. Is it known before the target is? If not, it is leakage."
            )
            yield Finding(tone="bad", text=text)
        else:
            text = f"{short(name)}: {reason}; it is {roles[name]} and no feature."
            yield Finding(tone="plain", text=text)


def _target(summary: Summary) -> Iterator[Finding]:
    target = next((column for column in summary.columns if column.role == "target"), None)
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
        ("constant", [column for column in columns if column.constant and column.role != "target"]),
        (
            "missing in more than half the rows",
            [column for column in columns if column.missing_share > MOSTLY and not column.constant],
        ),
        ("with infinite values, left out here", [column for column in columns if column.infinite]),
        (
            "with more than 1 % of the values far out (beyond three interquartile ranges)",
            [column for column in columns if (column.outliers or 0) > OUTLIERS],
        ),
    ]
    for problem, findings_of_group in groups:
        if findings_of_group:
            tone = "plain" if problem.startswith("with more") else "warn"
            yield Finding.model_validate(
                {"tone": tone, "text": f"{_names(findings_of_group)}: {problem}."}
            )
    for column in columns:
        if column.misfits:
            cells = f"{column.misfits:,} of {summary.rows:,} cells"
            be = "is not, and counts" if column.misfits == 1 else "are not, and count"
            text = f"{short(column.name)}: {NAMES[column.kind]}, but {cells} {be} as missing."
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
    columns = [column for column in summary.columns if column.drift and column.drift.drifted]
    if columns:
        by_distance = sorted(
            columns, key=lambda column: -column.drift.statistic if column.drift else 0.0
        )
        yield Finding(
            tone="warn", text=f"Drifted against {summary.against}: {_names(by_distance)}."
        )


def _close(summary: Summary) -> Iterator[Finding]:
    excluded = {summary.target, *(pair.name for pair in summary.columns if pair.role == "leakage")}
    close = [
        pair
        for pair in summary.pairs
        if abs(pair.value) >= CLOSE and not {pair.first, pair.second} & excluded
    ]
    if close:
        few = [
            f"{short(pair.first)} and {short(pair.second)} ({pair.value:.2f})" for pair in close[:3]
        ]
        more = f" and {len(close) - 3} more pairs" if len(close) > 3 else ""
        yield Finding(tone="plain", text=f"Say nearly the same: {', '.join(few)}{more}.")


def _names(columns: list[ColumnProfile]) -> str:
    names = ", ".join(short(column.name) for column in columns[:MAX_NAMES_SHOWN])
    return names + (
        f" and {len(columns) - MAX_NAMES_SHOWN} more" if len(columns) > MAX_NAMES_SHOWN else ""
    )
