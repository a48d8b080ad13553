"""How a Prefect server of ours is started: on loopback, for whoever knows its auth string alone.

By itself it answers every origin, so that any page in a browser could delete runs.
"""

import secrets
from pathlib import Path

from lifecycle.process import TELEMETRY
from lifecycle.redaction import remember
from lifecycle.settings import made_once


def auth_file(home: Path) -> Path:
    """The file in Prefect's home with what its servers ask for; readable by its owner alone."""
    return home / "auth-string"


def auth_string(home: Path) -> str:
    """What a server with its database in `home` asks for: a random text, made on first use.

    Raises:
        OSError: its file cannot be made or read.
    """
    home.mkdir(parents=True, exist_ok=True)
    text = made_once(auth_file(home), f"lifecycle:{secrets.token_urlsafe(24)}", 0o600).strip()
    remember(text, text.partition(":")[2])
    return text


def server_environment(home: Path, url: str, auth: str) -> dict[str, str]:
    """Variables of a server's process.

    Args:
        home: folder of its database.
        url: where it listens; its own page is the one origin that may ask.
        auth: what a request must bring.
    """
    return TELEMETRY | {
        "PREFECT_HOME": str(home),
        "PREFECT_API_URL": f"{url}/api",
        "PREFECT_UI_API_URL": f"{url}/api",
        "PREFECT_UI_STATIC_DIRECTORY": str(home / "ui"),
        "PREFECT_SERVER_API_AUTH_STRING": auth,
        "PREFECT_API_AUTH_STRING": auth,
        "PREFECT_SERVER_CORS_ALLOWED_ORIGINS": url,
    }
