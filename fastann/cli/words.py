"""Errors in the words of the command line: its options and arguments, where the package names those of Python."""

from __future__ import annotations

import re
from collections.abc import Iterator

import click

from fastann import checks

# Of arguments of commands that messages speak of, and of other parameters that have two names: what Python calls them.
ALIASES = {
    **{"data": "X", "batches": "X", "labels": "y", "queries": "queries"},
    **{"seed": "random_state", "checkpoint": "checkpoint_seconds"},
}
UNMISTAKABLE = ("tol",)  # names without an underscore that are no words of prose
_NO_PATH = r"(?![/\\]|\.\w)"  # may not follow a name, as no slash may stand before it: folders and files keep theirs
_VALUE = r"""('[^']*'|"[^"]*"|[^\s,;:()\[\]]+(?:\([^)]*\))?)"""


def in_words_of(command: click.Command, message: str) -> str:
    """Say a message of the package with the options of a command, as far as it has them.

    ``n_clusters=50`` becomes ``--n-clusters 50``; what opens files becomes the options that do.
    """
    opened = re.compile(rf"{re.escape(checks.OPEN)}\(path, ([^()]*)\)")
    message = opened.sub(lambda found: found[1].replace(", ", " "), message)
    message = re.sub(r"\b\w+ \((--[\w-]+)\)", r"\1", message)  # such as: force (--force)
    message = message.replace("pass None for", "leave it out for")
    parts = _CALL.split(message)  # calls of Python, as an example of what to write there, stay as they are
    parts[::2] = [_translated(part, list(_named(command))) for part in parts[::2]]
    return "".join(parts)


_CALL = re.compile(r"(\b[A-Z]\w+\((?:[^()]|\([^()]*\))*\))")


def _translated(text: str, named: list[tuple[str, str, bool]]) -> str:
    for name, word, option in named:
        if option:
            text = re.sub(rf"(?<![\w./\\-]){name}={_VALUE}", rf"{word} \1", text)
        if option or len(name) > 1:  # a word of prose too, so only where it is what the message is about
            text = re.sub(rf"(?:^|(?<=^Input )){name}(?= (must|was|is|needs|has|have|names|contains?)\b)", word, text)
        if "_" in name or name in UNMISTAKABLE:
            text = re.sub(rf"(?<![\w.=/\\-]){name}\b(?![=(]){_NO_PATH}", word, text)
        elif not option and len(name) == 1:
            text = re.sub(rf"(?<![\w.'/\\-]){name}\b(?!['(=]){_NO_PATH}", word, text)
    words = {name: word for name, word, option in named if option}
    listed = re.compile(r"\b(takes|give|raise) (both )?[\w-]+( (and|or) [\w-]+)?(?=[;:]|$)")
    text = re.sub(r"(--[a-z-]+ )'([\w.,:/+-]+)'", r"\1\2", text)  # a shell needs no quotes there
    return listed.sub(lambda found: re.sub(r"[\w-]+", lambda one: words.get(one[0], one[0]), found[0]), text)


def _named(command: click.Command) -> Iterator[tuple[str, str, bool]]:
    """Yield what Python calls each parameter of a command, what the command calls it, and whether it is an option."""
    for parameter in command.params:
        name = parameter.name or ""
        option = isinstance(parameter, click.Option)
        if option or name in ALIASES:
            word = max(parameter.opts, key=len) if option else parameter.human_readable_name.strip("[].")
            if isinstance(parameter, click.Option) and parameter.is_flag:
                yield f"{name}=True", word, option
            yield ALIASES.get(name, name), word, option
            if name == "seed":
                yield "Seed", word, option  # scikit-learn's word for it
