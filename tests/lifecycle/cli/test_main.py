"""The command `lifecycle`: what it writes and says, and that mistakes end with exit code 2."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import pytest

from lifecycle.cli.main import VERBS, LazyCommand, flow_summaries, main
from lifecycle.cli.project import SCHEMA
from lifecycle.data.ingest import ingest
from lifecycle.data.split import split_dataset
from lifecycle.data.windows import first_window
from lifecycle.environments import environments
from lifecycle.project import Project
from lifecycle.project.loader import load_project
from lifecycle.settings import Settings
from tests.support.small import SMALL, small_frame

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Exit code, stdout and stderr of a command in this process."""

    def run(*arguments: str | Path) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["lifecycle", *map(str, arguments)])
        monkeypatch.setenv("COLUMNS", "200")
        with pytest.raises(SystemExit) as ended:
            main()
        said = capsys.readouterr()
        return int(ended.value.code or 0), said.out, said.err

    return run


@pytest.fixture
def csv(tmp_path: Path) -> Path:
    file = tmp_path / "small.csv"
    small_frame().to_csv(file, index=False)
    return file


def test_init_writes_a_working_project_and_says_what_it_guessed(run: Run, csv: Path) -> None:
    code, out, _ = run("init", csv, "--target", "bought")
    assert code == 0
    file = csv.parent / "project.yaml"
    assert load_project(file).target == "bought"
    assert file.read_text().startswith("# yaml-language-server: $schema=")
    assert "binary, because bought has two values" in out
    assert f"lifecycle run end_to_end {file}" in out
    assert f"lifecycle profile {file} shows what is in the data" in out
    assert "400 of 400 rows keep the contract; train" in out
    assert [f.name for f in csv.parent.iterdir() if f.name.startswith(".")] == []


def test_init_does_not_overwrite_unless_told(run: Run, csv: Path) -> None:
    file = csv.parent / "project.yaml"
    file.write_text("mine")
    code, _, err = run("init", csv, "--target", "bought")
    assert code == 2
    assert "--force" in err
    assert file.read_text() == "mine"
    assert run("init", csv, "--target", "bought", "--force")[0] == 0
    assert load_project(file)


def test_init_elsewhere_finds_its_source(run: Run, csv: Path, tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    output = tmp_path / "deep" / "p.yaml"
    assert run("init", csv, "--target", "bought", "--output", output, "--name", "shop")[0] == 0
    assert load_project(output).name == "shop"
    assert run("validate", output)[0] == 0


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("init", "none.csv", "--target", "x"), "none.csv: cannot read it: No such file"),
        (("init", "{csv}", "--target", "bougth"), "did you mean 'bought'?"),
        (("init", "{csv}", "--target", "bought", "--output", "/no/such/p.yaml"), "--output"),
        (("init", "{csv}"), "--target: name the column to predict, one of: customer, "),
        (("validate", "none.yaml"), "cannot read the project file"),
        (("validate", "{csv}"), "small.csv:1:"),
        (("versions", "none.yaml"), "cannot read the project file"),
        (("fly",), "fly"),
    ],
)
def test_mistakes_end_with_2_and_one_message(
    run: Run, csv: Path, arguments: tuple[str, ...], says: str
) -> None:
    code, _, err = run(*(a.format(csv=csv) for a in arguments))
    assert code == 2
    assert says in err
    assert "Traceback" not in err


