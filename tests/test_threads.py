"""Threads and processes: many at once, forked, limited, interrupted; no home, no OpenMP, few cores."""

import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

import fastann
from fastann import KMeans, checks, kernels


@pytest.fixture(scope="module")
def rows():
    return np.random.default_rng(0).standard_normal((6000, 24), dtype="f")


@pytest.fixture(scope="module")
def km(rows):
    return KMeans(80, random_state=0, max_iter=4).fit(rows)


def run(code, **environment):
    done = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_sixteen_threads_fit_and_predict_at_once(rows, km):
    def work(i):
        if i % 2:
            return km.predict(rows)
        return KMeans(80, random_state=0, max_iter=4).fit(rows).labels_

    with ThreadPoolExecutor(16) as pool:
        for labels in pool.map(work, range(32)):
            np.testing.assert_array_equal(labels, km.labels_)


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="this system cannot fork")
@pytest.mark.filterwarnings(
    "ignore:This process .* is multi-threaded:DeprecationWarning"
)  # of other libraries' threads
def test_forked_children_fit_and_predict(rows, km):
    with multiprocessing.get_context("fork").Pool(3) as pool:
        for labels in pool.map_async(km.predict, [rows] * 6).get(60):
            np.testing.assert_array_equal(labels, km.labels_)
        fits = pool.map_async(KMeans(80, random_state=0, max_iter=4).fit, [rows] * 2).get(60)
    assert all((fit.labels_ == km.labels_).all() for fit in fits)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
def test_no_thread_of_ours_is_there_at_a_fork():
    code = """
import os, threading
import numpy as np
from fastann import kernels
x = np.ones((20000, 64), "f")
kernels.survey(x)
count = lambda: len(os.listdir("/proc/self/task"))
before = count()
child = os.fork()
if child == 0:
    os._exit(0 if len(kernels.survey(x)[0]) == 20000 else 1)
assert os.waitpid(child, 0)[1] == 0
print(before - count())
"""
    if not os.path.isdir("/proc/self/task") or checks.jobs(None) < 2:
        pytest.skip("counts threads in /proc, of which there must be several")
    assert run(code, OPENBLAS_NUM_THREADS="1") == "1"


def test_threads_at_work_when_the_program_ends_do_not_abort_it():
    code = """
import threading, time
import numpy as np
from fastann import kernels
x = np.random.default_rng(0).standard_normal((2000, 32), dtype="f")
packed = kernels.pack(x[:300], False, x.mean(axis=0))
def work():
    while True:
        kernels.nearest(x, x[:300], packed)
for _ in range(4):
    threading.Thread(target=work, daemon=True).start()
time.sleep(0.1)
print("the end")
"""
    assert [run(code) for _ in range(3)] == ["the end"] * 3


def test_the_same_bits_on_any_number_of_threads(rows):
    found = [KMeans(60, n_jobs=jobs, random_state=0, max_iter=5).fit(rows).cluster_centers_ for jobs in (1, 2)]
    np.testing.assert_array_equal(*found)


def test_without_a_home_or_a_place_to_write(tmp_path):
    code = "import numpy as np; from fastann import KMeans; x = np.random.default_rng(0).random((500, 8), 'f');"
    code += "print(len(KMeans(5, random_state=0).fit(x).labels_))"
    os.chmod(tmp_path, 0o500)
    assert run(code, HOME="/nonexistent", TMPDIR=str(tmp_path), XDG_CACHE_HOME="/nonexistent") == "500"


@pytest.mark.parametrize("variable", ["OMP_NUM_THREADS", "LOKY_MAX_CPU_COUNT"])
def test_threads_are_those_that_others_are_held_to(variable):
    assert run("from fastann import checks; print(checks.jobs(None))", **{variable: "1"}) == "1"


def test_threads_heed_threadpoolctl():
    code = "import faiss; from threadpoolctl import threadpool_limits; from fastann import checks\n"
    code += "with threadpool_limits(1): print(checks.jobs(None))"
    assert run(code) == "1"


def test_affinity_is_heeded():
    if not hasattr(os, "sched_setaffinity"):
        pytest.skip("this system has no affinity of processes")
    code = "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))}); from fastann import checks, kernels;"
    assert run(code + "print(checks.jobs(None), kernels.threads())") == "1 1"


