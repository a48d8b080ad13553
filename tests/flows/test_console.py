"""The screen of a script: results stay, the live line tells what runs, not what has ended."""

import io
import logging

import pytest
from rich.console import Console

from flows.console import Screen
from tasks.progress import say, step, update


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> Screen:
    monkeypatch.setattr(logging.getLogger("lifecycle"), "level", logging.INFO)
    return Screen(Console(file=io.StringIO(), force_terminal=True, width=200))


def running(screen: Screen) -> list[str]:
    assert screen.live
    return [task.description for task in screen.live.tasks]


def test_the_live_line_ends_with_its_step(screen: Screen) -> None:
    with screen:
        say("prefect", "starts")
        assert running(screen) == []
        with step("train", "registering") as done:
            assert running(screen) == ["train: registering"]
            update("train", "2 of 3")
            assert running(screen) == ["train: 2 of 3"]
            done("registered v1")
        assert running(screen) == []
        with pytest.raises(OSError, match="full"), step("train", "writing"):
            raise OSError("full")
        assert running(screen) == []
    file = screen.console.file
    assert isinstance(file, io.StringIO)
    assert "registered v1" in file.getvalue()


def test_without_a_terminal_each_step_is_a_line() -> None:
    file = io.StringIO()
    with Screen(Console(file=file)), step("train", "registering") as done:
        done("registered v1")
    assert [line.split("s  ", 1)[1] for line in file.getvalue().splitlines()] == [
        "train     registering …",
        "train     registered v1",
    ]


def test_the_clock_starts_with_the_process() -> None:
    file = io.StringIO()
    with Screen(Console(file=file), age=40.0):
        say("train", "registered v1")
    assert 40.0 <= float(file.getvalue().split()[0]) < 60.0


def test_others_do_not_write_on_it(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger(), "handlers", [])  # without pytest's own
    with Screen(Console(file=io.StringIO())):
        logging.getLogger("somebody").warning("Still processing items")
    assert capfd.readouterr() == ("", "")
