"""Where `KMeans` lay in older versions. Their pickles name this module; reading one says what to do."""

from fastann.checks import needs_this_version


def __getattr__(name: str) -> object:
    # Not a class that refuses to be made: pickles of protocols 0 and 1 would make it without calling it.
    if name == "KMeans":
        raise RuntimeError(needs_this_version(name))
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
