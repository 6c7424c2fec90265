"""``bt watch`` and ``bt refresh``: taking in dropped files, again and again or once, without serving."""

from __future__ import annotations

import json
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING, Any

import click

from server.commands.failures import ExitCode
from server.commands.session import Session
from server.commands.terminal import CommandError, one_line, print_json, say, warn
from server.commands.versions import as_json

if TYPE_CHECKING:
    from engine import Engine
    from engine.store import IngestEvent


@click.command()
@click.argument("name", required=False)
@as_json
@click.pass_obj
def refresh(session: Session, name: str | None, json_out: bool) -> None:
    """Take in dropped files now, of dataset NAME or of all.

    Waits for a file that was written just now to hold still. Exits with 4 when a file was rejected.
    """
    from server.drops import wait_for_drops

    with session.engine() as engine:
        if name is not None:
            engine.state(name)
        events = wait_for_drops(engine, name, lambda: say("waiting for a file written just now to hold still"))
    if json_out:
        print_json([_describe_event(event) for event in events])
    else:
        for event in events:
            click.echo(one_line(_event_line(event)))
        if not events:
            say("nothing new was dropped")
    _judge(events)


@click.command()
@click.option("--once", is_flag=True, help="Look once, and exit as bt refresh does.")
@click.option(
    "--interval",
    type=click.FloatRange(min=0, min_open=True),
    metavar="SECONDS",
    help="How long to wait between two looks, in place of BT_POLL_INTERVAL.",
)
@click.option("--json", "json_out", is_flag=True, help="Print each event as a line of JSON.")
@click.pass_obj
def watch(session: Session, once: bool, interval: float | None, json_out: bool) -> None:
    """Take in dropped files until Ctrl-C or SIGTERM, and serve nothing.

    Prints a line for each file that was taken in, rejected or could not be taken yet. Any number of these, and of
    bt serve, may look at one store.
    """
    settings = session.settings()
    pause_s = settings.poll_interval_s if interval is None else interval
    with session.engine(settings) as engine, _until_stopped() as stop:
        if engine.store.read_only:
            raise CommandError("the store is read-only: dropped files cannot be taken in")
        if once:
            events = engine.poll()
            _print(events, json_out)
            _judge(events)
            return
        say(f"looking for dropped files every {pause_s:g} seconds (Ctrl-C stops)")
        _watch(engine, stop, pause_s, lambda events: _print(events, json_out))
        say("stopped")


def _watch(engine: Engine, stop: threading.Event, pause_s: float, show: Callable[[list[IngestEvent]], None]) -> None:
    """Look until told to stop. What fails again in the same way is told once."""
    from engine.errors import EngineError

    failures: set[IngestEvent] = set()
    away = ""
    while not stop.is_set():
        try:
            events = engine.poll()
        except EngineError as error:  # the store cannot be listed; it may come back
            if error.detail != away:
                warn(f"{error.detail}; it will be tried again")
            away = error.detail
        else:
            away = ""
            show([event for event in events if event not in failures])
            failures = {event for event in events if event.kind == "failed"}
        stop.wait(pause_s)


@contextmanager
def _until_stopped() -> Iterator[threading.Event]:
    """An event that Ctrl-C and SIGTERM set, so that what is under way comes to its end; a second one stops it."""
    stop = threading.Event()
    before: dict[int, Any] = {}

    def handle(number: int, frame: FrameType | None) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()

    if threading.current_thread() is threading.main_thread():
        before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _print(events: list[IngestEvent], json_out: bool) -> None:
    for event in events:
        if json_out:
            click.echo(json.dumps(_describe_event(event), ensure_ascii=False))
        else:
            click.echo(one_line(_event_line(event)))


def _judge(events: list[IngestEvent]) -> None:
    """Raises CommandError when something failed or was rejected."""
    kinds = {event.kind for event in events}
    if "failed" in kinds:
        raise CommandError("not every dropped file could be taken in now; it will be tried again")
    if "rejected" in kinds:
        raise CommandError("a dropped file was rejected", ExitCode.REFUSED)


def _describe_event(event: IngestEvent) -> dict[str, Any]:
    version = event.version.name if event.version else None
    return {
        "dataset": event.dataset,
        "kind": event.kind,
        "key": event.key,
        "version": version,
        "reason": event.reason or None,
    }


def _event_line(event: IngestEvent) -> str:
    version = f" {event.version.name}" if event.version else ""
    words = {
        "published": f"published{version}",
        "unchanged": f"holds what{version} holds already",
        "definition": f"applied as{version}",
    }
    reason = f": {event.reason}" if event.reason else ""
    return f"{event.key}: {words.get(event.kind, event.kind)}{reason}"
