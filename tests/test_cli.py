"""The command line from the outside: what it prints where, what it leaves on disk, and its exit codes."""

import csv
import os
import re
import signal
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import click
import numpy as np
import pytest
from click.testing import CliRunner

from fastann import KMeans
from fastann.cli import main
from fastann.estimators import kmeans_closing
from fastann.index.spec import SPECS
from fastann.storage import begin_run

AS_ROOT = hasattr(os, "geteuid") and os.geteuid() == 0
DONE, FAILED, USAGE = 0, 1, 2
COMMANDS = sorted(main.commands)


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty working folder with x.npy of 300 rows and 6 columns."""
    monkeypatch.chdir(tmp_path)
    np.save("x.npy", np.random.default_rng(0).standard_normal((300, 6)).astype(np.float32))
    return tmp_path


def fastann(*args):
    result = CliRunner().invoke(main, [str(a) for a in args], catch_exceptions=False)
    assert "Traceback" not in result.output
    return result


def fit(*args):
    return fastann("fit", "x.npy", "--out", "run", "--quiet", *args)


def refused(result, code, *parts):
    """A refusal says why on standard error, and nothing on standard output."""
    assert (result.exit_code, result.stdout) == (code, "")
    missing = [part for part in parts if part not in " ".join(result.stderr.split())]
    assert not missing, f"{missing} not in {result.stderr!r}"


@pytest.fixture
def run(here):
    assert fit("-k", 5).exit_code == DONE
    return here / "run"


# --------------------------------------------------------------------------- help


@pytest.mark.parametrize("flag", ["--help", "-h"])
@pytest.mark.parametrize("command", [[], *([c] for c in COMMANDS)], ids=lambda c: c[0] if c else "fastann")
def test_every_command_has_help(command, flag):
    result = fastann(*command, flag)
    assert (result.exit_code, result.stderr) == (DONE, "")
    assert result.stdout.startswith("Usage:")


@pytest.mark.parametrize("command", COMMANDS)
def test_the_help_of_a_command_says_what_it_does(command):
    assert main.commands[command].help.splitlines()[0].endswith(".")


OPTIONS = [(c, p) for c in COMMANDS for p in main.commands[c].params if isinstance(p, click.Option)]


@pytest.mark.parametrize(("command", "option"), OPTIONS, ids=[f"{c} {p.opts[0]}" for c, p in OPTIONS])
def test_the_help_describes_every_option(command, option):
    assert option.help
    assert option.opts[0] in fastann(command, "--help").stdout


@pytest.mark.parametrize("command", COMMANDS)
def test_the_list_of_commands_is_complete(command):
    assert command in fastann("--help").stdout


def test_version():
    from fastann import __version__

    assert __version__ in fastann("--version").stdout


def test_defaults_are_those_of_the_estimator():
    shared = {p.name: p.default for p in main.commands["fit"].params if isinstance(p, click.Option)}
    expected = KMeans().get_params()
    names = ["index", "metric", "init", "n_init", "max_iter", "tol", "empty"]
    assert {name: shared[name] for name in names} == {name: expected[name] for name in names}


def test_indexes_lists_every_index():
    listed = [line for line in fastann("indexes").stdout.splitlines() if not line.startswith(" ")]
    assert listed == ["auto", *SPECS]


ARGUMENTS = [(spec, f) for spec in SPECS.values() for f in fields(spec)]


@pytest.mark.parametrize(("spec", "field"), ARGUMENTS, ids=[f"{s.name} {f.name}" for s, f in ARGUMENTS])
def test_indexes_lists_every_option(spec, field):
    section = re.split(r"^(?=\S)", fastann("indexes").stdout, flags=re.M)
    (own,) = [part for part in section if part.startswith(f"{spec.name}\n")]
    assert re.search(rf"^ +{field.name}: .+", own, flags=re.M)


def test_indexes_lists_defaults():
    assert re.search(r"nprobe: .* \[8\]", fastann("indexes").stdout)


# --------------------------------------------------------------------------- fit


def test_fit_succeeds(here):
    assert fit("-k", 5).exit_code == DONE


def test_fit_prints_its_summary_on_standard_output(here):
    names = [line.split()[0] for line in fit("-k", 5).stdout.splitlines()]
    assert names == ["rows", "clusters", "index", "iterations", "inertia", "recall", "seconds", "run"]


def test_fit_logs_nothing_when_nothing_is_wrong(here):
    assert fit("-k", 5).stderr == ""


def test_the_summary_gives_sizes(here):
    assert re.search(r"^rows +300 x 6\nclusters +5\nindex +auto: small enough for exact passes\n", fit("-k", 5).stdout)


def test_the_summary_gives_the_inertia_of_the_run(here):
    found = float(re.search(r"^inertia +(\S+)", fit("-k", 5).stdout, re.M)[1])
    assert found == pytest.approx(KMeans.load("run").inertia_, rel=1e-5)


def test_the_summary_gives_a_measured_recall_for_approximate_search(here):
    recall = re.search(r"^recall +(\S+) \(95%: (\S+) to (\S+)\)", fit("-k", 40, "--index", "ivf").stdout, re.M)
    assert float(recall[2]) <= float(recall[1]) <= float(recall[3])


def test_fit_gives_the_result_of_the_estimator(run):
    km = KMeans(5, random_state=0).fit("x.npy")
    np.testing.assert_array_equal(np.load("run/labels.npy"), km.labels_)


def test_labels_are_int32(run):
    assert np.load(run / "labels.npy").dtype == np.int32


def test_fit_writes_nothing_but_the_run(run, here):
    assert sorted(p.name for p in here.iterdir()) == ["run", "x.npy"]


def test_the_same_seed_gives_the_same_run(run):
    assert fit("-k", 5, "--force").exit_code == DONE
    again = (run / "centroids.safetensors").read_bytes()
    assert fit("-k", 5, "--force", "--seed", 0).exit_code == DONE
    assert (run / "centroids.safetensors").read_bytes() == again


GIVEN = {
    ("--index", "ivf:nlist=2"): ("index", "ivf:nlist=2"),
    ("--metric", "cosine"): ("metric", "cosine"),
    ("--init", "k-means||"): ("init", "k-means||"),
    ("--init", "afk-mc2"): ("init", "afk-mc2"),
    ("--n-init", "2"): ("n_init", 2),
    ("--max-iter", "3"): ("max_iter", 3),
    ("--tol", "0.5"): ("tol", 0.5),
    ("--sample", "100"): ("sample", 100),
    ("--sample", "0.5"): ("sample", 0.5),
    ("--empty", "farthest"): ("empty", "farthest"),
    ("--time-limit", "5"): ("time_limit", 5.0),
    ("--jobs", "1"): ("n_jobs", 1),
    ("--seed", "7"): ("random_state", 7),
    (): ("margins", True),
    ("--no-margins",): ("margins", False),
    ("--max-iter", "2"): ("swaps", "auto"),
    ("--swaps",): ("swaps", True),
    ("--no-swaps",): ("swaps", False),
    ("--max-iter", "4"): ("size_aware", "auto"),
    ("--size-aware",): ("size_aware", True),
    ("--no-size-aware",): ("size_aware", False),
}


@pytest.mark.parametrize("given", GIVEN, ids=" ".join)
def test_every_option_reaches_the_estimator(here, given):
    assert fit("-k", 5, *given).exit_code == DONE
    name, value = GIVEN[given]
    assert KMeans.load("run").get_params()[name] == value


@pytest.mark.parametrize(("sample", "rows"), [("100", 100), ("0.5", 150), ("1.0", 300), ("1000", 300)])
def test_sample_is_a_number_of_rows_or_a_fraction(here, sample, rows):
    assert fit("-k", 5, "--sample", sample).exit_code == DONE
    assert KMeans.load("run").history_[0].rows == rows


def test_the_summary_says_how_many_rows_were_trained_on(here):
    assert "300 x 6, trained on 100" in fit("-k", 5, "--sample", "100").stdout


def test_sample_labels_every_row(here):
    fit("-k", 5, "--sample", "100")
    assert np.load("run/labels.npy").shape == (300,)


@pytest.mark.filterwarnings("default")  # the suite's "error" would turn the warning into a crash
def test_warnings_are_one_line_on_standard_error(here):
    np.save("x.npy", np.ones((50, 2), np.float32))
    result = fit("-k", 3)
    assert result.exit_code == DONE
    assert re.fullmatch(r"warning: Number of distinct clusters \(1\).*\n", result.stderr)


def test_a_progress_bar_is_not_drawn_where_nobody_looks(here):
    assert fastann("fit", "x.npy", "-k", 5, "--out", "run").stderr == ""


@pytest.mark.parametrize("k", ["1,0", "0,100", "1__0", "1,000,00", "ten"])
def test_a_number_that_is_none_is_refused_as_it_was_given(here, k):
    refused(fit("-k", k), USAGE, f"'{k}' is not a valid integer")


@pytest.mark.parametrize("k", ["1,000", "1_000", "1000"])
def test_thousands_may_stand_apart(here, k):
    refused(fit("-k", k), USAGE, "1000", "300")
    np.save("x.npy", np.random.default_rng(0).standard_normal((1200, 2)).astype(np.float32))
    assert fit("-k", k, "--max-iter", 1, "--sample", "1,100").exit_code == DONE
    km = KMeans.load("run")
    assert (km.n_clusters, km.sample) == (1000, 1100)


def in_parts():
    """Twelve files of x.npy's rows, as a shell names them: part-10 before part-2."""
    for i, rows in enumerate(np.split(np.load("x.npy"), 12)):
        np.save(f"part-{i}.npy", rows)
    return sorted(str(path) for path in Path().glob("part-*.npy"))


