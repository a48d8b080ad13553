# %% [markdown]
# # Two experiments, and where the better one errs
#
# On frames, in this process: no server, no Ray, nothing is registered. What becomes the model of the team is trained by `lifecycle run train`, with the same rows and parameters.

# %%
from pathlib import Path

import lifecycle

root = next(at for at in (Path.cwd(), *Path.cwd().parents) if (at / "examples").is_dir())
project = root / "examples" / "health_visits" / "project.yaml"
rows = lifecycle.open_dataset(project)
rows = rows[rows["year"] <= 2]  # what was there at the first release

# %% [markdown]
# The rows are split as the project says; both models see the same parts.

# %%
import pandas as pd

models = {depth: lifecycle.train(project, rows, {"max_depth": depth}) for depth in (2, 6)}
holdout = models[2].parts["holdout"]
scores = {depth: model.evaluate(holdout) for depth, model in models.items()}
pd.concat(scores, names=["depth"])

# %% [markdown]
# The rows that the first answers worst, and how the loss is spread over a column:

# %%
worst = models[2].errors(holdout, rows=len(holdout))
worst.head(10)

# %%
worst.groupby("site", observed=True)["loss"].agg(["mean", "count"]).sort_values(
    "mean", ascending=False
)

# %% [markdown]
# Has something changed since? As `lifecycle run monitor` compares windows:

# %%
later = lifecycle.open_dataset(project).query("year == 3")
lifecycle.monitor(models[2], holdout, later)
