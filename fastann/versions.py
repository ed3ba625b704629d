"""What this installation is made of: versions, instructions in use, threads."""

import platform
from importlib.metadata import PackageNotFoundError, version

from fastann import __version__, checks, kernels

_PACKAGES = ("numpy", "scipy", "scikit-learn", "faiss-cpu", "faiss-gpu", "threadpoolctl")


def show_versions() -> None:
    """Print versions of this package and what it uses, the instructions in use, and threads: for reports of faults."""
    for name, value in versions().items():
        print(f"{name:14} {value}")


def versions() -> dict[str, str]:
    """What `show_versions` prints."""
    facts = {"fastann": __version__}
    for package in _PACKAGES:
        try:
            facts[package] = version(package)
        except PackageNotFoundError:
            continue
    # Twins are scalar doubles of instructions that this CPU may lack: they are for tests.
    others = [name for name in kernels.levels() if name != kernels.level() and not name.endswith("-twin")]
    return facts | {
        "python": f"{platform.python_version()} ({platform.system()} {platform.machine()})",
        "blas": ", ".join(f"{lib['internal_api']} {lib['version']}" for lib in _blas()) or "unknown",
        "instructions": f"{kernels.level()} (FASTANN_KERNELS may name {', '.join(others)})",
        "threads": str(checks.jobs(None)),
    }


def _blas() -> list[dict[str, str]]:
    from threadpoolctl import threadpool_info

    return [lib for lib in threadpool_info() if lib["user_api"] == "blas"]
