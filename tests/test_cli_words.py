"""Errors on the command line name its options; nothing of Python is left that a user could take for an option."""

import numpy as np
import pytest
from click.testing import CliRunner

from fastann.cli import main
from fastann.cli.words import in_words_of

FIT = main.commands["fit"]
CLASSIFY = main.commands["classify"].commands["fit"]
SAID = {
    "n_clusters=500 needs 500 rows; lower n_clusters": "--n-clusters 500 needs 500 rows; lower --n-clusters",
    "name one: fastann.open_source(path, column='a')": "name one: --column a",
    "give both dtype and d: fastann.open_source(path, dtype='f2', d=768)": (
        "give both --dtype and --dim: --dtype f2 --dim 768"
    ),
    "choose: fastann.open_source(path, column='x*')": "choose: --column 'x*'",
    "d was given for x.fbin, which takes no options": "--dim was given for x.fbin, which takes no options",
    "but a .npy file takes dtype and d; leave it out": "but a .npy file takes --dtype and --dim; leave it out",
    "max_memory=10 is too little; choose another temp_folder": (
        "--max-memory 10 is too little; choose another --temp-folder"
    ),
    "random_state must be 0 or more": "--seed must be 0 or more",
    "remove zero rows or use metric='euclidean'": "remove zero rows or use --metric euclidean",
    "as in KMeans(index=IVF(nprobe='auto'), recall=0.9)": "as in KMeans(index=IVF(nprobe='auto'), recall=0.9)",
    "X has 3 features": "DATA has 3 features",
    "Seed must be between 0 and 2**32 - 1": "--seed must be between 0 and 2**32 - 1",
    "checkpoint_seconds must be >= 0, got -1": "--checkpoint must be >= 0, got -1",
    "n_jobs == 0 has no meaning; pass None for all cores": "--jobs == 0 has no meaning; leave it out for all cores",
    "run exists already; pass force (--force) to replace it": "run exists already; pass --force to replace it",
    "for example by 1 / X.std()": "for example by 1 / X.std()",
    "the file x_n_clusters.npy": "the file x_n_clusters.npy",
    "runs/max_iter exists; max_iter=3 is too few": "runs/max_iter exists; --max-iter 3 is too few",
    "max_iter/labels.npy and max_iter.npy are gone": "max_iter/labels.npy and max_iter.npy are gone",
    "/data/X/rows.npy has n_clusters, X has none": "/data/X/rows.npy has --n-clusters, DATA has none",
    "runs/tol=3/x.npy is empty": "runs/tol=3/x.npy is empty",
    "C:\\X\\max_iter holds max_iter": "C:\\X\\max_iter holds --max-iter",
    "no more than tol, 0.01%.": "no more than --tol, 0.01%.",
}


@pytest.mark.parametrize("message", SAID)
def test_messages_are_said_with_the_options_of_the_command(message):
    assert in_words_of(FIT, message) == SAID[message]


def test_labels_are_an_argument_of_classify():
    assert in_words_of(CLASSIFY, "y has 2 labels for 3 rows of X") == "LABELS has 2 labels for 3 rows of DATA"
    assert in_words_of(CLASSIFY, "dtype must be a type") == "--dtype must be a type"


SEARCH = {
    "queries have 3 features": "QUERIES have 3 features",
    "Input queries contains NaN": "Input QUERIES contains NaN",
    "rows have 3 features": "--rows have 3 features",
    "pass the rows to search: rows=X": "pass the rows to search: --rows X",
    "as many queries as there are rows": "as many queries as there are rows",
}


@pytest.mark.parametrize("message", SEARCH)
def test_messages_of_a_search_tell_queries_from_rows(message):
    assert in_words_of(main.commands["search"], message) == SEARCH[message]


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    x = np.random.default_rng(0).integers(0, 9, (60, 4)).astype(np.float32)
    np.save("x.npy", x)
    np.save("y.npy", np.arange(60) % 3)
    x.tofile("raw.npy")
    np.savez("two.npz", a=x, b=x)
    with open("disk.bin", "wb") as file:
        file.write(np.array(x.shape, "<u4").tobytes() + x.tobytes())
    return x


