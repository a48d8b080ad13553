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
import shutil
import signal
import tempfile
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

READABLE = 0o666
"""Mode of a new file, less the process's umask."""
WRITING_NAME = re.compile(r"\..+\.\d+-[0-9a-f]{8}")
MAKER = "LIFECYCLE_MAKER"
"""Variable by which workers know whose they are; the number of the process that started them."""
TEMPORARY = "lc-"
"""Begins the names of our folders in the temporary one, before the number of their process."""
SHARED = Path("/dev/shm")  # noqa: S108 - where joblib keeps arrays for its workers
SHARED_NAME = re.compile(r"^(?:joblib_memmapping_folder_|sem\.loky-|loky-)(\d+)[-_]")
TEMPORARY_NAME = re.compile(rf"^{TEMPORARY}(\d+)-")
WORKERS = (b"joblib.externals.loky", b"loky.backend")
"""What the command lines of joblib's workers, and of those who look after them, have in them."""


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
    """Return whether a name is that of a file being written, or left by a killed process."""
    return WRITING_NAME.fullmatch(name) is not None


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


# What a process that was killed could not take away: swept by the next one that starts.
#
# Only what names its maker is swept, and only if that is gone: folders, files in shared memory and
# half-made databases bear a process's number, and worker processes have it in their environment.
# All of it is on this machine, and of this user.


def mark() -> None:
    """Let the processes that this one starts bear its number."""
    os.environ[MAKER] = str(os.getpid())


def temporary_prefix() -> str:
    """Return the prefix of the names of this process's temporary folders."""
    return f"{TEMPORARY}{os.getpid()}-"


def sweep(*parents: Path) -> list[str]:
    """End orphaned workers and delete what killed processes left; what it was, in words.

    Args:
        parents: temporary folders, next to the usual one.
    """
    swept = [f"worker process {process}" for process in _end_workers()]
    folders = {Path(tempfile.gettempdir()), *parents}
    places = [*((folder, TEMPORARY_NAME) for folder in folders), (SHARED, SHARED_NAME)]
    for folder, name in places:
        for path in _orphans(folder, name):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            else:
                with suppress(OSError):
                    path.unlink()
            swept.append(str(path))
    return swept


def sweep_files(folder: Path, stem: str) -> None:
    """Delete files `<stem><process>-…` of processes that are gone, and SQLite's next to them.

    Args:
        stem: such as `.mlflow.db.`.
    """
    name = re.compile(rf"^{re.escape(stem)}(\d+)-[0-9a-f]+(?:-journal|-wal|-shm)?$")
    for path in _orphans(folder, name):
        with suppress(OSError):
            path.unlink()


def is_alive(process: int) -> bool:
    """Return whether a process of this machine runs."""
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True


def _orphans(folder: Path, name: re.Pattern[str]) -> Iterator[Path]:
    """Entries of this user that bear the number of a process that is gone."""
    with suppress(OSError):
        for path in list(folder.iterdir()):
            match = name.match(path.name)
            with suppress(OSError):
                if match and not is_alive(int(match[1])) and path.lstat().st_uid == os.getuid():
                    yield path


def _end_workers() -> Iterator[int]:
    """Workers of joblib whose maker is gone; they would wait for five minutes, memory in hand."""
    marker = f"{MAKER}=".encode()
    for folder in Path("/proc").glob("[0-9]*"):  # there is none but on Linux
        with suppress(OSError, ValueError):
            command = (folder / "cmdline").read_bytes()
            if not any(worker in command for worker in WORKERS):
                continue
            variables = (folder / "environ").read_bytes().split(b"\0")
            made_by = [
                int(variable.removeprefix(marker))
                for variable in variables
                if variable.startswith(marker)
            ]
            if made_by and not is_alive(made_by[0]):
                process = int(folder.name)
                os.kill(process, signal.SIGKILL)
                yield process
