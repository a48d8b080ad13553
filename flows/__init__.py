"""In which order the stages run. Whatever runs a flow gets Prefect as `tasks` loads it."""

import tasks

__all__ = ["tasks"]
