"""The audit trail: chained, append-only, many writers; whatever is changed in it shows."""

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake

from lifecycle.audit.model_trail import SCHEMA, Trail, champions, history, rolled_back, verify
from lifecycle.cli.main import main
from lifecycle.lake.table import table_uri
from lifecycle.project import Project
from lifecycle.records import Change
from lifecycle.settings import Settings
from tests.support.versions import model


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path / "home")


@pytest.fixture
def trail(settings: Settings) -> Trail:
    trail = Trail(settings, "small", "anna")
    trail.record("deploy", model(1), ("Better <than> “nothing”.",))
    trail.record("promote", model(1), ("Better <than> “nothing”.",))
    trail.record("canary", model(2), ("To 10 %.",))
    trail.record("reject", model(2), ("Too slow.", "Too many errors."))
    return trail


def test_lines_are_chained_and_come_back_as_written(settings: Settings, trail: Trail) -> None:
    changes = history(settings, "small")
    assert [(c.action, c.version, c.who) for c in changes] == [
        ("deploy", 1, "anna"),
        ("promote", 1, "anna"),
        ("canary", 2, "anna"),
        ("reject", 2, "anna"),
    ]
    assert changes[0].previous == ""
    assert [c.previous for c in changes[1:]] == [c.hash for c in changes[:-1]]
    assert len({c.hash for c in changes}) == 4
    assert changes[3].reasons == ("Too slow.", "Too many errors.")
    assert verify(settings, "small") is None
    assert history(settings, "another") == []
    assert verify(settings, "another") is None


def test_what_was_said_is_not_said_twice(settings: Settings, trail: Trail) -> None:
    again = trail.record("reject", model(2), ("Too slow.", "Too many errors."))
    assert again == history(settings, "small")[-1]
    trail.record("promote", model(1), ("for another reason",))
    assert len(history(settings, "small")) == 4, "it is champion already"
    trail.record("reject", model(2), ("Too slow.",))
    trail.record("promote", model(2))
    trail.record("rollback", model(1))
    trail.record("promote", model(2))
    assert [c.action for c in history(settings, "small")[4:]] == [
        "reject",
        "promote",
        "rollback",
        "promote",
    ]


def test_champions_in_their_order() -> None:
    def after(*lines: tuple[str, int]) -> list[int]:
        changes = [
            Change(
                time="",
                who="",
                action=action,
                model="small",
                version=version,
                digest="",
                identity="",
                reasons=(),
            )
            for action, version in lines
        ]
        return champions(changes)

    assert after() == []
    assert after(("promote", 1), ("canary", 2), ("reject", 2)) == [1]
    assert after(("promote", 1), ("promote", 2), ("promote", 3)) == [1, 2, 3]
    three = (("promote", 1), ("promote", 2), ("promote", 3))
    assert after(*three, ("rollback", 2)) == [1, 2]
    assert after(*three, ("rollback", 2), ("rollback", 1)) == [1]
    assert after(*three, ("rollback", 2), ("promote", 4)) == [1, 2, 4]


def test_what_was_rolled_back_stays_so_until_somebody_says_otherwise() -> None:
    def held(*lines: tuple[str, int, str]) -> set[str]:
        """Which of the bundles a, b, c are held after these lines."""
        changes = [
            Change(
                time="",
                who="",
                action=action,
                model="small",
                version=version,
                digest="-abc"[version],
                identity="",
                reasons=(reason,),
            )
            for action, version, reason in lines
        ]
        return {digest for digest in "abc" if rolled_back(changes, digest)}

    two = (("promote", 1, ""), ("promote", 2, ""))
    back = ("rollback", 1, "Back from v2, by hand.")
    assert held() == held(*two) == set()
    assert held(*two, back) == {"b"}
    assert held(*two, back, ("promote", 3, "")) == {"b"}
    assert held(*two, back, ("promote", 2, "")) == set()
    assert held(*two, ("promote", 3, ""), ("rollback", 2, ""), back) == {"b", "c"}
    assert held(*two, ("canary", 3, ""), ("reject", 3, "canary ended by hand.")) == {"c"}
    assert held(*two, ("canary", 3, ""), ("reject", 3, "Too slow.")) == set()


