"""How Sphinx builds the site: ``make docs``."""

import base64
import json
import re
import shutil
from pathlib import Path

import fastann

ROOT = Path(__file__).resolve().parents[1]

project = "fastann"
author = copyright = "The fastann developers"
version = release = fastann.__version__
root_doc = "index"
exclude_patterns = ["README.md", "gallery/*.ipynb", "gallery/**/*.ipynb", "gallery/**/*.py"]
templates_path = ["_templates"]
extensions = [
    "myst_nb",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx_click",
    "sphinx_copybutton",
    "sphinx_design",
    "sphinx_gallery.gen_gallery",
]

# --------------------------------------------------------------------- pages

smartquotes = False  # options are --version, not a dash
# autosummary writes the pages of the reference, in reStructuredText, into files of the first suffix: as .md they would
# be read as Markdown, and show their directives as text.
source_suffix = {".rst": "restructuredtext", ".md": "myst-nb", ".ipynb": "myst-nb"}
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 4

# Pages of the repository that are also pages of the site, and what they are called there.
PAGES = {
    "README.md": "overview.md",
    "CHANGELOG.md": "changelog.md",
    "ARCHITECTURE.md": "architecture.md",
    "bench/README.md": "benchmarks.md",
}
MADE = "project"  # the folder of these


def copy_pages(app):
    """Write pages that lie elsewhere in the repository into the folder that the site is built of."""
    folder = Path(app.srcdir) / MADE
    folder.mkdir(exist_ok=True)
    for source, name in PAGES.items():
        text = led((ROOT / source).read_text(encoding="utf-8"), ROOT / source, folder)
        target = folder / name
        if not target.exists() or target.read_text(encoding="utf-8") != text:  # pages that did not change are not built
            target.write_text(text, encoding="utf-8")


def led(text, page, folder):
    """Let the links of a page lead where their targets are on the site; what is not on the site is a link no more."""

    def link(found):
        words, target, anchor = found.groups()
        path = (page.parent / target).resolve()
        name = PAGES.get(str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else "")
        if name is not None:
            to = folder / name if folder.name == MADE else folder / MADE / name
        elif path == ROOT / "docs" / "README.md":
            to = ROOT / "docs" / "index.md"
        elif path.is_relative_to(ROOT / "notebooks") and path.exists():  # a source distribution has none
            to = ROOT / "docs" / "notebooks" / (path.name if path.suffix == ".ipynb" else "index.md")
        elif path.parent == ROOT / "examples":
            to = ROOT / "docs" / "gallery" / f"{path.stem}.rst"
        elif path.suffix == ".md" and path.is_relative_to(ROOT / "docs"):
            to = path
        else:
            return words
        up = "../" if folder.name == MADE else ""
        inside = to.relative_to(folder) if to.is_relative_to(folder) else f"{up}{to.relative_to(ROOT / 'docs')}"
        return f"[{words}]({inside}{anchor or ''})"

    return re.sub(r"(?<!!)\[([^\]]+)\]\(([^)#:\s]+)(#[^)]*)?\)", link, text)


def lead_pages(app, docname, source):
    """The same for pages of this folder."""
    path = Path(app.env.doc2path(docname))
    if path.suffix == ".md" and path.parent == Path(app.srcdir):
        source[0] = led(source[0], path, path.parent)


# --------------------------------------------------------------------- reference

autosummary_generate = True
autodoc_typehints = "none"  # docstrings say more
default_role = "py:obj"
numpydoc_show_class_members = False
numpydoc_class_members_toctree = False


def skip_member(app, what, name, member, skip, options):
    """Leave out methods that scikit-learn documents or generates, and those that the engine asks of indexes."""
    home = getattr(getattr(member, "fget", None) or member, "__module__", None) or ""
    other = home.startswith(("sklearn.", "fastann.index."))
    methods = what == "class" and (callable(member) or isinstance(member, property))
    return True if methods and (other or re.fullmatch(r"set_\w+_request", name)) else None


