"""Every example in docs/ runs, in order, and answers as the text beside it says."""

from __future__ import annotations

import re
from pathlib import Path

import httpx
import pytest
from starlette.testclient import TestClient

from engine import Engine
from engine.definition import parse_definition
from queries.errors import QueryError
from server.errors import TABLE
from tests.docs.conftest import Opener
from tests.docs.markdown import DOCUMENTS, ROOT, Block, Example, read_blocks, read_examples


def blocks_of(path: Path, *languages: str) -> list[Block]:
    return [block for block in read_blocks(path.read_text(encoding="utf-8")) if block.language in languages]


def documents_with(*languages: str) -> list[object]:
    return [pytest.param(path, id=path.stem) for path in DOCUMENTS if blocks_of(path, *languages)]


def run(block: Block, path: Path, names: dict[str, object]) -> None:
    """Run a Python block; its errors point to lines of the document."""
    exec(compile("\n" * (block.line - 1) + block.text, str(path), "exec"), names)


@pytest.mark.parametrize("path", documents_with("python"))
def test_python(path: Path, at_home: Path) -> None:
    """The Python blocks of a document share their names, as cells of a notebook do; named blocks are files."""
    names: dict[str, object] = {}
    engines: dict[int, Engine] = {}
    try:
        for block in read_blocks(path.read_text(encoding="utf-8")):
            if block.name:
                file = at_home / block.name
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text(block.text, encoding="utf-8")
            elif block.language == "python":
                run(block, path, names)
                engines |= {id(value): value for value in names.values() if isinstance(value, Engine)}
    finally:
        for engine in engines.values():
            engine.close()


def ask(client: TestClient, example: Example) -> httpx.Response:
    headers = {"content-type": "application/json"} if example.body.startswith("{") else {}
    return client.request(example.method, example.url, content=example.body.encode() or None, headers=headers)


@pytest.mark.parametrize("path", documents_with("http"))
def test_requests(path: Path, own_store: Path, open_client: Opener) -> None:
    """A request answers 200, or the status and the problem's code that stand behind it; a query finds something."""
    wrong = []
    with open_client(own_store) as client:
        for block in blocks_of(path, "http"):
            for example in read_examples(block):
                answer = ask(client, example)
                kind = answer.headers.get("content-type", "")
                content = answer.json() if kind.endswith("json") and example.method != "HEAD" else {}
                found = (answer.status_code, content.get("code") if answer.status_code >= 400 else None)
                if found != (example.status, example.code):
                    wrong.append(f"{example.method} {example.url}\n  {found}: {answer.text[:300]}")
                elif "meta" in content and content["meta"]["total"] == 0:  # it would show nothing
                    wrong.append(f"{example.method} {example.url}\n  finds no rows")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("path", documents_with("toml"))
def test_definitions(path: Path) -> None:
    for block in blocks_of(path, "toml"):
        assert parse_definition(block.text).problems == ()


def test_every_language_is_known() -> None:
    """A block in a language that nothing checks has one of the names for text, so that none is skipped by a slip."""
    checked = {"python", "http", "toml", "csv"}
    only_shown = {"", "sh", "json", "text"}
    for path in DOCUMENTS:
        for block in read_blocks(path.read_text(encoding="utf-8")):
            known = checked | only_shown
            assert block.language in known, f"{path.relative_to(ROOT)}, line {block.line}: {block.language}"


def test_every_problem_is_listed() -> None:
    """docs/http.md names the code of each error that the server can answer with."""
    listed = (ROOT / "docs" / "http.md").read_text(encoding="utf-8").partition("## Errors")[2]
    codes = {str(kind.code) for kind in TABLE if hasattr(kind, "code")} - {QueryError.code}  # never raised itself
    for path in (ROOT / "server").rglob("*.py"):
        codes |= set(re.findall(r'(?:HttpError|problem)\(\s*(?:request,\s*)?\d{3},\s*"(\w+)"', path.read_text("utf-8")))
    assert "precondition_failed" in codes
    assert {code for code in codes if f"`{code}`" not in listed} == set()
