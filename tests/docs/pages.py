"""
The pages for people, as their tests read them: prose, names in code spans, tables, links, blocks.

A fenced block says in its info string what it is:

    sh                      a shell block that the tests run
    sh not-run: REASON      one that they don't, and why
    json answer, text answer   exactly what the shell block before prints
    json, text              an example of something else
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = tuple(
    path
    for pattern in ("*.md", "docs/**/*.md", "tests/README.md")
    for path in sorted(ROOT.glob(pattern))
)
HISTORY = ROOT / "CHANGELOG.md"
"""Names there are those of their time."""

_FENCE = re.compile(r"^```([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_SPAN = re.compile(r"`([^`\n]+)`")
_LINK = re.compile(r"\]\(([^)\s]+)\)|(?:src|srcset)=\"([^\"]+)\"")
_HEADING = re.compile(r"^#{1,6} (.+)$", re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    page: Path
    line: int
    info: str
    text: str

    @property
    def language(self) -> str:
        return self.info.partition(" ")[0]

    @property
    def mark(self) -> str:
        return self.info.partition(" ")[2]

    @property
    def is_run(self) -> bool:
        return self.info == "sh"

    @property
    def is_answer(self) -> bool:
        return self.mark == "answer"


def name_of(path: Path) -> str:
    """A page's name in a test's id and in a complaint."""
    return str(path.relative_to(ROOT))


@cache
def text_of(page: Path) -> str:
    return page.read_text(encoding="utf-8")


@cache
def prose_of(page: Path) -> str:
    """A page without its fenced blocks."""
    return _FENCE.sub("", text_of(page))


@cache
def blocks_of(page: Path) -> tuple[Block, ...]:
    text = text_of(page)
    return tuple(
        Block(page, text.count("\n", 0, found.start()) + 1, found[1].strip(), found[2])
        for found in _FENCE.finditer(text)
    )


def spans_of(page: Path) -> list[str]:
    """What stands in code spans of a page's prose."""
    return _SPAN.findall(prose_of(page))


def code_in(page: Path) -> Iterator[str]:
    """Each code span of a page, and each line of its shell blocks."""
    yield from spans_of(page)
    for block in blocks_of(page):
        if block.language == "sh":
            yield from block.text.replace("\\\n", " ").splitlines()


def links_of(page: Path) -> list[str]:
    return [markdown or html for markdown, html in _LINK.findall(prose_of(page))]


def anchors_of(page: Path) -> set[str]:
    """The fragments that a page's headings can be linked by, as GitHub makes them."""
    return {
        re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-")
        for heading in _HEADING.findall(prose_of(page))
    }


def rows_of(page: Path, header: str) -> list[list[str]]:
    """The rows of every table of a page whose first column has that header."""
    rows: list[list[str]] = []
    is_it = False
    for line in prose_of(page).splitlines():
        if not line.startswith("|"):
            is_it = False
            continue
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        if is_it and not set(cells[0]) <= set("-: "):
            rows.append(cells)
        is_it = is_it or cells[0] == header
    return rows


def words_of(page: Path, header: str, column: int = 0) -> list[str]:
    """The code spans in a column of such a table."""
    return [word for row in rows_of(page, header) for word in _SPAN.findall(row[column])]
