"""Whether the links of a built site lead somewhere: to a page, a file, and a place in it.

`python tools/links.py FOLDER` prints those that do not, and exits with 1 if there are any.
"""

import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit


class Page(HTMLParser):
    """Places of a page and what it links to."""

    def __init__(self, path: Path):
        super().__init__()
        self.places: set[str] = set()
        self.targets: set[str] = set()
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Take note of ids, and of what is linked to or shown."""
        for name, value in attrs:
            if name in ("id", "name") and value:
                self.places.add(value)
            elif name in ("href", "src") and value:
                self.targets.add(value)


def broken(folder: Path) -> list[str]:
    """Links that lead nowhere, as lines."""
    pages = {path.resolve(): Page(path) for path in folder.rglob("*.html") if "_static" not in path.parts}
    lines = []
    for path, page in pages.items():
        for target in sorted(page.targets):
            parts = urlsplit(target)
            if parts.scheme or parts.netloc or target == "#":
                continue
            to = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            if to.is_dir():
                to /= "index.html"
            place = unquote(parts.fragment)
            if not to.exists():
                lines.append(f"{path.relative_to(folder.resolve())}: {target} is not there")
            elif place and to in pages and place not in pages[to].places:
                lines.append(f"{path.relative_to(folder.resolve())}: {target} has no such place")
    return lines


if __name__ == "__main__":
    found = broken(Path(sys.argv[1]))
    print(*found, sep="\n")
    sys.exit(bool(found))
