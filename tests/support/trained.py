"""A small model, really ingested, split and trained (without Ray Train, in a second)."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from lifecycle.data.ingest import ingest
from lifecycle.data.split import split_dataset
from lifecycle.data.windows import first_window
from lifecycle.features.encode import labels
from lifecycle.features.join import join_views
from lifecycle.lake.read import read_version
from lifecycle.project import Project, Scalar
from lifecycle.records import (
    Bundle,
    CheckReport,
    Decision,
    Identity,
    Ingested,
    ModelVersion,
    Split,
    Trained,
    Tuned,
)
from lifecycle.release.register import register, unregistered
from lifecycle.runtime.identity import identity_of
from lifecycle.runtime.plugins import plugs_digest
from lifecycle.settings import Settings
from lifecycle.training.bundle import load_bundle, write_bundle
from lifecycle.training.evaluation.evaluate import Measurement, baseline, evaluate
from lifecycle.training.fit import bundle_schema
from lifecycle.training.matrix import open_matrices
from lifecycle.training.predictor import open_predictor
from lifecycle.training.trainers.registry import open_trainer


@dataclass(frozen=True)
class Made:
    project: Project
    settings: Settings
    ingested: Ingested
    split: Split
    identity: Identity
    bundle: Bundle

    @property
    def model(self) -> ModelVersion:
        """As if registered: serving needs no registry."""
        return ModelVersion(
            name=self.project.name,
            version=1,
            uri=f"models:/{self.project.name}/1",
            run_id="",
            digest=self.bundle.digest,
            identity=self.identity.digest,
        )

    def holdout(self) -> Any:
        return read_version(self.split.holdout)

    def expected(self, frame: Any) -> NDArray[np.float64]:
        loaded = load_bundle(self.bundle.path, self.bundle.digest)
        inputs = frame[list(self.project.input_columns)]
        return open_predictor(loaded, self.project).predict(inputs)

    def trained(self, reports: tuple[Path, ...] = ()) -> Trained:
        """What training hands to `register`."""
        holdout = self.holdout()
        truth = labels(holdout, self.project)
        by, digest = Measurement(self.project.task, 1), self.split.holdout.digest
        train = labels(read_version(self.split.train), self.project)
        return Trained(
            model=unregistered(self.project, self.identity, self.bundle),
            identity=self.identity,
            split=self.split,
            tuned=Tuned(parameters={"eta": 0.3, "max_depth": 3}, value=0.7, trials=3),
            evaluation=evaluate(truth, self.expected(holdout), by, digest, "candidate"),
            baseline=baseline(train, truth, by, digest),
            checks=CheckReport(
                passed=("a",), failed={}, not_run={"b": "why"}, reports=reports, sampled_rows=9
            ),
            decision=Decision(gate="training", passed=True, reasons=("good enough",)),
        )

    def register(self, reports: tuple[Path, ...] = ()) -> Trained:
        """Register it, with a figure and a report."""
        figure = Figure()
        figure.subplots().plot([0, 1], [0, 1])
        plot = self.settings.folder("reports") / "roc.png"
        figure.savefig(plot)
        page = plot.with_name("evaluation.html")
        page.write_text("<h1>good</h1>")
        return register(
            self.project,
            self.settings,
            bundle=self.bundle,
            trained=self.trained(reports),
            plots=(plot,),
            report=page,
        )


def train_small(project: Project, settings: Settings, seed: int = 1) -> Made:
    ingested = ingest(project, settings, first_window(project))
    joined = join_views(project, settings, ingested.dataset)
    ingested = ingested.model_copy(update={"dataset": joined})
    split = split_dataset(project, settings, ingested)
    matrices = open_matrices(project, split.train, split.validation)
    training = project.training.model_copy(update={"seed": seed, "rounds": 10})
    seeded = project.model_copy(update={"training": training})
    chosen: dict[str, Scalar] = {"max_depth": 3, "subsample": 0.7}
    if project.training.trainer != "xgboost":
        chosen = dict(project.training.parameters)
    fitted = open_trainer(seeded).fit(seeded, matrices, chosen, threads=1)
    identity = identity_of(project, split, plugs_digest(project), threads=1)
    identity = identity.model_copy(update={"seed": seed, "digest": f"{identity.digest}{seed}"})
    bundle = write_bundle(
        fitted.model,
        bundle_schema(project, matrices.schema, fitted.model.kind),
        identity.digest,
        settings.folder("bundles", project.name),
        fitted.curve,
    )
    return Made(project, settings, ingested, split, identity, bundle)