def test_a_pattern_that_the_shell_has_expanded_is_the_pattern_in_quotes(run):
    paths = in_parts()
    assert paths.index("part-10.npy") < paths.index("part-2.npy")
    assert fastann("fit", *paths, "-k", 5, "--quiet", "--out", "run2").exit_code == DONE
    np.testing.assert_array_equal(np.load("run2/labels.npy"), np.load("run/labels.npy"))
    assert fastann("predict", "run", *paths, "--out", "labels.npy").exit_code == DONE
    np.testing.assert_array_equal(np.load("labels.npy"), np.load("run/labels.npy"))
    assert fastann("dedup", "run", *paths, "--out", "kept").exit_code == DONE
    assert fastann("evaluate", "run", *paths).stdout == fastann("evaluate", "run", "x.npy").stdout


def test_an_order_that_no_shell_gives_is_kept(run):
    in_parts()
    some = ["part-3.npy", "part-1.npy"]
    assert fastann("predict", "run", *some, "--out", "labels.npy").exit_code == DONE
    rows = np.concatenate([np.load(path) for path in some])
    np.testing.assert_array_equal(np.load("labels.npy"), KMeans.load("run").predict(rows))


def test_help_lists_commands_in_the_order_of_their_use():
    listed = re.findall(r"^  (\w+)  +\S", fastann("--help").stdout.partition("Commands:")[2], re.M)
    assert listed[:5] == ["demo", "fit", "predict", "evaluate", "report"]
    assert sorted(listed) == COMMANDS


