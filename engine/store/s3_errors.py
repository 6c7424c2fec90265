"""What object storage and its client complain of, each as one clear sentence. No text names a host, a bucket or a key
of an account: anyone may read it. Whoever starts a process is told the bucket beside it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from botocore import exceptions as boto
from botocore.parsers import ResponseParserError

from engine.errors import StoreError

#: Everything that the client raises of its own.
CLIENT_ERRORS = (boto.BotoCoreError, boto.ClientError, boto.HTTPClientError, ResponseParserError)

_BUSY = "the object storage is busy; try again in a moment"
_FAILED = "the object storage failed inside; try again in a moment"
_EXPIRED = "the temporary credentials have expired; get new ones"
_REGION = "the bucket is in another region; set BT_S3_REGION{to}"
_FULL = "the object storage, or what this account may use of it, is full"

_BY_CODE = {
    "InvalidAccessKeyId": "the object storage does not know this access key; check AWS_ACCESS_KEY_ID",
    "SignatureDoesNotMatch": "the secret does not belong to the access key; check AWS_SECRET_ACCESS_KEY",
    "ExpiredToken": _EXPIRED,
    "ExpiredTokenException": _EXPIRED,
    "RequestExpired": _EXPIRED,
    "InvalidToken": "the session token is not one; check AWS_SESSION_TOKEN",
    "InvalidClientTokenId": "the object storage does not know these credentials; check AWS_ACCESS_KEY_ID",
    "NoSuchBucket": "there is no such bucket; make it, or check BT_STORE and BT_S3_ENDPOINT",
    "InvalidBucketName": "the object storage does not take the bucket's name; check BT_STORE",
    "PermanentRedirect": _REGION,
    "TemporaryRedirect": _REGION,
    "AuthorizationHeaderMalformed": _REGION,
    "IllegalLocationConstraintException": _REGION,
    "InvalidRegionName": _REGION,
    "SlowDown": _BUSY,
    "ServiceUnavailable": _BUSY,
    "TooManyRequests": _BUSY,
    "TooManyRequestsException": _BUSY,
    "Throttling": _BUSY,
    "ThrottlingException": _BUSY,
    "RequestLimitExceeded": _BUSY,
    "InternalError": _FAILED,
    "BadDigest": "what arrived was damaged on the way, again and again",
    "XAmzContentSHA256Mismatch": "what arrived was damaged on the way, again and again",
    "EntityTooLarge": "the object storage takes no file as large as this",
    "QuotaExceeded": _FULL,
    "XMinioStorageFull": _FULL,
    "InvalidObjectState": "the object is archived, and must be restored before it can be read",
    "NotImplemented": "the object storage cannot do this",
}
_BY_STATUS = {301: _REGION, 307: _REGION, 429: _BUSY, 500: _FAILED, 502: _FAILED, 503: _BUSY, 504: _FAILED}

_BY_TYPE: tuple[tuple[type[Exception], str], ...] = (
    (boto.NoCredentialsError, "there are no credentials; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"),
    (boto.PartialCredentialsError, "the credentials are not whole; both an access key and its secret are needed"),
    (boto.ProfileNotFound, "there is no such profile; check AWS_PROFILE and AWS_SHARED_CREDENTIALS_FILE"),
    (boto.ConfigParseError, "the file of credentials cannot be read as one; check AWS_SHARED_CREDENTIALS_FILE"),
    (boto.CredentialRetrievalError, "the credentials could not be fetched; check the profile that AWS_PROFILE names"),
    (boto.TokenRetrievalError, "the sign-on has expired; sign on again with the tool that keeps the profile"),
    (boto.SSLError, "the object storage could not prove who it is (TLS); check BT_S3_ENDPOINT and the certificates"),
    (boto.ProxyConnectionError, "the proxy to the object storage cannot be reached; check HTTPS_PROXY"),
    (boto.ConnectTimeoutError, "the object storage does not answer; check the network and BT_S3_ENDPOINT"),
    (boto.ReadTimeoutError, "the object storage stopped answering; try again in a moment"),
    (boto.EndpointConnectionError, "the object storage cannot be reached; check the network and BT_S3_ENDPOINT"),
    (boto.ConnectionClosedError, "the object storage broke the connection; try again in a moment"),
    (boto.IncompleteReadError, "the object storage broke off in the middle; try again in a moment"),
    (boto.ResponseStreamingError, "the object storage broke off in the middle; try again in a moment"),
    (boto.HTTPClientError, "the connection to the object storage failed; try again in a moment"),
    (ResponseParserError, "what answers is not object storage; check BT_S3_ENDPOINT"),
)


def code_of(error: Exception) -> str:
    """What the service calls an error: ``NoSuchKey``, or the HTTP status where it says no more."""
    return str(error.response.get("Error", {}).get("Code", "")) if isinstance(error, boto.ClientError) else ""


def status_of(error: Exception) -> int:
    """The HTTP status of an error; 0 when there was no answer."""
    if not isinstance(error, boto.ClientError):
        return 0
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def is_denied(error: Exception) -> bool:
    """Whether these credentials, which are good, may not do this."""
    return code_of(error) in ("AccessDenied", "AllAccessDisabled", "403", "Forbidden") or (
        status_of(error) == 403 and code_of(error) not in _BY_CODE and code_of(error) != "RequestTimeTooSkewed"
    )


def translate(error: Exception, what: str, *, deed: str = "do this", anonymous: bool = False) -> StoreError:
    """The same as a StoreError.

    Parameters
    ----------
    what
        What could not be done, as the beginning of a sentence: ``d/results.csv cannot be read``.
    deed
        What the credentials may not do, when that is the cause.
    anonymous
        Whether the request was made without any.
    """
    return StoreError(f"{what}: {_cause(error, deed, anonymous)}")


@contextmanager
def translated(what: str, *, deed: str = "do this", anonymous: bool = False) -> Iterator[None]:
    """Turn what the client raises into a StoreError: see ``translate``."""
    try:
        yield
    except CLIENT_ERRORS as error:
        raise translate(error, what, deed=deed, anonymous=anonymous) from error


def _cause(error: Exception, deed: str, anonymous: bool) -> str:
    if is_denied(error):
        if anonymous:
            return f"without credentials nobody may {deed}; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        return f"these credentials may not {deed}"
    if isinstance(error, boto.ClientError):
        return _refusal(error)
    return next((text for kind, text in _BY_TYPE if isinstance(error, kind)), type(error).__name__)


def _refusal(error: Any) -> str:
    code = code_of(error)
    headers: Mapping[str, str] = error.response.get("ResponseMetadata", {}).get("HTTPHeaders", {})
    if code == "RequestTimeTooSkewed":
        return f"the clock of this machine is wrong{_skew(headers.get('date', ''))}; set it, best by NTP"
    text = _BY_CODE.get(code) or _BY_STATUS.get(status_of(error))
    if text is None and (not code or code.isdigit()):
        return f"what answers is not object storage (HTTP {status_of(error)}); check BT_S3_ENDPOINT"
    if text is None:
        return f"the object storage answered {code or status_of(error)}"
    region = headers.get("x-amz-bucket-region") or error.response["Error"].get("Region")
    return text.format(to=f" to {region}" if region else "")


def _skew(date: str) -> str:
    try:
        ahead_s = (datetime.now(UTC) - parsedate_to_datetime(date)).total_seconds()
    except ValueError:
        return ""
    amount = f"{abs(ahead_s) / 60:,.0f} minutes" if abs(ahead_s) >= 90 else f"{abs(ahead_s):.0f} seconds"
    return f" by {amount} ({'ahead' if ahead_s > 0 else 'behind'})"
