"""The report of an upgrade: lines, and what two interpreters' answers have to say."""

from collections.abc import Sequence
from typing import Literal, NamedTuple

from lifecycle.records import counted
from lifecycle.upgrade.answers import RegistryAnswers, VersionAnswers

State = Literal["ok", "warn", "fail"]
MAIN_PACKAGES = ("python", "lifecycle-flows", "mlflow", "prefect", "ray", "xgboost")
"""Packages whose versions a report names."""
MAX_SHOWN = 5
"""Versions of models that a line names."""


class Line(NamedTuple):
    """One line of a report."""

    subject: str
    state: State
    text: str


def compare(before: RegistryAnswers, after: RegistryAnswers, is_same: bool = False) -> list[Line]:
    """Compare the answers of two interpreters, and their packages.

    Args:
        is_same: whether they are one interpreter, which says little.
    """
    lines = [_packages(before, after, is_same)]
    if listed(before) != listed(after):
        text = "the registry lists other versions, bundles or aliases after the migration"
        return [*lines, Line("answers", "fail", text)]
    both = list(zip(before.versions, after.versions, strict=True))
    broken = [new for old, new in both if new.error and not old.error]
    differing = [new for old, new in both if not (old.error or new.error) and not _same(old, new)]
    silent = [old for old, new in both if old.error and new.error]
    equal = len(both) - len(broken) - len(differing) - len(silent)
    if broken:
        text = f"{_titles(broken)} cannot answer: {broken[0].error}"
        lines.append(Line("answers", "fail", text))
    if differing:
        text = f"{_titles(differing)}: other answers, byte for byte, than before"
        lines.append(Line("answers", "fail", text))
    if silent:
        text = f"{_titles(silent)} could not be asked before either: {silent[0].error}"
        lines.append(Line("answers", "warn", text))
    if equal:
        rows = sum(new.rows for old, new in both if not new.error and _same(old, new))
        total = f"{counted(equal, 'version')}, {counted(rows, 'row')} of their holdouts"
        lines.append(Line("answers", "ok", f"{total}: every answer is equal, byte for byte"))
    if not both:
        lines.append(Line("answers", "warn", "no version is registered, so nothing was asked"))
    return lines


def listed(answers: RegistryAnswers) -> list[tuple[object, ...]]:
    """The versions without their answers."""
    return [(v.name, v.version, v.digest, v.aliases) for v in answers.versions]


def _same(old: VersionAnswers, new: VersionAnswers) -> bool:
    return (old.rows, old.answers) == (new.rows, new.answers)


def _titles(entries: Sequence[VersionAnswers]) -> str:
    titles = ", ".join(entry.title for entry in entries[:MAX_SHOWN])
    remainder = len(entries) - MAX_SHOWN
    return f"{titles} and {remainder} more" if remainder > 0 else titles


def _packages(before: RegistryAnswers, after: RegistryAnswers, is_same: bool) -> Line:
    if is_same:
        text = (
            "one interpreter is compared with itself; --python names the new one, such as "
            ".venv/bin/python of the new checkout"
        )
        return Line("packages", "warn", text)
    old, new = before.packages, after.packages
    names = {name for name in {*old, *new} if old.get(name) != new.get(name)}
    parts = [
        f"{n} {old.get(n, 'none')} → {new.get(n, 'none')}" for n in MAIN_PACKAGES if n in names
    ]
    if others := len(names) - len(parts):
        parts.append(f"{counted(others, 'other package')} differ")
    return Line("packages", "ok", ", ".join(parts) or "the same versions")
