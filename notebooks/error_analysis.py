# %% [markdown]
# # Where a model errs, and what the errors have in common
#
# Error analysis on frames, in this process. To look at a model of the registry instead: `model = lifecycle.open_model(project)` and `lifecycle.open_dataset(project, "holdout")`.

# %%
from pathlib import Path

import pandas as pd

import lifecycle

root = next(at for at in (Path.cwd(), *Path.cwd().parents) if (at / "examples").is_dir())
project = root / "examples" / "health_visits" / "project.yaml"
rows = lifecycle.open_dataset(project).query("year <= 2")  # what was there at the first release
model = lifecycle.train(project, rows)
errors = model.errors(model.parts["holdout"], rows=len(rows))  # all of them, the worst first

# %% [markdown]
# Are the probabilities right? In each tenth of the predictions, what was said and what came true:

# %%
tenths = pd.qcut(errors["prediction"], 10, duplicates="drop")
errors.groupby(tenths, observed=True).agg(
    said=("prediction", "mean"), true=("binexp", "mean"), rows=("binexp", "size")
)

# %% [markdown]
# Which way does it err, at the even threshold?

# %%
pd.crosstab(errors["binexp"], errors["prediction"] >= 0.5, normalize="index")

# %% [markdown]
# Who is answered worst? The mean loss of each group, with its error of the mean: a small group is bad by chance easily.

# %%
groups = {
    "site": errors["site"],
    "age": pd.cut(errors["xage"], [0, 18, 40, 65, 120], right=False),
    "female": errors["female"],
    "black": errors["black"].fillna("missing"),
}
by_group = pd.concat(
    {
        name: errors.groupby(group, observed=True)["loss"].agg(["mean", "sem", "size"])
        for name, group in groups.items()
    },
    names=["column", "value"],
)
by_group.sort_values("mean", ascending=False)

# %% [markdown]
# What do the worst tenth have in common? The columns whose distribution differs most from that of the other rows, between 0 (alike) and 1:

# %%
from lifecycle.profiling import profile

worst, rest = errors.head(len(errors) // 10), errors.iloc[len(errors) // 10 :]
inputs = [*model.project.input_columns, model.project.target]
compared = profile(worst[inputs], target=model.project.target, against=rest[inputs])
apart = {c.name: c.drift.statistic for c in compared.summary.columns if c.drift}
pd.Series(apart, name="distance").sort_values(ascending=False).head(8)

# %% [markdown]
# The rows themselves: certain and wrong, either way.

# %%
errors.groupby("binexp").head(3)[
    ["prediction", "loss", "binexp", "site", "xage", "mdeoff", "coins"]
]
