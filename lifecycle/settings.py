"""`Settings`: where it runs; variables `LIFECYCLE_*` win over `deployments/<env>.env`."""

import logging
import os
import re
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, time, timedelta
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Any, Literal, Self
from urllib.parse import quote, unquote, urlsplit
from zoneinfo import ZoneInfo, available_timezones

from dotenv import dotenv_values
from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from lifecycle.environments import APART, DEV, PREFIX, environment_file, own_variables
from lifecycle.errors import SettingsError
from lifecycle.redaction import PLAIN, SECRET_NAME, redact, remember, remember_url

logger = logging.getLogger(__name__)

WARM_MINUTES = 10.0
UNUSABLE = re.compile(r"[\[\]|^\\\x00-\x1f\x7f\ud800-\udfff]|%[0-9A-Fa-f]{2}")
"""In a folder's path: what deltalake cannot open by any spelling of it (decision 29), and what no
URL can hold."""
SQLITE = ("sqlite:///", "sqlite+pysqlite:///")
"""Beginnings of the URLs of SQLite databases."""

SERVED = ("http://", "https://", "databricks")
"""Tracking URIs of an MLflow server, which has a place for artifacts of its own."""

SIGNING = frozenset(f"{kind}{bits}" for kind in ("RS", "PS", "ES") for bits in (256, 384, 512)) | {
    "EdDSA"
}
"""Algorithms of tokens with a private and a public key."""

OTHER_VARIABLES = (
    "WORKSPACE",
    "PROJECT",
    "PROJECT_NAME",
    "DEPLOYMENT",
    "MAKER",
    "LOG_CONTEXT",
    "FRONT_HOST",
    "FRONT_MAX_BODY",
    "FRONT_TLS_CERT",
    "FRONT_TLS_KEY",
)
"""Variables of `prefect.yaml`, of workers' processes, Ray's too, and of the endpoint's front."""


