"""Words of FastKMeansClassifier that this package calls otherwise: errors that say what to write here.

The page docs/coming-from-fastkmeansclassifier.md has them as a table.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar, cast

# What a parameter of its constructor is called here, and how that is written.
PARAMETERS = {
    "k_init": "n_prototypes: PrototypeClassifier(n_prototypes=3), or 'auto' for numbers chosen class by class",
    "k_list": "n_prototypes too: a dict by class, n_prototypes={'spam': 5}, or a list in the order of the sorted "
    "classes; the other classes take default_prototypes",
    "init_method": "init: PrototypeClassifier(init='k-means++'), with hyphens, or 'random'",
    "soft": "assignment: PrototypeClassifier(assignment='soft')",
    "lambda_penalty": "wrong_class_penalty: PrototypeClassifier(assignment='soft', wrong_class_penalty=1.0)",
    "n_threads": "n_jobs: PrototypeClassifier(n_jobs=4); None is all cores",
    "batch_size": "nothing, as rows are read in chunks whose size changes no result: leave it out, or cut a stream "
    "into batches as you like and give each to partial_fit(X, y)",
}
# What a method is called here.
METHODS = {"fit_batch": "partial_fit: model.partial_fit(X, y)"}
# What a method took there, and the constructor takes here.
ARGUMENTS = {"verbose": "a parameter of the constructor: PrototypeClassifier(verbose=True)"}

_Call = TypeVar("_Call", bound=Callable[..., Any])


def explains(method: str | None = None) -> Callable[[_Call], _Call]:
    """Decorate a method, or the constructor (None): it says what arguments of FastKMeansClassifier are called here."""
    what, known = ("argument", PARAMETERS | ARGUMENTS) if method else ("parameter", PARAMETERS)

    def decorate(call: _Call) -> _Call:
        @wraps(call)
        def wrapped(self: Any, *args: Any, **kwargs: Any) -> Any:
            for name in sorted(kwargs.keys() & known.keys()):
                of = type(self).__name__ + (f".{method}" if method else "")
                raise TypeError(refusal(of, what, name, known[name]))
            return call(self, *args, **kwargs)

        return cast(_Call, wrapped)

    return decorate


def refusal(of: str, what: str, name: str, here: str) -> str:
    """Say that there is no such parameter, argument or method, and what it is called here."""
    return f"{of} has no {what} {name!r}, as FastKMeansClassifier has; here it is {here}"
