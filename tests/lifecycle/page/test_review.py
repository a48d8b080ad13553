"""The review of a change: its text, and one comment at a pull request that is updated."""

import copy
import json
import re
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from typer.testing import CliRunner, Result

from lifecycle.cli.main import app
from lifecycle.errors import BackendError, ProjectError, RegistryError, SettingsError
from lifecycle.page.comment import MAX_LENGTH, PAGE_SIZE, discussion_of, put_comment
from lifecycle.page.comparison import worse_metrics
from lifecycle.page.review import marker, review
from lifecycle.project import Project
from lifecycle.records import Gain
from lifecycle.settings import Settings
from tests.support.small import SMALL, small_frame

GITHUB = {"pull_request": {"number": 7}, "repository": {"full_name": "ada/shop"}}
GITLAB = {"object_kind": "merge_request", "object_attributes": {"iid": 7}, "project": {"id": 3}}
TEXT = f"{marker('shop')}\n# shop v2\n"
PIPELINES = ("GITHUB_TOKEN", "GH_TOKEN", "GITLAB_TOKEN", "GITLAB_COMMENT_TOKEN")
PIPELINES += ("GITHUB_EVENT_PATH", "CI_MERGE_REQUEST_IID", "GITHUB_API_URL", "CI_API_V4_URL")
PIPELINES += ("CHANGE_URL",)


class Service(ThreadingHTTPServer):
    """Keeps comments as GitHub and GitLab do, whose paths and methods differ."""

    status = 0

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.comments: list[dict[str, Any]] = []
        self.requests: list[str] = []
        self.tokens: set[str] = set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    server: Service

    def _answer(self, content: object) -> None:
        url = urlsplit(self.path)
        self.server.requests.append(f"{self.command} {url.path}")
        self.server.tokens.add(self.headers.get("Authorization") or self.headers["PRIVATE-TOKEN"])
        self.send_response(self.server.status or 200)
        self.end_headers()
        self.wfile.write(json.dumps(content).encode())

    def _body(self) -> str:
        return str(json.loads(self.rfile.read(int(self.headers["Content-Length"])))["body"])

    def do_GET(self) -> None:
        query = parse_qs(urlsplit(self.path).query)
        size, page = int(query["per_page"][0]), int(query["page"][0])
        self._answer(self.server.comments[(page - 1) * size : page * size])

    def do_POST(self) -> None:
        comment = {"id": len(self.server.comments) + 40, "body": self._body()}
        if not self.server.status:
            self.server.comments.append(comment)
        self._answer(comment)

    def do_PATCH(self) -> None:
        number = int(self.path.rpartition("/")[2])
        comment = next(each for each in self.server.comments if each["id"] == number)
        comment["body"] = self._body()
        self._answer(comment)

    do_PUT = do_PATCH

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Iterator[Service]:
    for name in PIPELINES:
        monkeypatch.delenv(name, raising=False)
    with Service() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        monkeypatch.setenv("GITHUB_API_URL", server.url)
        monkeypatch.setenv("CI_API_V4_URL", f"{server.url}/api/v4")
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def comment(service: Service, tmp_path: Path) -> Callable[..., Result]:
    """Run the command with an event and a text."""

    def comment(event: object | None, text: str = TEXT) -> Result:
        (tmp_path / "report.md").write_text(text)
        words = ["review", "--report", str(tmp_path / "report.md")]
        if event is not None:
            (tmp_path / "event.json").write_text(json.dumps(event))
            words += ["--event", str(tmp_path / "event.json")]
        return CliRunner().invoke(app, words)

    return comment


