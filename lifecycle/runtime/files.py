"""Files written in one step: a reader sees the former content or the new one, never half of it.

    write_atomic(path, "text")             makes or replaces a file
    with replacing(path) as temporary: …   the same for a writer that takes a path
    create_once(path, "text", 0o600)       the first of several processes wins; all get its text
    with creating(path) as temporary: …    the same for a writer that takes a path

What is written is `.<name>.<process>-<random>` next to the file until it is complete, so that the
last step is a rename or a link within one folder. Two places have to write so by themselves, since
they import nothing from here: `ingress/launcher.py` (below this package) and
`quality/checks_program.py` (runs with another interpreter).
"""

import os
import re
import secrets
import tempfile
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from lifecycle.runtime.leftovers import temporary_prefix

READABLE = 0o666
"""Mode of a new file, less the process's umask."""
TEMPORARY_NAME = re.compile(r"\..+\.\d+-[0-9a-f]{8}")


def write_atomic(path: Path, content: str | bytes | memoryview, mode: int = READABLE) -> None:
    """Make or replace a file; text is written as UTF-8.

    Args:
        mode: permissions of the file, less the umask.

    Raises:
        OSError: the place cannot be written; what was there before is unchanged.
    """
    with replacing(path) as temporary:
        _write_new(temporary, content, mode)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A path to write to, which takes the place of `path` when the block ends without an error."""
    temporary = _temporary(path)
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def create_once(path: Path, text: str, mode: int = READABLE) -> str:
    """The text of a file that the first process to ask for it makes; the others read that one's.

    Raises:
        OSError: it cannot be made or read.
    """
    if not path.exists():
        with creating(path) as temporary:
            _write_new(temporary, text, mode)
    return path.read_text(encoding="utf-8")


@contextmanager
def creating(path: Path) -> Iterator[Path]:
    """A path to write to, which becomes `path` unless another process made that meanwhile."""
    temporary = _temporary(path)
    try:
        yield temporary
        with suppress(FileExistsError):
            os.link(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def is_temporary(name: str) -> bool:
    """Whether a file was being written; one that stays was left by a killed process."""
    return TEMPORARY_NAME.fullmatch(name) is not None


def scratch_file(owner: object) -> Path:
    """An empty file in the temporary folder, deleted when `owner` is no longer in use."""
    handle, name = tempfile.mkstemp(prefix=temporary_prefix())
    os.close(handle)
    path = Path(name)
    weakref.finalize(owner, path.unlink, missing_ok=True)
    return path


def _temporary(path: Path) -> Path:
    return path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}")


def _write_new(path: Path, content: str | bytes | memoryview, mode: int) -> None:
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with open(handle, "wb") as file:
        file.write(content.encode() if isinstance(content, str) else content)
