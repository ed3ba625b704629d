"""
Where the time goes
===================

The automatic mode remembers near centres of every row, and looks only at rows that may move. Exact iterations look at
all of them. Both begin with the same k-means++ start here, on patches of two photographs.
"""

from fastann import KMeans, plot
from fastann.data.patches import patches

x = patches(stride=4)
print(x.shape)

exact = KMeans(512, index="flat", random_state=0).fit(x)
automatic = KMeans(512, random_state=0).fit(x)
for name, km in {"exact": exact, "automatic": automatic}.items():
    print(f"{name}\n{km.summary()}\n")

# %%
# Inertia a row against the seconds that iterations took.

plot.convergence({"exact": exact, "automatic": automatic}, against="seconds")
