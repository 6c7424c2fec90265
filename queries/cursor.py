"""Cursors: where the next page begins, signed, as one opaque word. Decides nothing about whether a cursor fits."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from dataclasses import dataclass

from queries.errors import CursorError
from queries.vocabulary import shown

_FORMAT = 1
_SIGNATURE_BYTES = 16
_PURPOSE = b"bytomorrow cursor 1\0"  # so that no other signature made with the same key is one of ours
_LONGEST = 200  # characters; ours have some 60
_LARGEST = 2**63 - 1

_REFUSED = "this cursor was changed, cut off, or made by another server; start again without one"


@dataclass(frozen=True, slots=True)
class Cursor:
    """A place in one answer.

    ``content_id`` and ``query`` are the first 16 hex digits of the version's content id and of the hash of the
    canonical query without ``limit``, ``offset`` and ``cursor``. ``offset`` counts the rows before the page, and
    ``after`` is the ordinal of the last of them where the rows come in the order of their ordinals.
    """

    version: int
    content_id: str
    query: str
    offset: int
    after: int | None = None


def encode_cursor(cursor: Cursor, key: bytes) -> str:
    """The cursor as text that stands in a URL as it is.

    Raises
    ------
    ValueError
        The key is shorter than 16 bytes, or a part of the cursor is out of range.
    """
    _check_key(key)
    numbers = (cursor.version, cursor.offset, 0 if cursor.after is None else cursor.after + 1)
    hashes = bytes.fromhex(cursor.content_id) + bytes.fromhex(cursor.query)
    if len(hashes) != 16 or len(cursor.query) != 16 or any(not 0 <= number <= _LARGEST for number in numbers):
        raise ValueError(f"{cursor} is out of range")
    payload = bytes([_FORMAT]) + hashes + b"".join(_varint(number) for number in numbers)
    return base64.urlsafe_b64encode(payload + _sign(payload, key)).rstrip(b"=").decode()


def decode_cursor(text: str, key: bytes) -> Cursor:
    """The cursor that :func:`encode_cursor` made with the same key.

    Raises
    ------
    CursorError
        It did not, of exactly this text.
    """
    _check_key(key)
    try:
        if len(text) > _LONGEST:
            raise ValueError
        data = base64.b64decode(text.encode("ascii") + b"=" * (-len(text) % 4), altchars=b"-_", validate=True)
        payload, signature = data[:-_SIGNATURE_BYTES], data[-_SIGNATURE_BYTES:]
        genuine = hmac.compare_digest(_sign(payload, key), signature)
        # The last character may hold bits that are no part of the data: only one spelling is ours.
        if not genuine or base64.urlsafe_b64encode(data).rstrip(b"=") != text.encode("ascii") or payload[0] != _FORMAT:
            raise ValueError
        version, offset, after = _numbers(payload[17:])
    except (ValueError, binascii.Error):
        raise CursorError(_REFUSED, param="cursor", value=shown(text, quote=False)) from None
    return Cursor(version, payload[1:9].hex(), payload[9:17].hex(), offset, after - 1 if after else None)


def _check_key(key: bytes) -> None:
    """Raise ValueError for a key that protects nothing."""
    if len(key) < _SIGNATURE_BYTES:
        raise ValueError(f"a cursor is signed with a key of at least {_SIGNATURE_BYTES} bytes")


def _sign(payload: bytes, key: bytes) -> bytes:
    return hmac.new(key, _PURPOSE + payload, hashlib.sha256).digest()[:_SIGNATURE_BYTES]


def _varint(number: int) -> bytes:
    """Seven bits to a byte, lowest first; the high bit says that more follow."""
    found = bytearray()
    while number > 0x7F:
        found.append(number & 0x7F | 0x80)
        number >>= 7
    found.append(number)
    return bytes(found)


def _numbers(data: bytes) -> list[int]:
    found, number, shift = [], 0, 0
    for byte in data:
        number |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            found.append(number)
            number = shift = 0
    return found
