"""A page that lists the interface, made from the OpenAPI document. Loads nothing from another host, and no script."""

from __future__ import annotations

from html import escape
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import HTMLResponse

from server.errors import HTTP_CODES, TABLE

router = APIRouter()

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 60rem; padding: 0 1rem; color: #1a1a1a;
  background: #fff }
code, th { font-family: ui-monospace, monospace; font-size: 0.9em }
h2 { border-top: 1px solid #ccc; padding-top: 1rem }
h3 { margin-bottom: 0 }
table { border-collapse: collapse; width: 100% }
td, th { text-align: left; vertical-align: top; padding: 0.15rem 1rem 0.15rem 0; font-weight: normal }
summary { cursor: pointer }
a { color: #0b57d0 }
@media (prefers-color-scheme: dark) { body { color: #eee; background: #161616 } a { color: #8ab4f8 } }
"""


@router.get("/docs", include_in_schema=False)
def docs(request: Request) -> HTMLResponse:
    """The interface as a page."""
    document = request.app.openapi()
    parts = [
        _operation(method, path, found) for path, item in document["paths"].items() for method, found in item.items()
    ]
    page = (
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>"
        f"<title>By Tomorrow: HTTP interface</title><style>{_STYLE}</style>"
        f"<h1>{escape(document['info']['title'])}</h1><p>{escape(document['info']['description'])}</p>"
        "<p>For programs: <a href='/api/openapi.json'>openapi.json</a>. "
        "Data to begin with: <a href='/api/datasets'>the datasets</a>.</p>"
        f"<h2>Paths</h2>{''.join(parts)}<h2>Problems</h2>"
        "<p>Whatever goes wrong is told in a problem document (RFC 9457); its <code>code</code> is one of these.</p>"
        f"<table>{''.join(_problem_rows())}</table></html>"
    )
    policy = "default-src 'none'; style-src 'unsafe-inline'"
    return HTMLResponse(page, headers={"Cache-Control": "no-cache", "Content-Security-Policy": policy})


def _operation(method: str, path: str, found: dict[str, Any]) -> str:
    rows = "".join(
        f"<tr><th>{escape(item['name'])}<td>{escape(item.get('description', ''))}"
        for item in found.get("parameters", [])
        if item["in"] == "query"
    )
    listed = f"<details><summary>Parameters</summary><table>{rows}</table></details>" if rows else ""
    about = escape(found.get("description", found.get("summary", "")))
    return f"<h3><code>{method.upper()} {escape(path)}</code></h3><p>{about}</p>{listed}"


def _problem_rows() -> list[str]:
    rows = [(getattr(kind, "code", None), answered.status, answered.title) for kind, answered in TABLE.items()]
    listed = [(code, str(status), title) for code, status, title in rows if code]
    listed += [(code, "", title) for code, title in HTTP_CODES.items()]
    return [
        f"<tr id='problem-{escape(code)}'><th>{escape(code)}<td>{status}<td>{escape(title)}"
        for code, status, title in listed
    ]
