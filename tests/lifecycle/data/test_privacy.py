"""Pseudonyms of personal data, and the key they are made with."""

import hashlib
import hmac
import stat
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from pydantic import SecretStr

from lifecycle.data.privacy import pii_key, pseudonym
from lifecycle.errors import SettingsError
from lifecycle.settings import Settings


def test_a_pseudonym_is_the_keyed_hash_of_the_text() -> None:
    expected = hmac.new(b"key", "Ada Lövelace".encode(), hashlib.sha256).hexdigest()
    assert pseudonym(["Ada Lövelace"], b"key") == [expected]
    assert pseudonym(["Ada Lövelace"], b"other") != [expected]


def test_one_person_has_one_pseudonym_in_every_type() -> None:
    values = [7, 7.0, "7", np.int64(7), np.float32(7), pd.array([7], dtype="Int64")[0]]
    assert len(set(pseudonym(values, b"key"))) == 1
    assert len(set(pseudonym([7, 7.5, "07", True], b"key"))) == 4
    day = datetime(2024, 5, 1)
    assert len(set(pseudonym([day, pd.Timestamp(day), day.isoformat()], b"key"))) == 1


def test_what_is_missing_stays_missing() -> None:
    assert pseudonym([None, float("nan"), np.float64("nan"), pd.NA, pd.NaT], b"key") == [None] * 5


def test_the_key_is_made_once_and_is_its_owners_alone(settings: Settings) -> None:
    with ThreadPoolExecutor(8) as pool:
        keys = set(pool.map(lambda _: pii_key(settings), range(32)))
    assert len(keys) == 1
    assert len(keys.pop()) == 64
    file = settings.home / "pii-key"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert [path.name for path in settings.home.iterdir()] == ["pii-key"]


def test_the_settings_key_wins_and_must_not_be_empty(tmp_path: Path) -> None:
    own = Settings(home=tmp_path, pii_key=SecretStr("ours"))
    assert pii_key(own) == b"ours"
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(SettingsError, match="LIFECYCLE_PII_KEY: is empty"):
        pii_key(Settings(home=tmp_path, pii_key=SecretStr("")))


def test_a_key_that_cannot_be_read_is_told(settings: Settings) -> None:
    settings.folder("pii-key")
    with pytest.raises(SettingsError, match="set LIFECYCLE_PII_KEY"):
        pii_key(settings)
