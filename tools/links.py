"""Whether the links of a built site lead somewhere, to a page, a file, and a place in it; and whether pages were read.

`python tools/links.py FOLDER` prints links that do not, and directives of reStructuredText that a page shows as text.
It exits with 1 if there are any.
"""

import re
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

CODE = ("pre", "code", "script", "style")


class Page(HTMLParser):
    """Places of a page, what it links to, and directives that it shows as text, outside of code."""

    def __init__(self, path: Path):
        super().__init__()
        self.places: set[str] = set()
        self.targets: set[str] = set()
        self.directives: list[str] = []
        self.code = 0
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Take note of ids, and of what is linked to or shown."""
        self.code += tag in CODE
        for name, value in attrs:
            if name in ("id", "name") and value:
                self.places.add(value)
            elif name in ("href", "src") and value:
                self.targets.add(value)

    def handle_endtag(self, tag: str) -> None:
        """Leave code."""
        self.code -= tag in CODE

    def handle_data(self, data: str) -> None:
        """Take note of directives."""
        if not self.code:
            self.directives += re.findall(r"^\s*(\.\. [\w:-]+::.*)$", data, flags=re.M)


def broken(folder: Path) -> list[str]:
    """Links that lead nowhere, and directives that nothing has read, as lines."""
    pages = {path.resolve(): Page(path) for path in folder.rglob("*.html") if "_static" not in path.parts}
    lines = []
    for path, page in pages.items():
        lines += [f"{path.relative_to(folder.resolve())}: shows {directive!r} as text" for directive in page.directives]
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
