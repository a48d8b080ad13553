"""A comment at a pull request of GitHub or GitLab, which the next run updates."""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import httpx

from lifecycle.errors import BackendError, SettingsError

MAX_LENGTH = 65_000
"""Characters of a comment; GitHub takes 65,536."""
TIMEOUT_S = 30
PAGE_SIZE = 100
GITHUB_API = "https://api.github.com"
GITLAB_API = "https://gitlab.com/api/v4"
GITHUB_TOKENS = ("GITHUB_TOKEN", "GH_TOKEN")
GITLAB_TOKENS = ("GITLAB_COMMENT_TOKEN", "GITLAB_TOKEN")
CHANGE = re.compile(
    r"(?P<server>https?://[^/]+)/(?P<project>.+?)(?:/-)?/(?P<kind>pull|merge_requests)/(?P<number>\d+)"
)
"""Page of a pull request or merge request: Jenkins names it in CHANGE_URL."""
FORBIDDEN = (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN)


class Discussion(NamedTuple):
    """Place of the comments of a pull request or merge request."""

    title: str
    """Such as `pull request 7 of ada/shop`."""
    comments: str
    """URL that lists them, and takes a new one."""
    comment: str
    """URL of one, without its number."""
    update: str
    """Method that replaces one's text."""
    headers: dict[str, str]
    """With the token; empty without one."""
    token_names: tuple[str, ...]
    """Variables of the environment that may hold the token."""


def discussion_of(event: Path | None, environment: Mapping[str, str]) -> Discussion | None:
    """Find the request that a pipeline runs for; None if it runs for none.

    Args:
        event: file with the event as GitHub or a webhook of GitLab writes it; by default
            what the pipeline's environment names.

    Raises:
        SettingsError: the file cannot be read, or is about no pull request or merge request.
    """
    if event is None and environment.get("CI_MERGE_REQUEST_IID"):
        return _gitlab(
            environment.get("CI_PROJECT_ID", ""), environment["CI_MERGE_REQUEST_IID"], environment
        )
    if event is None and environment.get("GITHUB_EVENT_PATH"):
        event = Path(environment["GITHUB_EVENT_PATH"])
        if "pull_request" not in _content(event):
            return None
    if event is None:
        change = CHANGE.fullmatch(environment.get("CHANGE_URL", ""))
        return _of_page(change, environment) if change else None
    content = _content(event)
    try:
        if content.get("object_kind") == "merge_request":
            number = content["object_attributes"]["iid"]
            return _gitlab(str(content["project"]["id"]), str(int(number)), environment)
        number = int(content["pull_request"]["number"])
        return _github(str(content["repository"]["full_name"]), number, environment)
    except (KeyError, TypeError, ValueError):
        raise SettingsError(
            f"{event}: not an event of a pull request (GitHub) or merge request (GitLab)"
        ) from None


def _of_page(change: re.Match[str], environment: Mapping[str, str]) -> Discussion:
    """The request with this page, on the service's own server where none is named."""
    server, project, number = change["server"], change["project"], change["number"]
    if change["kind"] == "pull":
        is_public = server == "https://github.com"
        api = {} if is_public else {"GITHUB_API_URL": f"{server}/api/v3"}
        return _github(project, int(number), api | {**environment})
    api = {"CI_API_V4_URL": f"{server}/api/v4"}
    return _gitlab(quote(project, safe=""), number, api | {**environment})


def _content(event: Path) -> dict[str, Any]:
    try:
        content = json.loads(event.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(f"{event}: cannot read the event ({error.strerror})") from None
    except ValueError:
        raise SettingsError(f"{event}: the event is not JSON") from None
    return content if isinstance(content, dict) else {}


def _github(repository: str, number: int, environment: Mapping[str, str]) -> Discussion:
    base = f"{environment.get('GITHUB_API_URL', GITHUB_API)}/repos/{repository}/issues"
    token = _token(GITHUB_TOKENS, environment)
    headers = {"Accept": "application/vnd.github+json", "Authorization": f"Bearer {token}"}
    return Discussion(
        f"pull request {number} of {repository}",
        f"{base}/{number}/comments",
        f"{base}/comments",
        "PATCH",
        headers if token else {},
        GITHUB_TOKENS,
    )


def _gitlab(project: str, number: str, environment: Mapping[str, str]) -> Discussion:
    base = f"{environment.get('CI_API_V4_URL', GITLAB_API)}/projects/{project}"
    notes = f"{base}/merge_requests/{number}/notes"
    token = _token(GITLAB_TOKENS, environment)
    headers = {"PRIVATE-TOKEN": token} if token else {}
    title = f"merge request {number} of project {project}"
    return Discussion(title, notes, notes, "PUT", headers, GITLAB_TOKENS)


def _token(names: tuple[str, ...], environment: Mapping[str, str]) -> str:
    return next((environment[name] for name in names if environment.get(name)), "")


def put_comment(discussion: Discussion, text: str) -> str:
    """Write a comment, or replace that of an earlier run, which begins with the same line.

    Returns:
        What was done, such as `updated the comment at pull request 7 of ada/shop`; it begins with
        `no comment` where the token has no right to write one, as for a pull request of a fork.

    Raises:
        BackendError: the service does not answer, or refuses for another reason.
    """
    if len(text) > MAX_LENGTH:
        text = f"{text[:MAX_LENGTH]}\n\n… the rest is in the report of the pipeline\n"
    marker = text.partition("\n")[0]
    with httpx.Client(headers=discussion.headers, timeout=TIMEOUT_S) as client:
        try:
            for comment in _comments(client, discussion):
                if str(comment.get("body", "")).startswith(marker):
                    url, outcome = f"{discussion.comment}/{comment['id']}", "updated the comment"
                    client.request(discussion.update, url, json={"body": text}).raise_for_status()
                    return f"{outcome} at {discussion.title}"
            client.post(discussion.comments, json={"body": text}).raise_for_status()
        except httpx.HTTPStatusError as error:
            answer = error.response
            if answer.status_code in FORBIDDEN:
                reason = f"the token may not write it ({answer.status_code})"
                return f"no comment at {discussion.title}: {reason}"
            raise BackendError(
                f"comment at {discussion.title}: {answer.status_code} from {answer.url}"
            ) from None
        except httpx.HTTPError as error:
            raise BackendError(f"comment at {discussion.title}: {error}") from None
    return f"wrote a comment at {discussion.title}"


def _comments(client: httpx.Client, discussion: Discussion) -> Iterator[dict[str, Any]]:
    """All comments, oldest first; both services page alike."""
    page = 1
    while True:
        answer = client.get(discussion.comments, params={"per_page": PAGE_SIZE, "page": page})
        answer.raise_for_status()
        comments: list[dict[str, Any]] = answer.json()
        yield from comments
        if len(comments) < PAGE_SIZE:
            return
        page += 1
