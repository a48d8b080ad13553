"""What a process that was killed could not take away: swept by the next one that starts.

Only what names its maker is swept, and only if that is gone: folders, files in shared memory and
half-made databases bear a process's number, and worker processes have it in their environment. All
of it is on this machine, and of this user.
"""

import os
import re
import shutil
import signal
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

MAKER = "LIFECYCLE_MAKER"
"""Variable by which workers know whose they are; the number of the process that started them."""
TEMPORARY = "lc-"
"""Begins the names of our folders in the temporary one, before the number of their process."""
SHARED = Path("/dev/shm")  # noqa: S108 - where joblib keeps arrays for its workers
SHARED_NAME = re.compile(r"^(?:joblib_memmapping_folder_|sem\.loky-|loky-)(\d+)[-_]")
TEMPORARY_NAME = re.compile(rf"^{TEMPORARY}(\d+)-")
WORKERS = (b"joblib.externals.loky", b"loky.backend")
"""What the command lines of joblib's workers, and of those who look after them, have in them."""


def mark() -> None:
    """Let the processes that this one starts bear its number."""
    os.environ[MAKER] = str(os.getpid())


def temporary_prefix() -> str:
    """What the name of a folder of this process begins with."""
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
        for path in _left(folder, name):
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
    for path in _left(folder, name):
        with suppress(OSError):
            path.unlink()


def is_alive(process: int) -> bool:
    """Whether a process of this machine runs."""
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True


def _left(folder: Path, name: re.Pattern[str]) -> Iterator[Path]:
    """Entries of this user that bear the number of a process that is gone."""
    with suppress(OSError):
        for path in list(folder.iterdir()):
            found = name.match(path.name)
            with suppress(OSError):
                if found and not is_alive(int(found[1])) and path.lstat().st_uid == os.getuid():
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
            made_by = [int(one.removeprefix(marker)) for one in variables if one.startswith(marker)]
            if made_by and not is_alive(made_by[0]):
                process = int(folder.name)
                os.kill(process, signal.SIGKILL)
                yield process
