"""Personal data: a keyed hash that stands for a value, so that rows can be joined, not read."""

import hmac
import secrets
from collections.abc import Iterable
from datetime import date, datetime

import numpy as np
import pandas as pd

from lifecycle.errors import SettingsError
from lifecycle.settings import Settings, made_once

FILE = "pii-key"


def pii_key(settings: Settings) -> bytes:
    """The key of the hashes: the settings' own, else a random one made once and kept in `home`.

    Whoever has it can test guesses (there are few birthdays), so the file is its owner's alone.

    Raises:
        SettingsError: the key is empty, or the file cannot be read or made.
    """
    if settings.pii_key is not None:
        key = settings.pii_key.get_secret_value().encode()
        if not key:
            raise SettingsError("LIFECYCLE_PII_KEY: is empty; give a long random text")
        return key
    file = settings.folder() / FILE
    try:
        return made_once(file, secrets.token_hex(32), 0o600).encode()
    except OSError as error:
        raise SettingsError(
            f"{file}: cannot keep the key of personal data there ({error.strerror}); "
            "set LIFECYCLE_PII_KEY"
        ) from None


def pseudonym(values: Iterable[object], key: bytes, purpose: bytes = b"") -> list[str | None]:
    """HMAC-SHA256 (RFC 2104) of each value as 64 hexadecimal digits; None stays None, NaN too.

    A value is hashed as text, whole numbers alike in every type: 7, 7.0 and "7" are one person.

    Args:
        purpose: begins what is hashed, so that hashes of two purposes have nothing in common.
    """
    keyed = hmac.new(key, purpose, "sha256")  # copied, not made anew: less than half the time
    hashes: list[str | None] = []
    for text in map(plain_text, values):
        if text is None:
            hashes.append(None)
            continue
        one = keyed.copy()
        one.update(text.encode())
        hashes.append(one.hexdigest())
    return hashes


def plain_text(value: object) -> str | None:
    """A value as the text that is hashed; None if it is missing."""
    if type(value) is int:  # what there is most of, beside text
        return str(value)
    if isinstance(value, str):
        return value
    if value is None or value is pd.NA or value is pd.NaT:
        return None
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float):
        if value != value:
            return None
        return str(int(value)) if value.is_integer() else repr(value)
    return value.isoformat() if isinstance(value, date | datetime) else str(value)
