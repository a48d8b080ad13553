"""Declared facts about columns: roles, contract terms, personal data."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from lifecycle.errors import DataError, TargetError
from lifecycle.features.store import KEY, TIME
from lifecycle.profiling.record import Role
from lifecycle.project import ColumnSpec, ColumnType, FeatureViewSpec, Project, Scalar, TaskKind
from lifecycle.scaffold.columns import FEW_CATEGORIES, MANY_CATEGORIES, Column
from lifecycle.scaffold.roles import guess_roles

REPEATED = 20
"""More texts are categories if each is there so many times on average."""


@dataclass(frozen=True)
class ProfileSchema:
    """Schema of a profile: declared by the project, or guessed from a frame."""

    specs: Mapping[str, ColumnSpec] = field(default_factory=dict)
    target: str = ""
    task: TaskKind | None = None
    positive: Scalar | None = None
    entity: str = ""
    time: str = ""
    period: str = "value"
    leakage: tuple[str, ...] = ()
    protected: tuple[str, ...] = ()
    ignored: tuple[str, ...] = ()
    inputs: tuple[str, ...] | None = None
    numeric_threshold: float = 0.1
    categorical_threshold: float = 0.15
    misfits: Mapping[str, int] = field(default_factory=dict)
    """Cells a column that are not of the type that nearly all others have, and are missing."""

    def role(self, name: str) -> Role:
        """Return the role of a column; an input that is also protected is an input."""
        columns_by_role: dict[Role, tuple[str, ...]] = {
            "target": (self.target,),
            "entity": (self.entity,),
            "time": (self.time,),
            "leakage": self.leakage,
            "input": self.inputs or (),
            "protected": self.protected,
            "ignored": self.ignored,
        }
        role: Role | None = next(
            (role for role, names in columns_by_role.items() if name in names), None
        )
        return role or ("input" if self.target and self.inputs is None else "")

    def hidden(self, name: str) -> bool:
        """Return whether the column's values are personal, or identify the entity of a row."""
        return name == self.entity or self.pii(name) in ("hash", "drop")

    def pii(self, name: str) -> str:
        """`keep`, `hash` or `drop`; empty if it is no personal data."""
        return (self.specs[name].pii or "") if name in self.specs else ""


def known_of(project: Project) -> ProfileSchema:
    """Return the schema that a project declares."""
    drift = project.monitoring.drift
    return ProfileSchema(
        specs=project.columns,
        target=project.target,
        task=project.task,
        positive=1 if project.positive is None else project.positive,
        entity=project.entity or "",
        time=project.time.column if project.time else "",
        period=project.time.period if project.time else "value",
        leakage=project.leakage,
        protected=project.protected,
        ignored=project.ignore,
        inputs=project.input_columns,
        numeric_threshold=drift.numeric_threshold,
        categorical_threshold=drift.categorical_threshold,
    )


def known_of_view(spec: FeatureViewSpec | None) -> ProfileSchema:
    """Return the schema of a feature view's table; only its keys if no project declares it."""
    features = spec.features if spec else {}
    return ProfileSchema(specs=features, entity=KEY, time=TIME, inputs=tuple(features))


def guessed(frame: pd.DataFrame, target: str | None) -> ProfileSchema:
    """Roles in a frame that no project describes, by the rules of `lifecycle init`.

    Without a target only the time is guessed: the first column of times without a missing one.

    Raises:
        DataError: there is no such column.
    """
    if target is None:
        times = frame.select_dtypes(["datetime", "datetimetz"])
        complete = [str(name) for name in times if not times[name].isna().any()]
        return ProfileSchema(time=complete[0] if complete and len(frame) else "", period="")
    if target not in frame:
        names = ", ".join(map(str, frame.columns[:40]))
        raise DataError(f"target: there is no column {target!r}; there are {names}")
    columns = {str(name): _column(frame[name]) for name in frame}
    try:
        roles = guess_roles(columns, target)
    except TargetError:  # nothing to learn, and still to look at
        return ProfileSchema(target=target, period="")
    time = roles.time or {}
    return ProfileSchema(
        target=target,
        task=roles.task,
        positive=roles.positive,
        entity=roles.entity or "",
        time=time.get("column", ""),
        period="",
        ignored=tuple(roles.ignore),
    )


def _column(values: "pd.Series[Any]") -> Column:
    kind: ColumnType = "string"
    if pd.api.types.is_bool_dtype(values.dtype):
        kind = "boolean"
    elif pd.api.types.is_datetime64_any_dtype(values.dtype):
        kind = "datetime"
    elif pd.api.types.is_integer_dtype(values.dtype):
        kind = "integer"
    elif pd.api.types.is_numeric_dtype(values.dtype):
        kind = "number"
    if kind in ("integer", "number", "boolean", "datetime"):
        return Column(values, {"type": kind}, int(values.nunique()))
    texts = values.where(values.isna(), values.astype(str))
    distinct = int(texts.nunique())
    few = max(FEW_CATEGORIES, min(MANY_CATEGORIES, len(texts) // REPEATED))
    return Column(texts, {"type": "category" if distinct <= few else kind}, distinct)


def contract_terms(spec: ColumnSpec) -> tuple[str, ...]:
    """Describe the contract of a column for people, without personal values."""
    terms = []
    if not spec.nullable:
        terms.append("never missing")
    if spec.unique:
        terms.append("unique")
    low, high = (None if end is None else f"{end:g}" for end in (spec.minimum, spec.maximum))
    if low is not None and high is not None:
        terms.append(f"{low} to {high}")
    elif low is not None:
        terms.append(f"at least {low}")
    elif high is not None:
        terms.append(f"at most {high}")
    if spec.categories:
        terms.append(f"one of {len(spec.categories)} categories")
    if spec.pattern:
        terms.append(f"matches {spec.pattern}")
    for name, (least, most) in spec.expect.statistics() if spec.expect else ():
        ends = " to ".join("any" if end is None else f"{end:g}" for end in (least, most))
        terms.append(f"{name.replace('_', ' ')} {ends}")
    if spec.severity == "warning":
        terms.append("broken promises only warn")
    return tuple(terms)
