"""A version as one file again, its rows in the order in which they were given."""

from __future__ import annotations

import itertools
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path

from engine.errors import CorruptVersionError, StoreError
from engine.store.blobs import Blobs
from engine.store.protocol import Progress
from engine.store.records import FileEntry
from engine.store.rewrite import FileWriter, UnkeptError, translated, write_rows
from engine.store.rows import Limits, Source, frugal_memory, open_parquet
from engine.store.shuffle import shuffled
from engine.store.state import Version


def write_original(blobs: Blobs, version: Version, into: Path, progress: Progress | None = None) -> None:
    """Write the rows of ``version`` into the parquet file ``into``, which appears whole or not at all.

    Where one file holds them in that order already, it is a copy of it: the very bytes that were published, if those
    were parquet. Memory stays bounded; ``into``'s folder needs room for the rows three times.

    Raises
    ------
    CorruptVersionError, StoreError
    """
    try:
        with tempfile.TemporaryDirectory(prefix=".bytomorrow-", dir=into.parent) as folder:
            numbers = itertools.count()
            made = Path(folder, "original.parquet")
            if version.order is None and len(version.files) == 1:
                with _local(blobs, version.files[0]) as path:
                    shutil.copyfile(path, made)
            else:
                files: list[Callable[[], AbstractContextManager[Path]]] = [
                    partial(_local, blobs, entry) for entry in version.files
                ]
                ordered = nullcontext(None) if version.order is None else _local(blobs, version.order)
                with ordered as order:
                    restore_order(files, order, made, lambda: Path(folder, f"{next(numbers)}.part"), progress)
            made.replace(into)
    except OSError as error:
        raise StoreError(f"{into.name} cannot be written: {error.strerror or 'the disk failed'}") from error


def restore_order(
    files: Sequence[Callable[[], AbstractContextManager[Path]]],
    order: Path | None,
    into: Path,
    new_file: Callable[[], Path],
    progress: Progress | None = None,
    *,
    limits: Limits | None = None,
) -> int:
    """Write the rows of a version into one parquet file, in the order of the input.

    Parameters
    ----------
    files, order
        The files of the version, in order, each as what gives its path for as long as it is entered; ``order`` None
        means that they are in the order of the input.

    Returns
    -------
    int
        How many rows there are.
    """
    limits = replace(limits or Limits(), file_bytes=1 << 62)
    try:
        with translated(), frugal_memory():
            source = Source(files)
            rows = source.batches()
            if order is not None:
                places = new_file()
                total = _write_places(order, places)
                rows = shuffled(source, places, total, new_file(), limits, progress)
            (file,) = write_rows(rows, FileWriter(lambda: into, source.target, limits))
            return file.rows
    except UnkeptError as error:
        raise CorruptVersionError(f"the order of the rows cannot be restored: {error}") from error


def _write_places(order: Path, into: Path) -> int:
    with open_parquet(order) as file, open(into, "wb") as writer:
        for batch in file.iter_batches(use_threads=False):
            batch.column(0).to_numpy().tofile(writer)
        rows: int = file.metadata.num_rows
        return rows


@contextmanager
def _local(blobs: Blobs, entry: FileEntry) -> Iterator[Path]:
    with blobs.open_file(entry) as lease:
        yield Path(lease.sources[0])
