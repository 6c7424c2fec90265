"""Publishing is for this machine alone: every way of pretending that we know of."""

from __future__ import annotations

import pytest
from starlette.requests import Request

from server.access import require_local
from server.errors import HttpError


def _request(client: tuple[str, int] | None = ("127.0.0.1", 5000), **headers: str) -> Request:
    given = {"host": "localhost:8000", **{name.replace("_", "-"): value for name, value in headers.items()}}
    return Request(
        {
            "type": "http",
            "method": "POST",
            "scheme": "http",
            "path": "/api/datasets/a/versions",
            "query_string": b"",
            "client": client,
            "headers": [(name.encode(), value.encode()) for name, value in given.items()],
        }
    )


@pytest.mark.parametrize(
    "request_",
    [
        _request(),
        _request(("127.9.9.9", 1)),
        _request(("::1", 1), host="[::1]:8000"),
        _request(("::ffff:127.0.0.1", 1)),
        _request(host="127.0.0.1"),
        _request(host="app.localhost:3000"),
        _request(origin="http://localhost:8000", sec_fetch_site="same-origin"),
        _request(sec_fetch_site="none"),
        _request(x_forwarded_for="127.0.0.1, ::1"),
        _request(forwarded='for="[::1]:1234";proto=http, for=127.0.0.1'),
    ],
)
def test_let_through(request_: Request) -> None:
    require_local(request_)


@pytest.mark.parametrize(
    "request_",
    [
        _request(None),
        _request(("10.0.0.1", 1)),
        _request(("testclient", 1)),
        _request(("::ffff:10.0.0.1", 1)),
        _request(host="bytomorrow.app"),
        _request(host="localhost.evil.example"),
        _request(host=""),
        _request(host="[::1"),
        _request(origin="https://evil.example"),
        _request(origin="http://localhost:3000"),
        _request(origin="https://localhost:8000"),
        _request(origin="null"),
        _request(sec_fetch_site="cross-site"),
        _request(sec_fetch_site="same-site"),
        _request(x_forwarded_for="10.0.0.1"),
        _request(x_forwarded_for="127.0.0.1, 10.0.0.1"),
        _request(x_forwarded_for=""),
        _request(x_real_ip="10.0.0.1"),
        _request(forwarded="for=10.0.0.1"),
        _request(forwarded="for=_hidden"),
        _request(forwarded="proto=https"),
    ],
)
def test_refused(request_: Request) -> None:
    with pytest.raises(HttpError) as caught:
        require_local(request_)
    assert caught.value.status == 403
