"""Who may publish: until there are keys, only programs and pages of this very machine. Guards no reading.

The server's own pages may; any other web page in a browser on this machine may not, though its requests come from here
too.
"""

from __future__ import annotations

import ipaddress
import re
from urllib.parse import urlsplit

from starlette.requests import Request

from server.errors import HttpError

_FORWARDED = ("forwarded", "x-forwarded-for", "x-real-ip")
_FOR = re.compile(r'for\s*=\s*"?([^;,"]+)"?', re.IGNORECASE)


def require_local(request: Request) -> None:
    """Let a request pass that a program on this machine sent.

    Raises
    ------
    HttpError
        403 for any other: from another address, through a proxy for another address, to another host name (as when a
        page rebinds its name to 127.0.0.1), or sent by a web page of another origin.
    """
    if request.client is None or not _is_loopback(request.client.host):
        raise _forbidden("only from the machine that the server runs on")
    for name in _FORWARDED:
        for header in request.headers.getlist(name):
            if not all(map(_is_loopback, _addresses(name, header))):
                raise _forbidden("only from the machine that the server runs on, and not through a proxy")
    host = request.headers.get("host", "")
    if not _is_local_name(host):
        raise _forbidden("only under the name localhost or a loopback address")
    if request.headers.get("sec-fetch-site", "none").lower() not in ("same-origin", "none"):
        raise _forbidden("not by a web page of another site")
    origin = request.headers.get("origin")
    if origin is not None and origin.lower() != f"{request.url.scheme}://{host}".lower():
        raise _forbidden("not by a web page of another origin")


def _forbidden(rule: str) -> HttpError:
    return HttpError(403, "forbidden", f"until there are keys, one can publish {rule}")


def _addresses(name: str, header: str) -> list[str]:
    return _FOR.findall(header) or ["unknown"] if name == "forwarded" else header.split(",")


def _is_loopback(text: str) -> bool:
    text = text.strip().strip('"')
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return bool((mapped or address).is_loopback)


def _is_local_name(host: str) -> bool:
    try:
        name = urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return False
    return name == "localhost" or name.endswith(".localhost") or _is_loopback(name)
