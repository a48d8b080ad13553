"""The data contract: every row keeps it, or goes to quarantine with all its reasons.

Cells are brought to their types first (`coerce`); what the rows then hold is checked by pandera,
lazily, so that one pass finds everything.
"""

import difflib
import warnings
from datetime import datetime
from typing import NamedTuple

import numpy as np
import pandas as pd
import pandera.pandas as pa
from numpy.typing import NDArray
from pandera.errors import SchemaErrors

from lifecycle.data.coerce import FAILURES, coerce, narrow, storage_type
from lifecycle.errors import ContractError
from lifecycle.specs import ColumnSpec, ContractSpec, FreshnessSpec

MISSING = "missing"
SEPARATOR = "; "


class Checked(NamedTuple):
    """Every row of a frame is in one of the two."""

    accepted: pd.DataFrame
    """Typed as the contract says, its columns only, index 0..n-1; to be read only, since a column
    that had its type already is the raw frame's."""
    rejected: pd.DataFrame
    """`row` (its number in the source, the first is 1), `reasons` (joined by `; `), `record` (the
    raw row as JSON)."""


def check_columns(frame: pd.DataFrame, contract: ContractSpec) -> None:
    """See that the frame has the contract's columns.

    Raises:
        ContractError: a column is missing, or there is one more and the contract refuses extras.
    """
    have = [str(name) for name in frame.columns]
    missing = []
    for name in contract.columns:
        if name not in have:
            close = difflib.get_close_matches(name, have, n=1)
            missing.append(f"{name!r}" + (f" (did you mean {close[0]!r}?)" if close else ""))
    if missing:
        raise ContractError(
            f"contract.columns: the source has no column {', '.join(missing)}; it has: "
            f"{', '.join(have[:40])}{' …' if len(have) > 40 else ''}"
        )
    extra = [name for name in have if name not in contract.columns]
    if extra and contract.extra_columns == "refuse":
        raise ContractError(
            f"contract.extra_columns: the source has columns the contract does not name: "
            f"{', '.join(extra)}; add them to contract.columns or set extra_columns: drop"
        )


def apply_contract(
    frame: pd.DataFrame, contract: ContractSpec, *, now: datetime, time: str | None = None
) -> Checked:
    """Divide a raw frame into rows that keep the contract and rows that don't.

    Args:
        now: what `freshness.max_age_days` counts back from; naive UTC.
        time: the time column, which `freshness` is about.

    Raises:
        ContractError: a column is missing, or the newest accepted row is too old.
    """
    check_columns(frame, contract)
    coerced = {
        name: coerce(frame[name], storage_type(spec)) for name, spec in contract.columns.items()
    }
    typed = pd.DataFrame({name: column.values for name, column in coerced.items()}, copy=False)
    typed.index = pd.RangeIndex(len(typed))
    failed = {name: column.failed for name, column in coerced.items()}
    reasons = _reasons(typed, contract, failed)
    accepted = typed
    if len(reasons):
        accepted = typed.drop(index=reasons.index)
        accepted.index = pd.RangeIndex(len(accepted))
    accepted = pd.DataFrame(
        {name: narrow(accepted[name], spec) for name, spec in contract.columns.items()}, copy=False
    )
    if contract.freshness and time and len(accepted):
        _check_freshness(accepted[time], contract.freshness, now, time)
    return Checked(accepted, _quarantine(frame, reasons))


def count_reasons(rejected: pd.DataFrame) -> dict[str, int]:
    """Rejected rows a reason, most frequent first; a row counts under each of its reasons."""
    counts = rejected["reasons"].str.split(SEPARATOR).explode().value_counts()
    return {str(reason): int(count) for reason, count in counts.items()}


