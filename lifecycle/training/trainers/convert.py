"""From a fitted scikit-learn pipeline to an ONNX graph: the same bytes for the same pipeline."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import onnx
from skl2onnx import convert_sklearn
from skl2onnx.common import tree_ensemble
from skl2onnx.common.data_types import FloatTensorType
from sklearn.pipeline import Pipeline

from lifecycle.training.trainers.graph import graphs_of

OPSET = {"": 18, "ai.onnx.ml": 3}
"""Written down, so that another release of the converter writes the same graph."""

LOG_LINKS = ("poisson", "gamma")
"""Losses with which histogram boosting adds up logarithms; the converter leaves it at that."""


def to_graph(pipeline: Pipeline, features: int, classifier: bool) -> bytes:
    """The pipeline as a graph from a float matrix (rows, features) to one output.

    Raises:
        Exception: whatever the converter raises where it cannot.
    """
    with warnings.catch_warnings(), _exact_nodes():
        warnings.simplefilter("ignore")  # of the converter about its own libraries
        model = convert_sklearn(
            pipeline,
            name="model",
            initial_types=[("matrix", FloatTensorType([None, features]))],
            options={id(pipeline): {"zipmap": False}} if classifier else None,
            target_opset=OPSET,
        )
    for output in list(model.graph.output):
        if classifier and output.name != "probabilities":  # the label follows from them
            model.graph.output.remove(output)
    if getattr(pipeline[-1], "loss", None) in LOG_LINKS and hasattr(pipeline[-1], "_predictors"):
        _exponentiate(model)
    _rename(model)
    content: bytes = model.SerializeToString(deterministic=True)
    return content


def _exponentiate(model: onnx.ModelProto) -> None:
    (output,) = model.graph.output
    total, output.name = output.name, "expected"
    model.graph.node.append(onnx.helper.make_node("Exp", [total], ["expected"]))


def _rename(model: onnx.ModelProto) -> None:
    """Name values and nodes by their place: the converter counts on from one model to the next."""
    kept = {"", *(entry.name for entry in (*model.graph.input, *model.graph.output))}
    names: dict[str, str] = {}

    def new(name: str) -> str:
        return name if name in kept else names.setdefault(name, f"v{len(names)}")

    for at, graph in enumerate(graphs_of(model.graph)):
        graph.name = f"graph{at}"
        for entry in (*graph.input, *graph.output, *graph.value_info, *graph.initializer):
            entry.name = new(entry.name)
        for sparse in graph.sparse_initializer:
            sparse.values.name = new(sparse.values.name)
        for place, node in enumerate(graph.node):
            node.name = f"{at}.{place}"
            node.input[:] = [new(name) for name in node.input]
            node.output[:] = [new(name) for name in node.output]


@contextmanager
def _exact_nodes() -> Iterator[None]:
    """Let trees be converted so that every row takes the same way through them.

    A graph compares with 32-bit thresholds where scikit-learn has 64-bit ones. As all features are
    32-bit, `x <= threshold` stays exactly the same comparison if the threshold is rounded down;
    skl2onnx 1.20 does so for single trees and forests, and rounds those of histogram boosting to
    the nearest number, past values that lie close together. It also writes False there where ONNX
    has an integer, which protobuf refuses from version 6 on.
    """
    original = tree_ensemble.add_node

    def add_node(
        pairs: dict[str, Any], *given: Any, nodes_missing_value_tracks_true: Any = 0, **named: Any
    ) -> None:
        tracks = int(nodes_missing_value_tracks_true)
        original(pairs, *given, nodes_missing_value_tracks_true=tracks, **named)
        if pairs["nodes_modes"][-1] == "BRANCH_LEQ":
            pairs["nodes_values"][-1] = _rounded_down(pairs["nodes_values"][-1])

    tree_ensemble.add_node = add_node
    try:
        yield
    finally:
        tree_ensemble.add_node = original


def _rounded_down(threshold: float) -> float:
    """The greatest 32-bit float that is not above a threshold."""
    nearest = np.float32(threshold)
    if float(nearest) > threshold:  # NumPy would compare with 32 bits
        nearest = np.nextafter(nearest, np.float32(-np.inf))
    return float(nearest)
