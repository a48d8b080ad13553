"""Sensitivity: how much the deciding metric moves if nothing but the training seed changes."""

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

from lifecycle.project import Project
from lifecycle.records import Evaluated, Identity, Noise, Split, Tuned
from lifecycle.settings import Settings
from lifecycle.training.evaluation.assess import answer, score
from lifecycle.training.fit import fit

OnSeed = Callable[[int, float], None]
"""Seed, metric on the holdout."""


def noise_over_seeds(
    project: Project,
    settings: Settings,
    split: Split,
    tuned: Tuned,
    identity: Identity,
    evaluated: Evaluated,
    seeds: int,
    on_seed: OnSeed,
) -> Noise:
    """Train with the next `seeds` - 1 seeds, same data and parameters, and measure each.

    Without randomness in training (`subsample`, `colsample_*`) all are equal and the noise is 0.

    Raises:
        TrainingError, FeatureError: training could not be done.
    """
    own = project.training.seed
    values = {own: evaluated.candidate.metrics[project.metric].value}
    for seed in range(own + 1, own + seeds):
        training = project.training.model_copy(update={"seed": seed})
        other = project.model_copy(update={"training": training})
        with TemporaryDirectory(dir=settings.folder("bundles"), prefix=".seed-") as aside:
            bundle = fit(other, split, tuned, settings, identity, Path(aside))
            answers = answer(other, split.holdout, bundle.path, bundle.digest)
        values[seed] = score(other, answers)
        on_seed(seed, values[seed])
    return Noise(metric=project.metric, values=values)
