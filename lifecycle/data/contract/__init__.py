"""The data contract: every row keeps it, or goes to quarantine with all its reasons.

`Checker` checks a source batch by batch in one pass.
`check_compatible` says whether a changed contract breaks those who read the data.
"""

from lifecycle.data.contract.checker import Checked, Checker
from lifecycle.data.contract.terms import Table, Terms, check_columns, latest_time, stage_terms
from lifecycle.data.contract.versions import (
    ContractChange,
    changes,
    check_compatible,
    contract_note,
    contract_of,
    last_contract,
    required_bump,
)

__all__ = [
    "Checked",
    "Checker",
    "ContractChange",
    "Table",
    "Terms",
    "changes",
    "check_columns",
    "check_compatible",
    "contract_note",
    "contract_of",
    "last_contract",
    "latest_time",
    "required_bump",
    "stage_terms",
]
