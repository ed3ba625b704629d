"""
Classes by prototypes
=====================

`fastann.PrototypeClassifier` describes each class by a few prototypes, here three handwritten shapes of each numeral.
"""

import matplotlib.pyplot as plt
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from fastann import PrototypeClassifier

x, numerals = load_digits(return_X_y=True)
train, test, train_labels, test_labels = train_test_split(x, numerals, random_state=0)
model = PrototypeClassifier(n_prototypes=3, refine="none", random_state=0).fit(train, train_labels)
print(model.summary())
print(f"accuracy {model.score(test, test_labels):.3f}")

# %%
# The prototypes of each class.

figure, axes = plt.subplots(3, 10, figsize=(10, 3.2), layout="constrained")
for prototype, ax in zip(model.prototypes_, axes.T.flat, strict=True):
    ax.imshow(prototype.reshape(8, 8), cmap="gray_r")
    ax.axis("off")