@pytest.mark.parametrize(
    ("event", "variable", "token", "requests"),
    [
        (
            GITHUB,
            "GITHUB_TOKEN",
            "Bearer secret",
            ("/repos/ada/shop/issues/7/comments", "PATCH /repos/ada/shop/issues/comments/41"),
        ),
        (
            GITLAB,
            "GITLAB_COMMENT_TOKEN",
            "secret",
            (
                "/api/v4/projects/3/merge_requests/7/notes",
                "PUT /api/v4/projects/3/merge_requests/7/notes/41",
            ),
        ),
    ],
)
def test_the_second_run_updates_the_comment_of_the_first(
    comment: Callable[..., Result],
    service: Service,
    monkeypatch: pytest.MonkeyPatch,
    event: object,
    variable: str,
    token: str,
    requests: tuple[str, str],
) -> None:
    monkeypatch.setenv(variable, "secret")
    service.comments.append({"id": 40, "body": f"> {TEXT}quoted, which is no comment of ours"})
    first = comment(event)
    assert "wrote a comment at" in first.stderr
    again = comment(event, TEXT + "better\n")
    assert "updated the comment at" in again.stderr
    assert [each["body"] for each in service.comments[1:]] == [TEXT + "better\n"]
    path, update = requests
    assert service.requests == [f"GET {path}", f"POST {path}", f"GET {path}", update]
    assert service.tokens == {token}


