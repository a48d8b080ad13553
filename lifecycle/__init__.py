"""The machine-learning lifecycle, as workflow code. What notebooks use is in `lifecycle.api`."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lifecycle.api import FrameModel, monitor, open_dataset, open_model, train

__all__ = ["FrameModel", "monitor", "open_dataset", "open_model", "train"]


def __getattr__(name: str) -> Any:
    """Import them when they are used: a command or a replica needs none of them."""
    if name in __all__:
        return getattr(import_module("lifecycle.api"), name)
    raise AttributeError(f"module 'lifecycle' has no attribute {name!r}")