def rewrite(settings: Settings, change: Callable[[list[dict[str, object]]], None]) -> None:
    """What somebody with access to the files could do: the same lines, almost, in a new table."""
    uri = table_uri(settings, "small", "audit")
    rows = DeltaTable(uri).to_pyarrow_table().sort_by("line").to_pylist()
    change(rows)
    shutil.rmtree(uri)
    write_deltalake(uri, pa.Table.from_pylist(rows, schema=SCHEMA))


@pytest.mark.parametrize(
    ("change", "line", "why"),
    [
        (lambda rows: rows[1].update(version=2), 1, "changed since it was written"),
        (lambda rows: rows[3].update(reasons=["Too slow."]), 3, "changed since it was written"),
        (lambda rows: rows[2].update(who="bert"), 2, "changed since it was written"),
        (lambda rows: rows.pop(1), 2, "line 1 should stand here"),
        (lambda rows: rows.append(dict(rows[0], line=4)), 4, "does not follow"),
        (lambda rows: rows[2].update(action="nothing"), 2, "no change of a version"),
    ],
)
def test_a_broken_line_is_found(
    settings: Settings, trail: Trail, change: Callable[..., None], line: int, why: str
) -> None:
    rewrite(settings, change)
    found = verify(settings, "small")
    assert found
    assert found.startswith(f"line {line}")
    assert why in found


def test_a_line_made_anew_with_its_hash_breaks_the_next_one(
    settings: Settings, trail: Trail
) -> None:
    from lifecycle.audit.chain import hash_of

    def forge(rows: list[dict[str, object]]) -> None:
        rows[1]["version"] = 7
        rows[1]["hash"] = hash_of(
            Change.model_validate({k: v for k, v in rows[1].items() if k != "line"})
        )

    rewrite(settings, forge)
    found = verify(settings, "small")
    assert found
    assert found.startswith("line 2")
    assert "does not follow" in found


def test_delta_itself_refuses_to_change_the_trail(settings: Settings, trail: Trail) -> None:
    with pytest.raises(Exception, match="append-only"):
        DeltaTable(table_uri(settings, "small", "audit")).delete("line = 1")


WRITER = """
import sys
from lifecycle.audit.model_trail import Trail
from lifecycle.settings import Settings
from tests.support.versions import model
trail = Trail(Settings(home=sys.argv[1]), "small", sys.argv[2])
for number in range(8):
    trail.record("deploy", model(number), (sys.argv[2],))
"""


@pytest.mark.component
def test_several_machines_write_one_chain(settings: Settings) -> None:
    names = ("anna", "bert", "cleo")
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER, str(settings.home), name]) for name in names
    ]
    assert [writer.wait(120) for writer in writers] == [0, 0, 0]
    changes = history(settings, "small")
    assert verify(settings, "small") is None
    for name in names:
        assert [c.version for c in changes if c.who == name] == list(range(8))


def test_the_command_shows_and_verifies(
    settings: Settings,
    make_project: Callable[..., Project],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    file = make_project().file
    monkeypatch.setenv("LIFECYCLE_HOME", str(settings.home))
    monkeypatch.setenv("COLUMNS", "160")

    def run(*more: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["lifecycle", "audit", str(file), *more])
        with pytest.raises(SystemExit) as ended:
            main()
        said = capsys.readouterr()
        return int(ended.value.code or 0), said.out, said.err

    code, out, _ = run()
    assert (code, "no version was ever changed" in out) == (0, True)
    trail = Trail(settings, "small", "anna")
    trail.record("promote", model(1), ("[bold]Better.",))
    trail.record("reject", model(2), ("Too slow.",))
    trail.record("deploy", model(3), ("Floor held.", "Checks passed."))
    trail.record("promote", model(3), ("Floor held.", "Checks passed."))
    code, out, _ = run()
    assert code == 0
    assert (out.count("Floor held."), out.count("as above")) == (1, 1)
    for word in ("anna", "promote", "[bold]Better.", "Too slow.", trail.changes()[-1].hash):
        assert word in out
    code, out, _ = run("--verify")
    assert code == 0
    assert "4 lines; every line holds" in out
    assert trail.changes()[-1].hash in out
    rewrite(settings, lambda rows: rows[0].update(who="bert"))
    code, _, err = run("--verify")
    assert code == 2
    assert "line 0" in err
    assert "changed since it was written" in err
