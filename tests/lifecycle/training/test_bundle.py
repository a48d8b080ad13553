"""A bundle is the same bytes for the same model, and any change to it is refused."""

import json
import os
import random
import signal
import subprocess
import sys
import time

import numpy as np
import onnx
import pytest
import xgboost

from lifecycle.errors import BundleError
from lifecycle.training.bundle import MANIFEST, MODEL, MODELS, SCHEMA, load_bundle, write_bundle
from lifecycle.training.fit import bundle_schema
from lifecycle.training.matrix import open_matrices
from lifecycle.training.trainers.registry import open_trainer
from lifecycle.training.trainers.xgb import XGBoostTrainer


@pytest.fixture
def parts(make_project, prepare):
    """A small model and its schema."""
    project = make_project()
    split = prepare(project)
    data = open_matrices(project, split.train, split.validation)
    model = XGBoostTrainer().fit(project, data, {"max_depth": 3}, threads=1).model
    return model, bundle_schema(project, data.schema)


@pytest.fixture
def graph_parts(make_project, prepare):
    """A small ONNX model and its schema."""
    project = make_project(training={"trainer": "sklearn:linear_model.LogisticRegression"})
    split = prepare(project)
    data = open_matrices(project, split.train, split.validation)
    model = open_trainer(project).fit(project, data, {}, threads=1).model
    return model, bundle_schema(project, data.schema, "onnx")


@pytest.fixture
def bundle(parts, tmp_path):
    return write_bundle(*parts, "identity", tmp_path / "bundles")


def test_equal_models_have_equal_digests_wherever_they_are(parts, bundle, tmp_path):
    again = write_bundle(*parts, "identity", tmp_path / "elsewhere")
    assert again.digest == bundle.digest == bundle.path.name
    assert sorted(f.name for f in again.path.iterdir()) == [MANIFEST, MODEL, SCHEMA]
    for name in (MANIFEST, MODEL, SCHEMA):
        assert (again.path / name).read_bytes() == (bundle.path / name).read_bytes()
    assert write_bundle(*parts, "other", tmp_path / "elsewhere").digest != bundle.digest


def test_loading_gives_back_what_was_written(parts, bundle):
    model, schema = parts
    loaded = load_bundle(bundle.path, bundle.digest)
    assert loaded.schema == schema
    assert (loaded.digest, loaded.manifest.identity) == (bundle.digest, "identity")
    assert loaded.manifest.rounds == bundle.rounds == model.rounds
    assert loaded.model.save() == model.save()


def test_schema_says_what_a_request_needs(bundle):
    schema = load_bundle(bundle.path).schema
    assert list(schema.inputs) == ["age", "visits", "city"]
    assert schema.inputs["city"].categories == ("Rome", "Oslo", "Lima")
    assert (schema.positive, schema.threshold, schema.hook) == (1, 0.5, None)
    assert schema.features.kinds == ("q", "q", "c")


def test_importances_are_shares_by_name(bundle):
    shares = load_bundle(bundle.path).importances()
    assert set(shares) == {"age", "visits", "city"}
    assert sum(shares.values()) == pytest.approx(1)
    assert list(shares.values()) == sorted(shares.values(), reverse=True)


@pytest.mark.parametrize("name", [MODEL, SCHEMA, MANIFEST])
def test_a_changed_file_is_named(bundle, name):
    file = bundle.path / name
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    with pytest.raises(BundleError, match=name):
        load_bundle(bundle.path, bundle.digest)


@pytest.mark.parametrize("name", [MODEL, SCHEMA, MANIFEST])
def test_a_missing_file_is_named(bundle, name):
    (bundle.path / name).unlink()
    with pytest.raises(BundleError, match=f"{name}: cannot be read"):
        load_bundle(bundle.path)


def test_an_added_file_is_refused(bundle):
    (bundle.path / "setup.py").write_text("raise SystemExit('executed')")
    with pytest.raises(BundleError, match=r"setup\.py: this file does not belong"):
        load_bundle(bundle.path)


