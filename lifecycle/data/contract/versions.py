"""Versions of a contract: what a change means for those who read the data.

Semantic Versioning 2.0.0, read for data: what may break a reader needs a new major version, what
only promises or holds more a minor one, the rest a patch. Below 1.0.0 anything may change.
"""

import logging
from collections.abc import Iterator, Mapping
from typing import Literal, NamedTuple

from pydantic import ValidationError

from lifecycle.errors import ContractError
from lifecycle.lake.table import noted_versions, table_uri
from lifecycle.project import ColumnSpec, ContractSpec
from lifecycle.settings import Settings

logger = logging.getLogger(__name__)

Bump = Literal["major", "minor", "patch"]
LEVELS: tuple[Bump, ...] = ("major", "minor", "patch")
MARKS: dict[str, str] = {"added": "+", "removed": "−"}


class ContractChange(NamedTuple):
    """One difference between two contracts."""

    bump: Bump
    """What it needs at least."""
    difference: str
    """In words, with the key it is about: `columns.age: removed`."""

    def __str__(self) -> str:
        mark = MARKS.get(self.difference.rsplit(": ", 1)[-1].split(" ")[0], "~")
        return f"{mark} {self.difference} ({self.bump})"


def changes(former: ContractSpec, present: ContractSpec) -> tuple[ContractChange, ...]:
    """Every difference between two contracts but that of the version, those that break first."""
    differences = [
        *_columns(former, present),
        *_rows(former, present),
        *_other_changes(former, present),
    ]
    return tuple(sorted(differences, key=lambda change: LEVELS.index(change.bump)))


def required_bump(former: ContractSpec, present: ContractSpec) -> Bump | None:
    """The step of the version that the changes need; None if there are none."""
    differences = changes(former, present)
    return differences[0].bump if differences else None


def check_compatible(former: ContractSpec, present: ContractSpec) -> None:
    """See that a contract that breaks its readers says so by a new major version.

    Raises:
        ContractError: there is a breaking change within a major version, or the version fell; the
            message lists every difference.
    """
    differences = changes(former, present)
    before, after = _numbers(former.version), _numbers(present.version)
    lines = [
        f"contract {former.version} → {present.version}:",
        *(f"  {difference}" for difference in differences),
    ]
    if after < before:
        raise ContractError(
            f"contract.version: {present.version} is below {former.version}, which was ingested "
            "last; versions must not decrease. " + "\n".join(lines)
        )
    breaking = any(difference.bump == "major" for difference in differences)
    if breaking and before[0] > 0 and after[0] == before[0]:
        raise ContractError(
            f"contract.version: {present.version} breaks those who read the data as "
            f"{former.version} promises them. " + "\n".join(lines) + "\n"
            f"Take the breaking changes back, or set contract.version: {before[0] + 1}.0.0 and "
            "tell the readers"
        )


def _columns(former: ContractSpec, present: ContractSpec) -> Iterator[ContractChange]:
    for name in former.columns:
        if name not in present.columns:
            yield ContractChange("major", f"columns.{name}: removed")
    for name, spec in present.columns.items():
        if name not in former.columns:
            yield ContractChange("minor", f"columns.{name}: added")
        else:
            for change in _column(former.columns[name], spec):
                yield ContractChange(change.bump, f"columns.{name}.{change.difference}")


def _column(old: ColumnSpec, new: ColumnSpec) -> Iterator[ContractChange]:
    if (old.type, old.value_type) != (new.type, new.value_type):
        yield ContractChange("major", f"type: {_type(old)} → {_type(new)}")
    if old.nullable != new.nullable:
        yield _looser(new.nullable, "nullable", "may be missing", "is never missing")
    if old.unique != new.unique:
        yield _looser(old.unique, "unique", "may repeat", "never repeats")
    yield from _limit("minimum", old.minimum, new.minimum, loosens=-1)
    yield from _limit("maximum", old.maximum, new.maximum, loosens=1)
    if old.value_type == new.value_type:
        yield from _categories(old, new)
    if old.pattern != new.pattern:
        bump: Bump = "minor" if old.pattern is None else "major"
        yield ContractChange(bump, f"pattern: {_as_text(old.pattern)} → {_as_text(new.pattern)}")
    if old.unit != new.unit:
        bump = "major" if old.unit else "patch"
        yield ContractChange(bump, f"unit: {_as_text(old.unit)} → {_as_text(new.unit)}")
    if (old.pii or "keep") != (new.pii or "keep"):
        yield ContractChange("major", f"pii: {old.pii or 'keep'} → {new.pii or 'keep'}")
    if old.severity != new.severity:
        loose = new.severity == "warning"
        yield _looser(loose, "severity", "error → warning", "warning → error")
    if old.expect != new.expect:
        yield ContractChange("minor", "expect: changed")
    for name in ("pii_class", "description"):
        if getattr(old, name) != getattr(new, name):
            yield ContractChange("patch", f"{name}: changed")


