"""``bt doctor``: looks at everything that can be wrong with settings and store, and says what to do about it.

It changes nothing that stays. What it finds wrong in one dataset does not keep it from looking at the others.
"""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from server.commands.checks import Finding, examine_dataset, find_misnamed, guarded
from server.commands.failures import ExitCode, explain
from server.commands.session import Session, check_store
from server.commands.terminal import amount, count, one_line, print_json

if TYPE_CHECKING:
    from engine import Engine
    from server.settings import Settings

LITTLE_BYTES = 1 << 30  # below this much free space a publish may fail
TOO_LITTLE_BYTES = 50 << 20  # below this much, a spilling query will


@click.command()
@click.option("--quick", is_flag=True, help="Compare sizes, and hash only what is latest.")
@click.option("--json", "json_out", is_flag=True, help="Print JSON.")
@click.pass_context
def doctor(ctx: click.Context, quick: bool, json_out: bool) -> None:
    """Check the settings, the store and every version.

    Exits with 1 when there is a problem, and with 0 when there are warnings at most.
    """
    findings = []
    for finding in examine(ctx.obj, quick=quick):
        findings.append(finding)
        if not json_out:
            _print(finding)
    problems = sum(finding.level == "problem" for finding in findings)
    warnings = sum(finding.level == "warning" for finding in findings)
    if json_out:
        print_json({"ok": not problems, "findings": [asdict(finding) for finding in findings]})
    else:
        click.echo(f"{count(problems, 'problem')}, {count(warnings, 'warning')}")
    ctx.exit(ExitCode.FAILURE if problems else ExitCode.OK)


def examine(session: Session, *, quick: bool = False) -> Iterator[Finding]:
    """Look at everything, in order."""
    from engine.settings import SettingsError, load_settings, settings_warnings
    from server.settings import Settings

    try:
        settings = load_settings(Settings, options={"BT_STORE": session.store} if session.store else {})
        unknown = settings_warnings(Settings)
    except SettingsError as error:
        yield Finding("problem", "settings", str(error), "correct it; docs/settings.md lists every setting")
        return
    for line in unknown:
        yield Finding("warning", "settings", line, "remove or correct it")
    if not unknown:
        yield Finding("ok", "settings", "every setting can be used")
    yield from _space(settings)
    unreachable = _unreachable(settings)
    if unreachable is not None:
        yield unreachable
        return
    try:
        with session.engine(settings) as engine:
            yield from _store(engine, settings)
            for name in engine.dataset_names():
                yield from guarded(name, examine_dataset(engine, name, quick))
            yield from guarded("store", find_misnamed(engine))
            yield from _definitions(settings, engine)
    except Exception as error:
        yield Finding("problem", "engine", explain(error)[0])


def _print(finding: Finding) -> None:
    click.echo(one_line(f"{finding.level:<8}{finding.where}: {finding.what}"))
    if finding.advice:
        click.echo(f"{'':<8}→ {one_line(finding.advice)}")


def _space(settings: Settings) -> Iterator[Finding]:
    is_remote = not isinstance(settings.store, Path)
    cache = settings.engine_config().local_dir if is_remote else settings.cache_dir
    for what, folder in (("store", settings.store), ("cache", cache)):
        if not isinstance(folder, Path):
            continue
        existing = next((place for place in (folder, *folder.parents) if place.exists()), None)
        if existing is None:
            continue
        free = shutil.disk_usage(existing).free
        if free < TOO_LITTLE_BYTES:
            yield Finding("problem", what, f"{amount(free)} are free on its disk", "make room")
        elif free < LITTLE_BYTES:
            yield Finding("warning", what, f"{amount(free)} are free on its disk", "make room soon")
        else:
            yield Finding("ok", what, f"{amount(free)} are free on its disk")
    if cache is not None and cache.exists() and not os.access(cache, os.W_OK):
        yield Finding("problem", "cache", "BT_CACHE_DIR cannot be written", "make it writable, or name another folder")


