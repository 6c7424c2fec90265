"""Rows of text out of columns: what stands before, between and behind the values is told by the format.

Joining pieces row by row is most of the work, so there shall be few of them: columns of few values carry what stands
around them, and neighbours of few joint values are one piece (``coded.py``); numbers carry the byte that follows them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pyarrow as pa
import pyarrow.compute as pc

from server.encoding.coded import Coded, Coder, Texts

#: Texts of an array of simple values, given what follows each of them: what stands before each, the texts, and what is
#: still to follow. None when the values are not that simple.
Simply = Callable[[pa.Array, bytes], tuple[bytes, pa.BinaryArray, bytes] | None]

_EMPTY = pa.scalar(b"", pa.binary())


class RowWriter:
    """Writes batch after batch of one answer.

    Parameters
    ----------
    between
        What stands before the first column, between two, and behind the last: one more than there are columns.
    texts, simply
        How the format spells values: of any array, and of one whose values need no care.
    """

    def __init__(self, between: Sequence[bytes], texts: Texts, simply: Simply) -> None:
        self._between = between
        self._texts = texts
        self._simply = simply
        self._coders = [Coder(texts) for _ in between[1:]]
        self._apart: set[int] = set()  # columns that did not have few values together with those before

    def rows(self, columns: Sequence[pa.Array]) -> pa.BinaryArray:
        """One text per row."""
        parts: list[pa.BinaryArray | pa.BinaryScalar] = []
        pending = self._between[0]
        few: Coded | None = None
        for position, column in enumerate(columns):
            after = self._between[position + 1]
            coded = self._coders[position].code(column)
            if coded is not None:
                coded = coded.between(pending, b"")
                both = self._merged(position, few, coded)
                if few is not None and both is None:
                    parts.append(few.each())
                few, pending = both or coded, after
                continue
            before, texts, after = self._spelled(position, column, after)
            parts += [*_literal(few, pending + before), texts]
            few, pending = None, after
        parts += _literal(few, pending)
        return pc.binary_join_element_wise(*parts, _EMPTY) if len(parts) > 1 else parts[0]

    def _merged(self, position: int, few: Coded | None, coded: Coded) -> Coded | None:
        if few is None or position in self._apart:
            return None
        both = few.merged(coded)
        if both is None:
            self._apart.add(position)
        return both

    def _spelled(self, position: int, column: pa.Array, after: bytes) -> tuple[bytes, pa.BinaryArray, bytes]:
        simple = self._simply(column, after)
        if simple is not None:
            return simple
        known = self._coders[position].each(column)
        return b"", self._texts(column) if known is None else known, after


def _literal(few: Coded | None, text: bytes) -> list[pa.BinaryArray | pa.BinaryScalar]:
    """The same text in every row, behind a column of few values where there is one."""
    if few is not None:
        return [few.between(b"", text).each()]
    return [pa.scalar(text, pa.binary())] if text else []
