"""``bt serve`` and ``bt openapi``: the process around the application. What it answers is not decided here."""

from __future__ import annotations

import contextlib
import errno
import logging
import signal
import socket
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from server.commands.session import Session, check_store
from server.commands.terminal import CommandError, one_line, print_json, say, warn
from server.memory import hold_little_memory

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from server.settings import Settings

GRACE_S = 10  # for answers that are under way when the process is told to stop


@click.command()
@click.option("--host", metavar="HOST", help="Where to listen, in place of BT_HOST.  [default: 127.0.0.1]")
@click.option("--port", metavar="PORT", help="Where to listen, in place of BT_PORT and PORT; 0 takes a free one.")
@click.option("--no-ingest", is_flag=True, help="Do not look for dropped files.")
@click.option("--access-log", is_flag=True, help="A line for each request.")
@click.pass_obj
def serve(session: Session, host: str | None, port: str | None, no_ingest: bool, access_log: bool) -> None:
    """Serve the store over HTTP until Ctrl-C or SIGTERM."""
    hold_little_memory()
    given = {"BT_HOST": host, "BT_PORT": port, "BT_INGEST": "off" if no_ingest else None}
    settings = session.settings({name: value for name, value in given.items() if value is not None})
    with contextlib.closing(_listen(settings)) as listener:
        _log_to_stderr()
        _look_at_store(settings)
        _run(settings, listener, access_log)


@click.command()
def openapi() -> None:
    """Print the OpenAPI document of the HTTP interface."""
    from server.app import create_app
    from server.settings import Settings

    with tempfile.TemporaryDirectory(prefix="bytomorrow-openapi-") as folder:
        print_json(create_app(Settings(store=Path(folder), ingest=False)).openapi())


def _look_at_store(settings: Settings) -> None:
    """Say what is wrong with the store before anybody relies on it; a bucket that cannot be opened stops the start."""
    from engine.store.home import open_store

    if isinstance(settings.store, Path):
        if not settings.store.exists():
            warn(f"the store {settings.store} does not exist yet; the first publish makes it")
        return
    with contextlib.closing(open_store(settings.engine_config())) as store:
        check_store(settings, store)
        if store.read_only:
            warn(
                f"{settings.store} may only be read with these credentials: it is served, and nothing can be published"
            )


def _listen(settings: Settings) -> socket.socket:
    """A listening socket, made before anything slow begins, so that a port in use is said at once."""
    try:
        family, _, protocol, _, address = socket.getaddrinfo(
            settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except (socket.gaierror, UnicodeError):
        raise CommandError(f"BT_HOST is {settings.host!r}, which is no host that is known here") from None
    # With the protocol said: only then asyncio turns on TCP_NODELAY, without which a small answer waits 40 ms.
    listener = socket.socket(family, socket.SOCK_STREAM, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(socket.SOMAXCONN)
    except OSError as error:
        listener.close()
        raise CommandError(_why_not(error, settings)) from None
    return listener


def _why_not(error: OSError, settings: Settings) -> str:
    if error.errno == errno.EADDRINUSE:
        other = settings.port + 1 if settings.port < 65_535 else 8000
        return (
            f"port {settings.port} of {settings.host} is in use, by another bt serve maybe; "
            f"bt serve --port {other} takes another one, and --port 0 any that is free"
        )
    if error.errno == errno.EACCES:
        return f"port {settings.port} may not be used by this user; ports from 1024 on may"
    if error.errno == errno.EADDRNOTAVAIL:
        return f"BT_HOST is {settings.host!r}, which is no address of this machine"
    return f"{settings.host} port {settings.port} cannot be listened on: {error.strerror}"


def _run(settings: Settings, listener: socket.socket, access_log: bool) -> None:
    import uvicorn

    from server.app import create_app

    class Server(uvicorn.Server):
        """Says where it is once it answers, and not before."""

        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets=sockets)
            if self.started:
                say(f"serving {settings.store} on {_url(listener)} (Ctrl-C stops)")

    application = _Watched(create_app(settings))
    config = uvicorn.Config(
        application,
        log_config=None,
        access_log=access_log,
        server_header=False,
        timeout_graceful_shutdown=GRACE_S,
    )
    # uvicorn ends in order at SIGTERM, and then raises the signal once more for whoever listened before: nobody should,
    # or a stop that was asked for would look like a crash.
    signal.signal(signal.SIGTERM, lambda *_: None)
    try:
        Server(config).run(sockets=[listener])
    except SystemExit:
        raise application.failure or CommandError("the server could not start") from None
    say("stopped")


class _Watched:
    """The application, keeping hold of the error that it could not start for: all others print its traceback."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self.failure: Exception | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan":
            await self._app(scope, receive, send)
            return

        async def quietly(message: Message) -> None:
            await send({**message, "message": ""} if message["type"] == "lifespan.startup.failed" else message)

        try:
            await self._app(scope, receive, quietly)
        except Exception as error:
            self.failure = error
            raise


def _url(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    shown = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)
    return f"http://{shown}:{port}"


class _Lines(logging.Formatter):
    """Log records as the command line writes: one line each, and no traceback."""

    def format(self, record: logging.LogRecord) -> str:
        level = {"WARNING": "warning: ", "ERROR": "error: ", "CRITICAL": "error: "}.get(record.levelname, "")
        text = one_line(record.getMessage().strip())
        if record.exc_info and record.exc_info[1] is not None:
            cause = record.exc_info[1]
            text += f" ({type(cause).__name__}: {one_line(str(cause))})"
        return f"bt: {level}{text}"


def _log_to_stderr() -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Lines())
    handler.addFilter(lambda record: record.getMessage() != "Application startup failed. Exiting.")  # why comes next
    quiet: dict[str, Any] = {"uvicorn": logging.WARNING, "asyncio": logging.WARNING}
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    for name, level in quiet.items():
        logging.getLogger(name).setLevel(level)
    logging.getLogger("uvicorn.access").setLevel(logging.INFO)
