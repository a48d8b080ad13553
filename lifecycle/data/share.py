"""The share of rows that may break the contract."""

from collections.abc import Mapping

from lifecycle.data.contract.checker import FUTURE
from lifecycle.errors import ContractError
from lifecycle.project import Project
from lifecycle.records import counted

REASONS_SHOWN = 8


def check_share(
    project: Project,
    counts: Mapping[str, int],
    rejected: int,
    rows: int,
    first: object,
    place: str = "",
    examples: Mapping[str, str] | None = None,
) -> None:
    """Refuse a batch with too many rejected rows.

    Args:
        counts: rejected rows a reason.
        rejected: how many rows were rejected, of how many `rows`.
        first: where the first of them is, such as `row 3`.
        place: where the rejected rows are, as a sentence.
        examples: a value or two of each reason, personal data masked.

    Raises:
        ContractError: more are rejected than `max_rejected_share` allows; counted by reason.
    """
    allowed = project.contract.max_rejected_share
    share = rejected / rows if rows else 0.0
    if share <= allowed:
        return
    ordered = sorted(counts.items(), key=lambda item: -item[1])
    such = {reason: f", such as {text}" for reason, text in (examples or {}).items() if text}
    lines = [
        f"  {reason}: {counted(count, 'row')}{such.get(reason, '')}"
        for reason, count in ordered[:REASONS_SHOWN]
    ]
    more = len(ordered) - REASONS_SHOWN
    if more > 0:
        lines.append(f"  and {counted(more, 'more reason')}")
    ahead = any(reason.endswith(f": {FUTURE}") for reason in counts)
    future = "; or set time.future: allow, if those times are to come" if ahead else ""
    raise ContractError(
        f"{project.source.place}: {rejected:,} of {rows:,} rows ({share:.2%}) break the "
        f"contract, and contract.max_rejected_share allows {allowed:.2%}:\n"
        + "\n".join(lines)
        + f"\nThe first is {first}. {place}"
        f"Correct the data, or what the contract says of them{future}"
    )
