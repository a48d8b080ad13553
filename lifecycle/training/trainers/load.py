"""From a model's bytes back to a model; nothing in them is executed."""

from pathlib import Path

from lifecycle.errors import BundleError
from lifecycle.training.trainers.protocol import Model, ModelKind


def load_model(kind: ModelKind, content: bytes, file: Path) -> Model:
    """The model that `Model.save` gave these bytes for; imports only the library that runs it.

    Args:
        file: where they were read, for messages.

    Raises:
        BundleError: they are not a model of this kind.
    """
    try:
        if kind == "onnx":
            from lifecycle.training.trainers.onnx import OnnxModel

            return OnnxModel(content)
        from lifecycle.training.trainers.booster import load_booster

        return load_booster(content)
    except ValueError as error:
        raise BundleError(f"{file}: not a model that can be run: {error}") from None
