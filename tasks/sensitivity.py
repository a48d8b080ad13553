"""How much of a gain is chance, as a Prefect task: the same training with other seeds."""

from prefect.artifacts import create_table_artifact

from lifecycle.project import Project
from lifecycle.records import Evaluated, Identity, Noise, Split, Tuned
from lifecycle.settings import Settings
from lifecycle.training.fit import noise_over_seeds
from tasks.policies import CACHED, cached_by, slug, task
from tasks.progress import step, update


@task(name="measure-noise", cache_key_fn=cached_by("identity", "tuned", "seeds"), **CACHED)
def measure_noise(
    project: Project,
    settings: Settings,
    split: Split,
    tuned: Tuned,
    identity: Identity,
    evaluated: Evaluated,
    seeds: int,
) -> Noise:
    """Train with `seeds` seeds in all, and tell how far the deciding metric moves."""
    with step("train", f"training again with {seeds - 1} other seeds") as done:

        def show(seed: int, value: float) -> None:
            update("train", f"seed {seed}: holdout {project.metric} {value:.4f}")

        noise = noise_over_seeds(project, settings, split, tuned, identity, evaluated, seeds, show)
        low, high = min(noise.values.values()), max(noise.values.values())
        done(
            f"noise: over {seeds} seeds {project.metric} lies between {low:.4f} and {high:.4f}, "
            f"standard deviation {noise.deviation:.2g}"
        )
    create_table_artifact(
        key=f"{slug(project)}-noise",
        table=[{"seed": seed, project.metric: value} for seed, value in noise.values.items()],
        description=f"The same training with other seeds: {project.metric} on the holdout",
    )
    return noise
