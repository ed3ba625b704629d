"""The command that names clusters by the texts of their rows: describe."""

from __future__ import annotations

import click

from fastann.cli.common import choices, errors, main


@main.command(short_help="Name clusters by their key words and nearest rows.")
@click.argument("run", type=click.Path())
@click.option(
    "--texts", required=True, type=click.Path(), help="A text for each row: .parquet, .csv, .tsv, .jsonl, .txt."
)
@click.option("--column", default=None, help='Column of a table of texts; the only one, or "text", when not given.')
@click.option("--words", default=10, show_default=True, help="Key words of a cluster at most; its name is the first 3.")
@click.option("--rows", default=3, show_default=True, help="Nearest rows of a cluster that are listed.")
@click.option(
    "--stop-words",
    metavar=choices("english", "none"),
    default="english",
    show_default=True,
    help="Words that name nothing; none for other languages.",
)
@click.option("--out", type=click.Path(), default=None, help="A .csv or .parquet to write; RUN when not given.")
@click.option("--force", is_flag=True, help="Replace an existing file.")
@errors
def describe(
    run: str, texts: str, column: str | None, words: int, rows: int, stop_words: str, out: str | None, force: bool
) -> None:
    """Name the clusters of RUN by the texts of their rows: key words by c-TF-IDF, and the rows nearest to each centre.

    The texts are one a row, in the order of the rows that RUN was fitted to; a pattern in quotes ("texts/*.parquet") is
    several files. RUN gets the names and words in its clusters.csv, and description.json, which `fastann report` shows.
    """
    from fastann import checks
    from fastann import describe as find
    from fastann.topics.result import check_table

    checks.choice(stop_words, "stop_words", ("english", "none"))
    if out is not None:
        check_table(out, force=force)
    found = find(
        run, texts, column=column, words=words, rows=rows, stop_words=None if stop_words == "none" else stop_words
    )
    written = found.save(out, force=force)
    click.echo(found.summary())
    click.echo(f"written to {written}", err=True)
