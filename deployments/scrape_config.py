"""Jobs of `deployments/prometheus` with targets of their own, for `make stack` and tests."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import yaml

SCRAPED = Path(__file__).with_name("prometheus") / "prometheus.yml"


class Targets(NamedTuple):
    """Where Prometheus finds an environment."""

    endpoint: str
    key: Path
    nodes: Sequence[str]
    """Addresses of the metrics agents of Ray's nodes."""


def scrape_config(targets: Mapping[str, Targets], interval: str, gateway: str | None = None) -> str:
    """What Prometheus scrapes: the jobs of `deployments/prometheus`, with these targets.

    Args:
        targets: of each environment.
        interval: between two scrapes, such as `5s`.
        gateway: host and port of a Pushgateway; this stack has none, since its flows and its
            endpoints share a home.
    """
    config = yaml.safe_load(SCRAPED.read_text())
    config["global"] = {"scrape_interval": interval, "evaluation_interval": interval}
    config["rule_files"] = [str(SCRAPED.with_name(name)) for name in config["rule_files"]]
    jobs = []
    for job in config["scrape_configs"]:
        kind, _, env = job["job_name"].partition("-")
        if kind != "pushgateway" and env not in targets:
            continue
        if kind == "pushgateway":
            if gateway is None:
                continue
            del job["file_sd_configs"]
            job["static_configs"] = [{"targets": [gateway]}]
        elif kind == "endpoint":
            job["authorization"] = {"credentials_file": str(targets[env].key)}
            job["static_configs"][0]["targets"] = [targets[env].endpoint]
        else:
            del job["dns_sd_configs"]
            job["static_configs"] = [{"targets": list(targets[env].nodes)}]
        jobs.append(job)
    return yaml.safe_dump(config | {"scrape_configs": jobs}, sort_keys=False)
