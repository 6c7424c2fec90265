"""The client of object storage: whose requests, where to, how long to wait and how often to try. Makes no request."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import boto3
import botocore.session
from botocore import UNSIGNED
from botocore.config import Config

from engine.config import S3Location
from engine.store.s3_errors import translated

CONNECTIONS = 16  # as many requests at once as a busy server makes
LONGEST_PAUSE_S = 20.0  # of what a service may ask for in Retry-After

_DAMAGED = ("BadDigest", "XAmzContentSHA256Mismatch")


@dataclass(frozen=True, slots=True)
class Patience:
    """How long one request may wait, and how often it is made."""

    connect_s: float = 5.0
    read_s: float = 30.0
    attempts: int = 4


@dataclass(frozen=True, slots=True)
class Client:
    """``s3`` is boto3's; ``anonymous`` says that no credentials were found, so that no request is signed."""

    s3: Any
    anonymous: bool


def make_client(location: S3Location, patience: Patience) -> Client:
    """A client with settings that S3, R2 and Ceph all take; safe to use from many threads.

    Raises
    ------
    StoreError
        The credentials that are named cannot be had.
    """
    with translated("the object storage cannot be used"):
        session = botocore.session.Session(profile=None if location.access_key_id else location.profile)
        if location.credentials_file:
            session.set_config_variable("credentials_file", location.credentials_file)
        if os.environ.get("AWS_EC2_METADATA_DISABLED", "").lower() != "false":
            # Outside Amazon's machines this asks an address that is nobody's, or somebody else's.
            session.get_component("credential_provider").remove("iam-role")
        keys: dict[str, str | None] = {}
        if location.access_key_id:
            keys = {
                "aws_access_key_id": location.access_key_id,
                "aws_secret_access_key": location.secret_access_key,
                "aws_session_token": location.session_token,
            }
        anonymous = not keys and session.get_credentials() is None
        s3 = boto3.session.Session(botocore_session=session).client(
            "s3",
            endpoint_url=location.endpoint,
            region_name=_region(location),
            config=_config(location, patience, anonymous),
            **keys,
        )
    s3.meta.events.register_first("needs-retry.s3", _Retry(patience.attempts))
    return Client(s3, anonymous)


def _region(location: S3Location) -> str:
    if location.region and location.region != "auto":
        return location.region
    # Amazon has no region of that name; from this one its answer names the right one, and the client goes there.
    return "auto" if location.endpoint else "us-east-1"


def _config(location: S3Location, patience: Patience, anonymous: bool) -> Config:
    host = urlsplit(location.endpoint).hostname if location.endpoint else None
    return Config(
        signature_version=UNSIGNED if anonymous else "s3v4",
        s3={"addressing_style": "path"},
        # What is newer than the protocol itself is refused by R2 and by older gateways.
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        connect_timeout=patience.connect_s,
        read_timeout=patience.read_s,
        retries={"mode": "standard", "total_max_attempts": patience.attempts},
        max_pool_connections=CONNECTIONS,
        tcp_keepalive=True,
        user_agent_extra="bytomorrow",
        # A proxy for the world must not see what is for this machine.
        proxies={} if host in ("127.0.0.1", "localhost", "::1") else None,
    )


class _Retry:
    """Two reasons to try again that the client does not know: a pause that the service names, and damage on the way."""

    def __init__(self, attempts: int) -> None:
        self._attempts = attempts

    def __call__(self, response: Any = None, attempts: int = 1, **_: Any) -> float | None:
        if response is None or attempts >= self._attempts:
            return None
        http, parsed = response
        if http.status_code in (429, 503) and "Retry-After" in http.headers:
            try:
                return max(0.0, min(float(http.headers["Retry-After"]), LONGEST_PAUSE_S))
            except ValueError:  # a date
                return None
        return 0.1 if parsed.get("Error", {}).get("Code") in _DAMAGED else None