def test_no_traceback_in_a_real_process(tmp_path: Path) -> None:
    command = Path(sys.executable).with_name("lifecycle")
    done = subprocess.run(
        [command, "validate", "none.yaml"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=False,
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1


def test_validate_rehearses_on_the_data(
    run: Run, make_project: Callable[..., Project], tmp_path: Path
) -> None:
    make_project()
    code, out, _ = run("validate", tmp_path / "project.yaml")
    assert code == 0
    assert "sound. all rows: 400 of 400 rows keep the contract" in out
    make_project(small_frame().assign(bought=1))
    code, _, err = run("validate", tmp_path / "project.yaml")
    assert code == 2
    assert "one class only" in err
    make_project(small_frame().assign(city="Atlantis"))
    code, _, err = run("validate", tmp_path / "project.yaml")
    assert code == 2
    assert "city: not one of the categories: 400 rows, such as row 1: Atlantis" in err


def test_validate_tries_another_file_without_a_flow(
    run: Run, make_project: Callable[..., Project], tmp_path: Path
) -> None:
    """It need not have the target, nor rows of the first window; values are named, but for those
    that the contract calls personal."""
    columns = SMALL["contract"]["columns"]
    columns = columns | {"age": columns["age"] | {"pii": "hash"}}
    contract = SMALL["contract"] | {"columns": columns, "max_rejected_share": 0.01}
    make_project(contract=contract)
    file, new = tmp_path / "project.yaml", tmp_path / "new.csv"
    small_frame().drop(columns="bought").to_csv(new, index=False)
    code, out, _ = run("validate", file, "--source", new)
    assert (code, out.splitlines()[0]) == (
        0,
        f"{new}: it keeps the contract. 400 of 400 rows keep the contract",
    )
    assert "no column 'bought', the target: it can be scored, not learned from" in out
    broken = small_frame().astype({"city": object})
    broken.loc[3, "city"], broken.loc[4, "age"] = "Belfast", 431.0
    broken.to_csv(new, index=False)
    code, out, _ = run("validate", file, "--source", new)
    assert code == 0
    assert "it can be used. 398 of 400 rows keep the contract" in out
    assert "city: not one of the categories, 1 row (row 4: Belfast)" in out
    assert "age: above 120, 1 row (row 5: (personal data))" in out
    broken.loc[:40, "city"] = "Belfast"
    broken.to_csv(new, index=False)
    code, _, err = run("validate", file, "--source", new)
    assert (code, "such as row 1: Belfast; row 2: Belfast" in err) == (2, True)
    new.write_text("x,y\n1,2\n")
    code, _, err = run("validate", file, "--source", new)
    assert (code, "has none of the contract's columns" in err) == (2, True)


def test_validate_refuses_what_later_steps_would(
    run: Run,
    make_project: Callable[..., Project],
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setenv("LIFECYCLE_HOME", str(settings.home))
    project = make_project()
    ingest(project, settings, first_window(project))
    file = tmp_path / "project.yaml"
    sound = file.read_text()
    file.write_text(sound.replace("maximum: 120", "maximum: 150"))
    code, _, err = run("validate", file)
    assert (code, "contract.version" in err) == (2, True)
    file.write_text(re.sub(r"type: category\n *categories:(\n *- \w+)+", "type: string", sound))
    monkeypatch.setenv("LIFECYCLE_HOME", str(settings.home / "other"))
    code, _, err = run("validate", file)
    assert (code, "'city' is free text" in err) == (2, True)


def test_validate_tries_views(
    run: Run, make_paying: Callable[..., Project], tmp_path: Path
) -> None:
    file = make_paying().file
    code, out, _ = run("validate", file)
    assert code == 0
    assert "sound. all rows: 240 of 240 rows keep the contract" in out
    make_paying(function="spending:average")
    code, _, err = run("validate", file)
    assert code == 2
    assert "feature 'total' looks ahead" in err
    assert not (tmp_path / "lifecycle").exists()


def test_the_schema_in_docs_is_the_present_one(run: Run, tmp_path: Path) -> None:
    code, _, _ = run("schema", "--output", tmp_path / "schema.json")
    assert code == 0
    written = (tmp_path / "schema.json").read_text()
    assert json.loads(written)["additionalProperties"] is False
    assert SCHEMA.read_text() == written, "run `lifecycle schema`"


def test_versions(
    run: Run,
    make_project: Callable[..., Project],
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    project = make_project()
    monkeypatch.setenv("LIFECYCLE_HOME", str(settings.home))
    _, out, _ = run("versions", tmp_path / "project.yaml")
    assert "nothing yet" in out
    done = ingest(project, settings, first_window(project))
    split_dataset(project, settings, done)
    code, out, _ = run("versions", tmp_path / "project.yaml")
    assert code == 0
    assert "accepted@0   │  400 │ 20" in out
    assert done.dataset.digest[:12] in out
    assert out.count("train@0, validation@0, holdout@0: ") == 1
    assert "Models" not in out


def test_serve_without_a_champion(
    run: Run,
    make_project: Callable[..., Project],
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    make_project()
    monkeypatch.setenv("LIFECYCLE_HOME", str(settings.home))
    code, _, err = run("serve", tmp_path / "project.yaml")
    assert code == 2
    assert "has no champion yet" in err


HEAVY = ("pandas", "deltalake", "ray", "mlflow", "prefect")


def loaded_by(arguments: list[str], variables: dict[str, str] | None = None) -> set[str]:
    """The heavy packages that a process has imported when the command ends."""
    code = (
        "import atexit, sys\n"
        f"heavy = {HEAVY}\n"
        "show = lambda: print('loaded', *(name for name in heavy if name in sys.modules))\n"
        "atexit.register(show)\n"
        "from lifecycle.cli.main import main\n"
        f"sys.argv = ['lifecycle', *{arguments!r}]\n"
        "main()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | (variables or {}),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return set(done.stdout.splitlines()[-1].removeprefix("loaded").split())


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["run", "--help"]])
def test_looking_at_the_command_loads_no_library(arguments: list[str]) -> None:
    assert loaded_by(arguments) == set()


def test_the_help_of_a_verb_loads_no_library() -> None:
    code = (
        "import sys\n"
        "from lifecycle.cli.main import VERBS, LazyCommand\n"
        "for verb in VERBS:\n"
        "    LazyCommand(verb).load()\n"
        f"    assert not set({HEAVY}) & set(sys.modules), verb\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    ("words", "completions"),
    [
        ("lifecycle re", {"rejected", "reproduce", "retention", "review"}),
        ("lifecycle erase --dr", {"--dry-run"}),
        ("lifecycle versions --env st", {"staging"}),
        ("lifecycle run pre", {"prepare"}),
    ],
)
def test_a_shell_completes_verbs_options_environments_and_flows(
    words: str, completions: set[str]
) -> None:
    command = Path(sys.executable).with_name("lifecycle")
    variables = {
        "_LIFECYCLE_COMPLETE": "complete_bash",
        "COMP_WORDS": words,
        "COMP_CWORD": str(words.count(" ")),
    }
    done = subprocess.run(
        [command], env=os.environ | variables, capture_output=True, text=True, check=False
    )
    assert set(done.stdout.split()) == completions, done.stderr


def test_the_list_says_of_each_verb_what_its_own_help_begins_with() -> None:
    for name, verb in VERBS.items():
        text = LazyCommand(name).load().help
        assert text.partition("\n")[0] == verb.summary, name


def test_every_verb_has_an_example_in_its_help(run: Run) -> None:
    for name, verb in VERBS.items():
        _, out, _ = run(name, "--help")
        assert f"Example:\n    {verb.example}\n" in out, name


def test_verbs_stand_in_panels_and_the_version_is_shown(run: Run) -> None:
    _, out, _ = run("--help")
    assert re.search(r"Governance:\n  audit +List every change", out)
    code, out, _ = run("--version")
    assert (code, out.strip()) == (0, f"lifecycle {version('lifecycle-flows')}")


def test_environments_are_listed_as_they_are(run: Run) -> None:
    _, out, _ = run("versions", "--help")
    assert ", ".join(environments()) in out


def test_run_becomes_the_flow(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[list[str]] = []

    def execv(program: str, arguments: list[str]) -> None:
        started.append(arguments)
        raise SystemExit(0)

    monkeypatch.setattr(os, "execv", execv)
    run("run", "end-to-end", "p.yaml", "--env", "dev", "--help")
    expected = ["-P", "-m", "flows", "end_to_end", "p.yaml", "--env", "dev", "--help"]
    assert started == [[sys.executable, *expected]]
    code, _, err = run("run", "trian")
    assert code == 2
    assert "there is no flow 'trian'; choose one of end_to_end, erase" in err
    _, out, _ = run("run", "--help")
    for name, summary in flow_summaries().items():
        assert re.search(rf"{name} +{re.escape(summary[:30])}", out)


def test_every_flow_can_be_run() -> None:
    flows = {file.stem for file in (Path(__file__).parents[3] / "flows").glob("*.py")}
    others = {
        "__init__",
        "__main__",
        "command",
        "console",
        "crashes",
        "database",
        "server",
        "warm_server",
    }
    assert set(flow_summaries()) == flows - others


def test_project_yaml_of_the_working_folder_is_the_default(
    run: Run, make_project: Callable[..., Project], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LIFECYCLE_HOME", str(tmp_path / "home"))
    for arguments in (["contract"], ["diff", "0", "1"], ["lineage", "champion"], ["serve"]):
        code, _, err = run(*arguments)
        assert code == 2
        assert "project.yaml: cannot read the project file" in err
    make_project()
    assert run("contract")[0] == 0
    assert "has no version 0" in run("diff", "0", "1")[2]
    assert "has no version 0" in run("diff", "project.yaml", "train", "0", "1")[2]
    assert run("diff", "project.yaml", "1")[0] == 2
    assert "name one thing" in run("lineage", "project.yaml")[2]


def test_a_flow_shows_a_line_before_it_imports_anything(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    replaced: list[list[str]] = []

    def replace_process(program: str, command: list[str]) -> None:
        sys.stdout.flush()
        replaced.append(command)
        raise SystemExit(0)

    monkeypatch.setattr(os, "execv", replace_process)
    _, shown, _ = run("run", "train", "shop.yaml", "--seeds", "3")
    assert re.fullmatch(r" *\d+\.\d s {2}start {5}train shop.yaml --seeds 3: .+ …\n", shown)
    assert replaced[-1][-4:] == ["train", "shop.yaml", "--seeds", "3"]
    _, shown, _ = run("run", "train", "--help")
    assert shown == ""