def test_a_comment_on_a_later_page_is_found(
    comment: Callable[..., Result], service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GH_TOKEN", "secret")
    service.comments = [{"id": at, "body": "other"} for at in range(PAGE_SIZE)]
    service.comments.append({"id": 999, "body": TEXT})
    assert "updated" in comment(GITHUB, TEXT + "x" * MAX_LENGTH).stderr
    assert len(service.comments[-1]["body"]) < MAX_LENGTH + 100


def test_without_a_token_the_comment_is_printed(
    comment: Callable[..., Result], service: Service
) -> None:
    for event, words in (
        (GITHUB, "pull request 7 of ada/shop: set GITHUB_TOKEN or GH_TOKEN to write it"),
        (GITLAB, "merge request 7 of project 3: set GITLAB_COMMENT_TOKEN or GITLAB_TOKEN"),
        (None, "no pipeline of a pull request, and no --event names one"),
    ):
        done = comment(event)
        assert done.exit_code == 0
        assert done.stdout.startswith(TEXT)
        assert words in done.stderr
    assert not service.requests


def test_a_refusal_is_said(
    comment: Callable[..., Result], service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GITHUB_TOKEN", "secret")
    service.status = 403  # of a fork's pull request
    done = comment(GITHUB)
    assert "no comment at pull request 7 of ada/shop: the token may not write it" in done.stderr
    assert done.stdout.startswith(TEXT)
    service.status = 500
    failed = comment(GITHUB)
    assert isinstance(failed.exception, BackendError)
    assert "500 from" in str(failed.exception)
    assert "secret" not in str(failed.exception)


def test_the_pipeline_says_where(service: Service, tmp_path: Path) -> None:
    event = tmp_path / "event.json"
    event.write_text(json.dumps(GITHUB))
    pushed = tmp_path / "push.json"
    pushed.write_text(json.dumps({"ref": "refs/heads/main"}))
    merge = {"CI_MERGE_REQUEST_IID": "9", "CI_PROJECT_ID": "5", "GITLAB_TOKEN": "secret"}
    titles = {
        name: discussion and discussion.title
        for name, discussion in (
            ("GitHub", discussion_of(None, {"GITHUB_EVENT_PATH": str(event)})),
            ("GitLab", discussion_of(None, merge)),
            ("push", discussion_of(None, {"GITHUB_EVENT_PATH": str(pushed)})),
            ("none", discussion_of(None, {})),
        )
    }
    assert titles == {
        "GitHub": "pull request 7 of ada/shop",
        "GitLab": "merge request 9 of project 5",
        "push": None,
        "none": None,
    }
    with pytest.raises(SettingsError, match="not an event of a pull request"):
        discussion_of(pushed, {})
    with pytest.raises(SettingsError, match="cannot read the event"):
        discussion_of(tmp_path / "none.json", {})
    gone = discussion_of(event, {"GITHUB_API_URL": "http://127.0.0.1:9", "GH_TOKEN": "x"})
    assert gone is not None
    with pytest.raises(BackendError, match="comment at pull request 7"):
        put_comment(gone, TEXT)


@pytest.mark.parametrize(
    ("page", "title", "comments"),
    [
        (
            "https://github.com/ada/shop/pull/7",
            "pull request 7 of ada/shop",
            "https://api.github.com/repos/ada/shop/issues/7/comments",
        ),
        (
            "https://git.example/ada/shop/pull/7",
            "pull request 7 of ada/shop",
            "https://git.example/api/v3/repos/ada/shop/issues/7/comments",
        ),
        (
            "https://gitlab.example/ada/shops/one/-/merge_requests/9",
            "merge request 9 of project ada%2Fshops%2Fone",
            "https://gitlab.example/api/v4/projects/ada%2Fshops%2Fone/merge_requests/9/notes",
        ),
    ],
)
def test_jenkins_names_the_page_of_a_request(page: str, title: str, comments: str) -> None:
    discussion = discussion_of(None, {"CHANGE_URL": page})
    assert discussion is not None
    assert (discussion.title, discussion.comments) == (title, comments)


def test_a_request_of_another_service_is_none_of_ours() -> None:
    page = "https://bitbucket.example/projects/A/repos/shop/pull-requests/7"
    assert discussion_of(None, {"CHANGE_URL": page}) is None


def test_wrong_words(tmp_path: Path) -> None:
    for words in (["a", "b"], ["--report", str(tmp_path / "none.md")]):
        failed = CliRunner().invoke(app, ["review", *words])
        assert isinstance(failed.exception, ProjectError)


@pytest.mark.component
def test_the_text_has_gate_metrics_and_data(
    make_project: Callable[..., Project], train: Any, settings: Settings
) -> None:
    project = make_project()
    with pytest.raises(RegistryError, match=rf"has no version in dev \({settings.tracking_uri}\)"):
        review(project, settings)
    train(project, settings).register()
    assert "There is no other version to compare with: none was" in review(project, settings)
    frame = small_frame(500)
    frame["age"] += 20
    frame.to_csv(project.folder / "small.csv", index=False)
    train(project, settings).register()
    text = review(project, settings)
    assert text.startswith(f"{marker('small')}\n# small v2, trained in dev\n\n## Gate")
    assert re.search(r"## Against v1\n\nv2 .* v1 by roc auc: ", text)
    assert "| metric | v1 | v2 | gain of v2 over v1 |\n| --- | --- | --- | --- |" in text
    assert "<details><summary>What differs: data (" in text
    assert re.search(
        r"<summary>Claims of the model card that differ: \d+</summary>\n\n\| claim", text
    )
    assert re.search(r"Rows: [\d,]+ the same, [\d,]+ added, [\d,]+ removed", text)
    assert re.search(r"\| age \| 0\.\d+ \|", text)
    assert "@" not in text
    assert review(project, settings, "1") == text
    assert "Not compared with 7" in review(project, settings, "7")


@pytest.mark.component
def test_what_is_worse_comes_first_and_what_the_contract_lets_through_is_shown(
    make_project: Callable[..., Project],
    train: Any,
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The gate has no champion to compare with in a pipeline, and passes both."""
    train(make_project(), settings).register()
    contract = copy.deepcopy(SMALL["contract"]) | {"version": "2.0.0"}
    contract["columns"]["age"]["maximum"] = 150
    project = make_project(contract=contract)
    train(project, settings).register()
    assert "Worse" not in review(project, settings)
    monkeypatch.setattr("lifecycle.page.review.worse_metrics", lambda _: ["log loss", "brier"])
    text = review(project, settings)
    title = "# small v2, trained in dev"
    first = "**Worse than v1, beyond chance: log loss, brier.**"
    assert text.startswith(f"{marker('small')}\n{title}\n\n{first}\n\n## Gate")
    assert "## Contract\n\n- ~ columns.age.maximum: 120 → 150 (major)\n" in text


def test_a_metric_is_worse_if_its_gain_is_below_zero_beyond_chance() -> None:
    gains = {
        name: Gain(value=(low + high) / 2, low=low, high=high, least=low, confidence=0.9)
        for name, low, high in (
            ("log_loss", -0.05, -0.01),
            ("roc_auc", -0.1, 0.02),
            ("brier", 0.01, 0.05),
            ("accuracy", -2e-16, -1e-16),
        )
    }
    assert worse_metrics(gains) == ["log loss"]
