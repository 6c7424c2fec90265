"""The limit of HTTP: an ASGI application that replies stored bytes and does nothing else, on the same uvicorn as ours.

``python -m benchmarks.bare_server FOLDER --port N`` replies ``FOLDER/<name>.body`` at ``/answers/<name>``, with the
status and the headers in ``<name>.json`` (``systems.py`` writes both), in parts where our server sent parts.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvicorn

PART_BYTES = 1 << 20  # larger ones are no faster; 64 KiB ones are a tenth slower


@dataclass(frozen=True, slots=True)
class Stored:
    """One answer, ready to be sent."""

    start: dict[str, Any]
    parts: tuple[bytes, ...]
    size_bytes: int


class Bare:
    """The application. It holds one long answer at most, and all short ones."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._stored: dict[str, Stored] = {}

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await _lifespan(receive, send)
            return
        path: str = scope["path"]
        stored = self._stored.get(path) or self._load(path)
        await send(stored.start)
        left = stored.size_bytes
        if not stored.parts or len(stored.parts[0]) == left:
            await send({"type": "http.response.body", "body": stored.parts[0] if stored.parts else b""})
            return
        while left > 0:
            for part in stored.parts:
                if len(part) > left:
                    part = part[:left]
                left -= len(part)
                await send({"type": "http.response.body", "body": part, "more_body": True})
                if left <= 0:
                    break
        await send({"type": "http.response.body", "body": b""})

    def _load(self, path: str) -> Stored:
        if path == "/health":
            return Stored({"type": "http.response.start", "status": 200, "headers": []}, (), 0)
        name = path.rpartition("/")[2]
        about = json.loads((self._folder / f"{name}.json").read_text())
        body = (self._folder / f"{name}.body").read_bytes()
        headers = [(key.lower().encode("latin-1"), value.encode("latin-1")) for key, value in about["headers"]]
        size = about["size_bytes"]
        if not about["is_chunked"] and about["status"] == 200:
            headers.append((b"content-length", str(size).encode()))
        whole = not about["is_chunked"] and size == len(body)
        parts = (body,) if whole else tuple(body[at : at + PART_BYTES] for at in range(0, len(body), PART_BYTES))
        stored = Stored({"type": "http.response.start", "status": about["status"], "headers": headers}, parts, size)
        for other in [key for key, one in self._stored.items() if one.size_bytes > PART_BYTES]:
            del self._stored[other]
        self._stored[path] = stored
        return stored


async def _lifespan(receive: Any, send: Any) -> None:
    while (await receive())["type"] == "lifespan.startup":
        await send({"type": "lifespan.startup.complete"})
    await send({"type": "lifespan.shutdown.complete"})


def main() -> None:
    """Serve until the process is ended."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bare_server", description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--port", type=int, required=True)
    arguments = parser.parse_args()
    # As our own `serve` has it: what is installed of uvloop and httptools, no access log, no Server header.
    uvicorn.run(
        Bare(arguments.folder),
        host="127.0.0.1",
        port=arguments.port,
        log_config=None,
        access_log=False,
        server_header=False,
    )


if __name__ == "__main__":
    main()