@pytest.mark.parametrize(
    ("command", "shown"),
    [
        (["fit"], "--metric [euclidean|cosine]"),
        (["fit"], "--empty [split|farthest|keep]"),
        (["sweep"], "--what [fit|assign|search]"),
        (["tune"], "--metric [euclidean|cosine]"),
        (["evaluate"], "--projection [pca|tsne|umap]"),
        (["dedup"], "--keep [central|outlying|first]"),
        (["export"], "--format [faiss|faiss-ivf|npy|csv|parquet|km]"),
        (["classify", "fit"], "--metric [cosine|euclidean]"),
    ],
    ids=" ".join,
)
def test_help_shows_the_values_of_an_option(command, shown):
    assert shown in fastann(*command, "--help").stdout


def test_a_report_that_cannot_be_written_is_refused_before_the_fit(here, monkeypatch):
    from fastann import report

    find = report.find_spec
    monkeypatch.setattr(report, "find_spec", lambda name: None if name == "jinja2" else find(name))
    refused(fit("-k", 5, "--report"), FAILED, 'reports need jinja2; install with: pip install "fastann[report]"')
    assert [p.name for p in here.iterdir()] == ["x.npy"]
    done = fastann("sweep", "x.npy", "-k", 3, "--index", "flat", "--seeds", 1, "--out", "s")
    assert (done.exit_code, done.stderr.splitlines()[0][:45]) == (DONE, "no report.html will be written: reports need ")
    assert not Path("s/report.html").exists()


