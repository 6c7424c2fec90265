"""Takes our own Markdown apart: fenced blocks, requests, links and anchors. Knows the little of it that we write."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))

_FENCE = re.compile(r"```(\w*) ?(.*)")
_REQUEST = re.compile(r"(DELETE|GET|HEAD|POST|PUT) (/\S*)(?:  # (\d{3})(?: (\w+))?)?")
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block; ``name`` is what stands behind the language, and ``line`` where its text begins."""

    language: str
    name: str
    text: str
    line: int


@dataclass(frozen=True, slots=True)
class Example:
    """A request of a ``http`` block, and what is said about its answer."""

    method: str
    url: str
    body: str
    status: int
    code: str | None


def read_blocks(text: str) -> list[Block]:
    """The fenced blocks of a document, in order."""
    found: list[Block] = []
    lines: list[str] | None = None
    opened = ("", "", 0)
    for number, line in enumerate(text.splitlines(), 1):
        fence = _FENCE.fullmatch(line)
        if fence and lines is None:
            opened, lines = (fence[1], fence[2], number + 1), []
        elif fence and lines is not None:
            found.append(Block(opened[0], opened[1], "\n".join(lines) + "\n", opened[2]))
            lines = None
        elif lines is not None:
            lines.append(line)
    assert lines is None, f"the block that begins in line {opened[2]} does not end"
    return found


def read_examples(block: Block) -> Iterator[Example]:
    """The requests of a block; lines that are no request belong to the body of the one before, up to an empty line."""
    for part in re.split(rf"^(?={_REQUEST.pattern}$)", block.text, flags=re.MULTILINE)[:: _REQUEST.groups + 1]:
        if not part.strip():
            continue
        first, _, body = part.partition("\n")
        request = _REQUEST.fullmatch(first)
        assert request, f"{first!r} is no request"
        method, url, status, code = request.groups()
        yield Example(method, url, body.rstrip("\n") + "\n" if body.strip() else "", int(status or 200), code)


def without_code(text: str) -> str:
    """The document without its fenced blocks and code spans."""
    text = re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)
    return re.sub(r"`[^`]*`", "", text)


def read_links(text: str) -> list[str]:
    """The targets of all links."""
    return _LINK.findall(without_code(text))


def anchors(text: str) -> set[str]:
    """The anchors that GitHub gives to the headings of a document."""
    found: set[str] = set()
    inside = re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)
    for heading in re.findall(r"^#+ (.*)$", inside, flags=re.MULTILINE):
        name = re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        number = 0
        while (anchor := name if not number else f"{name}-{number}") in found:
            number += 1
        found.add(anchor)
    return found
