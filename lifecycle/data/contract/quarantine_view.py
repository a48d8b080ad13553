"""The quarantine as people read it: why rows were rejected, how many, and the first of them."""

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import pandas as pd
import pyarrow.compute as pc

from lifecycle.data.contract import contract_of
from lifecycle.data.contract.quarantine import HIDDEN, SEPARATOR, TABLE, printable
from lifecycle.errors import DataError
from lifecycle.lake.read import open_version
from lifecycle.lake.table import history, table_uri
from lifecycle.project import ContractSpec, Project
from lifecycle.project.expression import columns_of
from lifecycle.records import DatasetVersion
from lifecycle.settings import Settings

# Parsing of the reasons of a rejected row, which the quarantine stores as one text.


class Reason(NamedTuple):
    """One promise that a row breaks."""

    column: str
    """The column, columns or rule it is about."""
    problem: str


class Reasons:
    """Reads what `join_reasons` wrote under a contract."""

    def __init__(self, contract: ContractSpec) -> None:
        names = tuple(contract.columns)
        groups = [*contract.unique_together, contract.key]
        self._about = {f"{', '.join(group)} together": group for group in groups}
        self._about |= {rule.name: columns_of(rule.expression, names) for rule in contract.rules}
        self._about |= {name: (name,) for name in names}
        label = "|".join(map(re.escape, sorted(self._about, key=len, reverse=True)))
        # a pattern or a rule may hold the separator itself
        self._next = re.compile(rf"{SEPARATOR}(?=(?:{label}): )")
        self._pattern = re.compile(rf"({label}): (.*)", re.DOTALL)

    def of(self, text: str) -> tuple[Reason, ...]:
        """The reasons in their order."""
        return tuple(map(self._reason, self._next.split(text)))

    def about(self, reasons: Iterable[Reason]) -> tuple[str, ...]:
        """The columns whose values show what is wrong, each once."""
        columns = (name for reason in reasons for name in self._about.get(reason.column, ()))
        return tuple(dict.fromkeys(columns))

    def _reason(self, text: str) -> Reason:
        match = self._pattern.fullmatch(text)
        column, problem = match.groups() if match else text.partition(": ")[::2]
        return Reason(column, problem)


NOT_SHOWN = "(not shown)"
LENGTH = 40
"""Characters shown of a value."""
HASH = 12
"""Digits shown of a hash."""
MASKED = ("hash", "drop")


class Row(NamedTuple):
    """A rejected row."""

    number: int
    """In the source, the first is 1."""
    reasons: tuple[Reason, ...]
    cells: dict[str, str]
    """Its values as text, in the order of the contract; personal data are masked."""
    about: tuple[str, ...]
    """The columns whose values show what is wrong."""


class Quarantine(NamedTuple):
    """A version of the quarantine."""

    version: DatasetVersion
    written: pd.Timestamp
    """UTC."""
    note: dict[str, str]
    rows: int
    """Those that are there still: erased rows are not."""
    reasons: dict[Reason, int]
    """Rows a reason, most frequent first; a row counts under each of its reasons."""
    first: tuple[Row, ...]
    accepted: str
    """The version that the other rows are in, such as `accepted@3`; empty if none was made."""
    newer: str
    """The newest version of `accepted`, if it came later and nothing was rejected for it."""


def quarantine(
    project: Project, settings: Settings, version: int | None = None, rows: int = 10
) -> Quarantine | None:
    """A version of the quarantine, by default the newest; None if nothing was rejected so far.

    Reasons are counted batch by batch without reading the rows, of which only the first are read.

    Raises:
        DataError: there is no such version.
        BackendError: the lake cannot be read.
    """
    uri = table_uri(settings, project.name, TABLE)
    commits = history(uri)
    if version is None and commits.empty:
        return None
    matching = commits if version is None else commits[commits["version"] == version]
    if matching.empty:
        have = ", ".join(map(str, commits["version"])) or "none"
        raise DataError(f"{TABLE} has no version {version} in {uri}; it has {have}")
    commit = matching.iloc[-1]
    number, digest = int(commit["version"]), str(commit["digest"])
    ref = DatasetVersion(uri=uri, version=number, digest=digest, rows=int(commit["rows"]))
    then = contract_of(commit["note"])
    reasons = Reasons(then or project.contract)
    texts = _texts(ref)
    counts: Counter[Reason] = Counter()
    for text, count in texts.items():
        for reason in reasons.of(text):
            counts[reason] += count
    accepted, newer = _accepted_version(project, settings, number, commit["time"])
    return Quarantine(
        version=ref,
        written=commit["time"],
        note=commit["note"],
        rows=texts.total(),
        reasons=dict(sorted(counts.items(), key=lambda item: (-item[1], item[0]))),
        first=tuple(_row(raw, reasons, project, then) for raw in _first(ref, rows)),
        accepted=accepted,
        newer=newer,
    )


def _texts(ref: DatasetVersion) -> Counter[str]:
    """Rows for each text of reasons: there are few such texts, however many rows."""
    counts: Counter[str] = Counter()
    for batch in open_version(ref, ["reasons"]):
        for count in pc.value_counts(batch.column("reasons")).to_pylist():
            counts[count["values"]] += count["counts"]
    return counts


def _first(ref: DatasetVersion, rows: int) -> Iterator[dict[str, Any]]:
    remaining = rows
    for batch in open_version(ref) if rows else ():
        yield from batch.slice(0, remaining).to_pylist()
        remaining -= min(remaining, batch.num_rows)
        if not remaining:
            return


def _row(raw: dict[str, Any], reasons: Reasons, project: Project, then: ContractSpec | None) -> Row:
    errors = reasons.of(raw["reasons"])
    record = json.loads(raw["record"])
    cells = {name: _cell(name, value, project, then) for name, value in record.items()}
    about = tuple(name for name in reasons.about(errors) if name in cells)
    return Row(raw["row"], errors, cells, about)


def _cell(name: str, value: object, project: Project, then: ContractSpec | None) -> str:
    """A value as JSON has it; masked if it is personal now, or was when it was rejected."""
    if value is None:
        return "missing"
    now, before = (
        contract.columns[name].pii if contract and name in contract.columns else None
        for contract in (project.contract, then)
    )
    if before == "hash" and now != "drop":
        return f"{str(value)[:HASH]}…"
    if now in MASKED or before in MASKED:
        return HIDDEN
    if name == project.entity:
        return NOT_SHOWN
    text = printable(json.dumps(value, ensure_ascii=False))
    return text if len(text) <= LENGTH else f"{text[: LENGTH - 1]}…"


def _accepted_version(
    project: Project, settings: Settings, version: int, written: pd.Timestamp
) -> tuple[str, str]:
    """The version made with these rows left out, and a newer one for which none was."""
    accepted = newer = ""
    for table in ("accepted", "current"):
        for commit in history(table_uri(settings, project.name, table)).to_dict("records"):
            rejected = json.loads(commit["note"].get("ingested", "{}")).get("rejected")
            name = f"{table}@{commit['version']}"
            if rejected and rejected["version"] == version:
                accepted = name
            if table == "accepted":
                newer = name if not rejected and commit["time"] > written else ""
    return accepted, newer
