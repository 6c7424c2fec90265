"""A folder of one process's own for what DuckDB spills, which is gone when the process is, however that ended."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path

_PREFIX = "bytomorrow-spill-"
_LOCK = "lock"


class SpillFolder:
    """A new folder below ``parent``, or below the system's folder for temporary files.

    Its lock dies with its process, so that the next one knows which folders nobody needs any more. Two processes must
    not share one: DuckDB names its files alike in both.

    Raises
    ------
    OSError
        There cannot be one.
    """

    def __init__(self, parent: Path | None = None) -> None:
        if parent is not None:
            parent.mkdir(parents=True, exist_ok=True)
        self.path = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=parent))
        made = self.path / f"{_LOCK}.new"
        self._lock: int | None = os.open(made, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        made.rename(self.path / _LOCK)  # so that nobody ever sees it without its owner's lock
        _remove_abandoned(self.path.parent)

    def close(self) -> None:
        """Remove it; does nothing the second time."""
        if self._lock is not None:
            shutil.rmtree(self.path, ignore_errors=True)
            os.close(self._lock)
            self._lock = None


def _remove_abandoned(parent: Path) -> None:
    for folder in parent.glob(f"{_PREFIX}*"):
        with suppress(OSError):  # somebody else's, or just being made: without a lock to take it stays
            descriptor = os.open(folder / _LOCK, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if os.fstat(descriptor).st_uid == os.getuid():
                    shutil.rmtree(folder, ignore_errors=True)
            finally:
                os.close(descriptor)
