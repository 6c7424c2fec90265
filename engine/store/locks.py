"""Locks between processes that a dead process cannot keep: ``flock``, by polling and with a bound.

A lock belongs to the open file, so it is given back by closing the descriptor and by nothing else: an explicit unlock
in a forked child would release its parent's.
"""

from __future__ import annotations

import errno
import fcntl
import time
from collections.abc import Callable

FIRST_PAUSE_S = 0.001
LAST_PAUSE_S = 0.05


def try_lock(descriptor: int, *, shared: bool = False) -> bool:
    """Take the lock now, or say False. Raises OSError when the file system knows no locks."""
    try:
        fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
            return False
        raise
    return True


def poll(attempt: Callable[[], bool], wait_s: float, progress: Callable[[], object] = lambda: None) -> bool:
    """Try until it works; False when nothing moved for ``wait_s``. What ``progress`` returns changes when it moves."""
    pause_s = FIRST_PAUSE_S
    seen = progress()
    deadline = time.monotonic() + wait_s
    while not attempt():
        now = progress()
        if now != seen:
            seen = now
            deadline = time.monotonic() + wait_s
        if time.monotonic() >= deadline:
            return False
        time.sleep(pause_s)
        pause_s = min(2 * pause_s, LAST_PAUSE_S)
    return True
