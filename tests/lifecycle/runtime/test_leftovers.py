"""What a killed process leaves is swept by the next; what lives, or is another's, stays."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
import pytest

from lifecycle.runtime import files
from lifecycle.runtime.files import (
    MAKER,
    SHARED,
    is_alive,
    mark,
    sweep,
    sweep_files,
    temporary_prefix,
)


@pytest.fixture
def gone() -> int:
    """The number of a process that has ended."""
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    return ended.pid


@pytest.fixture(autouse=True)
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "SHARED", tmp_path / "shm")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    for name in ("shm", "tmp"):
        (tmp_path / name).mkdir()


def test_folders_and_shared_memory_of_the_dead_go(tmp_path: Path, gone: int) -> None:
    dead = [
        tmp_path / "tmp" / f"lc-{gone}-abc",
        tmp_path / "shm" / f"joblib_memmapping_folder_{gone}_x_y",
        tmp_path / "shm" / f"sem.loky-{gone}-1",
    ]
    alive = [
        tmp_path / "tmp" / f"{temporary_prefix()}abc",
        tmp_path / "tmp" / "lc-project",
        tmp_path / "tmp" / f"other-{gone}-abc",
        tmp_path / "shm" / f"joblib_memmapping_folder_{os.getpid()}_x_y",
    ]
    for path in (*dead, *alive):
        path.mkdir()
        (path / "array.pkl").write_text("x")
    swept = sweep()
    assert sorted(swept) == sorted(map(str, dead))
    assert [path.exists() for path in dead] == [False] * 3
    assert all((path / "array.pkl").exists() for path in alive)


def test_half_made_databases_of_the_dead_go(tmp_path: Path, gone: int) -> None:
    names = [f".mlflow.db.{gone}-01234567", f".mlflow.db.{gone}-01234567-journal"]
    alive = f".mlflow.db.{os.getpid()}-01234567"
    kept = [alive, "mlflow.db", f"mlflow.db.{gone}-01234567", ".mlflow.db.bak"]
    for name in (*names, *kept):
        (tmp_path / name).write_text("")
    sweep_files(tmp_path, ".mlflow.db.")
    assert {path.name for path in tmp_path.iterdir() if path.is_file()} == set(kept)


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="workers are found through /proc")
def test_workers_of_the_dead_are_ended_and_no_others(gone: int) -> None:
    code = "import sys, time; 'joblib.externals.loky.backend.popen_loky_posix'; time.sleep(60)"
    orphan, child, stranger = (
        subprocess.Popen([sys.executable, "-c", code], env=os.environ | extra)
        for extra in ({MAKER: str(gone)}, {MAKER: str(os.getpid())}, {})
    )
    plain = subprocess.Popen(
        [sys.executable, "-c", "import time; time.sleep(60)"], env=os.environ | {MAKER: str(gone)}
    )
    others = [child, stranger, plain]
    try:
        end = time.monotonic() + 20
        while orphan.poll() is None and time.monotonic() < end:
            sweep()
            time.sleep(0.1)
        assert orphan.poll() == -9
        assert [other.poll() for other in others] == [None] * 3
    finally:
        for process in (orphan, *others):
            process.kill()
            process.wait()


def test_a_process_marks_what_it_starts(monkeypatch: pytest.MonkeyPatch, gone: int) -> None:
    monkeypatch.setenv(MAKER, str(gone))
    mark()
    assert int(os.environ[MAKER]) == os.getpid()
    assert is_alive(os.getpid())
    assert not is_alive(gone)


KILLED = """
import os, signal, sys
from pathlib import Path

import numpy as np
from joblib import Parallel, delayed
from joblib.externals.loky import get_reusable_executor
from joblib.externals.loky.backend.resource_tracker import _resource_tracker

from lifecycle.runtime import cluster, files
from lifecycle.release import mlflow_store as store
from lifecycle.settings import Settings

files.mark()
print(cluster._temp_folder(), flush=True)
Parallel(n_jobs=2, max_nbytes=1)(delayed(np.sum)(np.arange(99_999.0)) for _ in range(4))
print(*get_reusable_executor(2)._processes, flush=True)

def killed(*_):  # with what looks after its shared memory, as where memory ran out
    os.kill(_resource_tracker._pid, signal.SIGKILL)
    os.kill(os.getpid(), signal.SIGKILL)

os.link = killed  # the database is made, and not yet in place
store.connect(Settings(home=Path(sys.argv[1])))
"""
NEXT = """
import sys
from pathlib import Path
from lifecycle.runtime import cluster
from lifecycle.release import mlflow_store as store
from lifecycle.settings import Settings

cluster._start = lambda *_: None  # what is swept, is swept before Ray starts
settings = Settings(home=Path(sys.argv[1]))
with cluster.connect_ray(settings):
    pass
store.connect(settings)
"""


@pytest.mark.system
@pytest.mark.skipif(not Path("/proc/self").exists(), reason="workers are found through /proc")
def test_what_a_sigkill_leaves_is_gone_after_the_next_run(tmp_path: Path) -> None:
    home = tmp_path / "home"

    def run(code: str) -> subprocess.Popen[str]:
        with (
            (tmp_path / "said").open("w") as said,
            subprocess.Popen(
                [sys.executable, "-c", code, str(home)],
                env=os.environ | {"TMPDIR": str(tmp_path / "tmp")},
                stdout=said,
                text=True,
            ) as process,
        ):
            process.wait(120)
        return process

    def left(number: int) -> list[Path]:
        there = [*SHARED.glob(f"*{number}*"), *home.rglob(f".mlflow.db.{number}*"), folder]
        return [path for path in there if path.exists()]

    first = run(KILLED)
    lines = (tmp_path / "said").read_text().splitlines()
    folder, processes = Path(lines[0]), [int(one) for one in lines[1].split()]
    assert first.returncode == -signal.SIGKILL
    names = " ".join(path.name for path in left(first.pid))
    assert f"lc-{first.pid}-" in names
    assert f".mlflow.db.{first.pid}" in names
    assert f"joblib_memmapping_folder_{first.pid}" in names
    assert all(map(_runs, processes))

    second = run(NEXT)
    assert second.returncode == 0
    assert left(first.pid) == []
    assert not any(map(_runs, processes))
    assert (home / "mlflow.db").exists()


def _runs(process: int) -> bool:
    """Whether it does anything: one that was killed may wait for somebody to ask how it ended."""
    try:
        return psutil.Process(process).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
