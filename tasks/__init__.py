"""Prefect tasks, one per step. Importing this package loads Prefect and checks its settings."""

import io
import os
import re
import sys
from collections.abc import Iterator
from contextlib import redirect_stderr, suppress
from importlib import import_module

from pydantic import ValidationError
from pydantic_settings import SettingsError

from lifecycle.errors import LifecycleError
from lifecycle.redaction import SECRET_NAME, redact
from lifecycle.runtime.logs import begin_logs
from lifecycle.runtime.process import no_telemetry
from lifecycle.settings import Settings

USAGE = 2
"""Exit code of a mistake that the user can mend."""
UNPARSED = re.compile(r'field "(\w+)"')


def load_prefect() -> None:
    """Import Prefect, which reads its settings then and reports the import unless told not to.

    Raises:
        SystemExit: a setting of Prefect's is wrong; standard error says which.
    """
    no_telemetry()
    noise = io.StringIO()  # Prefect prints the first such error with the value, then goes on
    try:
        with redirect_stderr(noise):
            import_module("prefect.main")
    except (ValidationError, SettingsError) as error:
        for problem in _problems(error):
            sys.stderr.write(f"{redact(problem)}\n")
        raise SystemExit(USAGE) from None
    sys.stderr.write(redact(noise.getvalue()))


def _problems(error: ValidationError | SettingsError) -> Iterator[str]:
    """Yield the problems with Prefect's settings, one line each."""
    if isinstance(error, SettingsError):
        field = UNPARSED.search(str(error))
        yield _problem(field[1] if field else "", "cannot be parsed as JSON", None)
        return
    for item in error.errors():
        if item["type"] != "default_factory_not_called":  # which follows from another
            yield _problem("_".join(map(str, item["loc"])), item["msg"], item["input"])


def _problem(field: str, message: str, value: object) -> str:
    """The variable that is to blame and what is wrong with it; its value if that is no secret.

    Args:
        value: as Prefect read it; None if it could not.
    """
    for name, text in os.environ.items():
        if not (name.startswith("PREFECT_") and name.endswith(field.upper())):
            continue
        if value is None or SECRET_NAME.search(name):
            return f"{name}: {message}"
        if text.strip().lower() == str(value).lower():
            return f"{name}: {message} (got {text!r})"
    return (
        f"Prefect's setting {field}: {message}; it is in a profile, prefect.toml, pyproject.toml "
        "or .env"
    )


def log_early() -> None:
    """Log as the settings say from the start of a deployed run on, before its flow begins."""
    if os.environ.get("PREFECT__FLOW_RUN_ID"):  # which a worker sets
        with suppress(LifecycleError):  # said by the flow
            begin_logs(Settings.load())


load_prefect()
log_early()
