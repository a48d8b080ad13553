"""The audit trail of model versions: every change of version of a project, hash-chained."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import pyarrow as pa

from lifecycle.audit.chain import LINE, Chain
from lifecycle.errors import OvertakenError
from lifecycle.lake.table import table_uri
from lifecycle.records import Action, Change, ModelVersion
from lifecycle.settings import Settings

TABLE = "audit"
TURN = "turn"
"""Topic of the lines that change a version or claim to."""
SCHEMA = pa.schema(
    {
        LINE: pa.int64(),
        "time": pa.string(),
        "who": pa.string(),
        "action": pa.string(),
        "model": pa.string(),
        "version": pa.int64(),
        "digest": pa.string(),
        "identity": pa.string(),
        "reasons": pa.list_(pa.string()),
        "previous": pa.string(),
        "hash": pa.string(),
    }
)
BY_HAND = "ended by hand."
"""Ends the first reason of a rejection by `--rollback`."""
CROWNING = ("promote", "rollback")
"""Actions after which another version is the champion."""
NOTES = ("not released", "export", "import", "approve", "decline")
"""Actions that change nothing of what is served."""


def model_chain(settings: Settings, project_name: str) -> Chain[Change]:
    """The lines on a project's model versions."""
    return Chain(table_uri(settings, project_name, TABLE), Change, SCHEMA, _topics)


@dataclass(frozen=True)
class Trail:
    """The trail of one project, written in the name of a person or run."""

    settings: Settings
    project_name: str
    who: str

    def record(self, action: Action, model: ModelVersion, reasons: Sequence[str] = ()) -> Change:
        """Append a line; what a run before this one has said already is not said twice.

        A change that makes a champion is there if the newest such line names the version; any
        other if it is the last line of all. The line that is there is returned then.

        Raises:
            BackendError: the trail cannot be read or written.
        """
        line = self._line(action, model, reasons)
        return self._chain.append(line, lambda last: _is_same(last, line))

    def claim(self, model: ModelVersion, reasons: Sequence[str], base: str) -> Change:
        """Append an `import` line if nobody changed the versions since somebody looked.

        Of those who looked at the same line exactly one succeeds. Whoever looked at their own
        claim has been cut short after it, and gets it back.

        Args:
            base: `standing` when they looked.

        Raises:
            OvertakenError: somebody did; says who, what and when.
            BackendError: the trail cannot be read or written.
        """
        line = self._line("import", model, reasons)

        def is_own(newest: Change) -> bool:
            if newest.hash != base:
                raise OvertakenError(
                    f"{newest} by {newest.who} on {newest.time[:19].replace('T', ' ')} came first"
                )
            return newest.action == "import" and newest.digest == line.digest

        return self._chain.append(line, is_own)

    def changes(self) -> list[Change]:
        """Changes as of `history`."""
        return self._chain.lines()

    def mark(self) -> int:
        """The number of the trail's last commit, which moves when anybody adds a line; cheap.

        Raises:
            BackendError: the trail cannot be read.
        """
        return self._chain.mark()

    def _line(self, action: Action, model: ModelVersion, reasons: Sequence[str]) -> Change:
        return Change(
            time=datetime.now(UTC).isoformat(timespec="milliseconds"),
            who=self.who,
            action=action,
            model=model.name,
            version=model.version,
            digest=model.digest,
            identity=model.identity,
            reasons=tuple(reasons),
        )

    @property
    def _chain(self) -> Chain[Change]:
        return model_chain(self.settings, self.project_name)


def history(settings: Settings, project_name: str) -> list[Change]:
    """Every change of a project's versions, oldest first; none if there is no trail yet.

    Raises:
        BackendError: the trail cannot be read.
    """
    return model_chain(settings, project_name).lines()


def verify(settings: Settings, project_name: str) -> str | None:
    """Describe the first line that was altered; None if the chain is intact.

    Raises:
        BackendError: the trail cannot be read.
    """
    return model_chain(settings, project_name).broken()


def decisive(changes: Sequence[Change]) -> list[Change]:
    """The changes without attempts and notes, which changed nothing."""
    return [change for change in changes if change.action not in NOTES]


def standing(changes: Sequence[Change]) -> str:
    """The hash of the last line that changed a version or claimed to; empty without one."""
    lines = [change for change in changes if _turns(change)]
    return lines[-1].hash if lines else ""


def approval_of(changes: Sequence[Change], digest: str) -> Change | None:
    """The approval of a bundle that holds still: nobody declined it, and no version changed since.

    The bundle's own claim is no such change: a promotion that was cut short goes on with it.
    """
    for change in reversed(changes):
        if change.digest == digest and change.action in ("approve", "decline"):
            return change if change.action == "approve" else None
        if _turns(change) and not (change.action == "import" and change.digest == digest):
            return None
    return None


def _turns(change: Change) -> bool:
    return change.action == "import" or change.action not in NOTES


def champions(changes: Sequence[Change]) -> list[int]:
    """Versions that were champion, oldest first, the last being it now.

    A rollback takes away what came after the version it went back to, so that going back twice
    goes back twice as far.
    """
    versions: list[int] = []
    for change in changes:
        if change.action == "promote":
            versions.append(change.version)
        elif change.action == "rollback":
            while versions and versions[-1] != change.version:
                versions.pop()
            versions = versions or [change.version]
    return versions


def rolled_back(changes: Sequence[Change], digest: str) -> Change | None:
    """The rollback that took the bundle of this digest away, unless it was promoted since.

    So a version does not come back by itself at the next training on the same data: what is trained
    on other data, by other code or for another project file is another bundle.
    """
    last_change: Change | None = None
    champion = ""
    for change in changes:
        if change.action in CROWNING:
            if change.digest == digest:  # a person, or a release that was told to, chose it
                last_change = None
            elif change.action == "rollback" and champion == digest:
                last_change = change
            champion = change.digest
        elif change.action == "reject" and change.digest == digest:
            last_change = change if "".join(change.reasons[:1]).endswith(BY_HAND) else last_change
    return last_change


def _topics(line: Change) -> tuple[str, ...]:
    if line.action in CROWNING:
        return ("champion", TURN, "any")
    if line.action == "import":
        return (TURN, "any")
    return ("any", TURN) if _turns(line) else ("any",)


def _is_same(last: Change, line: Change) -> bool:
    """Whether the last line on the topic of a line makes that one superfluous."""
    if line.action in CROWNING:
        return last.version == line.version
    return (last.action, last.version, last.reasons) == (line.action, line.version, line.reasons)
