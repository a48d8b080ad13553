"""An installed wheel: it has what it needs at run time, and works in any folder."""

import os
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import venv
from collections.abc import Callable

import pytest

from tests.support.checkout import LEFT_OUT
from tests.support.small import ROOT, small_frame

Lifecycle = Callable[..., "subprocess.CompletedProcess[str]"]


def test_every_package_is_in_the_wheel() -> None:
    setuptools = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    roots = [ROOT / name for name in ("flows", "tasks", "lifecycle")]
    folders = {file.parent.relative_to(ROOT) for root in roots for file in root.rglob("*.py")}
    shipped = set(setuptools["package-dir"]) - {""}
    assert set(setuptools["packages"]) == {".".join(f.parts) for f in folders} | shipped


@pytest.fixture(scope="module")
def lifecycle(tmp_path_factory: pytest.TempPathFactory) -> Lifecycle:
    """The command of a wheel, built from a copy, in an environment with our libraries."""
    folder = tmp_path_factory.mktemp("wheel")
    source, wheels, place = folder / "source", folder / "wheels", folder / "venv"
    shutil.copytree(ROOT, source, ignore=shutil.ignore_patterns(*LEFT_OUT, "build"))
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q"]
    build = [*pip, "wheel", "--no-deps", "--no-build-isolation", "-w", str(wheels), str(source)]
    subprocess.run(build, check=True)
    venv.create(place, with_pip=False, symlinks=True)
    program = place / "bin" / "python"
    [packages] = place.glob("lib/python*/site-packages")
    # a line of a .pth file adds the folder alone: not what is installed there to be edited
    (packages / "libraries.pth").write_text(sysconfig.get_path("purelib") + "\n")
    [wheel] = wheels.glob("*.whl")
    install = [*pip, "--python", str(program), "install", "--no-deps", "--no-index", str(wheel)]
    subprocess.run(install, check=True)
    work = folder / "work"
    work.mkdir()
    small_frame().to_csv(work / "small.csv", index=False)
    own = {k: v for k, v in os.environ.items() if not k.startswith(("PREFECT", "LIFECYCLE"))}
    own |= {"LIFECYCLE_KEEP_WARM": "0"}

    def run(*arguments: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [program.with_name("lifecycle"), *arguments],
            cwd=work,
            env=own,
            capture_output=True,
            text=True,
            check=False,
        )

    return run


@pytest.mark.system
def test_an_installed_wheel_works_in_another_folder(lifecycle: Lifecycle) -> None:
    shown = lifecycle("--version")
    assert (shown.returncode, shown.stdout.split()[0]) == (0, "lifecycle"), shown.stderr
    made = lifecycle("init", "small.csv", "--target", "bought")
    assert made.returncode == 0, made.stderr
    assert "run end_to_end project.yaml" in made.stdout
    sound = lifecycle("validate")
    assert (sound.returncode, "project.yaml: sound" in sound.stdout) == (0, True), sound.stderr
    profiled = lifecycle("profile", "small.csv")
    assert profiled.returncode == 0, f"the template of the page: {profiled.stderr}"


@pytest.mark.system
def test_a_wheel_knows_its_environments_and_refuses_others(lifecycle: Lifecycle) -> None:
    assert "dev, prod, staging" in lifecycle("versions", "--help").stdout
    # found in the wheel: its service is asked, and is not there
    staging = lifecycle("run", "train", "--env", "staging")
    assert staging.returncode == 2
    refused = lifecycle("versions", "--env", "qa")
    assert refused.returncode == 2
    for place in ("work/deployments/qa.env", "site-packages/lifecycle/deployments/qa.env"):
        assert place in refused.stderr
    schema = lifecycle("schema")
    assert schema.stdout == "Wrote project.schema.json\n", schema.stderr


@pytest.mark.system
def test_a_flow_of_an_installed_wheel_runs(lifecycle: Lifecycle) -> None:
    made = lifecycle("init", "small.csv", "--target", "bought", "--force")
    assert made.returncode == 0, made.stderr
    prepared = lifecycle("run", "prepare")
    assert prepared.returncode == 0, prepared.stderr
    listed = lifecycle("versions")
    assert "accepted@0" in listed.stdout, listed.stderr
