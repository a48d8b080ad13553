"""A mistake ends a script with one message and exit code 2, and leaves nothing half-written."""

import re
import socket
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from flows.command import Command
from flows.prepare import prepare
from flows.release import release
from flows.train import train
from lifecycle.project import Project
from lifecycle.release.mlflow_store import connect
from lifecycle.release.registry import TARGET, TASK
from lifecycle.settings import Settings
from tests.support.small import SMALL, small_frame

pytestmark = [pytest.mark.component, pytest.mark.usefixtures("prefect_server")]

MakeProject = Callable[..., Project]


class Run:
    """Runs a flow's script in this process, on the project file `make_project` wrote."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch, capture: Any) -> None:
        self.folder, self.patch, self.capture = folder, patch, capture

    def __call__(self, flow: Any, *options: str, project: str = "project.yaml") -> str:
        """The message of a run that must fail with exit code 2."""
        file = str(self.folder / project)
        command: Command = import_module(f"flows.{flow.fn.__name__}").command
        code = command.run([file, *options])
        out, err = self.capture.readouterr()
        assert code == 2, out + err
        assert "Traceback" not in out + err
        assert err.strip(), "no message"
        return str(err)


@pytest.fixture
def run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Iterator[Run]:
    monkeypatch.setenv("LIFECYCLE_HOME", str(tmp_path / "home"))
    yield Run(tmp_path, monkeypatch, capfd)
    tables = [log for log in (tmp_path / "home").rglob("_delta_log") if not any(log.glob("*.json"))]
    assert tables == [], "a table without a commit is half-written"


def columns(**changes: Any) -> dict[str, Any]:
    contract = SMALL["contract"]
    return contract | {"columns": contract["columns"] | changes}


def test_missing_project_file(run: Run) -> None:
    message = run(prepare, project="nowhere.yaml")
    assert "nowhere.yaml" in message
    assert "lifecycle init" in message


def test_missing_data_file(run: Run, make_project: MakeProject, tmp_path: Path) -> None:
    make_project()
    (tmp_path / "small.csv").unlink()
    assert "small.csv" in run(prepare)


def test_unreadable_csv(run: Run, make_project: MakeProject, tmp_path: Path) -> None:
    make_project()
    (tmp_path / "small.csv").write_bytes(bytes(range(256)) * 40)
    assert "small.csv" in run(prepare)


def test_missing_target_column(run: Run, make_project: MakeProject) -> None:
    make_project(small_frame().drop(columns="bought"))
    assert "'bought'" in run(prepare)


def test_contract_violated(run: Run, make_project: MakeProject) -> None:
    make_project(small_frame().assign(city="Atlantis"))
    message = run(prepare)
    assert "city" in message
    assert "max_rejected_share" in message


def test_a_name_that_models_of_another_target_have(
    run: Run, make_project: MakeProject, tmp_path: Path
) -> None:
    client = connect(Settings(home=tmp_path / "home"))
    client.create_registered_model("small")
    client.create_model_version("small", "file:///a", tags={TASK: "count", TARGET: "visits"})
    make_project(small_frame().drop(columns="bought"))  # not read
    message = run(train)
    assert "'small' has been the name of models with task 'count' and target 'visits'" in message
    assert "choose another name" in message


def test_constant_target(run: Run, make_project: MakeProject) -> None:
    regression = columns(bought={"type": "number"})
    make_project(small_frame().assign(bought=3.5), task="regression", contract=regression)
    assert re.search("bought.*constant", run(prepare))


def test_one_class_only(run: Run, make_project: MakeProject) -> None:
    make_project(small_frame().assign(bought=1))
    assert re.search("bought.*one class", run(prepare))


def test_empty_holdout(run: Run, make_project: MakeProject) -> None:
    make_project(small_frame().assign(customer=1))
    assert "split" in run(prepare)


def test_unknown_column_in_the_project(run: Run, make_project: MakeProject, tmp_path: Path) -> None:
    make_project()
    file = tmp_path / "project.yaml"
    file.write_text(file.read_text() + "leakage: [cty]\n")
    message = run(prepare)
    assert re.search(r"project\.yaml:\d+: .*'cty'", message)


def test_unknown_key_in_the_project(run: Run, make_project: MakeProject, tmp_path: Path) -> None:
    make_project()
    file = tmp_path / "project.yaml"
    file.write_text(file.read_text() + "tunning: {trials: 3}\n")
    message = run(prepare)
    assert re.search(r"project\.yaml:\d+: tunning: unknown key; did you mean 'tuning'", message)


def test_no_champion_yet(run: Run, make_project: MakeProject) -> None:
    make_project()
    message = run(release)
    assert "challenger" in message
    assert "`lifecycle run train " in message


def test_ray_not_startable(
    run: Run, make_project: MakeProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_project()
    with socket.socket() as free:  # bound, not listening: nothing answers there
        free.bind(("127.0.0.1", 0))
        monkeypatch.setenv("LIFECYCLE_RAY_ADDRESS", f"127.0.0.1:{free.getsockname()[1]}")
        message = run(train)
    assert "LIFECYCLE_RAY_ADDRESS" in message


def test_wrong_setting(
    run: Run, make_project: MakeProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_project()
    monkeypatch.setenv("LIFECYCLE_SERVE_PORT", "eighty")
    assert "LIFECYCLE_SERVE_PORT" in run(prepare)


def test_quarantine_is_kept_when_a_batch_is_refused(
    run: Run, make_project: MakeProject, tmp_path: Path
) -> None:
    make_project(small_frame().assign(visits=-1))
    run(prepare)
    home = tmp_path / "home"
    assert list(home.rglob("rejected/_delta_log/*.json"))
    assert not list(home.rglob("accepted/_delta_log/*.json"))


def test_the_frame_of_these_tests_is_good() -> None:
    frame = small_frame()
    assert isinstance(frame, pd.DataFrame)
    assert set(frame["bought"]) == {0, 1}
