# %% [markdown]
# # Look at the data first
#
# The same profile as `lifecycle profile`, on `examples/health_visits`: the newest version in the lake, or the source as the contract reads it if nothing was ingested yet.

# %%
from pathlib import Path

from lifecycle.profiling import profile

root = next(at for at in (Path.cwd(), *Path.cwd().parents) if (at / "examples").is_dir())
found = profile(root / "examples" / "health_visits" / "project.yaml")
found

# %% [markdown]
# What stands out, as text, and everything else as plain values:

# %%
[finding.text for finding in found.summary.findings]

# %%
import pandas as pd

columns = pd.DataFrame(found.to_dict()["columns"])
columns["strength"] = [r["strength"] if r else None for r in columns["relation"]]
columns[["name", "role", "missing_share", "distinct", "strength"]].sort_values(
    "strength", key=abs, ascending=False
).head(10)

# %% [markdown]
# Any frame can be profiled, and two can be compared: here the first study year with the later ones.

# %%
from lifecycle.data.sources import read_source
from lifecycle.project.loader import load_project

project = load_project(root / "examples" / "health_visits" / "project.yaml")
rows = read_source(project)
first, later = rows[rows["year"] == 1], rows[rows["year"] > 1]
compared = profile(later, target="binexp", against=first)
sorted(((c.drift.statistic, c.name) for c in compared.summary.columns if c.drift), reverse=True)[:5]

# %%
import tempfile

compared.save(Path(tempfile.mkdtemp()) / "later-years.html")
