"""Whether a holdout decides anything, and what to change where a part of the split has no row."""

from typing import Any

import numpy as np
import pandas as pd

from lifecycle.data.split_parts import HOLDOUT, TRAIN, VALIDATION, Keys, Periods
from lifecycle.errors import TargetError
from lifecycle.project import Project

FEW_ROWS = 30
SMALL_SHARE = 0.05


def small_holdout(rows: int, total: int, project: Project) -> str:
    """A warning if the holdout is small, else nothing.

    Args:
        rows: of the holdout.
        total: rows of all parts, and those withheld.
    """
    if rows >= max(FEW_ROWS, SMALL_SHARE * total):
        return ""
    said = f"the holdout has {rows:,} of {total:,} rows ({rows / total:.1%})"
    return f"{said}, too few to judge a model by; {_larger(project)}."


def empty_part(part: str, project: Project, keys: Keys, rule: str) -> str:
    """What to change, where a part of the split has no row.

    Args:
        keys: of the rows that have a target.
    """
    said = f"{project.source.place}: the {part} part of {keys.rows:,} rows would be empty ({rule})"
    return f"{said}; {_change(part, project, keys)}"


def _change(part: str, project: Project, keys: Keys) -> str:
    share = "split.validation" if part == "validation" else "split.holdout"
    if project.time is None or keys.starts is None:
        return f"change {share}, or ingest more rows"
    periods, name = Periods(keys.starts, project.time), project.time.period
    held = project.split.holdout_periods
    later = "set time.arrives_from later" if project.time.arrives_from else "ingest more periods"
    more = f"{_if(name != 'value', 'choose a finer time.period')}, or {later}"
    if len(periods) == 1:
        which = "have one time" if name == "value" else f"are all of one {name}"
        return f"the rows {which}: name another time.column{more}"
    if project.entity is None or keys.places is None:
        fewer = f"lower split.holdout_periods (now {held})" if held else f"change {share}"
        return f"there are {len(periods)} periods for three parts: {fewer}{more}"
    place = {"train": TRAIN, "validation": VALIDATION, "holdout": HOLDOUT}[part]
    sizes = periods.sizes(keys.places == place)
    if not sizes.any():
        return f"no {project.entity} falls into it: change {share}, or ingest more of them"
    held = held or 1
    if part == "holdout":
        least = int(np.flatnonzero(sizes[::-1])[0]) + 1
        raised = f"raise split.holdout_periods from {held} to {least} or more"
        if least == len(periods):
            raised = "raise split.holdout"
        coarser = _if(name in ("day", "week"), "choose a coarser time.period")
        return f"no held-out {project.entity} has a row there: {raised}{coarser}, or {later}"
    most = len(periods) - int(np.flatnonzero(sizes)[0]) - 1
    lowered = f"from {held} to {most} or fewer" if most else f"(now {held})"
    return f"all its rows are newer: lower split.holdout_periods {lowered}{more}"


def _if(true: bool, text: str) -> str:
    return f", {text}" if true else ""


def _larger(project: Project) -> str:
    if project.time is None:
        return "raise split.holdout, or use more rows"
    held = project.split.holdout_periods or (1 if project.entity else None)
    ways = [f"raise split.holdout_periods (now {held})" if held else "raise split.holdout"]
    if project.time.period in ("day", "week") and held:
        ways.append("choose a coarser time.period")
    if held and project.entity:
        ways.append(f"raise split.holdout (now {project.split.holdout:g})")
    return " or ".join(filter(None, (", ".join(ways[:-1]), ways[-1])))


# See that a target can be learned from, before anything is learned.


def check_target(target: "pd.Series[Any]", project: Project, where: str) -> None:
    """See that a target can be learned from.

    Raises:
        TargetError: it is missing everywhere, constant, no number where the task takes them, has
            one class only or more than two, or never has the `positive` value.
    """
    known = target.dropna() if target.hasnans else target  # a copy of 20M values counts
    name, place = project.target, f"{project.source.place}: target {target.name!r} in {where}"
    if known.empty:
        raise TargetError(f"{place} is missing in every row; name another column or other data")
    if project.task != "binary":
        if (known == known.iloc[0]).all():
            raise TargetError(
                f"{place} is constant (always {known.iloc[0]}): there is nothing to learn; check "
                "`target`, the data, or the sizes under `split`"
            )
        numeric = pd.api.types.is_numeric_dtype(known.dtype)
        if project.task in ("regression", "count") and not numeric:
            kind = project.contract.columns[project.target].type
            classes = known.nunique()
            instead = "binary, and positive" if classes == 2 else "multiclass"
            raise TargetError(
                f"{place} is {kind} with {classes:,} values, and task: {project.task} takes "
                f"numbers; use task: {instead}, another target, or numbers in the contract"
            )
        if project.task == "count" and (wrong := (known < 0) | (known % 1 != 0)).any():
            raise TargetError(
                f"{place} has {known[wrong].iloc[0]}, which is no count; use task: regression, or "
                "set minimum: 0 and type: integer in the contract"
            )
        return
    values = known.unique()
    positive = 1 if project.positive is None else project.positive
    shown = ", ".join(map(repr, sorted(map(_native, values), key=str)[:6]))
    if len(values) > 2:
        raise TargetError(
            f"{place} has {len(values)} classes ({shown}…) and task: binary takes two; "
            "use task: multiclass, task: regression or another target"
        )
    if not (values == positive).any() and where == "the data":
        raise TargetError(
            f"{place} never is {positive!r}, only {shown}; set `positive` to the value of "
            f"{name!r} that the model should predict"
        )
    if len(values) == 1:
        raise TargetError(
            f"{place} has one class only ({shown}): there is nothing to tell apart; check the "
            "data, `target`, or the sizes under `split`"
        )


def _native(value: object) -> object:
    return value.item() if isinstance(value, np.generic) else value
