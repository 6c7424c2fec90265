"""Text columns as dictionaries with int32 indices, for Arrow IPC streams. Other columns stay as they are.

A dictionary holds the texts in the order in which they first appear, whether they came as texts or with a dictionary
of their own. A stream's dictionaries may be replaced from batch to batch. They grow while they are small, so that
columns with few values are sent once; a column with many gets a new one with each batch, and memory stays bounded.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt

from server.encoding.coded import ROWS_PER_VALUE
from server.encoding.json_text import is_text
from server.encoding.plain_texts import is_coded_text, with_plain_texts, write_out
from server.encoding.settle import settle

MOST_GROWN = 65_536  # values; a dictionary beyond that starts anew
_TARGET = pa.dictionary(pa.int32(), pa.string())
_NO_TEXTS = pa.array([], pa.string())
_NO_PLACES = pa.array([], pa.int32())


def with_dictionaries(schema: pa.Schema) -> pa.Schema:
    """The schema of what the encoders below give."""
    return pa.schema([field.with_type(_TARGET) if _is_texts(field.type) else field for field in _flat(schema)])


def _flat(schema: pa.Schema) -> pa.Schema:
    return with_plain_texts(schema, nested_only=True)


def _is_texts(kind: pa.DataType) -> bool:
    return is_text(kind) or is_coded_text(kind)


def encode_whole(schema: pa.Schema, target: pa.Schema, batches: list[pa.RecordBatch]) -> list[pa.RecordBatch]:
    """The batches that have rows, settled, in the schema of ``with_dictionaries``: one dictionary for each column."""
    encoder = _Encoder(schema, target, None)
    encoded = [encoder.encode(batch) for batch in batches if batch.num_rows]
    return [encoder.renewed(batch) for batch in encoded] if len(encoded) > 1 else encoded


def encode_dictionaries(
    schema: pa.Schema, target: pa.Schema, batches: Iterable[pa.RecordBatch]
) -> Iterator[pa.RecordBatch]:
    """The batches one by one, settled, each with the dictionaries that hold its values."""
    return map(_Encoder(schema, target, MOST_GROWN).encode, batches)


class _Encoder:
    """Gives batch after batch its dictionaries; ``most`` bounds what they may grow to."""

    def __init__(self, schema: pa.Schema, target: pa.Schema, most: int | None) -> None:
        self._flat = _flat(schema)
        self._target = target
        self._texts = [_Vocabulary(most) if kind.equals(_TARGET) else None for kind in target.types]

    def encode(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        columns = zip(write_out(batch, self._flat), self._texts, strict=True)
        return self._batch([settle(column) if texts is None else texts.encode(column) for column, texts in columns])

    def renewed(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """An earlier batch with the dictionaries as they are now."""
        columns = zip(batch.columns, self._texts, strict=True)
        return self._batch([column if texts is None else texts.renewed(column) for column, texts in columns])

    def _batch(self, columns: list[pa.Array]) -> pa.RecordBatch:
        return pa.RecordBatch.from_arrays(columns, schema=self._target)


class _Vocabulary:
    """The texts of one column so far, in the order in which they appeared."""

    def __init__(self, most: int | None) -> None:
        self._most = most
        self.texts = _NO_TEXTS  # the object itself stays while nothing is added: the writer compares others in full
        self._source: pa.StringArray | None = None  # the dictionary that the column came with
        self._places = _NO_PLACES  # where its values are in ``texts``, null for nowhere

    def encode(self, column: pa.Array) -> pa.DictionaryArray:
        if is_coded_text(column.type):
            if self._is_source(column.dictionary, len(column)):
                return self._encode_codes(column.indices)
            column = column.dictionary_decode()
        return self._encode_texts(column if pt.is_string(column.type) else column.cast(pa.string()))

    def renewed(self, column: pa.DictionaryArray) -> pa.DictionaryArray:
        """A column of an earlier batch with all the texts that there are now."""
        return pa.DictionaryArray.from_arrays(column.indices, self.texts, safe=False)

    def _is_source(self, dictionary: pa.Array, rows: int) -> bool:
        """Whether the dictionary is the known one, or is made it because that is less work than to decode the rows."""
        if self._source is not None and dictionary.equals(self._source):
            return True
        if len(dictionary) * ROWS_PER_VALUE > rows or not len(dictionary) or not pt.is_string(dictionary.type):
            return False
        if dictionary.null_count or len(pc.unique(dictionary)) < len(dictionary):
            return False
        self._source = dictionary
        self._places = pc.index_in(dictionary, value_set=self.texts)
        return True

    def _encode_codes(self, codes: pa.Array) -> pa.DictionaryArray:
        places = self._places.take(codes)
        if places.null_count > codes.null_count:
            self._learn(codes, places)
            places = self._places.take(codes)
        return _array(places, self.texts)

    def _learn(self, codes: pa.Array, places: pa.Array) -> None:
        """Take in the texts that have no place yet."""
        assert self._source is not None
        missing = codes.filter(places.is_null()).drop_null()
        if not self._add(self._source.take(missing.unique())):
            self.texts = settle(self._source.take(codes.drop_null().unique()))
        self._places = pc.index_in(self._source, value_set=self.texts)

    def _encode_texts(self, column: pa.StringArray) -> pa.DictionaryArray:
        encoded = column.dictionary_encode()
        own = encoded.dictionary
        places = pc.index_in(own, value_set=self.texts) if len(self.texts) else None
        if places is None or places.null_count:
            self._source = None
            if places is None or not self._add(own.filter(places.is_null())):
                self.texts = settle(own)
                return _array(encoded.indices, self.texts)
            places = pc.index_in(own, value_set=self.texts)
        return _array(places.take(encoded.indices), self.texts)

    def _add(self, fresh: pa.StringArray) -> bool:
        """Append texts; False, and nothing done, when they would be too many."""
        if self._most is not None and len(self.texts) and len(self.texts) + len(fresh) > self._most:
            return False
        self.texts = settle(pa.concat_arrays([self.texts, fresh]) if len(self.texts) else fresh)
        return True


def _array(indices: pa.Array, texts: pa.StringArray) -> pa.DictionaryArray:
    return pa.DictionaryArray.from_arrays(settle(indices), texts, safe=False)