COMMANDS = {
    "fit": ["fit", "{}", "-k", 3, "--out", "run"],
    "dedup": ["dedup", "done", "{}", "--out", "out.csv"],
    "predict": ["predict", "done", "{}", "--out", "out.npy"],
    "tune": ["tune", "{}", "-k", 3],
    "sweep": ["sweep", "{}", "-k", 3, "--index", "flat", "--out", "sweep"],
    "bench": ["bench", "{}", "-k", 3, "--out", "bench"],
    "evaluate": ["evaluate", "y.npy", "{}"],
    "classify fit": ["classify", "fit", "{}", "y.npy", "--out", "model"],
    "classify predict": ["classify", "predict", "named", "{}", "--out", "out.npy"],
    "classify evaluate": ["classify", "evaluate", "named", "{}", "y.npy"],
}
FILES = {
    "raw.npy": ["--dtype float32 --dim 768"],
    "two.npz": ["--column a"],
    "disk.bin": ["DiskANN", "--dtype float32"],
    "x.npy --dim 7": ["--dim 7", "is 4"],
    "x.npy --column a": ["--column", "takes --dtype and --dim"],
    "x.raw --dim 4": ["both --dtype and --dim"],
}
READ = {"raw.npy": ["--dtype", "float32", "--dim", 4], "two.npz": ["--column", "b"], "disk.bin": ["--dtype", "float32"]}


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_opens_files_by_the_same_options(here, command):
    from fastann import KMeans, PrototypeClassifier

    KMeans(3, random_state=0).fit(here).save("done")
    PrototypeClassifier(random_state=0).fit(here, np.arange(60) % 3).save("named")
    here.tofile("x.raw")
    for given, parts in FILES.items():
        file, *options = given.split()
        done = CliRunner().invoke(main, [str(word).format(file) for word in COMMANDS[command]] + options)
        assert done.exit_code == 2, (given, done.output)
        assert all(part in done.output for part in parts), done.output
        assert "open_source" not in done.output
    if command not in ("tune", "sweep", "bench"):  # which measure time
        for file, options in READ.items():
            words = [str(word).format(file) for word in [*COMMANDS[command], *options]]
            done = CliRunner().invoke(main, words + ["--force"] * ("evaluate" not in command))
            assert done.exit_code == 0, (file, done.output)


def test_rows_that_do_not_fit_are_called_what_the_command_calls_them(here):
    from fastann import KMeans, PrototypeClassifier, build_index

    KMeans(9, random_state=0).fit("x.npy").save("done")
    PrototypeClassifier(random_state=0).fit(here, np.arange(60) % 3).save("named")
    build_index("x.npy", "flat").save("index")
    bad = here.copy()
    bad[7, 2] = np.nan
    np.save("narrow.npy", here[:, :3])
    np.save("bad.npy", bad)
    np.save("labelled.npy", here[:, :3])  # two columns and a label
    said = {
        "search done narrow.npy --out out.npy": "QUERIES have 3 features",
        "search index narrow.npy --out out.npy": "QUERIES have 3 columns",
        "search done bad.npy --out out.npy": "Input QUERIES contains NaN, first in row 7",
        "search done x.npy --rows narrow.npy --out out.npy": "--rows have 3 features",
        "search done x.npy --rows bad.npy --out out.npy": "Input --rows contains NaN, first in row 7",
        "predict done narrow.npy --out out.npy": "DATA has 3 features",
        "dedup done bad.npy --out out.csv": "Input DATA contains NaN",
        "classify predict named narrow.npy --out out.npy": "DATA has 3 features",
        "classify stream named labelled.npy": "BATCHES has 2 features",
    }
    for words, part in said.items():
        done = CliRunner().invoke(main, words.split())
        assert done.exit_code == 2, (words, done.output)
        assert part in done.output, (words, done.output)


def test_what_a_fit_says_of_its_end_names_options(here):
    done = CliRunner().invoke(main, ["fit", "x.npy", "-k", "9", "--max-iter", "1", "--out", "max_iter/x"])
    assert "iterations  1: --max-iter iterations were done" in done.output
    assert done.output.splitlines()[-1].split() == ["run", "max_iter/x"]


def test_deduplication_advises_its_options(here):
    from fastann import KMeans

    x = np.random.default_rng(1).standard_normal((400, 2))
    np.save("x.npy", x)
    KMeans(40, metric="cosine", random_state=0).fit("x.npy").save("done")
    args = ["dedup", "done", "--threshold", "0.9", "--neighbours", "1", "--out", "raise threshold/neighbours"]
    done = CliRunner().invoke(main, args)
    assert done.exit_code == 0, done.output
    assert "; raise --neighbours or --threshold\n" in done.output
    assert done.output.splitlines()[-1] == "written    raise threshold/neighbours"


def test_a_flag_is_named_without_a_value():
    said = in_words_of(main.commands["fit"], "have every row searched exactly (exact_labels=True); tol=0.1, max_iter=3")
    assert said == "have every row searched exactly (--exact-labels); --tol 0.1, --max-iter 3"


def test_long_lines_are_broken_between_words_on_a_terminal_alone(monkeypatch, capsys):
    from fastann.cli import common

    text = "rows        20\niterations  8: The last iteration decreased the inertia by 0.0089%: no more than tol"
    common.say(text)
    assert capsys.readouterr().out == text + "\n"
    monkeypatch.setattr(common, "width_of_lines", lambda: 40)
    common.say(text)
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 40
    assert [line[:12].strip() for line in lines] == ["rows", "iterations", "", ""]
    assert " ".join(" ".join(lines).split()) == " ".join(text.split())
