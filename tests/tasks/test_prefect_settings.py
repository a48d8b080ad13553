"""A wrong setting of Prefect's: one line that names it, exit code 2, whatever is started."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SECRET = "hunter2secret"  # noqa: S105 - planted


def run(folder: Path, *command: str, **variables: str) -> subprocess.CompletedProcess[str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith("PREFECT")}
    return subprocess.run(
        [sys.executable, *command],
        cwd=folder,
        env=kept | variables,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("PREFECT_LOGGING_LEVEL", "foo", "Input should be 'DEBUG', 'INFO'"),
        ("PREFECT_API_REQUEST_TIMEOUT", "abc", "Input should be a valid number"),
        ("PREFECT_TASKS_REFRESH_CACHE", "maybe", "Input should be a valid boolean"),
        ("PREFECT_CLIENT_CUSTOM_HEADERS", SECRET, "cannot be parsed as JSON"),
        ("PREFECT_SERVER_API_CSRF_TOKEN_EXPIRATION", SECRET, "Input should be a valid timedelta"),
    ],
)
def test_it_is_named_and_a_secret_is_not_quoted(
    name: str, value: str, said: str, tmp_path: Path
) -> None:
    script = str(ROOT / "flows" / "prepare.py")
    done = run(tmp_path, script, "--project", "project.yaml", **{name: value})
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"{name}: {said}")
    assert done.stderr.count("\n") == 1
    assert SECRET not in done.stderr
    assert ("(got" in done.stderr) == (value != SECRET)


def test_one_in_a_file_of_prefect_is_told_as_such(tmp_path: Path) -> None:
    (tmp_path / "prefect.toml").write_text("[logging]\nlevel = 'foo'\n")
    done = run(tmp_path, "-c", "import flows")
    assert done.returncode == 2
    assert done.stderr.startswith("Prefect's setting level: Input should be 'DEBUG'")
    assert "prefect.toml" in done.stderr


def test_the_command_for_the_pages_says_it_too(tmp_path: Path) -> None:
    home = {"LIFECYCLE_HOME": str(tmp_path / "home"), "LIFECYCLE_MLFLOW_TRACKING_URI": "http://x:1"}
    ui = ("-c", "from lifecycle.cli.main import main; main()", "ui")
    done = run(tmp_path, *ui, PREFECT_API_REQUEST_TIMEOUT="abc", **home)
    assert done.returncode == 2
    assert done.stderr.startswith("PREFECT_API_REQUEST_TIMEOUT: Input should be a valid number")
    assert "Traceback" not in done.stderr