# --------------------------------------------------------------------------- fit, refused


@pytest.mark.parametrize(
    ("args", "parts"),
    [
        (["fit"], ["Missing argument 'DATA'"]),
        (["fit", "x.npy", "--out", "run"], ["Missing option '--n-clusters' / '-k'"]),
        (["fit", "x.npy", "-k", "5"], ["Missing option '--out'"]),
        (["fit", "x.npy", "-k", "many", "--out", "run"], ["'many' is not a valid integer"]),
        (["fit", "x.npy", "-k", "5", "--out", "run", "--nprobe", "3"], ["No such option", "--nprobe"]),
        (["cluster"], ["No such command 'cluster'"]),
        (["predict", "run"], ["Missing argument 'DATA'"]),
    ],
    ids=lambda v: " ".join(v),
)
def test_wrong_usage(here, args, parts):
    refused(fastann(*args), USAGE, *parts)


@pytest.mark.parametrize(
    ("args", "parts"),
    [
        (["-k", "301"], ["--n-clusters 301", "at least 301 rows", "n_samples=300", "lower --n-clusters"]),
        (["-k", "0"], ["--n-clusters must be >= 1", "got 0"]),
        (["-k", "5", "--index", "faiss"], ["unknown index 'faiss'", *(repr(name) for name in ["auto", *SPECS])]),
        (["-k", "5", "--index", "ivf:probes=3"], ["no option 'probes'", "nlist", "nprobe", "train_iter"]),
        (["-k", "5", "--index", "hnsw:ef_search=99999999999"], ["ef_search", "99999999999"]),
        (["-k", "5", "--index", "factory:Nonsense"], ["FAISS cannot build factory:Nonsense"]),
        (["-k", "5", "--metric", "l1"], ["metric must be one of 'euclidean', 'cosine'", "'l1'"]),
        (["-k", "5", "--init", "best"], ["init must be one of", "'best'"]),
        (["-k", "5", "--empty", "drop"], ["empty must be one of", "'drop'"]),
        (["-k", "5", "--max-iter", "0"], ["--max-iter must be >= 1"]),
        (["-k", "5", "--n-init", "0"], ["--n-init must be >= 1"]),
        (["-k", "5", "--tol", "-1"], ["tol must be >= 0"]),
        (["-k", "5", "--time-limit", "0"], ["--time-limit must be > 0"]),
        (["-k", "5", "--jobs", "0"], ["--jobs == 0"]),
        (["-k", "5", "--seed", "-1"], ["eed must be between 0"]),
        (["-k", "5", "--device", "gpu"], ["device must be", "'gpu'"]),
        (["-k", "5", "--device", "cpu", "--device", "cuda"], ["device must be"]),
        (["-k", "5", "--sample", "half"], ["--sample must be rows (100000) or a fraction (0.1), got 'half'"]),
        (["-k", "5", "--sample", "3"], ["--sample 3 gives 3 rows", "--n-clusters 5"]),
        (["-k", "5", "--sample", "1.5"], ["--sample 1.5", "(0, 1]"]),
        (["-k", "5", "--sample", "0"], ["--sample must be >= 1"]),
        (["-k", "5", "--sample", "nan"], ["sample must be"]),
        (["-k", "5", "--sample", "²"], ["--sample must be rows"]),
    ],
    ids=lambda v: " ".join(v),
)
def test_parameters_that_make_no_sense_are_usage_errors(here, args, parts):
    refused(fit(*args), USAGE, *parts)


