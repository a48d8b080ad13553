"""A small model with a replica on each of two Ray nodes, as functions for a driver's process."""

from pathlib import Path
from typing import Any

from lifecycle.project import Project
from lifecycle.records import ModelVersion
from lifecycle.serving import deployment
from lifecycle.settings import Settings


def serve_spread(
    bundle: Path, model: ModelVersion, project: Project, settings: Settings
) -> tuple[str, list[str]]:
    """Deploy with one replica per node; the endpoint's URL and the addresses of metrics agents."""
    import ray

    options = deployment._options

    def spread(project: Project, settings: Settings) -> dict[str, Any]:
        return options(project, settings) | {"max_replicas_per_node": 1}

    deployment._options = spread
    url = deployment.deploy(bundle, model, project, settings)
    agents = [
        f"{node['NodeManagerAddress']}:{node['MetricsExportPort']}"
        for node in ray.nodes()  # type: ignore[no-untyped-call]  # Ray leaves it untyped
        if node["Alive"]
    ]
    return url, agents
