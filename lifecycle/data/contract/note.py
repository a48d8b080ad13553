"""The contract a dataset version was made under, kept in the note of its commit."""

import logging
from collections.abc import Mapping

from pydantic import ValidationError

from lifecycle.lake import history, table_uri
from lifecycle.project import ContractSpec
from lifecycle.settings import Settings

logger = logging.getLogger(__name__)

VERSION = "contract"
SPEC = "contract_spec"
TABLE = "accepted"
"""The table whose versions are ingested under the contract."""


def contract_note(contract: ContractSpec) -> dict[str, str]:
    """What a commit says of the contract: `contract`, its version, and `contract_spec`, all of it
    that is not default, as JSON in the order of the declaration."""
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
    notes = history(table_uri(settings, project_name, TABLE))["note"]
    return contract_of(notes.iloc[-1]) if len(notes) else None
