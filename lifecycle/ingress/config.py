"""Ray Serve's HAProxy configuration, rewritten into one that may face clients. Text in, text out.

Ray writes its configuration for a trusted network: statistics and metrics on every interface, no
limit for slow or large requests, an access log by UDP, and 502-504 turned into 500. What is read
here is known word by word: a directive that is not makes `harden` refuse, since running another
configuration than the one that was thought through would be worse than not running.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lifecycle.errors import RayError, SettingsError

HEADERS = 10
"""Seconds for all headers of a request, and as many for its body (or the first buffer of it)."""
CLIENT, SERVER, QUEUE, KEEP_ALIVE = 60, 60, 10, 60
"""Seconds: silence of a client, of a replica, in a queue, between two requests of a connection."""
RETRIES = 3

HEAD = re.compile(r"^(global|defaults|frontend|backend|listen)\b *(\S*)$")
KEPT_DIRECTIVES = {  # first words of the directives that stay as they are
    "global": {"stats", "maxconn", "nbthread", "tune.bufsize", "hard-stop-after"}
    | {"close-spread-time", "server-state-base", "server-state-file"},
    "defaults": {"mode", "option", "balance", "load-server-state-from-file"},
    "frontend": {"acl", "http-request", "use_backend", "default_backend"},
    "backend": {"http-reuse", "option", "http-check", "default-server", "server"},
}
DROPPED = {  # replaced below, or not wanted
    "global": {"log"},
    "defaults": {"log", "timeout", "retry-on", "retries", "errorfile"},
    "frontend": {"bind"},
    "backend": {"log", "timeout"},
}
LOGGED = ("option httplog", "option log-health-checks")
UNASKED = ("if routes", "acl routes ", "http-request set-log-level ")
"""Ray's own list of applications; ours is the answer to a path without a project."""
REFUSALS = {
    400: "this is not a sound HTTP request",
    404: "nothing is served under this path",
    405: "this method is not allowed",
    408: "the request took too long to arrive",
    413: "the request is too large",
    500: "the model could not answer this request; the server's log has the cause",
    502: "the model did not answer; try again",
    503: "no model can take this request now; try again",
    504: "the model took too long to answer; try again",
}
PATH = re.compile(r"^ +acl is_http-\S+ path (/\S*)$", re.MULTILINE)
"""How Ray writes the whole path of an application."""
MAX_PROJECTS_LISTED = 100
RETRY_STATUSES = (502, 503, 504)
REPLICA_SAYS = (404, 408, 500, 503)
"""What Ray's own code in a replica answers as plain text."""
STRIPPED_HEADERS = (
    "serve",
    "x-serve",
    "x_",
    "x-session",
    "x-request-timeout",
    "x-forwarded",
    "forwarded",
)
"""Headers that begin like this steer Ray Serve or uvicorn, so a client's are taken away."""


@dataclass(frozen=True)
class Options:
    """Options that Ray's configuration lacks."""

    max_body: int
    """Bytes a request may declare, below 10^9."""
    host: str = ""
    """Address to listen on; by default Ray's, which is that of the replicas, too."""
    pem: str = ""
    """File with certificate chain and key; without it the front speaks HTTP."""
    lua: str = ""
    """Script to load, see `launcher.watch`."""


@dataclass(frozen=True)
class ConfigSection:
    kind: str
    name: str
    lines: tuple[str, ...]


def sections(text: str) -> list[ConfigSection]:
    """The parts of a configuration without comments and blank lines.

    Raises:
        RayError: a line stands outside of any section.
    """
    sections_read: list[tuple[str, str, list[str]]] = []
    for line in text.splitlines():
        words = line.strip()
        if not words or words.startswith("#"):
            continue
        head = HEAD.match(line)
        if head:
            sections_read.append((head[1], head[2], []))
        elif sections_read and line != words:
            sections_read[-1][2].append(words)
        else:
            raise RayError(f"Ray's HAProxy configuration has an unknown section: {words!r}")
    return [ConfigSection(kind, name, tuple(lines)) for kind, name, lines in sections_read]


def serves(text: str) -> bool:
    """Return whether a configuration has a backend that belongs to a Serve application."""
    return any(part.kind == "backend" and _is_application(part) for part in sections(text))


def served_paths(text: str) -> list[str]:
    """The path of each application that is served, such as `/health_visits`."""
    return sorted(PATH.findall(text))


def unrouted(paths: Sequence[str]) -> dict[str, object]:
    """Build the JSON answer to a request whose path belongs to no project.

    Args:
        paths: the route prefixes of the projects, at least one.
    """
    example = f"{paths[0].rstrip('/')}/predict"
    return {
        "error": f"{REFUSALS[404]}; it has to begin with a project's, such as {example}",
        "projects": list(paths[:MAX_PROJECTS_LISTED]),
        "example": example,
    }


def bound(text: str) -> str:
    """Host and port the clients reach.

    Raises:
        RayError: there is no such line, or more than one.
    """
    binds = [
        line.split()
        for part in sections(text)
        if (part.kind, part.name) == ("frontend", "http_frontend")
        for line in part.lines
        if line.startswith("bind ")
    ]
    if len(binds) != 1 or len(binds[0]) != 2:
        raise RayError(f"Ray's HAProxy configuration binds {binds}, not one address")
    return binds[0][1]


