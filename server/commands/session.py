"""What the commands share: the settings, and an engine that is opened only when one is needed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from server.commands.terminal import warn

if TYPE_CHECKING:
    from engine import Engine
    from engine.store import Store
    from server.settings import Settings


@dataclass
class Session:
    """One run of ``bt``. ``store`` is the folder named on the command line, if one is."""

    store: str | None = None

    def settings(self, options: dict[str, str] | None = None) -> Settings:
        """The settings, with those of the command line first; raises SettingsError."""
        from engine.settings import load_settings, settings_warnings
        from server.settings import Settings

        given = {**({"BT_STORE": self.store} if self.store else {}), **(options or {})}
        settings = load_settings(Settings, options=given)
        for line in settings_warnings(Settings):
            warn(line)
        return settings

    @contextmanager
    def engine(self, settings: Settings | None = None) -> Iterator[Engine]:
        """An engine over the store, closed afterwards."""
        from engine import Engine

        engine = Engine((settings or self.settings()).engine_config())
        try:
            yield engine
        finally:
            engine.close()


def check_store(settings: Settings, store: Store) -> None:
    """See that the store can be reached; the error names the place, which is for whoever starts a process only."""
    from engine.config import S3Location
    from engine.errors import StoreError

    try:
        store.check()
    except StoreError as error:
        location = settings.engine_config().store
        at = f" at {location.endpoint}" if isinstance(location, S3Location) and location.endpoint else ""
        raise StoreError(f"{location}{at}: {error.detail}") from None
