"""An ONNX graph as a model: scikit-learn's estimators become one, and so may the user's own."""

import json
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime

from lifecycle.features.encode import Floats
from lifecycle.training.trainers.protocol import Matrix, ModelKind

DOMAINS = ("", "ai.onnx", "ai.onnx.ml")
"""Operators of the ONNX standard; others would be compiled code of a third party."""
PROBABILITIES = "probabilities"
IMPORTANCES = "importances"


class OnnxModel:
    """A graph from a matrix of floats, (rows, features), to the model's answers.

    Its input is the matrix the project's features make: categories as codes, missing and unknown
    values NaN. Its answer is the output called `probabilities` or else its only one, floats of
    shape (rows,), (rows, 1) or (rows, classes); of two classes the second is the positive one.

    Args:
        content: the graph, as `SerializeToString` gives it.
        importances: share of the gain a feature, sums to 1; it is kept in the graph's metadata.

    Raises:
        ValueError: it is not such a graph, or it refers to other files or to operators that are
            not ONNX's own.
    """

    kind: ModelKind = "onnx"
    rounds = 1

    def __init__(self, content: bytes, importances: Sequence[float] | Floats | None = None) -> None:
        graph = _parsed(content)
        if importances is not None:
            del graph.metadata_props[:]
            text = json.dumps([float(share) for share in importances])
            graph.metadata_props.add(key=IMPORTANCES, value=text)
            content = graph.SerializeToString(deterministic=True)
        self._content = content
        self._graph = graph
        self._input, self.features = _input(graph)
        self._output = _output(graph)
        self._sessions: dict[int, Any] = {}
        shares = self.importances()
        if shares.shape != (self.features,):
            raise ValueError(f"{len(shares)} importances for {self.features} features")
        self._session(1)

    def predict(self, matrix: Matrix, threads: int = 1) -> Floats:
        (answer,) = self._session(threads).run([self._output], {self._input: matrix})
        predicted: Floats = np.asarray(answer, dtype=np.float64)
        if self._output == PROBABILITIES:
            predicted = predicted.clip(0, 1)  # a sum of 32-bit shares may end beyond
        if predicted.ndim == 2 and predicted.shape[1] <= 2:
            return np.ascontiguousarray(predicted[:, -1])
        return predicted

    def importances(self) -> Floats:
        """Importance of each feature as the trainer stored it (features,); zeros if it did not."""
        metadata = {entry.key: entry.value for entry in self._graph.metadata_props}
        try:
            shares = json.loads(metadata.get(IMPORTANCES, "null"))
            return np.zeros(self.features) if shares is None else np.array(shares, dtype="f8")
        except (TypeError, ValueError):
            raise ValueError("its importances are not numbers") from None

    def contributions(self, matrix: Matrix, threads: int = 1) -> None:
        """A graph cannot say."""

    def save(self) -> bytes:
        return self._content

    def _session(self, threads: int) -> Any:
        if threads not in self._sessions:
            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = threads
            options.inter_op_num_threads = 1
            options.log_severity_level = 4
            try:
                self._sessions[threads] = onnxruntime.InferenceSession(
                    self._content, options, providers=["CPUExecutionProvider"]
                )
            except Exception as error:
                raise ValueError(f"ONNX Runtime {onnxruntime.__version__}: {error}") from None
        return self._sessions[threads]


def _parsed(content: bytes) -> onnx.ModelProto:
    try:
        model = onnx.load_model_from_string(content)
    except Exception as error:
        raise ValueError(f"not ONNX ({error})") from None
    if not model.graph.node:
        raise ValueError("not an ONNX graph with at least one node")
    if model.functions:
        raise ValueError("it defines functions of its own; inline them")
    domains = {entry.domain for entry in model.opset_import}
    for graph in graphs_of(model.graph):
        domains |= {node.domain for node in graph.node}
        for tensor in _tensors(graph):
            if tensor.data_location == onnx.TensorProto.EXTERNAL or tensor.external_data:
                raise ValueError(f"{tensor.name!r} lies in another file; a bundle has one")
    if foreign := sorted(domains - set(DOMAINS)):
        raise ValueError(f"operators of {foreign[0]!r} are not ONNX's own")
    return model


def graphs_of(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """A graph and all graphs inside it, as in loops and branches."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                if inner.node or inner.initializer:
                    yield from graphs_of(inner)


def _tensors(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    for node in graph.node:
        for attribute in node.attribute:
            yield from (attribute.t, *attribute.tensors)
            for sparse in (attribute.sparse_tensor, *attribute.sparse_tensors):
                yield from (sparse.values, sparse.indices)


def _input(model: onnx.ModelProto) -> tuple[str, int]:
    constants = {tensor.name for tensor in model.graph.initializer}
    inputs = [entry for entry in model.graph.input if entry.name not in constants]
    if len(inputs) == 1:
        kind = inputs[0].type.tensor_type
        sizes = [dimension.dim_value for dimension in kind.shape.dim]
        if kind.elem_type == onnx.TensorProto.FLOAT and len(sizes) == 2 and sizes[1]:
            return inputs[0].name, sizes[1]
    raise ValueError("it needs one input, a float tensor of shape (None, number of features)")


def _output(model: onnx.ModelProto) -> str:
    outputs = {entry.name: entry.type for entry in model.graph.output}
    name = PROBABILITIES if PROBABILITIES in outputs else next(iter(outputs), "")
    floats = (onnx.TensorProto.FLOAT, onnx.TensorProto.DOUBLE)
    single = len(outputs) == 1 or name == PROBABILITIES
    if single and outputs[name].tensor_type.elem_type in floats:
        return name
    raise ValueError("it needs an output `probabilities`, or only one, that is a float tensor")