def harden(text: str, options: Options) -> str:
    """The configuration HAProxy is run with.

    Raises:
        RayError: Ray wrote something that is not known here.
        SettingsError: `max_body` is out of range.
    """
    if not 0 < options.max_body < 10**9:
        raise SettingsError(
            f"LIFECYCLE_FRONT_MAX_BODY: {options.max_body} is not between 1 and 999999999"
        )
    parts = sections(text)
    address, busy, paths = bound(text), serves(text), served_paths(text)
    lines: list[str] = []
    titles: set[str] = set()
    for part in parts:
        title = f"{part.kind} {part.name}".strip()
        titles.add(title)
        if title in ("frontend prometheus", "listen stats"):
            continue  # both listen on all interfaces; the admin socket tells the same
        if title == "global":
            body = _global(part, options)
        elif title == "defaults":
            body = [line for line in _lines_to_keep(part) if line not in LOGGED] + _defaults()
        elif title == "frontend http_frontend":
            body = [_bind(address, options), *_guards(options), *_rules(part)]
        elif title == "backend default_backend":
            status, content = (404, unrouted(paths)) if busy else (503, _refusal(503))
            body = [_answer("request", status, content)]
        elif _is_application(part):
            body = _application(part)
        else:
            raise RayError(f"Ray's HAProxy configuration has an unknown section: {title!r}")
        lines += [title, *(f"    {line}" for line in body)]
    missing = {"global", "defaults", "frontend http_frontend", "backend default_backend"} - titles
    if missing:
        raise RayError(f"Ray's HAProxy configuration lacks {', '.join(sorted(missing))}")
    return "\n".join(lines) + "\n"


def _lines_to_keep(part: ConfigSection) -> list[str]:
    """The directives that stay.

    Raises:
        RayError: a directive that is neither kept nor dropped on purpose.
    """
    lines = []
    for line in part.lines:
        word = line.split()[0]
        if word in KEPT_DIRECTIVES[part.kind]:
            lines.append(line)
        elif word not in DROPPED[part.kind]:
            raise RayError(
                f"Ray's HAProxy configuration has an unknown line in {part.kind} {part.name}: "
                f"{line!r}"
            )
    return lines


def _is_application(part: ConfigSection) -> bool:
    return part.kind == "backend" and part.name.startswith("http-")


def _global(part: ConfigSection, options: Options) -> list[str]:
    lines = _lines_to_keep(part)
    socket = [line for line in lines if line.startswith("stats socket ")]
    if len(socket) != 1 or " mode 666 " not in socket[0]:
        raise RayError(f"Ray's HAProxy configuration has the admin socket {socket}")
    lines = [line.replace(" mode 666 ", " mode 600 ") for line in lines]
    return lines + ([f"lua-load {options.lua}"] if options.lua else [])


def _defaults() -> list[str]:
    """Predictions have no side effects, so a request that a dying replica left unanswered is sent
    to the next one, as long as all of it is in the buffer still."""
    return [
        "timeout connect 2s",
        f"timeout http-request {HEADERS}s",
        f"timeout http-keep-alive {KEEP_ALIVE}s",
        f"timeout client {CLIENT}s",
        f"timeout server {SERVER}s",
        f"timeout queue {QUEUE}s",
        "retry-on conn-failure empty-response",
        f"retries {RETRIES}",
        *(f"http-error status {status} {_json(status)}" for status in REFUSALS),
    ]


def _bind(address: str, options: Options) -> str:
    tls = f" ssl crt {options.pem} ssl-min-ver TLSv1.2 alpn http/1.1" if options.pem else ""
    host, _, port = address.rpartition(":")
    return f"bind {options.host or host}:{port}{tls}"


def _guards(options: Options) -> list[str]:
    """Build the rules that every request passes before those of Ray."""
    return [
        "http-request deny deny_status 405 unless { method GET HEAD POST OPTIONS }",
        # HAProxy compares numbers of 32 bits, so those with more than 9 digits go by their length
        "http-request deny deny_status 413 if { req.hdr(content-length),length gt 9 }",
        f"http-request deny deny_status 413 if {{ req.hdr_val(content-length) gt "
        f"{options.max_body} }}",
        *(f"http-request del-header {name} -m beg" for name in STRIPPED_HEADERS),
        "http-request del-header upgrade",
        # Serve then starts no task of its own for each request, to notice that a client has gone
        "http-request set-header x-request-disconnect-disabled ?1",
    ]


def _rules(part: ConfigSection) -> list[str]:
    lines = _lines_to_keep(part)
    if lines[-1] != "default_backend default_backend":
        raise RayError(f"Ray's HAProxy configuration ends its frontend with {lines[-1]!r}")
    return [line for line in lines if not any(text in line for text in UNASKED)]


def _application(part: ConfigSection) -> list[str]:
    """A slow body waits here and not in a replica, up to the size of a buffer."""
    plain = "!{ res.hdr(content-type) -m beg application/json }"
    return [
        *_lines_to_keep(part),
        f"http-request wait-for-body time {HEADERS}s",
        *(
            f"{_answer('response', status)} if {{ status {status} }} {plain}"
            for status in REPLICA_SAYS
        ),
    ]


def _answer(when: str, status: int, content: Mapping[str, object] | None = None) -> str:
    return f"http-{when} return status {status} {_json(status, content)}"


def _refusal(status: int) -> dict[str, object]:
    return {"error": REFUSALS[status]}


def _json(status: int, content: Mapping[str, object] | None = None) -> str:
    body = json.dumps(content or _refusal(status)).replace("'", r"'\''")
    more = " hdr Retry-After 1" if status in RETRY_STATUSES else ""
    if status == 405:
        more = ' hdr Allow "GET, HEAD, POST"'
    return f"content-type application/json string '{body}'{more}"
