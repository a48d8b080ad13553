import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def folder() -> Iterator[Path]:
    """Short, since HAProxy's socket is in it."""
    with tempfile.TemporaryDirectory(prefix="lf-", dir="/tmp") as made:
        inner = Path(made) / "node"
        inner.mkdir(mode=0o700)
        yield inner
