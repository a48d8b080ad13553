"""The reasons of a rejected row, taken apart again: quarantine keeps them as one text."""

import re
from collections.abc import Iterable
from typing import NamedTuple

from lifecycle.data.contract.quarantine import SEPARATOR
from lifecycle.project import ContractSpec
from lifecycle.project.expression import columns_of


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
        self._one = re.compile(rf"({label}): (.*)", re.DOTALL)

    def of(self, text: str) -> tuple[Reason, ...]:
        """The reasons in their order."""
        return tuple(map(self._reason, self._next.split(text)))

    def about(self, reasons: Iterable[Reason]) -> tuple[str, ...]:
        """The columns whose values show what is wrong, each once."""
        columns = (name for one in reasons for name in self._about.get(one.column, ()))
        return tuple(dict.fromkeys(columns))

    def _reason(self, text: str) -> Reason:
        found = self._one.fullmatch(text)
        column, problem = found.groups() if found else text.partition(": ")[::2]
        return Reason(column, problem)
