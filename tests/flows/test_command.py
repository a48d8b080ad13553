"""The command of a flow: its own options, one project, and a server that starts first."""

import sys
from datetime import datetime
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from flows import command as module
from flows.command import Command, run_flow
from lifecycle.cli.main import flow_summaries
from lifecycle.errors import SettingsError
from lifecycle.records import Window


def command_of(name: str) -> Command:
    command: Command = import_module(f"flows.{name}").command
    return command


@pytest.mark.parametrize("name", flow_summaries())
def test_each_flow_has_a_command_that_fills_parameters_of_the_flow(name: str) -> None:
    command = command_of(name)
    assert command.flow.fn.__name__ == name
    arguments = command.arguments(command.parse([]))
    parameters = set(command.flow.parameters.properties)
    assert {"project", "env", *arguments} <= parameters


@pytest.mark.parametrize(
    ("name", "options", "arguments"),
    [
        ("prepare", [], {"window": None}),
        ("score", ["--first", "3"], {"window": Window(first=3)}),
        (
            "train",
            ["--last", "2026-03-31", "--seeds", "5"],
            {"window": Window(last="2026-03-31"), "seeds": 5},
        ),
        ("retrain", ["--force"], {"window": None, "force": True}),
        (
            "release",
            ["--rollback", "--reason", "slow"],
            {"rollback": True, "again": False, "reason": "slow", "restore": False},
        ),
        ("erase", ["--retrain", "--entity", "7"], {"retrain": True}),
        ("monitor", [], {}),
        ("monitor", ["--as-of", "2026-03-01"], {"as_of": datetime(2026, 3, 1)}),
    ],
)
def test_options_become_arguments(name: str, options: list[str], arguments: dict[str, Any]) -> None:
    command = command_of(name)
    assert command.arguments(command.parse(options)) == arguments


@pytest.mark.parametrize(
    ("arguments", "project"),
    [
        ([], "project.yaml"),
        (["shop.yaml"], "shop.yaml"),
        (["--env", "dev", "shop.yaml", "--seeds", "2"], "shop.yaml"),
        (["--project", "shop.yaml"], "shop.yaml"),
    ],
)
def test_the_project_may_stand_anywhere(arguments: list[str], project: str) -> None:
    assert command_of("train").parse(arguments).project == project


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["a.yaml", "--project", "b.yaml"], "name the project once"),
        (["--seeds", "0"], "a whole number from 1 on (got '0')"),
        (["--force"], "unrecognized arguments: --force"),
    ],
)
def test_a_wrong_option_is_refused(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        command_of("train").parse(arguments)
    assert end.value.code == 2
    assert message in capsys.readouterr().err


def test_help_has_an_example_and_the_name_it_was_called_by(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit):
        command_of("train").parse(["--help"], "lifecycle run train")
    out = capsys.readouterr().out
    assert out.startswith("usage: lifecycle run train [-h]")
    assert "Example: lifecycle run train project.yaml" in out
    assert "dev, prod, staging" in out


@pytest.mark.parametrize(
    ("arguments", "environments"),
    [([], [None]), (["p.yaml", "--env", "staging"], ["staging"]), (["--help"], [])],
)
def test_the_server_starts_before_the_flow_is_imported(
    arguments: list[str], environments: list[str | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[Any] = []

    class Ended(Exception):
        pass

    class Flow:
        class command:
            @staticmethod
            def run(arguments: list[str], program: str) -> int:
                steps.append(program)
                return 3

    def load(env: str | None) -> str:
        if env == "staging":
            steps.append(env)
            raise SettingsError("reported when the flow begins")
        return "settings"

    def end(code: int) -> None:
        steps.append(code)
        raise Ended

    monkeypatch.setattr(module, "prepare_process", lambda: None)
    monkeypatch.setattr(module.Settings, "load", load)
    monkeypatch.setattr(module, "start_early", lambda settings: steps.append(None))
    monkeypatch.setattr(module, "import_module", lambda name: steps.append(name) or Flow)
    monkeypatch.setattr(module, "end_process", end)
    with pytest.raises(Ended):
        run_flow("train", arguments, "lifecycle run train")
    assert steps == [*environments, "flows.train", "lifecycle run train", 3]


def test_importing_the_command_starts_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[object] = []
    monkeypatch.setattr("flows.server.start_early", started.append)
    monkeypatch.setattr(sys, "argv", [str(Path(module.__file__).with_name("train.py"))])
    monkeypatch.delitem(sys.modules, "flows.command")
    import_module("flows.command")
    assert started == []
