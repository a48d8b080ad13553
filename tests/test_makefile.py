"""Which interpreters `make install` chooses, and what environment commands get from make."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def interpreter(folder: Path, minor: int) -> Path:
    """A Python that says it is 3.<minor>."""
    path = folder / f"python3.{minor}"
    said = f"import sys; sys.version_info = (3, {minor}, 0)"
    path.write_text(f'#!/bin/sh\nexec {sys.executable} -I -c "{said}; $2"\n')
    path.chmod(0o755)
    return path


@pytest.mark.parametrize(
    ("minors", "bounds", "chosen"),
    [
        ((13, 11, 12), "11,99", 13),
        ((10, 14, 11), "11,99", 14),
        ((13, 14, 12, 11), "11,12", 12),
        ((11, 12), "11,12", 11),
        ((10, 13, 14), "11,12", None),
    ],
)
def test_the_first_interpreter_in_the_bounds(
    tmp_path: Path, minors: tuple[int, ...], bounds: str, chosen: int | None
) -> None:
    paths = {minor: interpreter(tmp_path, minor) for minor in minors}
    candidates = " ".join(["no-such-python", *map(str, paths.values())])
    rule = f"choice: ; @echo $$($(call FIRST,{candidates},{bounds}))"
    command = ["make", "--no-print-directory", f"--eval={rule}", "choice"]
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert found.strip() == (str(paths[chosen]) if chosen else "")


@pytest.mark.parametrize("value", ["1", ""])
def test_bytecode_is_written_whatever_the_shell_says(value: str) -> None:
    """Else each process of a command compiles the libraries that it imports."""
    name = "PYTHONDONTWRITEBYTECODE"
    command = ["make", "--no-print-directory", "--eval=shown: ; @env", "shown"]
    environment = os.environ | {name: value}
    found = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    )
    assert name not in found.stdout
    assert not sys.dont_write_bytecode, "nor in tests, by tests/conftest.py"
    assert name not in os.environ


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (["ENV=test"], "--env 'test'"),
        (["ENV=test", "PROJECT=other.yaml"], "--env 'test' --project 'other.yaml'"),
    ],
)
def test_deploy_names_a_project_only_if_one_is_given(given: list[str], told: str) -> None:
    command = ["make", "-n", "--no-print-directory", "--old-file", ".venv/.ready", "deploy", *given]
    environment = {name: value for name, value in os.environ.items() if name != "PROJECT"}
    found = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    )
    assert found.stdout.splitlines()[-1].endswith(f"-m tasks.deployments {told}")
