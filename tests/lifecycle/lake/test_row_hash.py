"""Hashes of rows are one module's, and stay: splits and repeated keys depend on them."""

from datetime import datetime

import pandas as pd
import pyarrow as pa

from lifecycle.data.contract.unique import keys_of
from lifecycle.data.split_parts import hash_share
from lifecycle.runtime.identity import PACKAGE

COLUMNS = (
    pa.array(["a", None, "", "ä"]),
    pa.array([0.0, -0.0, None, 1.5]),
    pa.array([1, None, -3, 2**62]),
    pa.array([True, False, None, True]),
    pa.array([datetime(2020, 1, 1), None, datetime(1969, 1, 1), datetime(2020, 1, 2)]),
)


def test_keys_and_shares_are_what_they_were() -> None:
    assert keys_of(COLUMNS).tolist() == [
        11038246804246489510,
        4211867499227034088,
        3236011630928088018,
        9804615115541356217,
    ]
    numbers, texts = pd.Series([1, 2, -3]), pd.Series(["a", "b"])
    assert hash_share(numbers, 7).tolist() == [
        0.23928447285727472,
        0.27598243332716743,
        0.6788274219458272,
    ]
    assert hash_share(texts, 42).tolist() == [0.500184446486588, 0.0042791730696454255]


def test_zero_is_one_value_and_missing_values_are_equal() -> None:
    keys = keys_of([pa.array([0.0, -0.0, None, None])])
    assert keys[0] == keys[1]
    assert keys[2] == keys[3] != keys[0]


def test_no_other_module_mixes_bits() -> None:
    own = {
        f"{path.relative_to(PACKAGE)}"
        for path in PACKAGE.rglob("*.py")
        if "0xBF58476D1CE4E5B9" in (text := path.read_text()) or "hash_pandas_object" in text
    }
    # the program of the checks has deepchecks' pandas, and imports nothing of ours
    assert own == {"lake/row_hash.py", "quality/checks_program.py"}