class Settings(BaseSettings):
    """Stores, Ray and serving of one environment; the defaults are the embedded ones of `dev`."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        frozen=True,
        extra="ignore",
        use_attribute_docstrings=True,
        hide_input_in_errors=True,  # a model's error would quote all settings, secrets too
    )

    env: str = DEV
    home: Path = Path(".lifecycle")
    """Folder of the local stores: Delta tables, MLflow database and artifacts, bundles, reports. It
    may be moved or renamed as a whole."""
    lake_uri: str = ""
    """Root of the Delta tables: a folder, or a URI that deltalake opens; by default `home`/lake."""
    mlflow_tracking_uri: str = ""
    """MLflow tracking and registry; by default SQLite in `home`."""
    mlflow_artifact_root: str = ""
    """Where new MLflow experiments keep artifacts; by default where the MLflow server puts them,
    and without a server in `home`/mlartifacts."""
    ray_address: str = "local"
    """`local` starts a Ray of its own and stops it. `host:port` joins a cluster of which this
    machine is a node, `ray://host:10001` one of which it is none; both are left running."""
    keep_warm: float | None = Field(default=None, ge=0)
    """Minutes that the Prefect server of a script waits for the next script; 0 ends it with its
    script. By default 10 in `dev`, and 0 in other environments and where `CI` is set."""
    ray_cpus: int | None = Field(default=None, ge=1)
    """CPUs of a local Ray; by default those of the machine, at least 2."""
    ray_storage: str = ""
    """Where several training workers leave checkpoints: a folder or URI that every node reaches; by
    default `home`/ray."""
    ray_dashboard: bool = False
    """Whether a local Ray starts its dashboard."""
    serve_host: str = "127.0.0.1"
    serve_port: int = Field(default=8000, ge=1, le=65535)
    serve_access: Literal["open", "keys"] | None = None
    """Whether the endpoint asks for an API key; by default only outside `dev`."""
    serve_keys: Path | None = None
    """File with the hashes of the API keys, which every node reaches; by default in `home`."""
    serve_oidc_issuer: str = ""
    """URL of an OpenID provider whose tokens (JWT) open the endpoint as API keys do; by default
    none."""
    serve_oidc_audience: str = ""
    """Audience that these tokens must be for."""
    serve_oidc_scope: str = Field(default="predict", pattern=r"^[\x21\x23-\x5B\x5D-\x7E]+$")
    """Scope that opens every project; with `:PROJECT` behind it, that one."""
    serve_oidc_algorithms: str = "RS256 ES256"
    """Algorithms that these tokens may be signed by, separated by blanks."""
    serve_oidc_jwks: str = ""
    """URL of the provider's keys; by default what its discovery document names."""
    serve_tls_cert: Path | None = None
    """Certificate chain (PEM); with it and its key the endpoint speaks HTTPS only."""
    serve_tls_key: Path | None = None
    """Private key (PEM) of the certificate."""
    checks_python: Path | None = None
    """Interpreter with the packages of requirements-checks.lock; by default that of the
    environment beside this one, `.venv-checks` beside `.venv`."""
    checks_timeout_s: float = Field(default=900.0, gt=0)
    """Seconds the checks may take; after that they count as not run."""
    pii_key: SecretStr | None = None
    """Key of the hashes of personal data; by default a random one kept in `home`."""
    openlineage: str = ""
    """Where every flow tells what it made, as OpenLineage events: a file that grows by a line an
    event, or the URL of a service such as Marquez; by default nowhere."""
    wandb: str = ""
    """Project in Weights & Biases where each trained model's numbers are mirrored; by default none.
    Needs the extra `wandb`; its own variables (`WANDB_API_KEY`, `WANDB_MODE=offline`) say how."""
    log_format: Literal["text", "json"] | None = None
    """How runs of deployments, Ray's workers and the endpoint's replicas log: `json` is a line of
    the Elastic Common Schema per record, on standard error. By default json outside `dev`; where it
    is set to json, a script logs so too, next to its screen."""
    access_log: Literal["on", "off"] = "on"
    """Whether replicas log a line per request, where logs are JSON."""
    traces: str = Field(default="", pattern=r"^(https?://\S+)?$")
    """URL of an OpenTelemetry collector, for OTLP over HTTP, such as
    http://127.0.0.1:4318/v1/traces; by default there are no traces."""
    traces_share: float = Field(default=1.0, ge=0, le=1)
    """Share of the traces that begin here and are sent; those that others began go by theirs."""
    pushgateway: str = Field(default="", pattern=r"^(https?://\S+)?$")
    """URL of a Prometheus Pushgateway, to which flows push what monitoring and retraining found;
    with `USER:PASSWORD@` where it asks for them. By default they leave files for the endpoint."""
    promotes_from: str = ""
    """The environment whose champion `promote` brings here, unless it is told another one."""
    approval: Literal["none", "required"] = "none"
    """Whether a person must approve what `promote` brings to this environment."""
    approval_hours: float = Field(default=24.0, gt=0, le=24 * 365)
    """How long a promotion waits for its approval; after that the answer is no."""
    timezone: str = "UTC"
    """Time zone of the schedules, by its name in the IANA database."""
    schedules: Literal["on", "off"] | None = None
    """Whether schedules start runs once they are deployed; by default only outside `dev`."""
    notify: str = ""
    """Notification blocks of the Prefect server by which people are told of failures, as TYPE/NAME
    separated by blanks, such as `slack-webhook/ops`; by default nobody is told."""
    quiet_hours: str = Field(default="", pattern=r"^(\d\d:\d\d-\d\d:\d\d)?$")
    """When people are not told of what can wait, such as `22:00-07:00` in `timezone`."""
    silence_hours: float = Field(default=26.0, gt=0)
    """Hours without scoring, or monitoring, after which people are told; where a schedule runs."""
    databases: SecretStr | None = None
    """SQLAlchemy URLs of the databases behind Prefect's and MLflow's servers, separated by blanks:
    `lifecycle erase` searches them too."""

    @field_validator("home", mode="before")
    @classmethod
    def _parse_names(cls, value: object) -> object:
        if value == "":
            raise ValueError("is empty; name a folder, or unset the variable")
        return value

    @field_validator("home")
    @classmethod
    def _absolute(cls, value: Path) -> Path:
        path = value.expanduser().absolute()
        _refuse_unusable(str(path))
        if path.exists() and not path.is_dir():
            raise ValueError(f"{path} is not a folder; name a folder, or move that file away")
        return path

    @field_validator("lake_uri", "ray_storage")
    @classmethod
    def _usable(cls, value: str) -> str:
        if "://" not in value:
            _refuse_unusable(value)
        return value

    @field_validator("quiet_hours")
    @classmethod
    def _times(cls, value: str) -> str:
        if value:
            begin, end = _times_of(value)
            if begin == end:
                raise ValueError("ends when it begins; name two times, or leave it empty")
        return value

    @field_validator("serve_oidc_issuer", "serve_oidc_jwks")
    @classmethod
    def _safe_place(cls, value: str) -> str:
        if value and not is_private_place(value):
            raise ValueError("must be an https:// URL (http:// on this machine alone)")
        return value

    @field_validator("serve_oidc_algorithms")
    @classmethod
    def _signing(cls, value: str) -> str:
        if not value.split() or (unknown := set(value.split()) - SIGNING):
            raise ValueError(
                f"has {', '.join(sorted(unknown)) or 'none'}; choose of "
                f"{', '.join(sorted(SIGNING))}: with others the key is no secret"
            )
        return value

    @field_validator("timezone")
    @classmethod
    def _zone(cls, value: str) -> str:
        try:
            ZoneInfo(value)
        except (ValueError, KeyError, OSError):
            close = get_close_matches(value, available_timezones(), n=1)
            hint = f"; did you mean {close[0]}?" if close else ""
            raise ValueError(f"is not a time zone such as Europe/Berlin{hint}") from None
        return value

    def __repr_args__(self) -> Iterator[tuple[str | None, object]]:
        for name, value in super().__repr_args__():
            yield name, redact(value) if isinstance(value, str) else value

    @property
    def warm_minutes(self) -> float:
        """Minutes that a script's Prefect server is kept."""
        if self.keep_warm is not None:
            return self.keep_warm
        return WARM_MINUTES if self.env == DEV and not os.environ.get("CI") else 0

    @property
    def needs_keys(self) -> bool:
        """Return whether the endpoint requires an API key."""
        is_open = self.env == DEV and not self.serve_oidc_issuer
        return (self.serve_access or ("open" if is_open else "keys")) == "keys"

    @property
    def has_json_logs(self) -> bool:
        """Return whether processes without a screen log lines of JSON."""
        return (self.log_format or ("text" if self.env == DEV else "json")) == "json"

    @property
    def has_access_log(self) -> bool:
        """Return whether replicas log each request."""
        return self.has_json_logs and self.access_log == "on"

    @property
    def are_schedules_active(self) -> bool:
        """Return whether a deployed schedule starts runs."""
        return (self.schedules or ("off" if self.env == DEV else "on")) == "on"

    @property
    def quiet(self) -> timedelta:
        """Length of the quiet hours; none without any."""
        if not self.quiet_hours:
            return timedelta()
        begin, end = (
            timedelta(hours=t.hour, minutes=t.minute) for t in _times_of(self.quiet_hours)
        )
        return (end - begin) % timedelta(days=1)

    def quiet_hours_left(self, now: datetime) -> int:
        """Hours until the quiet hours are over, rounded up; 0 outside them.

        In the night in which clocks go back, at most as many as in any other.

        Args:
            now: with its time zone.
        """
        if not self.quiet_hours:
            return 0
        zone, (first, last) = ZoneInfo(self.timezone), _times_of(self.quiet_hours)
        here = now.astimezone(zone)
        is_past_begin, is_before_end = here.time() >= first, here.time() < last
        if not (
            is_past_begin and is_before_end if first < last else is_past_begin or is_before_end
        ):
            return 0
        day = here.date() if is_before_end else here.date() + timedelta(days=1)
        remainder = datetime.combine(day, last, zone).astimezone(UTC) - now.astimezone(UTC)
        return -(-min(remainder, self.quiet) // timedelta(hours=1))

    @property
    def keys_file(self) -> Path:
        """File with the hashes of the API keys."""
        return (self.serve_keys or self.home / "serve-keys.json").expanduser().absolute()

    @property
    def checks_interpreter(self) -> Path:
        """The interpreter that runs the checks, whether it is there or not."""
        default = Path(f"{sys.prefix}-checks", "bin", "python")
        return (self.checks_python or default).expanduser().absolute()

    @property
    def serve_url(self) -> str:
        """URL of the endpoint, without the path of an application."""
        scheme = "https" if self.serve_tls_cert else "http"
        host = f"[{self.serve_host}]" if ":" in self.serve_host else self.serve_host
        return f"{scheme}://{host}:{self.serve_port}"

    @model_validator(mode="after")
    def _tls_is_whole(self) -> Self:
        if (self.serve_tls_cert is None) != (self.serve_tls_key is None):
            raise ValueError("LIFECYCLE_SERVE_TLS_CERT and LIFECYCLE_SERVE_TLS_KEY belong together")
        return self

    @model_validator(mode="after")
    def _oidc_is_whole(self) -> Self:
        if bool(self.serve_oidc_issuer) != bool(self.serve_oidc_audience):
            raise ValueError(
                "LIFECYCLE_SERVE_OIDC_ISSUER and LIFECYCLE_SERVE_OIDC_AUDIENCE belong together"
            )
        return self

    @property
    def lake(self) -> str:
        """Root of the Delta tables."""
        return self.lake_uri or str(self.home / "lake")

    @property
    def tracking_uri(self) -> str:
        """MLflow tracking URI."""
        return self.mlflow_tracking_uri or sqlite_url(self.home / "mlflow.db")

    @property
    def artifact_root(self) -> str | None:
        """Artifact location for new MLflow experiments; None leaves it to the MLflow server.

        A folder of this machine is of use only where no server is between: other machines would
        not find it.
        """
        if not self.mlflow_artifact_root and self.tracking_uri.startswith(SERVED):
            return None
        return self.mlflow_artifact_root or (self.home / "mlartifacts").as_uri()

    @property
    def local_cpus(self) -> int:
        """CPUs of a local Ray: at least 2, so that serving and one stage fit side by side."""
        return self.ray_cpus or max(2, os.cpu_count() or 1)

    @property
    def local_ray(self) -> bool:
        """Return whether this process starts Ray itself, and so has to stop it."""
        return self.ray_address == "local"

    @property
    def remote_ray(self) -> bool:
        """Return whether flows reach the cluster from a machine that is none of its nodes."""
        return self.ray_address.startswith("ray://")

    def gauges_folder(self, project_name: str) -> Path:
        """Return where flows leave what they found, for Prometheus."""
        return self.folder("gauges", project_name)

    def folder(self, *parts: str) -> Path:
        """A folder under `home`, made if needed.

        Raises:
            SettingsError: the folder cannot be made.
        """
        path = self.home.joinpath(*parts)
        try:
            self.home.parent.mkdir(parents=True, exist_ok=True)
            self.home.mkdir(mode=0o700, exist_ok=True)  # what is in it is its owner's
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise SettingsError(
                f"LIFECYCLE_HOME: cannot make the folder {path} ({error.strerror}); "
                "name a writable one"
            ) from None
        return path

    @classmethod
    def load(cls, env: str | None = None) -> Self:
        """Settings of an environment: `LIFECYCLE_*` variables win over `deployments/<env>.env`.

        So do those for this environment alone, `LIFECYCLE_STAGING__*`: a shell that works in
        several has one of each.

        Raises:
            SettingsError: an environment without a file, or a value of the wrong type; names the
                places searched, or the variable.
        """
        name = env or os.environ.get("LIFECYCLE_ENV") or DEV
        file = environment_file(name)
        own: dict[str, Any] = {
            variable.lower(): value
            for variable, value in own_variables(name).items()
            if variable.lower() in cls.model_fields and f"{PREFIX}{variable}" not in os.environ
        }
        try:
            loaded = cls(_env_file=file, env=name, **own)
        except ValidationError as error:
            problems = [
                _problem(error["loc"], error["msg"], error["input"]) for error in error.errors()
            ]
            raise SettingsError("\n".join(problems)) from None
        loaded.hide_secrets()
        for variable in (*os.environ, *(dotenv_values(file, interpolate=False) if file else ())):
            _warn_of_unknown(variable.upper())
        return loaded

    def hide_secrets(self) -> None:
        """Have the secrets hidden everywhere: those of an environment's file are in no variable."""
        for name in type(self).model_fields:
            value = getattr(self, name)
            if isinstance(value, SecretStr):
                remember(value.get_secret_value(), *value.get_secret_value().split())
            elif isinstance(value, str) and "://" in value:
                remember_url(value)


@cache  # once in a process
def _warn_of_unknown(variable: str) -> None:
    """Warn of a variable with our prefix that is none of ours: it is likely misspelled."""
    names = [*map(str.upper, Settings.model_fields), *OTHER_VARIABLES]
    name = variable.removeprefix(PREFIX)
    if variable.startswith(PREFIX) and APART not in name and name not in names:
        close = get_close_matches(name, names, n=1)
        hint = f"; did you mean {PREFIX}{close[0]}?" if close else ""
        logger.warning("%s is not a setting and is ignored%s", variable, hint)


def variables_of(env: str) -> dict[str, str]:
    """Variables for a process of another environment than this process works in.

    This process's own `LIFECYCLE_…` and secrets are left out: they are for its own environment.
    `LIFECYCLE_STAGING__NAME` becomes `LIFECYCLE_NAME` in a process of `staging` where that is a
    setting, and `NAME` where it is not, such as MLFLOW_TRACKING_PASSWORD.

    Raises:
        SettingsError: there is no such environment.
    """
    environment_file(env)
    variables = {
        name: value
        for name, value in os.environ.items()
        if not name.upper().startswith(PREFIX) and (name in PLAIN or not SECRET_NAME.search(name))
    }
    for name, value in own_variables(env).items():
        is_setting = name.lower() in Settings.model_fields or name in OTHER_VARIABLES
        variables[f"{PREFIX}{name}" if is_setting else name] = value
    return variables | {f"{PREFIX}ENV": env}


def _refuse_unusable(path: str) -> None:
    """Refuse a folder that a store would not find again.

    Raises:
        ValueError: its path has such characters; says which.
    """
    if match := UNUSABLE.search(path):
        raise ValueError(
            f"deltalake cannot open a folder whose path has {match[0]!r} in it ({path!r}); "
            "choose one without control characters and without any of [ ] | ^ \\ %20"
        )


def _times_of(period: str) -> tuple[time, time]:
    """Begin and end of a daily period such as `22:00-07:00`."""
    begin, end = (time.fromisoformat(text) for text in period.split("-"))
    return begin, end


def is_private_place(url: str) -> bool:
    """Return whether nobody between can read or change what is at a URL."""
    parts = urlsplit(url)
    is_here = parts.hostname in ("127.0.0.1", "localhost", "::1")
    return bool(parts.hostname) and (
        parts.scheme == "https" or (parts.scheme == "http" and is_here)
    )


def sqlite_url(file: Path | str) -> str:
    """URL of a SQLite database, whatever characters its path has: quoted if it would end earlier.

    Where a URL begins with `sqlite:///` MLflow makes a folder of the quoted name, too.
    """
    plain, exact = SQLITE
    return f"{exact}{quote(str(file), safe='/ ')}" if "?" in str(file) else f"{plain}{file}"


def sqlite_file(url: str) -> Path:
    """The file of a SQLite URL; one that is not quoted is read, too."""
    return Path(unquote(url.partition(":///")[2].partition("?")[0])).absolute()


def _problem(place: tuple[int | str, ...], message: str, value: object) -> str:
    """One thing that is wrong with the settings, as a line; a secret is never quoted."""
    message = message.removeprefix("Value error, ")
    if not place:  # of several variables, which the message names
        return message
    field = Settings.model_fields.get(str(place[0]))
    variable = f"LIFECYCLE_{'_'.join(map(str, place)).upper()}"
    if field is None or "SecretStr" in str(field.annotation):
        return f"{variable}: {message}"
    return f"{variable}: {message} (got {str(value)!r})"
