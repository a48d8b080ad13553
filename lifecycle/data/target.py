"""See that a target can be learned from, before anything is learned."""

from typing import Any

import numpy as np
import pandas as pd

from lifecycle.errors import TargetError
from lifecycle.project import Project


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
