"""Files are written in one step, and by one module."""

import os
import re
import stat
import threading
from pathlib import Path

import pytest

from lifecycle.runtime import files
from lifecycle.runtime.files import (
    create_once,
    creating,
    is_temporary,
    replacing,
    scratch_file,
    write_atomic,
)
from lifecycle.runtime.identity import PACKAGE

RENAMES = re.compile(r"os\.(?:replace|rename|link)\(|mkstemp\(|\.(?:replace|rename)\([a-z_./ ]+\)")
OWN_RENAMES = {
    "runtime/files.py",
    "ingress/launcher.py",  # below the runtime, and light
    "lake/manifest.py",  # a copy that is deleted while it is open
    "quality/checks_program.py",  # another interpreter's
    "release/artifacts.py",  # folders
    "runtime/fork_server.py",  # a socket
    "upgrade/databases.py",  # databases, which another program has written
    "training/bundle.py",  # folders
    "lineage/picture.py",
}


def test_a_file_is_made_and_replaced_with_its_mode(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    write_atomic(path, "first\n", 0o600)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    write_atomic(path, "zweite Fassung äöü\r\n")
    assert path.read_bytes() == "zweite Fassung äöü\r\n".encode()
    write_atomic(path, memoryview(b"\x00\xff"))
    assert path.read_bytes() == b"\x00\xff"
    assert os.listdir(tmp_path) == ["file.txt"]


def test_an_error_leaves_the_former_content(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_atomic(path, "former")

    def fail() -> None:
        with replacing(path) as temporary:
            temporary.write_text("half")
            assert is_temporary(temporary.name)
            assert path.read_text() == "former"
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    with pytest.raises(OSError, match="nowhere"):
        write_atomic(tmp_path / "nowhere" / "file", "text")
    assert (path.read_text(), os.listdir(tmp_path)) == ("former", ["file"])


def test_of_several_that_create_a_file_all_read_the_text_of_one(tmp_path: Path) -> None:
    path, texts, barrier = tmp_path / "key", [], threading.Barrier(8)

    def ask(number: int) -> None:
        barrier.wait()
        texts.append(create_once(path, f"text {number}", 0o600))

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(texts) == {path.read_text()}
    assert (os.listdir(tmp_path), stat.S_IMODE(path.stat().st_mode)) == (["key"], 0o600)


def test_a_file_that_is_there_is_not_created_again(tmp_path: Path) -> None:
    path = tmp_path / "made"
    with creating(path) as temporary:
        temporary.write_text("ours")
        path.write_text("theirs")
    assert (path.read_text(), os.listdir(tmp_path)) == ("theirs", ["made"])


def test_a_scratch_file_goes_with_its_owner() -> None:
    class Owner:
        pass

    owner = Owner()
    path = scratch_file(owner)
    assert path.read_bytes() == b""
    assert path.name.startswith(f"lc-{os.getpid()}-")
    del owner
    assert not path.exists()


@pytest.mark.parametrize("name", ["data.parquet", ".hidden", "part-0.12-abcdef01", ".x.12"])
def test_names_of_other_files_are_not_temporary(name: str) -> None:
    assert not is_temporary(name)


def test_no_other_module_writes_aside_by_itself() -> None:
    assert Path(files.__file__) == PACKAGE / "runtime/files.py"
    lines = {
        f"{path.relative_to(PACKAGE)}"
        for path in PACKAGE.rglob("*.py")
        for line in path.read_text().splitlines()
        if RENAMES.search(line) and not re.search(r"dataclasses|_replace|columns=|str\.", line)
    }
    assert lines <= OWN_RENAMES, sorted(lines - OWN_RENAMES)
