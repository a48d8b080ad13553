"""The services that settings name, asked before a flow begins: one that is down is told at once."""

import httpx
from prefect.client.base import ServerType
from prefect.client.orchestration import get_client
from prefect.settings import PREFECT_API_URL, PREFECT_CLIENT_MAX_RETRIES, temporary_settings

from lifecycle.errors import BackendError, SettingsError
from lifecycle.redaction import redact
from lifecycle.release.mlflow_store import require_store
from lifecycle.runtime.cluster import require_ray
from lifecycle.settings import Settings

PROBE_S = 4.0
"""Seconds a service may take to answer, so that even the last of three is told within 10."""
REFUSED = (401, 403)


def require_services(settings: Settings, registry: bool, cluster: bool) -> None:
    """See that what the settings name answers.

    Args:
        registry: whether MLflow is needed.
        cluster: whether Ray is.

    Raises:
        BackendError: a service does not answer; names the variable.
        SettingsError: Prefect's server refuses us; names the variable.
    """
    require_prefect()
    if cluster and not settings.local_ray:
        require_ray(settings.ray_address, PROBE_S)
    if registry:
        require_store(settings, PROBE_S)


def require_prefect(is_needed: bool = False) -> None:
    """See that the Prefect server answers, if one is named.

    Args:
        is_needed: whether one has to be named.

    Raises:
        BackendError: it does not answer, or is something else.
        SettingsError: it refuses us, or none is named; names the variable.
    """
    url = PREFECT_API_URL.value()
    if not url:
        if is_needed:
            raise SettingsError(
                "PREFECT_API_URL is not set: name your Prefect server, see docs/how-to/deploy.md"
            )
        return
    try:
        with (
            temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 0}),
            get_client(sync_client=True, httpx_settings={"timeout": PROBE_S}) as client,
        ):
            if client.server_type == ServerType.CLOUD:
                return  # it has versions of its own
            client.request("GET", "/admin/version")
    except httpx.HTTPStatusError as error:
        status = error.response.status_code
        if status in REFUSED:
            raise SettingsError(
                f"PREFECT_API_URL: the Prefect server at {redact(url)} refuses access ({status}); "
                "set PREFECT_API_AUTH_STRING to its credentials"
            ) from None
        raise BackendError(
            f"PREFECT_API_URL: the server at {redact(url)} is not a Prefect server ({status}); "
            "its API is at http://HOST:PORT/api"
        ) from None
    except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError) as error:
        reason = str(error) or type(error).__name__
        raise BackendError(
            f"PREFECT_API_URL: no Prefect server answers at {redact(url)} ({reason}); start that "
            "server (`make ui` starts one), or unset the variable for a temporary one"
        ) from None