def _unreachable(settings: Settings) -> Finding | None:
    """What keeps a bucket from being opened; None when nothing does, and for a folder."""
    from engine.store.home import open_store

    if isinstance(settings.store, Path):
        return None
    try:
        with closing(open_store(settings.engine_config())) as store:
            check_store(settings, store)
    except Exception as error:
        advice = "correct what it names; nothing can be served or published until then"
        return Finding("problem", "store", explain(error)[0], advice)
    return None


def _store(engine: Engine, settings: Settings) -> Iterator[Finding]:
    if isinstance(settings.store, Path) and not settings.store.exists():
        yield Finding(
            "warning",
            "store",
            f"{settings.store} does not exist yet",
            "bt demo or bt publish makes it; was another folder meant in BT_STORE?",
        )
        return
    names = engine.dataset_names()
    yield Finding("ok", "store", f"{settings.store} holds {count(len(names), 'dataset')}")
    engine.ready()
    if engine.store.read_only:
        why = _why_read_only(engine)
        yield Finding("warning", "store", f"it is read-only{why}: it is served, and nothing can be published")
    elif engine.store.is_remote:
        yield _writing_remotely(engine)
    elif names:
        yield _writing(engine, names[0])
    if settings.dataset not in names:
        yield Finding(
            "warning",
            "settings",
            f"BT_DATASET is {settings.dataset!r}, and there is no such dataset; /api/visualize shows it by default",
            "bt demo makes the default one; or name one of yours",
        )


def _why_read_only(engine: Engine) -> str:
    if not engine.store.is_remote:
        return ""
    anonymous = getattr(engine.store, "is_anonymous", False)
    return ", since there are no credentials" if anonymous else ", since these credentials may not write to it"


def _writing_remotely(engine: Engine) -> Finding:
    from engine.errors import EngineError

    try:
        engine.store.check_writing()
    except EngineError as error:
        return Finding("problem", "store", f"it cannot be written: {error.detail}", "publishing needs just this")
    return Finding("ok", "store", "it can be written, and what is written once cannot be replaced")


def _writing(engine: Engine, dataset: str) -> Finding:
    """Whether the disk does what publishing needs, tried where publishing itself tries things out."""
    from engine.errors import EngineError

    try:
        folder = engine.store.staging(dataset)
        first = folder / f"{secrets.token_hex(8)}.doctor"
        second = first.with_suffix(".linked")
        try:
            first.write_bytes(b"bt doctor\n")
            os.link(first, second)
        finally:
            for path in (first, second):
                with suppress(OSError):
                    path.unlink(missing_ok=True)
    except (OSError, EngineError) as error:
        advice = "publishing needs a disk with free space and hard links, and a user who may write"
        return Finding("problem", "store", f"it cannot be written: {explain(error)[0]}", advice)
    return Finding("ok", "store", "it can be written")


def _definitions(settings: Settings, engine: Engine) -> Iterator[Finding]:
    """Every dataset.toml there is, with a dataset or without one yet."""
    from engine.definition import parse_definition
    from engine.errors import DefinitionError
    from engine.store import definition_text
    from engine.store.definitions import check_toml
    from engine.store.keys import is_dataset_name

    beside = settings.definitions if settings.definitions and settings.definitions.is_dir() else None
    folders = [path.parent.name for path in beside.glob("*/dataset.toml")] if beside else []
    good = 0
    for name in sorted({*engine.dataset_names(), *filter(is_dataset_name, folders)}):
        try:
            text = definition_text(settings.definitions, engine.store, name)
            check_toml(name, text)
        except DefinitionError as error:
            yield Finding("problem", name, error.detail, "correct it; until then the one before stays in force")
            continue
        problems = parse_definition(text).problems
        for problem in problems:
            yield Finding(
                "warning", name, f"its dataset.toml: {problem}", "correct it; until then that part is left out"
            )
        good += text is not None and not problems
    yield Finding("ok", "definitions", f"{count(good, 'definition')} can be used")
