"""What runs leave behind: nothing beside a state folder of any name, no secret anywhere in it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.support.planted import PLANTED, SECRETS, planted_in
from tests.support.small import SMALL, small_frame

ROOT = Path(__file__).parents[2]
NAME = "a?x=1 #2 ä&b::c 100% d+e;f@g {h} 'i' <j> ~k $l *m (n)!,"
CLI = ("-c", "from lifecycle.cli.main import main; main()")
QUOTES_ALL = "def build(inputs):\n    import os\n    raise ValueError(dict(os.environ))\n"
UNFORESEEN = """
import os, sys
import tasks.data

def split_dataset(*_):
    raise KeyError(dict(os.environ))

tasks.data.split.split_dataset = split_dataset
from flows.command import run_flow
run_flow("prepare", [])
"""

pytestmark = pytest.mark.system


def run(folder: Path, *command: str, code: int = 0, **variables: str) -> str:
    """What a command of ours says in a working folder with the state folder in it."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("PREFECT", "LIFECYCLE"))}
    places = {
        "LIFECYCLE_HOME": str(folder / NAME),
        "LIFECYCLE_OPENLINEAGE": str(folder / NAME / "events.jsonl"),
        "PYTHONPATH": str(ROOT),
        "LIFECYCLE_KEEP_WARM": "0",
    }
    done = subprocess.run(
        [sys.executable, *command],
        cwd=folder,
        env=kept | PLANTED | places | variables,
        capture_output=True,
        text=True,
        check=False,
    )
    said = done.stdout + done.stderr
    assert done.returncode == code, said
    assert ("Traceback" in said) == (code == 1), said
    assert "planted" not in said
    return said


def flow(name: str) -> tuple[str, ...]:
    return str(ROOT / "flows" / f"{name}.py"), "--project", "project.yaml"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working folder in which a model was trained."""
    folder = tmp_path_factory.mktemp("odd")
    small_frame().to_csv(folder / "small.csv", index=False)
    checks = {"require_checks": False, "gain_over_baseline": -1.0}
    (folder / "project.yaml").write_text(yaml.safe_dump(SMALL | {"gate": checks}))
    for name in ("prepare", "train"):
        run(folder, *flow(name))
    return folder


def test_stages_and_commands_stay_in_a_home_of_any_name(folder: Path) -> None:
    assert "accepted" in run(folder, *CLI, "versions", "project.yaml")
    assert json.loads(run(folder, *CLI, "lineage", "project.yaml", "model:1", "--json"))
    found = run(folder, *CLI, "erase", "project.yaml", "--entity", "1001", "--dry-run", code=2)
    assert "accepted" in found
    assert {path.name for path in folder.iterdir()} == {"small.csv", "project.yaml", NAME}
    made = {path.name for path in (folder / NAME).iterdir()}
    assert {"lake", "mlflow.db", "mlartifacts", "prefect", "events.jsonl"} <= made
    assert (folder / NAME / "prefect" / "prefect.db").is_file()


def test_no_secret_is_kept_by_runs_that_end_well_or_fail(folder: Path) -> None:
    home = folder / NAME
    (folder / "features.py").write_text(QUOTES_ALL)
    project = (folder / "project.yaml").read_text()
    (folder / "project.yaml").write_text(f"{project}features: features:build\n")
    assert "***" in run(folder, *flow("train"), code=2)
    (folder / "project.yaml").write_text(project.replace("holdout: 0.25", "holdout: 0.3"))
    assert "***" in run(folder, "-c", UNFORESEEN, code=1)
    run(folder, *flow("train"), code=2, LIFECYCLE_SERVE_TLS_CERT="/no/such.pem")
    for name in ("LIFECYCLE_MLFLOW_TRACKING_URI", "LIFECYCLE_RAY_ADDRESS"):
        run(folder, *flow("train"), code=2, **{name: SECRETS[name]})
    lineage = {"LIFECYCLE_OPENLINEAGE": SECRETS["LIFECYCLE_OPENLINEAGE"]}
    run(folder, *flow("prepare"), **lineage)  # nobody there, which is a warning
    database = (home / "prefect" / "prefect.db").read_bytes()
    wal = home / "prefect" / "prefect.db-wal"
    database += wal.read_bytes() if wal.exists() else b""
    assert b"KeyError" in database
    assert b'"FAIL"' in (home / "events.jsonl").read_bytes()
    assert [*planted_in(home)] == []
