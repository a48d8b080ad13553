"""A graph is data: what refers to files, foreign code or other shapes is refused."""

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from lifecycle.training.trainers.onnx import OnnxModel
from lifecycle.training.trainers.scikit import _rounded_down


def make(nodes=None, *, outputs=("value",), columns=3, rank=2, constants=(), domains=(("", 18),)):
    """A graph that adds up a row, or what is changed of it."""
    nodes = nodes or [helper.make_node("ReduceSum", ["matrix", "axes"], ["value"])]
    shape = [None, columns][:rank]
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("matrix", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        [numpy_helper.from_array(np.array([1]), "axes"), *constants],
    )
    opsets = [helper.make_opsetid(*domain) for domain in domains]
    return helper.make_model(graph, opset_imports=opsets, ir_version=9)


def test_a_graph_answers_for_rows():
    model = OnnxModel(make().SerializeToString())
    assert (model.features, model.rounds, model.kind) == (3, 1, "onnx")
    assert model.predict(np.arange(6, dtype="f4").reshape(2, 3)).tolist() == [3.0, 12.0]
    assert model.importances().tolist() == [0.0, 0.0, 0.0]
    assert OnnxModel(model.save()).save() == model.save()


def test_importances_are_kept_in_the_graph():
    model = OnnxModel(make().SerializeToString(), importances=[0.5, 0.25, 0.25])
    assert OnnxModel(model.save()).importances().tolist() == [0.5, 0.25, 0.25]
    with pytest.raises(ValueError, match="2 importances for 3 features"):
        OnnxModel(make().SerializeToString(), importances=[0.5, 0.5])


def test_of_two_classes_the_second_is_positive_and_shares_stay_in_range():
    nodes = [helper.make_node("Slice", ["matrix", "from", "to", "axes"], ["probabilities"])]
    ends = [numpy_helper.from_array(np.array([n]), k) for n, k in ((0, "from"), (2, "to"))]
    model = OnnxModel(make(nodes, outputs=("probabilities",), constants=ends).SerializeToString())
    rows = np.array([[0.25, 0.75, 9], [0, 1.0000001, 9]], dtype="f4")
    assert model.predict(rows).tolist() == [0.75, 1.0]


def external():
    tensor = numpy_helper.from_array(np.ones(3, "f4"), "weights")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="/etc/passwd")
    return tensor


def in_a_branch():
    """An operator of somebody else's, hidden in a branch."""
    value = helper.make_tensor_value_info("inside", TensorProto.FLOAT, None)
    foreign = helper.make_node("Run", ["matrix"], ["inside"], domain="evil")
    plain = helper.make_node("Identity", ["matrix"], ["inside"])
    branches = {
        "then_branch": helper.make_graph([foreign], "then", [], [value]),
        "else_branch": helper.make_graph([plain], "else", [], [value]),
    }
    yes = numpy_helper.from_array(np.array(True), "yes")
    return make([helper.make_node("If", ["yes"], ["value"], **branches)], constants=[yes])


def with_a_function():
    model = make()
    node = helper.make_node("Identity", ["a"], ["b"])
    opset = [helper.make_opsetid("", 18)]
    model.functions.append(helper.make_function("mine", "F", ["a"], ["b"], [node], opset))
    return model


REFUSED = {
    "external": (lambda: make(constants=[external()]), "'weights' lies in another file"),
    "external constant": (
        lambda: make([helper.make_node("Constant", [], ["value"], value=external())]),
        "'weights' lies in another file",
    ),
    "foreign operator": (
        lambda: make([helper.make_node("Run", ["matrix"], ["value"], domain="evil")]),
        "operators of 'evil' are not ONNX's own",
    ),
    "foreign operator in a branch": (in_a_branch, "operators of 'evil'"),
    "foreign import": (
        lambda: make(domains=(("", 18), ("com.microsoft", 1))),
        r"operators of 'com\.microsoft'",
    ),
    "function": (with_a_function, "functions of its own"),
    "any number of columns": (lambda: make(columns=None), "needs one input"),
    "one dimension": (lambda: make(rank=1), "needs one input"),
    "two outputs": (
        lambda: make(
            [helper.make_node("Identity", ["matrix"], [name]) for name in ("a", "b")],
            outputs=("a", "b"),
        ),
        "needs an output `probabilities`, or only one",
    ),
    "unknown operator": (lambda: make([helper.make_node("Nope", ["matrix"], ["value"])]), "Nope"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_data_only_or_cannot_run_is_refused(name):
    made, message = REFUSED[name]
    with pytest.raises(ValueError, match=message):
        OnnxModel(made().SerializeToString())


@pytest.mark.parametrize("content", [b"", b"\x80\x04pickle", b"{}", b"\x08\x09"])
def test_what_is_no_graph_is_refused(content):
    with pytest.raises(ValueError, match=r"not (an )?ONNX"):
        OnnxModel(content)


def test_metadata_that_are_no_importances_are_refused():
    model = make()
    model.metadata_props.add(key="importances", value="['a']")
    with pytest.raises(ValueError, match="importances are not numbers"):
        OnnxModel(model.SerializeToString())


@pytest.mark.parametrize("threshold", [0.1, np.float64(0.1), -0.1, 0.5, 16_777_217.0])
def test_a_threshold_is_never_rounded_up(threshold):
    rounded = _rounded_down(threshold)
    assert rounded == float(np.float32(rounded)) <= threshold
    assert float(np.nextafter(np.float32(rounded), np.float32(np.inf))) > threshold
