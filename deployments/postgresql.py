"""The PostgreSQL server of `make stack` and of tests, from Debian's package or the PATH."""

import os
import pwd
import shutil
import subprocess
import tempfile
from pathlib import Path

from lifecycle.errors import BackendError
from lifecycle.runtime.servers import HOST

DEBIAN = "/usr/lib/postgresql"


def postgresql(folder: Path, port: int, user: str, password: str) -> list[str]:
    """The command of a PostgreSQL server in a folder, whose cluster is made on first use.

    As root it runs as user `postgres`, since it refuses to run as root.

    Raises:
        BackendError: PostgreSQL is not installed, or its cluster cannot be made.
    """
    found = sorted(Path(DEBIAN).glob("*/bin/initdb"))
    initdb = found[-1] if found else Path(shutil.which("initdb") or "")
    if not initdb.is_file():
        raise BackendError(
            f"no PostgreSQL server under {DEBIAN}: `sudo apt-get install postgresql` installs it"
        )
    owner = "postgres" if os.geteuid() == 0 else None
    prefix: list[str] = []
    folder.mkdir(parents=True, exist_ok=True)
    if owner:
        account = pwd.getpwnam(owner)
        os.chown(folder, account.pw_uid, account.pw_gid)
        # it ends with us: what dies with its parent by our own means no longer does as another user
        prefix = ["setpriv", f"--reuid={owner}", f"--regid={owner}", "--clear-groups"]
        prefix += ["--pdeathsig=INT", "--"]
    data = folder / "data"
    if not data.exists():
        with tempfile.NamedTemporaryFile("w", dir=folder, suffix=".password") as secret:
            secret.write(password)
            secret.flush()
            os.chmod(secret.name, 0o644)
            make = [str(initdb), "-D", str(data), "-U", user, f"--pwfile={secret.name}"]
            make += ["--auth=scram-sha-256", "--encoding=UTF8", "--locale=C", "--no-sync"]
            made = subprocess.run([*prefix, *make], cwd=folder, capture_output=True, text=True)  # noqa: S603
        if made.returncode:
            shutil.rmtree(data, ignore_errors=True)
            raise BackendError(
                f"PostgreSQL cannot make its databases in {folder}: {made.stderr.strip()}; name "
                f"another --folder that the user {owner or 'you are'} reaches"
            )
    options = {"listen_addresses": HOST, "port": port, "unix_socket_directories": ""}
    options["max_connections"] = 100
    command = [*prefix, str(initdb.with_name("postgres")), "-D", str(data)]
    return [
        *command,
        *(part for key, value in options.items() for part in ("-c", f"{key}={value}")),
    ]
