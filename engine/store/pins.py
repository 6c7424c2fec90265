"""Which cached files this process holds: one open, locked descriptor for each, however many leases share it."""

from __future__ import annotations

import os
import threading
from pathlib import Path

from engine.errors import StoreError
from engine.store.locks import poll, try_lock


class Pin:
    """A cached file that nobody throws away while this is held. ``path`` is verified; ``descriptor`` is open on it."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path = path
        self.descriptor = descriptor
        self.inode = os.fstat(descriptor).st_ino
        self.count = 1

    def read(self, start: int, length: int) -> bytes:
        """Bytes of the file; fewer only where it ends."""
        parts = []
        while length > 0 and (data := os.pread(self.descriptor, length, start)):
            parts.append(data)
            start += len(data)
            length -= len(data)
        return parts[0] if len(parts) == 1 else b"".join(parts)


class Pins:
    """The pins of one process on one cache. ``hold`` and ``release`` may be called from any thread."""

    def __init__(self, wait_s: float) -> None:
        self._wait_s = wait_s
        self._pins: dict[str, Pin] = {}
        self._lock = threading.Lock()

    def hold(self, path: Path) -> Pin | None:
        """A pin on the file of that name, if there is one, whatever is in it. Raises OSError and StoreError."""
        try:
            inode = os.lstat(path).st_ino
        except FileNotFoundError:
            return None
        with self._lock:
            pin = self._pins.get(path.name)
            if pin is not None and pin.inode == inode:
                pin.count += 1
                return pin
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        except FileNotFoundError:
            return None
        try:
            # Only an evictor, or who has just fetched it, keeps others out; both for a moment.
            if not poll(lambda: try_lock(descriptor, shared=True), self._wait_s):
                raise StoreError("another process holds a file of the disk cache and does not move")
            pin = Pin(path, descriptor)
            if is_at(path, pin.inode):
                return self.adopt(pin)
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)
        return None

    def adopt(self, pin: Pin) -> Pin:
        """Take over a pin; the one to use, which is another when there was one on the same file."""
        with self._lock:
            other = self._pins.get(pin.path.name)
            if other is None or other.inode != pin.inode:
                # A pin on an earlier file of that name lives on with those who hold it.
                self._pins[pin.path.name] = pin
                return pin
            other.count += pin.count
        os.close(pin.descriptor)
        return other

    def release(self, pin: Pin) -> None:
        with self._lock:
            pin.count -= 1
            if pin.count:
                return
            if self._pins.get(pin.path.name) is pin:
                del self._pins[pin.path.name]
        os.close(pin.descriptor)


def is_at(path: Path, inode: int) -> bool:
    try:
        return os.lstat(path).st_ino == inode
    except FileNotFoundError:
        return False
