# %% [markdown]
# # Sweeps and reports
#
# How much quality does an approximate index cost, and how much time does it save, on these rows? A sweep fits with
# every setting of a grid, each measured in a process beside this one, and leaves a file for each run, from which
# tables, plots and a page are made.

# %%
import os
import tempfile
from pathlib import Path

from fastann import KMeans, evaluate, plot, report, sweep, tune
from fastann.data.patches import patches

SMALL = "FASTANN_SMALL" in os.environ  # the tests run this notebook on less data
x = patches(stride=16 if SMALL else 4)
k = 64 if SMALL else 1024
folder = Path(tempfile.mkdtemp()) / "sweep"
print(f"{len(x):,} rows of {x.shape[1]} columns, {k:,} clusters")

# %% [markdown]
# A grid is written in one line: `nprobe=1|4` is two settings.

# %%
grid = ["flat", "auto", "ivf:nlist=8,nprobe=2"] if SMALL else ["flat", "auto", "ivf:nlist=32,nprobe=1|4", "hnsw:m=8"]
result = sweep(x, k, grid, seeds=1 if SMALL else 2, max_iter=3 if SMALL else 10, out=folder)
print(result.table())

# %% [markdown]
# Settings that no other beats in both time and inertia are numbered, and joined if there are several: the rest need not
# be looked at.

# %%
ax = plot.frontier(result)
ax.figure.set_size_inches(8, 4.5)

# %% [markdown]
# The same request a second time finds all runs done, and reads them: so a study that was cut off goes on.

# %%
records = sorted(folder.rglob("*.json"))
before = {path: path.stat().st_mtime_ns for path in records}
again = sweep(x, k, grid, seeds=1 if SMALL else 2, max_iter=3 if SMALL else 10, out=folder)
anew = [path for path in records if "runs" in path.parts and path.stat().st_mtime_ns != before[path]]
print(f"{len(result.records)} runs; {len(anew)} done anew")
best = result.best()
print(best.method if best else "no setting was good enough")

# %% [markdown]
# ## The page
#
# `fastann.report` writes one HTML file, which opens offline: tables, plots, findings, and the command that did it.

# %%
page = report(folder)
size = (folder / "report.html").stat().st_size
print(f"report.html: {size / 1000:.0f} kB")

# %% [markdown]
# ## One fit, evaluated
#
# `tune` finds the fastest index that reaches a recall, and `evaluate` says how good a clustering is.

# %%
tuned = tune(x, k, recall=0.95, budget=0.3 if SMALL else 5, random_state=0)
print(tuned.summary())
km = KMeans(k, index=tuned.index, max_iter=10, random_state=0).fit(x)
evaluation = evaluate(km, x, sample=500 if SMALL else 2000)
print(evaluation.summary())

# %%
rows = {row.method: row.values for row in result.rows()}
found = {
    "runs": len(result.records),
    "runs done anew": len(anew),
    "methods": len(rows),
    "inertia, auto / flat": rows["auto"]["inertia"] / rows["flat"]["inertia"],
    "kB of the report": size / 1000,
    "recall, tuned": km.assignment_recall_,
    "silhouette": evaluation.values["silhouette"],
}
{name: round(float(value), 3) for name, value in found.items()}

# %% [markdown]
# ## What was found
#
# - The table and the frontier say what each setting costs and buys; the records stay, and nothing is run twice.
# - The automatic mode needs no setting, and is among the best of those that have one.
#
# ## What if
#
# - other libraries are to be compared? `fastann.bench` does the same with methods in place of indexes.
# - a run never ends, or takes all memory? `time_limit` and `memory_limit` make it a row with its error.
# - rows are to be searched, not centres? `sweep(x, what="search", queries=...)` measures recall@m of every index.
