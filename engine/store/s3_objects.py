"""Requests to one bucket, below one prefix: what a store's primitives are made of. Knows nothing of what keys mean."""

from __future__ import annotations

import hashlib
import logging
import random
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any, TypeVar

import urllib3
from botocore import exceptions as boto

from engine.config import S3Location
from engine.store.s3_client import Client, Patience, make_client
from engine.store.s3_errors import CLIENT_ERRORS, code_of, translate

_log = logging.getLogger(__name__)
_MD5 = re.compile(r"[0-9a-f]{32}")
_Result = TypeVar("_Result")


class Objects:
    """The objects of a location. The client is made by the first request."""

    def __init__(self, location: S3Location, patience: Patience) -> None:
        self._location = location
        self._patience = patience
        self._client: Client | None = None
        self._hashes = True  # whether etags may be MD5
        self._lock = threading.Lock()

    @property
    def s3(self) -> Any:
        """The client, whose errors are its own: for ``retried``."""
        return self._connected().s3

    @property
    def anonymous(self) -> bool:
        return self._connected().anonymous

    def close(self) -> None:
        with self._lock:
            if self._client is not None:
                self._client.s3.close()
            self._client = None

    def full(self, key: str) -> str:
        """The key in the bucket of a key in the store."""
        return f"{self._location.prefix}/{key}" if self._location.prefix else key

    def at(self, key: str) -> dict[str, str]:
        """Bucket and key as the client takes them."""
        return {"Bucket": self._location.bucket, "Key": self.full(key)}

    def get(self, key: str, **arguments: Any) -> Any:
        try:
            return self.s3.get_object(**self.at(key), **arguments)
        except urllib3.exceptions.HTTPError as error:  # the body of a refusal broke off, which the client lets through
            raise BrokenBodyError from boto.ResponseStreamingError(error=error)
        except boto.ClientError as error:
            if (
                code_of(error) == "404"
            ):  # not what is missing, key or bucket: what is left of an answer that was damaged
                raise BrokenBodyError from error
            raise

    def body(self, key: str) -> bytes:
        data, is_whole = self._body(key)
        if is_whole:
            return data
        again, is_whole = self._body(key)
        if not self.settle(is_whole, again == data):
            raise BrokenBodyError from damaged()
        return again

    def _body(self, key: str) -> tuple[bytes, bool]:
        response = self.get(key)
        with closing(response["Body"]) as body:
            data = exactly(body, response["ContentLength"])
        return data, self.fits(response["ETag"].strip('"'), hashlib.md5(data, usedforsecurity=False))

    def fits(self, etag: str, md5: Any) -> bool:
        """Whether an etag says nothing against an object's bytes. Those of what came in parts, or lies encrypted with
        keys of its own, are no hashes of them."""
        return not self._hashes or not _MD5.fullmatch(etag) or bool(md5.hexdigest() == etag)

    def settle(self, fits: bool, is_same: bool) -> bool:
        """Whether bytes that were read a second time are right; the first ones did not fit the etag."""
        if not fits and is_same:
            self._hashes = False  # damage is not the same twice: the etags here are of another kind
        return fits or is_same

    def do(self, what: str, deed: str, operation: str, **arguments: Any) -> Any:
        """One request, its errors translated."""
        client = self._connected()
        try:
            return getattr(client.s3, operation)(Bucket=self._location.bucket, **arguments)
        except CLIENT_ERRORS as error:
            raise translate(error, what, deed=deed, anonymous=client.anonymous) from error

    def pages(self, prefix: str, what: str) -> Iterator[Any]:
        """The pages of a listing directly below a prefix of the bucket."""
        token: dict[str, str] = {}
        while True:
            page = self.do(what, "list the bucket", "list_objects_v2", Prefix=prefix, Delimiter="/", **token)
            yield page
            if not page.get("IsTruncated"):
                return
            token = {"ContinuationToken": page["NextContinuationToken"]}

    def retried(self, work: Callable[[], _Result], what: str) -> _Result:
        """Read, and again when the answer breaks off: the client itself tries again only until an answer begins."""
        for attempt in range(1, self._patience.attempts + 1):
            try:
                return work()
            except BrokenBodyError as error:
                if attempt == self._patience.attempts:
                    cause = error.__cause__
                    assert isinstance(cause, Exception)
                    raise translate(cause, what) from cause
                _log.debug("%s: attempt %d of %d broke off", what, attempt, self._patience.attempts)
                time.sleep(random.uniform(0.05, 0.2) * 2**attempt)
            except CLIENT_ERRORS as error:
                raise translate(error, what, deed="read objects", anonymous=self.anonymous) from error
        raise AssertionError("attempts are at least one")

    def _connected(self) -> Client:
        with self._lock:
            if self._client is None:
                self._client = make_client(self._location, self._patience)
            return self._client


class BrokenBodyError(Exception):
    """An answer that broke off after it began; its cause says how."""


def damaged() -> boto.BotoCoreError:
    """What the client would raise, if it looked at the bytes that arrive."""
    return boto.ResponseStreamingError(error="the bytes are not those of the etag")


def some(body: Any, length: int) -> bytes:
    """Between one and ``length`` bytes of an answer's body."""
    try:
        chunk: bytes = body.read(length)
        if not chunk:
            raise boto.IncompleteReadError(actual_bytes=0, expected_bytes=length)
    except CLIENT_ERRORS as error:
        raise BrokenBodyError from error
    except OSError as error:  # the client does not translate a reset in the middle
        raise BrokenBodyError from boto.ConnectionClosedError(error=error, endpoint_url="")
    return chunk


def exactly(body: Any, length: int) -> bytes:
    """So many bytes of an answer's body, and not fewer."""
    parts = []
    while length:
        parts.append(some(body, length))
        length -= len(parts[-1])
    return b"".join(parts)
