"""The share of rows that may break the contract."""

from collections.abc import Mapping

from lifecycle.errors import ContractError
from lifecycle.project import Project

REASONS_SHOWN = 8


def check_share(
    project: Project,
    counts: Mapping[str, int],
    rejected: int,
    rows: int,
    first: int,
    place: str = "",
) -> None:
    """Refuse a batch with too many rejected rows.

    Args:
        counts: rejected rows a reason.
        rejected: how many rows were rejected, of how many `rows`.
        first: number of the first of them in the source.
        place: where the rejected rows are, as a sentence.

    Raises:
        ContractError: more are rejected than `max_rejected_share` allows; counted by reason.
    """
    allowed = project.contract.max_rejected_share
    share = rejected / rows if rows else 0.0
    if share <= allowed:
        return
    ordered = sorted(counts.items(), key=lambda item: -item[1])
    lines = [f"  {reason}: {count:,} rows" for reason, count in ordered[:REASONS_SHOWN]]
    if len(ordered) > REASONS_SHOWN:
        lines.append(f"  and {len(ordered) - REASONS_SHOWN} more reasons")
    raise ContractError(
        f"{project.source.path}: {rejected:,} of {rows:,} rows ({share:.2%}) break the "
        f"contract, and contract.max_rejected_share allows {allowed:.2%}:\n"
        + "\n".join(lines)
        + f"\nThe first is row {first}. {place}"
        "Correct the data, or what the contract says of them"
    )