def test_another_bundle_is_refused(parts, bundle, tmp_path):
    other = write_bundle(*parts, "other", tmp_path / "bundles")
    with pytest.raises(BundleError, match="this is not bundle"):
        load_bundle(other.path, bundle.digest)


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(BundleError, match="nowhere"):
        load_bundle(tmp_path / "nowhere")


def rewrite(bundle, name, content):
    """Replace a file and make the manifest agree, as a forger would."""
    import hashlib

    (bundle.path / name).write_bytes(content)
    manifest = json.loads((bundle.path / MANIFEST).read_text())
    manifest["files"][name] = hashlib.sha256(content).hexdigest()
    (bundle.path / MANIFEST).write_text(json.dumps(manifest))


def test_a_forged_model_is_refused_by_the_digest(bundle):
    rewrite(bundle, MODEL, b"anything")
    with pytest.raises(BundleError, match="this is not bundle"):
        load_bundle(bundle.path, bundle.digest)


@pytest.mark.parametrize("content", [b"", b"{}", b"\x80\x04pickle", b"{" * 100])
def test_what_is_no_model_is_refused(bundle, content):
    rewrite(bundle, MODEL, content)
    with pytest.raises(BundleError, match="not a model"):
        load_bundle(bundle.path)


def test_what_is_no_schema_is_refused(bundle):
    rewrite(bundle, SCHEMA, b'{"project": "small"}')
    with pytest.raises(BundleError, match=r"schema\.json: not a schema this version reads \(task"):
        load_bundle(bundle.path)


def test_model_and_schema_must_belong_together(bundle):
    other = xgboost.train({}, xgboost.DMatrix(np.eye(5), label=np.arange(5)), 1)
    rewrite(bundle, MODEL, bytes(other.save_raw("ubj")))
    with pytest.raises(BundleError, match=r"takes 5 features and schema\.json names 3"):
        load_bundle(bundle.path)


GRAPH = MODELS["onnx"]


