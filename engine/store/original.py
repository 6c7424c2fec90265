"""A version as one file again, its rows in the order in which they were given."""

from __future__ import annotations

import itertools
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

from engine.errors import CorruptVersionError, StoreError
from engine.store.blobs import Blobs
from engine.store.protocol import Progress
from engine.store.records import FileEntry
from engine.store.rewrite import FileWriter, UnkeptError, translated, write_rows
from engine.store.rows import Limits, Source, frugal_memory, open_parquet, write_array
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
            if version.place is None and len(version.files) == 1:
                with _local(blobs, version.files[0]) as path:
                    shutil.copyfile(path, made)
            else:
                files: list[Callable[[], AbstractContextManager[Path]]] = [
                    partial(_local, blobs, entry) for entry in version.files
                ]
                restore_order(files, version.place, made, lambda: Path(folder, f"{next(numbers)}.part"), progress)
            made.replace(into)
    except OSError as error:
        raise StoreError(f"{into.name} cannot be written: {error.strerror or 'the disk failed'}") from error


def restore_order(
    files: Sequence[Callable[[], AbstractContextManager[Path]]],
    place: str | None,
    into: Path,
    new_file: Callable[[], Path],
    progress: Progress | None = None,
    *,
    limits: Limits | None = None,
) -> int:
    """Write the rows of a version into one parquet file, in the order of the input.

    Parameters
    ----------
    files
        Those of the version, in order, each as what gives its path for as long as it is entered.
    place
        The last column, which is not written, and says where each row goes; None when they are in order.

    Returns
    -------
    int
        How many rows there are.
    """
    limits = replace(limits or Limits(), file_bytes=1 << 62)
    try:
        with translated(), frugal_memory():
            source = Source(files, without=place)
            rows = source.batches()
            if place is not None:
                places = new_file()
                total = _write_places(files, place, places)
                rows = shuffled(source, places, total, new_file(), limits, progress)
            (file,) = write_rows(rows, FileWriter(lambda: into, source.target, limits))
            return file.rows
    except UnkeptError as error:
        raise CorruptVersionError(f"the order of the rows cannot be restored: {error}") from error


def _write_places(files: Sequence[Callable[[], AbstractContextManager[Path]]], place: str, into: Path) -> int:
    rows = 0
    with open(into, "wb") as writer:
        for open_path in files:
            with open_path() as path, open_parquet(path) as file:
                for batch in file.iter_batches(columns=[place], use_threads=False):
                    write_array(writer, batch.column(0).to_numpy())
                    rows += batch.num_rows
    return rows


@contextmanager
def _local(blobs: Blobs, entry: FileEntry) -> Iterator[Path]:
    with blobs.open_file(entry) as lease:
        yield Path(lease.sources[0])
