"""The server's settings: the engine's, and those of HTTP. Built once, and handed to ``create_app``."""

from __future__ import annotations

import re
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field

from engine.settings import Bytes, EngineSettings, Variable

_HOST = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]*|[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*(%[A-Za-z0-9._-]+)?")
_ORIGINS = "a comma-separated list of origins like https://bytomorrow.app, or * for any, or none"


def _split(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    if value.strip().lower() == "none":
        return ()
    return tuple(part for part in (piece.strip() for piece in value.split(",")) if part)


def _origins(origins: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(_origin(text) for text in origins))


def _origin(text: str) -> str:
    """As a browser spells it, for it is compared as text."""
    if text == "*":
        return text
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.path not in ("", "/"):
        raise ValueError("not an origin")
    if parts.query or parts.fragment or "@" in parts.netloc or "*" in parts.netloc:
        raise ValueError("not an origin")
    if parts.port is not None and parts.port == {"http": 80, "https": 443}[parts.scheme]:
        return f"{parts.scheme}://{parts.netloc.lower().rpartition(':')[0]}"
    return f"{parts.scheme}://{parts.netloc.lower()}"


def _on_or_off(value: Any) -> Any:
    words = {"on": True, "true": True, "yes": True, "1": True, "off": False, "false": False, "no": False, "0": False}
    return words.get(value.lower(), value) if isinstance(value, str) else value


class Settings(EngineSettings):
    """Settings of a server. Called directly, it takes what it is given and reads nothing.

    Attributes
    ----------
    host, port
        Where it listens.
    cors_origins
        The web pages that may ask from a browser, as origins; ``*`` among them for all.
    dataset
        What ``/api/visualize`` shows when a request names no dataset.
    max_body_bytes
        A longer JSON body is refused.
    max_upload_bytes
        A longer file to publish is refused.
    ingest
        Whether dropped files are looked for.
    """

    host: Annotated[
        str,
        Field(pattern=f"^(?:{_HOST.pattern})$"),
        Variable("BT_HOST", "a host name or an address of this machine, like 127.0.0.1 or 0.0.0.0"),
    ] = "127.0.0.1"
    port: Annotated[
        int, Field(ge=0, le=65_535), Variable("BT_PORT", "a port from 0 to 65535, like 8000", also=("PORT",))
    ] = 8000
    cors_origins: Annotated[
        tuple[str, ...], BeforeValidator(_split), AfterValidator(_origins), Variable("BT_CORS_ORIGINS", _ORIGINS)
    ] = ("https://bytomorrow.app",)
    dataset: Annotated[
        str,
        Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$"),
        Variable("BT_DATASET", "the name of a dataset, like datadecide"),
    ] = "datadecide"
    max_body_bytes: Annotated[
        Bytes, Field(ge=1_000, le=100_000_000), Variable("BT_MAX_BODY", "an amount from 1KB to 100MB, like 1MB")
    ] = 1_000_000
    max_upload_bytes: Annotated[Bytes, Field(ge=1), Variable("BT_MAX_UPLOAD", "an amount of bytes, like 2GB")] = (
        2_000_000_000
    )
    ingest: Annotated[bool, BeforeValidator(_on_or_off), Variable("BT_INGEST", "on or off")] = True
