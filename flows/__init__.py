"""Prefect flows: the order of the stages. Importing a flow loads Prefect through `tasks`."""

import tasks

__all__ = ["tasks"]
