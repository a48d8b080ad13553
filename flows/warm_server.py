"""The process of a warm Prefect server: serves a home until nobody needs it any more.

It ends by itself when it was not used for some minutes, when the code or the lock has changed, and
when its record is gone or another's. No script is cut off: while one uses it, it stays.
"""

import argparse
import os
import socket
import threading
import time
from datetime import UTC, datetime
from pathlib import Path

import uvicorn

from flows.database import create_app
from lifecycle.runtime.identity import code_digest, lock_digest
from lifecycle.runtime.process import process_start
from lifecycle.runtime.servers import STARTUP_S
from lifecycle.runtime.warm_server import (
    WarmServer,
    delete_record,
    running_server,
    wait_until_superfluous,
    write_record,
)

POLL_S = 0.05
GRACE_S = 3
"""Seconds that open connections keep an ending server."""
END_S = 10.0
"""Seconds after which it ends in any case."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("--home", "--url", "--key", "--minutes", "--socket"):
        parser.add_argument(name, required=True)
    options = parser.parse_args()
    home, listener = Path(options.home), socket.socket(fileno=int(options.socket))
    record = WarmServer(
        url=options.url,
        process=os.getpid(),
        process_start=process_start(os.getpid()),
        started=datetime.now(UTC),
        minutes=float(options.minutes),
        key=options.key,
        home=str(home),
    )
    config = uvicorn.Config(create_app(), log_level="error", timeout_graceful_shutdown=GRACE_S)
    server = uvicorn.Server(config)
    threading.Thread(target=_watch, args=(server, record, home), daemon=True).start()
    try:
        server.run(sockets=[listener])
    finally:
        delete_record(home, record)


def _watch(server: uvicorn.Server, record: WarmServer, home: Path) -> None:
    """Make the server known once it listens, and end it when nobody needs it."""
    try:
        if _listens(server):
            if running_server(home) is None:
                write_record(home, record)
            state = server.server_state
            wait_until_superfluous(
                home, record, lambda: server.should_exit, lambda: state.total_requests, _code
            )
    finally:  # also where its home is gone
        server.should_exit = True
        time.sleep(END_S)
        os._exit(1)  # what does not end when asked to


def _listens(server: uvicorn.Server) -> bool:
    end = time.monotonic() + STARTUP_S
    while not (server.started or server.should_exit) and time.monotonic() < end:
        time.sleep(POLL_S)
    return server.started


def _code() -> tuple[str, str]:
    code_digest.cache_clear()
    lock_digest.cache_clear()
    return code_digest("server"), lock_digest()


if __name__ == "__main__":
    main()
