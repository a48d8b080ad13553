"""One served model: a request's bytes in, the answer's values out. No web framework in here."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self, TypedDict

from lifecycle.data.classes import most_probable
from lifecycle.project import Project
from lifecycle.records import ModelVersion
from lifecycle.serving.protocol import parse_records, to_frame
from lifecycle.specs import Scalar

# functional form: `class` is a word of Python's
ClassAnswer = TypedDict("ClassAnswer", {"class": Scalar, "probabilities": dict[str, float]})
"""Multiclass: the most probable class, and the probability of each by its name."""


class ServedModel:
    """A verified bundle with its features hook, answering one request at a time."""

    def __init__(self, model: ModelVersion, project: Project, predictor: Any) -> None:
        self.model = model
        self._project = project
        self._predictor = predictor
        self._inputs = predictor.loaded.schema.inputs

    @classmethod
    def open(cls, bundle: Path, model: ModelVersion, project: Project) -> Self:
        """Verify the bundle, then load it; one thread, since single rows are slower on two.

        Raises:
            BundleError: the bundle is not the model's, or the features hook is not training's.
            FeatureError: the features hook cannot be loaded.
        """
        with _without("sklearn"):
            from lifecycle.training.bundle import load_bundle
            from lifecycle.training.predictor import open_predictor

            loaded = load_bundle(bundle, model.digest)
        return cls(model, project, open_predictor(loaded, project, threads=1))

    def answer(self, body: bytes) -> list[float] | list[ClassAnswer]:
        """Predictions for a request's body, one a record.

        The probability of `positive` (binary), the class and the probabilities of all classes
        (multiclass), the value (regression) or the expected count (count).

        Raises:
            RequestError: the request cannot be answered as it is; see `protocol`.
            FeatureError: the features hook fails on these rows.
        """
        records = parse_records(body, self._project.serving.max_rows)
        predictions = self._predictor.predict(to_frame(records, self._inputs))
        classes = self._predictor.loaded.schema.classes
        if not classes:
            values: list[float] = predictions.tolist()
            return values
        names = [str(value) for value in classes]
        chosen = most_probable(predictions, classes).tolist()
        return [
            ClassAnswer({"class": one, "probabilities": dict(zip(names, row, strict=True))})
            for one, row in zip(chosen, predictions.tolist(), strict=True)
        ]

    def describe(self) -> dict[str, Any]:
        """What a client needs to know: version, digest, task and the fields of a record."""
        schema = self._predictor.loaded.schema
        return {
            "model": self.identity(),
            "task": schema.task,
            "target": schema.target,
            "positive": schema.positive,
            "classes": list(schema.classes),
            "inputs": {
                name: spec.model_dump(mode="json", exclude_none=True)
                for name, spec in self._inputs.items()
            },
        }

    def openapi(self) -> dict[str, Any]:
        """The OpenAPI document of this model's endpoint."""
        from lifecycle.serving.openapi import document  # seldom asked for, so no part of the start

        schema = self._predictor.loaded.schema
        return document(self.model, schema, self._project.serving.max_rows)

    def identity(self) -> dict[str, Any]:
        """Which model answers."""
        return {
            "name": self.model.name,
            "version": self.model.version,
            "digest": self.model.digest,
        }


@contextmanager
def _without(package: str) -> Iterator[None]:
    """Hide a package from the imports in the block, unless it is imported already.

    XGBoost imports scikit-learn wherever it is installed, for estimators that serving never uses;
    it does without if that fails, which makes a replica start sooner and smaller.
    """
    if package in sys.modules or "xgboost" in sys.modules:
        yield
        return
    sys.modules[package] = None  # type: ignore[assignment]  # how the import system marks "no"
    try:
        yield
    finally:
        del sys.modules[package]