def test_a_graph_is_bundled_and_verified_alike(graph_parts, tmp_path):
    bundle = write_bundle(*graph_parts, "identity", tmp_path / "bundles")
    assert sorted(f.name for f in bundle.path.iterdir()) == [MANIFEST, GRAPH, SCHEMA]
    loaded = load_bundle(bundle.path, bundle.digest)
    assert (loaded.schema.model, loaded.model.kind) == ("onnx", "onnx")
    assert loaded.model.save() == graph_parts[0].save()
    assert write_bundle(*graph_parts, "identity", tmp_path / "bundles") == bundle
    content = bytearray((bundle.path / GRAPH).read_bytes())
    content[len(content) // 2] ^= 1
    (bundle.path / GRAPH).write_bytes(content)
    with pytest.raises(BundleError, match=r"model\.onnx: changed since"):
        load_bundle(bundle.path)


def test_a_graph_that_refers_to_another_file_is_refused(graph_parts, tmp_path):
    bundle = write_bundle(*graph_parts, "identity", tmp_path / "bundles")
    graph = onnx.load_model_from_string((bundle.path / GRAPH).read_bytes())
    tensor = onnx.numpy_helper.from_array(np.ones(2, "f4"), "stolen")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../../../../etc/passwd")
    graph.graph.initializer.append(tensor)
    rewrite(bundle, GRAPH, graph.SerializeToString())
    with pytest.raises(BundleError, match=r"model\.onnx: not a model .* 'stolen' lies in another"):
        load_bundle(bundle.path)


def test_schema_and_model_file_must_be_of_one_kind(bundle):
    schema = json.loads((bundle.path / SCHEMA).read_text())
    rewrite(bundle, SCHEMA, json.dumps(schema | {"model": "onnx"}).encode())
    with pytest.raises(
        BundleError, match=r"is of a model in model\.onnx, which the bundle does not"
    ):
        load_bundle(bundle.path)


def test_a_bundle_of_the_first_release_still_loads(parts, bundle):
    """It has no word of model, classes and calibration."""
    schema = json.loads((bundle.path / SCHEMA).read_text())
    for key in ("model", "classes", "calibration"):
        del schema[key]
    rewrite(bundle, SCHEMA, json.dumps(schema).encode())
    loaded = load_bundle(bundle.path)
    assert loaded.schema == parts[1]
    assert loaded.model.save() == parts[0].save()


def test_the_curve_goes_with_the_reference_and_not_into_the_bundle(parts, tmp_path):
    curve = {"train": (0.5, 0.6), "validation": (0.5, 0.55)}
    bundle = write_bundle(*parts, "identity", tmp_path / "bundles", curve)
    assert bundle.curve == curve
    assert bundle.digest == write_bundle(*parts, "identity", tmp_path / "other").digest


@pytest.mark.parametrize(
    "manifest",
    ["[]", "not json", '{"format": 2, "identity": "", "rounds": 1, "files": {}}'],
)
def test_foreign_manifests_are_refused(bundle, manifest):
    (bundle.path / MANIFEST).write_text(manifest)
    with pytest.raises(BundleError, match="not a manifest this version reads"):
        load_bundle(bundle.path)


def test_a_manifest_cannot_point_outside(bundle):
    manifest = json.loads((bundle.path / MANIFEST).read_text())
    manifest["files"]["../../x"] = "0" * 64
    (bundle.path / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(BundleError, match="names the files"):
        load_bundle(bundle.path)


def test_writing_again_leaves_a_whole_bundle_alone_and_mends_a_damaged_one(parts, bundle):
    before = (bundle.path / MODEL).stat().st_mtime_ns
    assert write_bundle(*parts, "identity", bundle.path.parent) == bundle
    assert (bundle.path / MODEL).stat().st_mtime_ns == before
    (bundle.path / MODEL).write_bytes(b"damaged")
    assert write_bundle(*parts, "identity", bundle.path.parent) == bundle
    load_bundle(bundle.path, bundle.digest)
    assert list(bundle.path.parent.iterdir()) == [bundle.path]


def test_an_unwritable_folder_is_named(parts, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(BundleError, match="cannot write the bundle"):
        write_bundle(*parts, "identity", tmp_path / "file")


WRITER = """
import sys
from pathlib import Path
from lifecycle.training.bundle import load_bundle, write_bundle
loaded = load_bundle(sys.argv[1])
print("ready", flush=True)
for number in range(10**9):
    write_bundle(loaded.model, loaded.schema, str(number), Path(sys.argv[2]))
"""


@pytest.mark.component
def test_a_kill_while_writing_leaves_only_whole_bundles(bundle, tmp_path):
    folder = tmp_path / "killed"
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(bundle.path), str(folder)], stdout=subprocess.PIPE
    )
    with writer:
        assert writer.stdout.readline() == b"ready\n"
        time.sleep(0.5 + random.Random(3).random() / 10)  # noqa: S311 - not for secrets
        os.kill(writer.pid, signal.SIGKILL)
    written = [path for path in folder.iterdir() if not path.name.startswith(".")]
    assert written
    for path in written:
        load_bundle(path, path.name)


def test_loading_needs_nothing_heavy():
    """XGBoost itself imports scipy and, where installed, scikit-learn; nothing else is heavy."""
    heavy = [
        "prefect",
        "ray",
        "mlflow",
        "optuna",
        "deepchecks",
        "matplotlib",
        "deltalake",
        "pandera",
    ]
    code = (
        "import sys, lifecycle.training.bundle, lifecycle.training.predictor;"
        "import lifecycle.training.trainers.booster, lifecycle.training.trainers.onnx;"
        f"sys.exit(', '.join(m for m in {heavy} if m in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stderr.strip() == ""