@pytest.mark.parametrize("args", [["-k", "301"], ["-k", "5", "--index", "faiss"]], ids=" ".join)
def test_a_refused_fit_writes_nothing(here, args):
    fit(*args)
    assert [p.name for p in here.iterdir()] == ["x.npy"]


def test_a_missing_file_is_named(here):
    refused(fastann("fit", "nowhere.npy", "-k", 5, "--out", "run"), USAGE, "no file nowhere.npy", "check the path")


def test_a_folder_is_refused(here):
    Path("empty").mkdir()
    refused(fastann("fit", "empty", "-k", 5, "--out", "run"), USAGE, "is a folder", ".npy")


def test_another_format_is_refused(here):
    Path("x.pdf").write_text("1,2\n")
    refused(
        fastann("fit", "x.pdf", "-k", 5, "--out", "run"),
        USAGE,
        "x.pdf is a .pdf file",
        "numpy.save",
        "--dtype ... --dim",
    )


def test_a_row_that_is_not_finite_is_named(here):
    x = np.load("x.npy")
    x[17, 2] = np.nan
    np.save("x.npy", x)
    refused(fit("-k", 5), USAGE, "NaN", "row 17")


@pytest.mark.skipif(AS_ROOT, reason="root reads every file")
def test_a_file_without_permission_is_refused(here):
    Path("x.npy").chmod(0)
    refused(fit("-k", 5), USAGE, "x.npy", "not readable")


def test_a_gpu_that_is_not_there_is_a_failure(here):
    import faiss

    if hasattr(faiss, "StandardGpuResources"):
        pytest.skip("this FAISS is a GPU build")
    refused(fit("-k", 5, "--device", "cuda"), FAILED, "CPU build", "--device cpu")


def test_an_existing_run_is_refused(run):
    refused(fit("-k", 4), USAGE, "run exists already", "--force")


def test_an_existing_run_is_refused_before_the_data_is_looked_at(run):
    refused(fastann("fit", "nowhere.npy", "-k", 4, "--out", "run"), USAGE, "run exists already")


def test_a_refused_run_stays_as_it_was(run):
    before = (run / "manifest.json").read_bytes()
    fit("-k", 4)
    assert (run / "manifest.json").read_bytes() == before


def test_force_replaces_a_run(run):
    assert fit("-k", 4, "--force").exit_code == DONE
    assert KMeans.load(run).n_clusters == 4


def test_force_does_not_replace_a_folder_that_is_no_run(here):
    Path("run").mkdir()
    Path("run/cat.png").write_bytes(b"cat")
    refused(fit("-k", 4, "--force"), USAGE, "not a run directory")
    assert Path("run/cat.png").read_bytes() == b"cat"


def test_a_full_disk_is_a_failure_and_writes_nothing(here, monkeypatch):
    def no_space(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "save", no_space)
    refused(fit("-k", 5), FAILED, "No space left on device")
    assert [p.name for p in here.iterdir()] == ["x.npy"]


@pytest.mark.parametrize("error", [MemoryError("2 GiB wanted"), RuntimeError("the GPU is gone")], ids=repr)
def test_a_failure_is_one_line(here, monkeypatch, error):
    def fail(*args, **options):
        raise error

    monkeypatch.setattr(kmeans_closing, "labelled", fail)
    result = fit("-k", 5)
    refused(result, FAILED, str(error))
    assert result.stderr.count("\n") == 1


