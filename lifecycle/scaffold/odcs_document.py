"""A document of the Open Data Contract Standard, read key by key: nothing is lost unnamed."""

from collections.abc import Iterator
from typing import Any, TypeVar, cast

import yaml

from lifecycle.errors import ContractError
from lifecycle.scaffold.odcs_export import PREFIX

T = TypeVar("T")
TYPE_NAMES: dict[type, str] = {
    str: "text",
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    list: "a list",
    dict: "a mapping",
}
PLACES_SHOWN = 4
LEFT_OUT = "left out"
UNIMPORTED = {
    "servers": "left out: the project's `source` says where the data are",
    "classification": "left out: `pii` and `pii_class` say how personal data are stored",
    "physicalType": "left out: `type` decides, whatever the source stores",
}


class Remainder:
    """Things that a contract has no place for, gathered by what they are."""

    def __init__(self) -> None:
        self._places: dict[tuple[str, str], list[str]] = {}

    def add(self, subject: str, place: str, outcome: str = "") -> None:
        """Note what has no place, where, and what becomes of it; by default it is left out."""
        outcome = outcome or UNIMPORTED.get(subject, LEFT_OUT)
        self._places.setdefault((subject, outcome), []).append(place)

    def lines(self) -> Iterator[str]:
        """Yield one line for each thing and outcome, with its first places."""
        for (subject, outcome), places in self._places.items():
            names = ", ".join(name for name in places[:PLACES_SHOWN] if name)
            more = len(places) - PLACES_SHOWN
            where = f" of {names}" if names else ""
            yield f"{subject}{where}{f' and {more} more' if more > 0 else ''}: {outcome}"


class DocumentPart:
    """A mapping of a document whose keys are taken one by one; the others go to the remainder."""

    def __init__(
        self, values: object, place: str, remainder: Remainder, owner: str | None = None
    ) -> None:
        if not isinstance(values, dict):
            raise ContractError(f"{place or 'the document'}: must be a mapping: got {values!r:.60}")
        self.place, self._remainder = place, remainder
        self.owner = place if owner is None else owner  # which column or table a note is about
        self._values = {
            str(key): value for key, value in values.items() if value not in (None, "", [], {})
        }

    def take(self, key: str, kind: type[T]) -> T | None:
        """A value that must be of that type, or None."""
        value = self._values.pop(key, None)
        is_number = kind is float and isinstance(value, int) and not isinstance(value, bool)
        if value is None or is_number:
            return cast(T | None, value)
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            where = f"{self.place}.{key}".lstrip(".")
            raise ContractError(f"{where}: must be {TYPE_NAMES[kind]}: got {value!r:.60}")
        return value

    def any(self, key: str) -> Any:
        """A value of any type, or None."""
        return self._values.pop(key, None)

    def part(self, key: str) -> "DocumentPart":
        """A mapping inside; empty if there is none."""
        place = f"{self.place}.{key}".lstrip(".")
        return DocumentPart(self.take(key, dict) or {}, place, self._remainder, self.owner)

    def parts(self, key: str, name: str) -> list["DocumentPart"]:
        """The mappings of a list."""
        values, place = self.take(key, list) or [], f"{self.place} {name}".strip()
        return [
            DocumentPart(value, f"{place} {at}", self._remainder, self.owner)
            for at, value in enumerate(values, 1)
        ]

    def custom(self) -> dict[str, Any]:
        """The custom properties that an export wrote; the others are left out."""
        properties: dict[str, Any] = {}
        for part in self.parts("customProperties", "custom property"):
            name, value = part.take("property", str) or "", part.any("value")
            if name.startswith(PREFIX):
                properties[name.removeprefix(PREFIX)] = value
            else:
                self.note(f"custom property {name}")
            part.close()
        return properties

    def note(self, subject: str, outcome: str = "") -> None:
        """Name something of this mapping that has no place in a contract."""
        self._remainder.add(subject, self.owner, outcome)

    def close(self, prefix: str = "", *silent: str) -> None:
        """Name what was not taken, but for the keys in `silent`."""
        for key in self._values:
            if key not in silent:
                self._remainder.add(f"{prefix}{key}", self.owner)


def parsed_document(text: str) -> object:
    """Content of YAML or JSON.

    Raises:
        ContractError: it is neither.
    """
    try:
        return yaml.load(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # noqa: S506
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise ContractError(f"line {line}: not valid YAML: {error.problem}") from None