def _limit(
    name: str, old: float | None, new: float | None, loosens: int
) -> Iterator[ContractChange]:
    """`loosens`: the sign of a step that lets more values through."""
    if old == new:
        return
    wider = new is None or (old is not None and (new - old) * loosens > 0)
    yield ContractChange(
        "major" if wider else "minor", f"{name}: {_as_text(old)} → {_as_text(new)}"
    )


def _categories(old: ColumnSpec, new: ColumnSpec) -> Iterator[ContractChange]:
    if old.categories == new.categories:
        return
    if old.categories is None or new.categories is None:
        bump: Bump = "major" if new.categories is None else "minor"
        yield ContractChange(
            bump, f"categories: {'any value' if bump == 'major' else 'only some'} now"
        )
        return
    more = [value for value in new.categories if value not in old.categories]
    fewer = [value for value in old.categories if value not in new.categories]
    if more:
        yield ContractChange("major", f"categories: may be {', '.join(map(repr, more))} too")
    if fewer:
        yield ContractChange("minor", f"categories: never {', '.join(map(repr, fewer))} any more")
    if not more and not fewer:
        yield ContractChange("patch", "categories: in another order")


def _rows(former: ContractSpec, present: ContractSpec) -> Iterator[ContractChange]:
    """Keys and rules."""
    if set(former.key) != set(present.key):
        bump: Bump = "major" if former.key else "minor"
        yield ContractChange(bump, f"key: {_as_text(former.key)} → {_as_text(present.key)}")
    before, after = ({frozenset(g): g for g in c.unique_together} for c in (former, present))
    for group, columns in before.items():
        if group not in after:
            yield ContractChange("major", f"unique_together: {_as_text(columns)}: removed")
    for group, columns in after.items():
        if group not in before:
            yield ContractChange("minor", f"unique_together: {_as_text(columns)}: added")
    old, new = ({rule.name: rule for rule in c.rules} for c in (former, present))
    for name, rule in old.items():
        if name not in new:
            yield ContractChange("major", f"rules.{name}: removed")
        elif rule.expression != new[name].expression:
            yield ContractChange(
                "major", f"rules.{name}: {rule.expression} → {new[name].expression}"
            )
        elif rule.severity != new[name].severity:
            loose = new[name].severity == "warning"
            yield _looser(loose, f"rules.{name}", "error → warning", "warning → error")
    for name in new:
        if name not in old:
            yield ContractChange("minor", f"rules.{name}: added")


def _other_changes(former: ContractSpec, present: ContractSpec) -> Iterator[ContractChange]:
    """Promises on the whole are news to a reader; how rows are handled and described is none."""
    for name in ("rows", "freshness"):
        if getattr(former, name) != getattr(present, name):
            yield ContractChange("minor", f"{name}: changed")
    for name in ("owner", "description", "retention", "max_rejected_share", "extra_columns"):
        if getattr(former, name) != getattr(present, name):
            yield ContractChange("patch", f"{name}: changed")


def _looser(loose: bool, name: str, when_loose: str, when_tight: str) -> ContractChange:
    if loose:
        return ContractChange("major", f"{name}: {when_loose}")
    return ContractChange("minor", f"{name}: {when_tight}")


def _type(spec: ColumnSpec) -> str:
    return f"{spec.type} of {spec.value_type}" if spec.type == "category" else spec.type


def _as_text(value: object) -> str:
    if value is None or value == "" or value == ():
        return "none"
    if isinstance(value, tuple):
        return f"[{', '.join(map(str, value))}]"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(map(int, version.split(".")))


# The contract of a dataset version, stored in the note of its commit.


VERSION = "contract"
SPEC = "contract_spec"
TABLE = "accepted"
"""The table whose versions are ingested under the contract."""


def contract_note(contract: ContractSpec) -> dict[str, str]:
    """Return the commit metadata about the contract.

    `contract` is its version. `contract_spec` is JSON of every field that is not at its default,
    in the order of declaration.
    """
    spec = contract.model_dump_json(exclude_defaults=True)
    return {VERSION: contract.version, SPEC: spec}


def contract_of(note: Mapping[str, str]) -> ContractSpec | None:
    """The contract that a commit's note has; None if it has none that can be read."""
    if SPEC not in note:
        return None
    try:
        return ContractSpec.model_validate_json(note[SPEC])
    except ValidationError as error:
        logger.warning(
            "the contract of the last ingestion cannot be read, so the present one is not compared "
            "with it: %s",
            error.errors()[0]["msg"],
        )
        return None


def last_contract(settings: Settings, project_name: str) -> ContractSpec | None:
    """The contract of the newest version that was ingested; None before the first.

    Raises:
        BackendError: the lake cannot be read.
    """
    newest = next(noted_versions(table_uri(settings, project_name, TABLE)), None)
    return contract_of(newest.note) if newest else None
