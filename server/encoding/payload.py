"""What every encoder is given: the rows of one answer and what is said about them. Encodes nothing."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.types as pt

#: About how many bytes one step of an encoder may produce. With 2 MiB the fixed costs of a step are a third of its
#: time; from 5 MiB on, where a batch of DuckDB's with seven columns is one step, there is nothing more to be had.
STEP_BYTES = 5 << 20

_FEW_ROWS = 1_024

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
        if batch.num_rows <= _FEW_ROWS and batch.get_total_buffer_size() <= STEP_BYTES // 4:
            yield batch  # a sure bound, at a tenth of the cost of a close one
            continue
        row_bytes = names + sum(_bytes_per_row(column) for column in batch.columns)
        steps = math.ceil(batch.num_rows / max(1, int(STEP_BYTES / row_bytes)))
        step = math.ceil(batch.num_rows / steps)  # equal ones: what is left at the end would cost as much as the rest
        for start in range(0, batch.num_rows, step):
            yield batch.slice(start, step)


def _bytes_per_row(column: pa.Array) -> float:
    if pt.is_dictionary(column.type):
        return 8 + 2 * float(column.dictionary.nbytes) / max(1, len(column.dictionary))
    if column.type.num_fields or not pt.is_primitive(column.type):
        return 8 + 2 * float(column.nbytes) / len(column)
    return 20
