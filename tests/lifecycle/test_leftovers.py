"""What a killed process leaves is swept by the next; what lives, or is another's, stays."""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from lifecycle import leftovers
from lifecycle.leftovers import MAKER, is_alive, mark, sweep, sweep_files, temporary_prefix


@pytest.fixture
def gone() -> int:
    """The number of a process that has ended."""
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    return ended.pid


@pytest.fixture(autouse=True)
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leftovers, "SHARED", tmp_path / "shm")
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
    names = [f".mlflow.db.{gone}", f".mlflow.db.{gone}-journal"]
    kept = [f".mlflow.db.{os.getpid()}", "mlflow.db", f"mlflow.db.{gone}", ".mlflow.db.bak"]
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