# --------------------------------------------------------------------- gallery

sphinx_gallery_conf = {
    "examples_dirs": "../examples",
    "gallery_dirs": "gallery",
    "filename_pattern": "plot_",
    "within_subsection_order": "FileNameSortKey",
    "download_all_examples": False,
    "capture_repr": (),
    "show_memory": False,
    "show_signature": False,
    "remove_config_comments": True,
    "write_computation_times": False,
    "min_reported_time": 1e9,  # seconds of the machine that built the site tell nobody anything
}

# --------------------------------------------------------------------- notebooks

nb_execution_mode = "off"  # pages show the outputs that `make notebooks` keeps
nb_merge_streams = True

NOTEBOOKS = """# Notebooks

Longer than the [gallery](../gallery/index.rst): a problem from its rows to what was found, with every cell and its
output. `make notebooks` executes them anew; sources are in `notebooks/`.

::::{{grid}} 1 2 2 2
:gutter: 3

{cards}
::::

```{{toctree}}
:hidden:

{names}
```
"""
CARD = """:::{{grid-item-card}} {title}
:link: {name}
:link-type: doc
:img-top: pictures/{picture}
:img-alt: {title}
:class-img-top: fastann-notebook

{sentence}
:::
"""


def gist(notebook):
    """Title of a notebook, its first sentence, and its last picture with the ending that goes with its kind."""
    title, text = re.match(r"#\s+(.+?)\n\s*\n(.*)", "".join(notebook["cells"][0]["source"]), flags=re.S).groups()
    sentence = re.match(r".+?[.?](?=\s|$)", " ".join(text.split())).group()
    outputs = [output.get("data", {}) for cell in notebook["cells"] for output in cell.get("outputs", [])]
    kinds = {"image/png": "png", "image/jpeg": "jpg"}
    pictures = [(data[kind], ending) for data in outputs for kind, ending in kinds.items() if kind in data]
    picture, ending = pictures[-1]
    return title, sentence, base64.b64decode("".join(picture)), ending


def copy_notebooks(app):
    """Write the notebooks, and a page that shows them all, into the folder that the site is built of."""
    folder = Path(app.srcdir) / "notebooks"
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "pictures").mkdir(parents=True)
    cards, names = [], []
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        shutil.copy2(path, folder)
        title, sentence, picture, ending = gist(json.loads(path.read_text(encoding="utf-8")))
        (folder / "pictures" / f"{path.stem}.{ending}").write_bytes(picture)
        names.append(path.stem)
        cards.append(CARD.format(title=title, sentence=sentence, name=path.stem, picture=f"{path.stem}.{ending}"))
    page = NOTEBOOKS.format(cards="\n".join(cards), names="\n".join(names))
    (folder / "index.md").write_text(page, encoding="utf-8")


# --------------------------------------------------------------------- looks

html_theme = "pydata_sphinx_theme"
html_title = "fastann"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sourcelink = False
html_theme_options = {
    "show_prev_next": False,
    "navigation_with_keys": False,
    "secondary_sidebar_items": ["page-toc"],
    "navbar_align": "left",
    "header_links_before_dropdown": 7,
    "footer_start": ["copyright"],
    "footer_end": [],
}
html_sidebars = {
    page: [] for page in ("index", "command-line", "notebooks/*", "project/benchmarks", "project/changelog")
}


def escape_stars(app, context, lines):
    """Let the stars of patterns in help texts be stars: sphinx-click takes them for the start of emphasis."""
    lines[:] = [re.sub(r"(?<![\\*])\*(?!\*)", r"\\*", line) for line in lines]


def setup(app):
    """Connect the functions above."""
    app.connect("builder-inited", copy_pages, priority=100)
    app.connect("builder-inited", copy_notebooks, priority=100)
    app.connect("source-read", lead_pages)
    app.connect("sphinx-click-process-description", escape_stars)
    app.connect("sphinx-click-process-options", escape_stars)
    app.connect("autodoc-skip-member", skip_member)
