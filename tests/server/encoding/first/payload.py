"""What every encoder is given: the rows of one answer and what is said about them. Encodes nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.types as pt

#: About how many bytes one step of an encoder may produce.
STEP_BYTES = 2 << 20

Envelope = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Payload:
    """One answer on its way out.

    Attributes
    ----------
    schema, batches
        The rows; ``batches`` can be read once.
    is_whole
        Whether all rows are at hand already, so that ``opening`` knows all that ``closing`` will.
    opening
        Gives ``{"meta":…,"links":…}`` as far as it is known before the rows.
    closing
        The same after the last row, given how many NaN and infinities there were.
    """

    schema: pa.Schema
    batches: Iterable[pa.RecordBatch]
    is_whole: bool
    opening: Callable[[], Envelope]
    closing: Callable[[int], Envelope]


class UnsupportedColumnError(Exception):
    """A column that the format asked for cannot carry."""

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail


def in_steps(schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """The batches, cut so that the text made from each has about ``STEP_BYTES`` at most."""
    names = sum(len(name) + 4 for name in schema.names)
    for batch in batches:
        if not batch.num_rows:
            continue
        row_bytes = names + sum(_bytes_per_row(column) for column in batch.columns)
        step = max(1, int(STEP_BYTES / row_bytes))
        for start in range(0, batch.num_rows, step):
            yield batch.slice(start, step)


def _bytes_per_row(column: pa.Array) -> float:
    if pt.is_dictionary(column.type):
        return 8 + 2 * float(column.dictionary.nbytes) / max(1, len(column.dictionary))
    if column.type.num_fields or not pt.is_primitive(column.type):
        return 8 + 2 * float(column.nbytes) / len(column)
    return 20