def test_quotas_of_nested_groups_are_heeded(tmp_path):
    groups = tmp_path / "cgroup"
    inner, old = tmp_path / "jobs" / "mine", tmp_path / "cpu,cpuacct" / "slurm" / "mine"
    inner.mkdir(parents=True)
    old.mkdir(parents=True)
    groups.write_text("0::/jobs/mine\n")
    assert checks.quota.__wrapped__(str(groups), str(tmp_path)) == float("inf")
    (inner / "cpu.max").write_text("max 100000\n")
    (tmp_path / "jobs" / "cpu.max").write_text("150000 100000\n")
    assert checks.quota.__wrapped__(str(groups), str(tmp_path)) == 1.5
    groups.write_text("3:cpu,cpuacct:/slurm/mine\n1:name=systemd:/x\n")
    (old.parent / "cpu.cfs_quota_us").write_text("200000\n")
    (old.parent / "cpu.cfs_period_us").write_text("100000\n")
    assert checks.quota.__wrapped__(str(groups), str(tmp_path)) == 2
    assert checks.quota.__wrapped__(str(tmp_path / "none"), str(tmp_path)) == float("inf")


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="this system has no timers")
def test_ctrl_c_ends_a_long_search_soon():
    x, c = np.ones((60_000, 256), "f"), np.random.default_rng(0).standard_normal((8192, 256), dtype="f")
    packed = kernels.pack(c, False, c.mean(axis=0))
    # A shell starts what it runs in the background deaf to Ctrl-C, and then these searches would go on for minutes.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
    start = time.perf_counter()
    try:
        with pytest.raises(KeyboardInterrupt):
            [kernels.nearest(x, c, packed) for _ in range(1000)]
    finally:
        signal.signal(signal.SIGINT, before)
    assert time.perf_counter() - start < 5


def test_memory_that_is_not_there_is_a_memory_error():
    resource = pytest.importorskip("resource")
    code = f"""
import resource
import numpy as np
from fastann import kernels
x = np.ones((2, 2**22), "f")
size = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (size + 2**25, {resource.RLIM_INFINITY}))
try:
    kernels.pack(x, False, x[0])
except MemoryError:
    print("memory error")
"""
    if not os.path.exists("/proc/self/statm"):
        pytest.skip("reads memory in /proc")
    assert run(code) == "memory error"


@pytest.mark.parametrize("name", kernels.levels())
def test_instructions_are_chosen_by_name(name):
    assert run("from fastann import kernels; print(kernels.level())", FASTANN_KERNELS=name) == name


def test_an_old_name_means_what_rounds_nothing():
    code = "from fastann import kernels; print(kernels.level(), kernels.suits_screen(1000, 100, 1.0))"
    level, screened = run(code, FASTANN_KERNELS="blas").split()
    assert level in ("avx512-f32", "avx2-f32", "neon", "baseline")
    assert screened == "False"


def test_instructions_that_are_not_there_are_refused():
    code = "import fastann\ntry: fastann.KMeans(2).fit([[1.0], [2.0]])\nexcept ValueError as error: print(error)"
    said = run(code, FASTANN_KERNELS="sse9")
    assert "FASTANN_KERNELS is 'sse9'" in said
    assert "baseline" in said


def test_versions_are_shown(capsys):
    fastann.show_versions()
    shown = capsys.readouterr().out
    for name in ("fastann", "numpy", "faiss", "python", "blas", "threads", f"instructions   {kernels.level()}"):
        assert name in shown
    assert "-twin" not in shown  # which are for tests


def test_a_source_folder_without_its_core_says_what_to_do(tmp_path):
    home = Path(fastann.__file__).parent
    shutil.copytree(
        home, tmp_path / "fastann", ignore=shutil.ignore_patterns("_core*.so", "_core*.pyd", "src", "__pycache__")
    )
    done = subprocess.run(
        [sys.executable, "-S", "-c", "from fastann import KMeans"],  # -S: no hook of an editable install
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), *filter(None, sys.path)])},
        cwd=tmp_path, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 1
    assert f"the compiled core is not in {tmp_path / 'fastann' / 'kernels'}" in done.stderr
    assert "Start Python in another folder, or build the core here: pip install -e ." in done.stderr
