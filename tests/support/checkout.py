"""A checkout as a reader has it after `git clone` and `make demo`, in a folder of its own."""

import os
import shutil
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
LONG_AGO = 1_000_000_000
"""Modification time of the copies, in seconds since 1970: make must not install anything again."""
LEFT_OUT = (".git", ".venv*", ".lifecycle", "*.egg-info", "__pycache__", ".*_cache", ".hypothesis")


def make_checkout(folder: Path) -> Path:
    """Copy the checkout into `folder`, with this Python's environments; return `folder`."""
    shutil.copytree(
        ROOT, folder, ignore=shutil.ignore_patterns(*LEFT_OUT), copy_function=_copy, symlinks=True
    )
    _link_environment(folder / ".venv")
    (folder / ".venv-checks").symlink_to(f"{sys.prefix}-checks")
    return folder


def _copy(source: str, target: str) -> None:
    shutil.copyfile(source, target)
    os.utime(target, (LONG_AGO, LONG_AGO))


def _link_environment(venv: Path) -> None:
    """Links to the packages; scripts are copies that name the Python of this folder."""
    real = Path(sys.prefix)
    (venv / "bin").mkdir(parents=True)
    for part in real.iterdir():
        if part.name != "bin":
            (venv / part.name).symlink_to(part)
    for program in (real / "bin").iterdir():
        target, text = venv / "bin" / program.name, _script(program)
        if text is None or str(real) not in text:
            target.symlink_to(program)
            continue
        target.write_text(text.replace(str(real), str(venv)))
        target.chmod(0o755)
    (venv / ".ready").unlink(missing_ok=True)
    (venv / ".ready").touch()


def _script(program: Path) -> str | None:
    """The text of a script; None for a program."""
    if program.is_symlink() or program.stat().st_size > 100_000:
        return None
    try:
        return program.read_text()
    except UnicodeDecodeError:
        return None
