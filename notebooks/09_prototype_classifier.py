# %% [markdown]
# # Classes by prototypes: streams, new classes, unsure rows
#
# `PrototypeClassifier` describes each class by a few centres, and gives a row the class of the nearest. That is quick
# to fit, can learn from a stream, also classes that come later, and can say of a row that it is like none. Rows are the
# handwritten digits of scikit-learn: 8 x 8 pixels.

# %%
import os

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split

from fastann import PrototypeClassifier

SMALL = "FASTANN_SMALL" in os.environ  # the tests run this notebook on less data
x, numerals = load_digits(return_X_y=True)
if SMALL:
    x, numerals = x[:900], numerals[:900]
train, test, train_labels, test_labels = train_test_split(x, numerals, test_size=0.4, random_state=0, stratify=numerals)
print(f"{len(train)} rows to learn from, {len(test)} to test")

# %% [markdown]
# ## How many prototypes?

# %%
accuracies = {}
for count in (1, 2, 3, 5, 8, 12):
    model = PrototypeClassifier(count, refine="none", random_state=0).fit(train, train_labels)
    accuracies[count] = model.score(test, test_labels)
    print(f"{count:2d} prototypes a class: accuracy {accuracies[count]:.3f}")
refined = PrototypeClassifier(3, random_state=0).fit(train, train_labels)
logistic = LogisticRegression(max_iter=2000).fit(train / 16, train_labels).score(test / 16, test_labels)
print(f"refined by gradient, 3 a class: {refined.score(test, test_labels):.3f}")
print(f"scikit-learn's LogisticRegression: {logistic:.3f}")

# %%
shown = PrototypeClassifier(3, refine="none", random_state=0).fit(train, train_labels)
figure, axes = plt.subplots(3, 10, figsize=(8, 2.6), layout="constrained")
for prototype, ax in zip(shown.prototypes_, axes.T.flat, strict=True):
    ax.imshow(prototype.reshape(8, 8), cmap="gray_r")
    ax.axis("off")
plt.show()

# %% [markdown]
# ## A stream, in which classes come later
#
# Batches of 50 rows: first only of 0 to 5, then of all. No list of classes is given beforehand.

# %%
rng = np.random.default_rng(0)
early = rng.permutation(np.flatnonzero(train_labels < 6))
half, rest = early[: len(early) // 2], early[len(early) // 2 :]
late = rng.permutation(np.concatenate([rest, np.flatnonzero(train_labels >= 6)]))
order = np.concatenate([half, late])
stream = PrototypeClassifier(3, random_state=0)
seen, scores, classes = [], [], []
for at in range(0, len(order), 50):
    rows = order[at : at + 50]
    stream.partial_fit(train[rows], train_labels[rows])
    seen.append(at + len(rows))
    scores.append(stream.score(test, test_labels))
    classes.append(len(stream.classes_))
figure, ax = plt.subplots(figsize=(7, 3), layout="constrained")
ax.plot(seen, scores, "o-", color="#0072b2", label="accuracy on all ten classes")
ax.plot(seen, np.array(classes) / 10, "s--", color="#d55e00", label="share of classes seen")
ax.axvline(len(half), color="0.6")
ax.set(xlabel="rows seen", ylim=(0, 1.05))
ax.legend()
plt.show()

# %% [markdown]
# ## Rows like none
#
# Learned from 0 to 7 only, the model is asked about 8 and 9 too. Below a similarity, `reject_below`, it answers -1
# rather than guess. A threshold is chosen on rows of known classes that were held out: here so that 5% of them are
# rejected.

# %%
known = train_labels < 8
fit_rows, held, fit_labels, _ = train_test_split(
    train[known], train_labels[known], test_size=0.3, random_state=0, stratify=train_labels[known]
)
model = PrototypeClassifier(5, refine="none", random_state=0).fit(fit_rows, fit_labels)


def likeness(rows):
    """Cosine of each row with its nearest prototype: 1 less the distance, which is squared between unit rows."""
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    centres = model.prototypes_ / np.linalg.norm(model.prototypes_, axis=1, keepdims=True)
    return (unit @ centres.T).max(axis=1)


threshold = float(np.quantile(likeness(held), 0.05))
model.set_params(reject_below=threshold)
answers = model.predict(test)
old = test_labels < 8
unsure = answers == -1
sure_accuracy = float((answers == test_labels)[old & ~unsure].mean())
print(f"reject_below = {threshold:.3f}")
print(f"known classes rejected {unsure[old].mean():.3f}, accuracy of the others {sure_accuracy:.3f}")
print(f"unknown classes rejected {unsure[~old].mean():.3f}")

# %%
figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3), layout="constrained")
bins = np.linspace(0.7, 1, 40)
left.hist(likeness(test[old]), bins, density=True, color="#0072b2", alpha=0.7, label="0 to 7, learned")
left.hist(likeness(test[~old]), bins, density=True, color="#d55e00", alpha=0.7, label="8 and 9, never seen")
left.axvline(threshold, color="black")
left.set(xlabel="similarity to the nearest prototype", yticks=[])
left.legend()
levels = np.linspace(0.7, 0.99, 60)
right.plot([(likeness(test[old]) < t).mean() for t in levels], [(likeness(test[~old]) < t).mean() for t in levels])
right.plot(unsure[old].mean(), unsure[~old].mean(), "o", color="black")
right.set(xlabel="share of known rows rejected", ylabel="of unknown rows")
plt.show()

# %%
found = {
    "accuracy, 1 prototype": accuracies[1],
    "accuracy, 8 prototypes": accuracies[8],
    "accuracy, refined": refined.score(test, test_labels),
    "accuracy, logistic": logistic,
    "accuracy, stream": scores[-1],
    "accuracy, stream, before the new classes": scores[len(half) // 50 - 1],
    "known rejected": unsure[old].mean(),
    "unknown rejected": unsure[~old].mean(),
    "accuracy of sure rows": sure_accuracy,
}
{name: round(float(value), 3) for name, value in found.items()}

# %% [markdown]
# ## What was found
#
# - A few prototypes a class make the nearest prototype a good classifier; one is too few, as numerals are written in
#   several ways.
# - A stream learns new classes as they turn up, with no second look at old rows, and ends near to what a fit on all
#   rows reaches.
# - At the price of one known row in twenty, four in ten rows of classes never seen are rejected: an 8 looks like
#   other numerals. Known rows that are answered are right more often than all of them were.
#
# ## What if
#
# - probabilities are wanted? `predict_proba` is calibrated on rows that prototypes were not made of.
# - there are a hundred thousand classes? The prototypes are searched through an index: see `recall`.
# - `8` came later after all? Call `partial_fit` with it, and look at what is rejected then.