def _reasons(
    typed: pd.DataFrame, contract: ContractSpec, failed: dict[str, NDArray[np.bool_]]
) -> "pd.Series[str]":
    """What is wrong with each bad row, indexed by row; reasons in the order of the columns."""
    names = list(contract.columns)
    found = [
        pd.DataFrame(
            {
                "row": np.flatnonzero(mask),
                "place": names.index(name),
                "reason": f"{name}: {FAILURES[contract.columns[name].type]}",
            }
        )
        for name, mask in failed.items()
        if mask.any()
    ]
    keys = {_group_name(group): group for group in contract.unique_together}
    numbers = {k: typed.groupby(list(g), dropna=False).ngroup() for k, g in keys.items()}
    if keys:
        typed = pd.DataFrame({**typed, **numbers}, copy=False)
    try:
        with warnings.catch_warnings():
            # pandera puts failures of several types into one frame, and pandas warns of that
            warnings.simplefilter("ignore", FutureWarning)
            # in place, though nothing is changed: otherwise pandera copies the frame first
            _schema(contract, list(keys)).validate(typed, lazy=True, inplace=True)
    except SchemaErrors as error:
        cases = error.failure_cases[["index", "column", "check"]]
        found += [
            _said(at, str(column), str(check), failed, names)
            for (column, check), at in cases.groupby(["column", "check"], sort=False)["index"]
        ]
    finally:
        # pandera's accessor and the frame hold each other, and with them the memory of every column
        vars(typed).pop("pandera", None)
    if not found:
        return pd.Series([], index=pd.Index([], dtype="int64"), dtype=object)
    lines = pd.concat(found).sort_values(["row", "place", "reason"], kind="stable")
    return lines.groupby("row", sort=True)["reason"].agg(SEPARATOR.join)


def _said(
    at: pd.Series, column: str, check: str, failed: dict[str, NDArray[np.bool_]], names: list[str]
) -> pd.DataFrame:
    """One failed check as rows with a reason; a cell of the wrong type is not `missing` as well."""
    rows = at.to_numpy(dtype=np.int64)
    if check == "not_nullable":
        rows, check = rows[~failed[column][rows]], MISSING
    place = names.index(column) if column in names else len(names)
    return pd.DataFrame({"row": rows, "place": place, "reason": f"{column}: {check}"})


def _schema(contract: ContractSpec, keys: list[str]) -> pa.DataFrameSchema:
    columns = {
        name: pa.Column(None, checks=_checks(spec), nullable=spec.nullable)
        for name, spec in contract.columns.items()
    }
    return pa.DataFrameSchema(columns | {key: pa.Column(None, checks=[_new()]) for key in keys})


def _group_name(group: tuple[str, ...]) -> str:
    return f"{', '.join(group)} together"


def _new() -> pa.Check:
    """The first row with a value is kept, later ones are rejected."""
    return pa.Check(
        lambda values: ~values.duplicated(), name="unique", error="as in an earlier row"
    )


def _checks(spec: ColumnSpec) -> list[pa.Check]:
    checks = []
    if spec.minimum is not None:
        checks.append(pa.Check.ge(spec.minimum, error=f"below {spec.minimum:g}"))
    if spec.maximum is not None:
        checks.append(pa.Check.le(spec.maximum, error=f"above {spec.maximum:g}"))
    if spec.categories is not None:
        checks.append(pa.Check.isin(list(spec.categories), error=FAILURES["category"]))
    if spec.unique:
        checks.append(_new())
    return checks


def _check_freshness(
    times: pd.Series, freshness: FreshnessSpec, now: datetime, column: str
) -> None:
    newest = times.max()
    if freshness.at_least is not None and newest < freshness.at_least:
        raise ContractError(
            f"contract.freshness: the newest {column} is {newest}, below at_least: "
            f"{freshness.at_least}; get newer data or change contract.freshness"
        )
    if freshness.max_age_days is not None:
        age = (pd.Timestamp(now) - newest) / pd.Timedelta(days=1)
        if age > freshness.max_age_days:
            raise ContractError(
                f"contract.freshness: the newest {column} is {newest}, {age:.1f} days old, more "
                f"than max_age_days: {freshness.max_age_days:g}; get newer data or change "
                "contract.freshness"
            )


def _quarantine(frame: pd.DataFrame, reasons: "pd.Series[str]") -> pd.DataFrame:
    raw = frame.iloc[reasons.index]
    records = raw.to_json(orient="records", lines=True, date_format="iso").splitlines()
    return pd.DataFrame(
        {
            "row": raw.index.to_numpy(dtype=np.int64) + 1,
            "reasons": reasons.to_numpy(dtype=object),
            "record": np.array(records[: len(raw)], dtype=object),  # no rows make one empty line
        }
    )