def test_an_interrupt_in_the_closing_step_fails_and_writes_nothing(here, monkeypatch):
    def interrupt(*args, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(kmeans_closing, "labelled", interrupt)
    refused(fit("-k", 5), FAILED, "interrupted; nothing was completed")
    assert [p.name for p in here.iterdir()] == ["x.npy"]


def test_an_interrupt_in_the_closing_step_leaves_the_run_that_force_would_replace(run, monkeypatch):
    def interrupt(*args, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(kmeans_closing, "labelled", interrupt)
    fit("-k", 4, "--force")
    assert KMeans.load(run).n_clusters == 5


# --------------------------------------------------------------------------- predict


def predict(*args, out="labels.npy"):
    return fastann("predict", "run", "x.npy", "--out", out, *args)


def test_predict_gives_the_labels_of_the_run(run):
    assert predict().exit_code == DONE
    np.testing.assert_array_equal(np.load("labels.npy"), np.load("run/labels.npy"), strict=True)


def test_predicted_labels_are_int32(run):
    predict()
    assert np.load("labels.npy").dtype == np.int32


def test_predict_says_what_it_wrote(run):
    result = predict()
    assert (result.stdout, result.stderr) == ("300 labels written to labels.npy\n", "")


def test_predict_labels_other_rows(run):
    np.save("y.npy", np.load("x.npy")[:7])
    fastann("predict", "run", "y.npy", "--out", "labels.npy")
    np.testing.assert_array_equal(np.load("labels.npy"), np.load("run/labels.npy")[:7])


@pytest.mark.parametrize("index", ["auto", "flat", "ivf:nlist=2,nprobe=2", "hnsw:ef_search=64", "factory:Flat"])
def test_predict_with_another_index(run, index):
    result = predict("--index", index)
    assert (result.exit_code, result.stderr) == (DONE, "")
    np.testing.assert_array_equal(np.load("labels.npy"), np.load("run/labels.npy"))


def test_predict_makes_missing_folders(run):
    assert predict(out="a/b/labels.npy").exit_code == DONE
    assert np.load("a/b/labels.npy").shape == (300,)


def test_predict_does_not_change_the_run(run):
    before = {p.name: p.read_bytes() for p in run.iterdir()}
    predict("--index", "ivf")
    assert {p.name: p.read_bytes() for p in run.iterdir()} == before


def test_predict_leaves_an_existing_file(run):
    Path("labels.npy").write_bytes(b"mine")
    refused(predict(), USAGE, "labels.npy exists already", "--force")
    assert Path("labels.npy").read_bytes() == b"mine"


def test_predict_replaces_a_file_with_force(run):
    Path("labels.npy").write_bytes(b"mine")
    assert predict("--force").exit_code == DONE
    assert np.load("labels.npy").shape == (300,)


def test_predict_does_not_replace_a_folder(run):
    Path("labels.npy").mkdir()
    result = predict("--force")
    assert result.exit_code in (FAILED, USAGE)
    assert "labels.npy" in result.stderr
    assert sorted(p.name for p in Path().iterdir()) == ["labels.npy", "run", "x.npy"]


@pytest.mark.parametrize("out", ["labels", "labels.txt", "labels.npz"])
def test_predict_refuses_to_write_another_format(run, out):
    refused(predict(out=out), USAGE, f"--out {out}", "ends in .npy (labels), .csv or .parquet")


def rows_with_ids(name, ids):
    """x.npy as Parquet, with ids and a second column of lists."""
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    lists = arrow.array(np.load("x.npy").tolist(), arrow.list_(arrow.float32()))
    parquet.write_table(arrow.table({"id": ids, "ones": arrow.array([[1.0]] * 300), "vector": lists}), name)


def table(path):
    if path.endswith(".parquet"):
        found = pytest.importorskip("pyarrow.parquet").read_table(path)
        return {name: found[name].to_pylist() for name in found.column_names}
    with open(path, newline="", encoding="utf-8") as file:
        head, *lines = csv.reader(file)
    return dict(zip(head, map(list, zip(*lines, strict=True)), strict=True))


@pytest.mark.parametrize("out", ["labels.csv", "labels.parquet"])
def test_predict_writes_tables(run, out):
    rows_with_ids("x.parquet", [f"é {i}" for i in range(300)])
    given = ("--column", "vector", "--id-column", "id")
    assert fastann("predict", "run", "x.parquet", *given, "--out", out).exit_code == DONE
    found, km = table(out), KMeans.load(run)
    assert list(found) == ["row", "id", "cluster", "distance"]
    assert found["id"] == [f"é {i}" for i in range(300)]
    np.testing.assert_array_equal(np.array(found["cluster"], int), km.labels_)
    np.testing.assert_allclose(np.array(found["distance"], float), km.distances_, rtol=1e-5)
    refused(predict(out=out), USAGE, f"{out} exists already", "--force")
    assert predict("--force", out=out).exit_code == DONE
    assert list(table(out)) == ["row", "cluster", "distance"]


def test_ids_go_from_the_data_to_the_export(here):
    rows_with_ids("my rows.parquet", list(range(1000, 1300)))
    given = ("--column", "vector", "--id-column", "id", "-k", 5, "--quiet", "--out", "run")
    assert fastann("fit", "my rows.parquet", *given).exit_code == DONE
    assert fastann("export", "run", "--format", "parquet", "--out", "assignments.parquet").exit_code == DONE
    found, km = table("assignments.parquet"), KMeans.load("run")
    assert list(found) == ["row", "id", "cluster", "distance", "second_cluster", "margin"]
    assert found["id"] == list(range(1000, 1300))
    assert found["second_cluster"] == km.second_labels_.tolist()
    np.testing.assert_array_equal(np.load("run/ids.npy"), np.arange(1000, 1300))


def test_an_id_column_that_is_not_there_is_named(here):
    rows_with_ids("x.parquet", list(range(300)))
    result = fastann("fit", "x.parquet", "--column", "vector", "--id-column", "name", "-k", 5, "--out", "run")
    refused(result, USAGE, "no 'name' among its columns", "'id'")
    refused(
        fit("-k", 5, "--id-column", "id"),
        USAGE,
        "--id-column was given for x.npy",
        "takes --dtype and --dim",
        "leave it",
    )


def test_an_unfinished_run_is_not_replaced_and_says_how_to_go_on(here):
    begin_run("run", {})
    refused(fit("-k", 5), USAGE, "run is an unfinished run", "fastann fit --resume run", "--force")
    refused(predict(), USAGE, "run is an unfinished run", "fastann fit --resume run")


def test_predict_lists_the_indexes(run):
    refused(predict("--index", "faiss"), USAGE, "unknown index 'faiss'", *map(repr, SPECS))


def test_predict_names_a_missing_run(here):
    refused(predict(), USAGE, "no run directory run")


def test_predict_names_missing_data(run):
    refused(fastann("predict", "run", "nowhere.npy", "--out", "labels.npy"), USAGE, "no file nowhere.npy")


def test_predict_names_a_damaged_file(run):
    (run / "labels.npy").write_bytes((run / "labels.npy").read_bytes() + b"\0")
    refused(predict(), USAGE, "labels.npy is not the file that was saved")


def test_predict_refuses_rows_of_another_width(run):
    np.save("x.npy", np.ones((3, 4), np.float32))
    refused(predict(), USAGE, "DATA has 4 features", "expecting 6 features")


def test_a_refused_predict_writes_nothing(run, here):
    np.save("x.npy", np.ones((3, 4), np.float32))
    predict()
    assert sorted(p.name for p in here.iterdir()) == ["run", "x.npy"]


# --------------------------------------------------------------------------- demo


@pytest.fixture
def few_patches(here, monkeypatch):
    pytest.importorskip("PIL")
    x = np.random.default_rng(0).random((5000, 12)).astype(np.float32)
    monkeypatch.setattr("fastann.data.patches.patches", lambda: x)


def test_demo_writes_a_run(few_patches):
    assert fastann("demo", "-k", 20, "--max-iter", 2, "--out", "run").exit_code == DONE
    assert KMeans.load("run").labels_.shape == (5000,)


def test_demo_keeps_its_log_off_standard_output(few_patches):
    result = fastann("demo", "-k", 20, "--max-iter", 2, "--out", "run")
    assert result.stdout.splitlines()[0].split() == ["rows", "5,000", "x", "12"]
    assert "patches" in result.stderr


def test_demo_ends_with_a_report_and_what_to_try_next(few_patches):
    pytest.importorskip("matplotlib")
    result = fastann("demo", "-k", 20, "--out", "run")
    assert [line[:6] for line in result.stderr.splitlines()] == ["1 of 3", "2 of 3", "3 of 3"]
    assert "5,000 patches of 12 numbers into 20 clusters" in result.stderr
    assert "still decreasing" not in result.stdout
    (written,) = re.findall(r"^report +(.+)$", result.stdout, re.M)
    assert Path(written).is_absolute()
    assert "clusters of 5,000 rows" in Path(written).read_text(encoding="utf-8")
    tried = re.findall(r"^  \S*fastann (\w+) ", result.stdout.partition("What to try next")[2], re.M)
    assert tried == ["fit", "bench"]


def test_demo_refuses_an_existing_run_before_any_work(run, few_patches):
    refused(fastann("demo", "--out", "run"), USAGE, "run exists already", "--force")


def test_demo_says_how_to_get_pillow(here, monkeypatch):
    monkeypatch.setitem(sys.modules, "PIL", None)
    result = fastann("demo", "--out", "run")
    assert (result.exit_code, result.stdout) == (FAILED, "")
    assert "pip install 'fastann[demo]'" in result.stderr


# --------------------------------------------------------------------------- as a process of its own


def process(*args):
    return subprocess.run([sys.executable, "-m", "fastann.cli", *args], capture_output=True, text=True, timeout=120)


def test_a_real_process_fits(here):
    done = process("fit", "x.npy", "-k", "5", "--out", "run")
    assert (done.returncode, done.stderr) == (DONE, "")
    assert "clusters    5" in done.stdout


def test_a_real_process_fails_without_a_traceback(here):
    done = process("fit", "nowhere.npy", "-k", "5", "--out", "run")
    assert (done.returncode, done.stdout) == (USAGE, "")
    assert "no file nowhere.npy" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="Windows delivers Ctrl-C to the whole console")
def test_ctrl_c_ends_a_real_fit_in_time_with_a_run(here):
    """The first Ctrl-C finishes the iteration and keeps what was learnt."""
    np.save("x.npy", np.random.default_rng(0).standard_normal((20_000, 16)).astype(np.float32))
    # The process interrupts itself after its second iteration, so that no clock is needed.
    script = (
        "import os, signal, sys\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # a shell's background jobs ignore it
        "from fastann import cli\n"
        "from fastann.estimators.kmeans import KMeans\n"
        "fit = KMeans.fit\n"
        "def press(state):\n"
        "    if state.record.iteration == 2: os.kill(os.getpid(), signal.SIGINT)\n"
        "KMeans.fit = lambda self, X: fit(self.set_params(callback=press), X)\n"
        "cli.main(['fit', 'x.npy', '-k', '50', '--tol', '0', '--out', 'run'])\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert done.returncode == DONE, done.stderr
    assert "Ctrl-C was pressed" in done.stdout
    assert KMeans.load("run").n_iter_ == 2
    assert signal.SIGINT.name not in done.stderr
