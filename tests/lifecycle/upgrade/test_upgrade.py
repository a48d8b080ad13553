"""`lifecycle upgrade` with real migrations, a trained model and an endpoint."""

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from flows.database import make_database
from lifecycle.cli.main import app
from lifecycle.lake.read import read_version
from lifecycle.release.artifacts import predict_of
from lifecycle.release.registry import set_alias
from lifecycle.settings import Settings
from tests.support.small import write_project

BROKEN = f"""#!/bin/sh
# an interpreter whose migration of MLflow ends half-way
if [ "$2" = -c ]; then
    exec {sys.executable} -c "
import os, sqlite3
connection = sqlite3.connect(os.environ['UPGRADE_URL'].partition(':///')[2])
connection.executescript('DROP TABLE tags; ALTER TABLE runs RENAME TO runs_later')
raise SystemExit('no such table: runs')"
fi
exec {sys.executable} "$@"
"""


def bytes_of(home: Path) -> dict[str, bytes]:
    return {str(file): file.read_bytes() for file in home.rglob("*") if file.is_file()}


@pytest.mark.system
def test_a_broken_migration_changes_nothing_and_a_good_one_is_done(
    tmp_path: Path, train: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings(home=tmp_path / ".lifecycle")
    made = train(write_project(tmp_path), settings)
    model = made.register().model
    set_alias(model, "champion", settings)
    make_database(settings.folder("prefect") / "prefect.db")
    rows = read_version(made.split.holdout).head(5)[list(made.project.input_columns)]
    expected = predict_of(model, settings)(rows)
    before = bytes_of(settings.home)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PREFECT_API_URL", raising=False)

    def upgrade(python: Path) -> Any:
        return CliRunner().invoke(app, ["upgrade", "--python", str(python)])

    broken = tmp_path / "broken"
    broken.write_text(BROKEN)
    broken.chmod(0o755)
    begin = time.monotonic()
    answer = upgrade(broken)
    assert np.array_equal(predict_of(model, settings)(rows), expected)
    assert time.monotonic() - begin < 60
    assert answer.exit_code == 1, answer.output
    assert answer.stdout.startswith("dev is as it was (")
    assert f"fail MLflow    {broken} ended with 1: no such table: runs" in answer.stdout
    after = bytes_of(settings.home)
    assert {file: after[file] for file in before} == before
    assert {Path(file).name for file in after.keys() - before.keys()} <= {
        ".upgrade.lock",
        "warm-server.start",
        "warm-server.users",
    }

    good = tmp_path / "good"
    good.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    good.chmod(0o755)
    answer = upgrade(good)
    assert answer.exit_code == 0, answer.output
    assert answer.stdout.startswith("dev is upgraded (")
    assert "1 version, 94 rows of their holdouts: every answer is equal" in answer.stdout
    assert "ok   endpoint  small v1 answered " in answer.stdout
    assert len(list(settings.home.rglob("*.db.before-*"))) == 2
