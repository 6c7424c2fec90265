"""What is special to a bucket: who may do what, what each refusal says, and what survives a bad network."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import pytest
from botocore import exceptions as boto

from engine.config import EngineConfig, S3Location
from engine.errors import CorruptVersionError, StoreError
from engine.store import LocalStore
from engine.store.home import open_store
from engine.store.s3 import S3Store
from engine.store.s3_client import Patience
from engine.store.s3_errors import translate
from engine.store.staging import UnsettledFileError
from tests.object_storage.proxy import FaultProxy
from tests.object_storage.servers import Bucket, Server, fresh_bucket

KEY = "d/_bt/log/0000000001.json"
ROOT = Path(__file__).parents[3]
IMPATIENT = Patience(connect_s=1.0, read_s=1.0, attempts=3)


@pytest.fixture
def store(bucket: Bucket, tmp_path: Path) -> Iterator[S3Store]:
    store = S3Store(bucket.location, tmp_path / "scratch")
    yield store
    store.close()


@pytest.fixture
def far(bucket: Bucket, proxy: FaultProxy, tmp_path: Path) -> Iterator[S3Store]:
    """The same bucket by way of the proxy, ready to write: its questions about the bucket are asked already."""
    store = S3Store(bucket.through(proxy.endpoint), tmp_path / "far", patience=IMPATIENT)
    assert not store.read_only
    store.check_writing()
    proxy.forget()
    yield store
    store.close()


def refusal(location: S3Location, tmp_path: Path) -> str:
    store = S3Store(location, tmp_path / "scratch", patience=IMPATIENT)
    with pytest.raises(StoreError) as caught:
        store.check()
    store.close()
    (line,) = caught.value.detail.splitlines()
    for hidden in (location.bucket, location.endpoint, location.access_key_id, location.secret_access_key, "127.0.0.1"):
        assert not hidden or hidden not in line
    return line


# --- who one is


def test_an_unknown_key(bucket: Bucket, tmp_path: Path) -> None:
    line = refusal(replace(bucket.location, access_key_id="AKIANOBODY"), tmp_path)
    assert line.endswith("the object storage does not know this access key; check AWS_ACCESS_KEY_ID")


def test_a_wrong_secret(bucket: Bucket, tmp_path: Path) -> None:
    line = refusal(replace(bucket.location, secret_access_key="guessed"), tmp_path)
    assert line.endswith("the secret does not belong to the access key; check AWS_SECRET_ACCESS_KEY")


def test_no_such_bucket(bucket: Bucket, tmp_path: Path) -> None:
    assert "there is no such bucket" in refusal(replace(bucket.location, bucket="bt-nowhere"), tmp_path)
    store = S3Store(replace(bucket.location, bucket="bt-nowhere"), tmp_path)
    for work in (lambda: store.read(KEY), lambda: store.stat(KEY), lambda: store.list(""), lambda: store.read_only):
        with pytest.raises(StoreError, match="there is no such bucket"):
            work()
    store.close()


def test_nobody_listens(tmp_path: Path) -> None:
    location = S3Location("bt-nowhere", endpoint="http://127.0.0.1:9", access_key_id="AKIA", secret_access_key="hush")
    assert "the object storage cannot be reached" in refusal(location, tmp_path)


def test_a_service_that_does_not_speak_tls(bucket: Bucket, tmp_path: Path) -> None:
    location = replace(bucket.location, endpoint=bucket.server.endpoint.replace("http:", "https:"))
    assert "(TLS)" in refusal(location, tmp_path)


@pytest.mark.parametrize("storage", [pytest.param("ceph", marks=pytest.mark.ceph)], indirect=True)
@pytest.mark.parametrize("minutes", [-90, 90])
def test_a_wrong_clock(bucket: Bucket, tmp_path: Path, minutes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the two only Ceph looks at the time."""
    from botocore import auth

    now = auth.get_current_datetime
    with monkeypatch.context() as patch:
        patch.setattr(auth, "get_current_datetime", lambda *args: now(*args) + timedelta(minutes=minutes))
        assert "the clock of this machine is wrong" in refusal(bucket.location, tmp_path)


def test_how_wrong_a_clock_is() -> None:
    for ahead, said in [
        (timedelta(minutes=45), "by 45 minutes (ahead)"),
        (timedelta(days=-1), "1,440 minutes (behind)"),
    ]:
        date = format_datetime(datetime.now(UTC) - ahead, usegmt=True)
        error = refused("RequestTimeTooSkewed", 403, date=date)
        assert said in translate(error, "x").detail


def refused(code: str, status: int, **headers: str) -> boto.ClientError:
    metadata = {"HTTPStatusCode": status, "HTTPHeaders": headers}
    return boto.ClientError({"Error": {"Code": code}, "ResponseMetadata": metadata}, "GetObject")  # type: ignore[typeddict-item]


@pytest.mark.parametrize(
    "status, code, says",
    [
        (400, "ExpiredToken", "the temporary credentials have expired"),
        (400, "InvalidToken", "check AWS_SESSION_TOKEN"),
        (400, "IllegalLocationConstraintException", "the bucket is in another region; set BT_S3_REGION"),
        (400, "InvalidRegionName", "the bucket is in another region; set BT_S3_REGION"),
        (403, "AccessDenied", "these credentials may not list the bucket"),
        (403, "AccountProblem", "these credentials may not list the bucket"),
        (429, "TooMany", "the object storage is busy; try again"),
        (503, "SlowDown", "the object storage is busy; try again"),
        (500, "InternalError", "the object storage failed inside; try again"),
        (502, "BadGateway", "the object storage failed inside; try again"),
        (418, "Teapot", "the object storage answered Teapot"),
    ],
)
def test_what_a_service_may_answer(
    moto_bucket: Bucket, moto_proxy: FaultProxy, tmp_path: Path, status: int, code: str, says: str
) -> None:
    moto_proxy.add("answer", status=status, code=code, times=10)
    assert says in refusal(moto_bucket.through(moto_proxy.endpoint), tmp_path)


def test_the_right_region_is_named() -> None:
    error = refused("PermanentRedirect", 301, **{"x-amz-bucket-region": "eu-central-1"})
    assert translate(error, "x").detail == "x: the bucket is in another region; set BT_S3_REGION to eu-central-1"


def test_what_answers_is_no_object_storage(tmp_path: Path) -> None:
    code = """
import http.server
class Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_error(404)
    def log_message(self, *_): pass
server = http.server.HTTPServer(("127.0.0.1", 0), Page)
print(server.server_port, flush=True)
server.serve_forever()
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            endpoint = f"http://127.0.0.1:{int(process.stdout.readline())}"
            location = S3Location("bt-nowhere", endpoint=endpoint, access_key_id="AKIA", secret_access_key="hush")
            assert "what answers is not object storage (HTTP 404); check BT_S3_ENDPOINT" in refusal(location, tmp_path)
        finally:
            process.kill()


def test_a_profile(bucket: Bucket, tmp_path: Path) -> None:
    """Keys from a file that Amazon's tools keep."""
    keys = bucket.location
    file = tmp_path / "credentials"
    file.write_text(
        f"[lab]\naws_access_key_id = {keys.access_key_id}\naws_secret_access_key = {keys.secret_access_key}\n"
    )
    by_profile = replace(keys, access_key_id=None, secret_access_key=None, profile="lab", credentials_file=str(file))
    store = S3Store(by_profile, tmp_path / "scratch")
    store.check()
    assert not store.read_only
    store.close()
    assert "there is no such profile; check AWS_PROFILE" in refusal(replace(by_profile, profile="other"), tmp_path)


# --- what one may do


def test_keys_that_may_only_read(bucket: Bucket, store: S3Store, tmp_path: Path) -> None:
    store.put_if_absent(KEY, b"one")
    key, secret = bucket.server.reader(bucket.location.bucket)
    location = replace(bucket.location, access_key_id=key, secret_access_key=secret)
    reader = S3Store(location, tmp_path / "scratch")
    reader.check()
    assert reader.read_only and not reader.is_anonymous
    assert reader.read(KEY) == b"one" and reader.list("") == ("d/",)
    with pytest.raises(StoreError, match="the store is read-only"):
        reader.put_if_absent("d/_bt/log/2", b"two")
    with pytest.raises(StoreError, match="the store is read-only"):
        reader.delete(KEY)
    reader.close()
    # As if the right to write had been taken away in mid-run.
    revoked = S3Store(location, tmp_path / "scratch", read_only=False)
    with pytest.raises(StoreError, match="cannot be written: these credentials may not write to the bucket"):
        revoked.put_if_absent("d/_bt/log/2", b"two")
    with pytest.raises(StoreError, match="cannot be deleted: these credentials may not delete objects"):
        revoked.delete(KEY)
    revoked.close()
    assert store.read(KEY) == b"one"


def test_whether_one_may_write_is_asked_once_and_leaves_nothing(
    bucket: Bucket, proxy: FaultProxy, tmp_path: Path
) -> None:
    store = S3Store(bucket.through(proxy.endpoint), tmp_path / "scratch")
    assert not store.read_only and not store.read_only
    assert proxy.requests == {"POST": 1, "DELETE": 1}
    assert bucket.keys() == []
    assert not bucket.client.list_multipart_uploads(Bucket=bucket.location.bucket).get("Uploads")
    store.close()


def test_a_closed_bucket_without_keys(bucket: Bucket, tmp_path: Path) -> None:
    bucket.put("d/results.csv", b"x")
    store = S3Store(replace(bucket.location, access_key_id=None, secret_access_key=None), tmp_path)
    assert store.is_anonymous and store.read_only
    with pytest.raises(StoreError, match="without credentials nobody may read objects; set AWS_ACCESS_KEY_ID"):
        store.read("d/results.csv")
    store.close()


@pytest.mark.parametrize("storage", [pytest.param("ceph", marks=pytest.mark.ceph)], indirect=True)
def test_a_public_bucket_without_keys(bucket: Bucket, tmp_path: Path) -> None:
    """Not on moto: with its checks on, it fails at any listing that is not signed."""
    bucket.put("d/results.csv", b"x")
    anonymous = replace(bucket.location, access_key_id=None, secret_access_key=None)
    assert "without credentials nobody may list the bucket" in refusal(anonymous, tmp_path)
    bucket.server.publish(bucket.location.bucket)
    store = S3Store(anonymous, tmp_path / "scratch")
    store.check()
    assert store.read_only
    assert store.list("d/") == ("d/results.csv",) and store.read("d/results.csv") == b"x"
    found = store.stat("d/results.csv")
    assert found is not None and store.fetch("d/results.csv", found.etag, tmp_path / "copy").size == 1
    assert store.read("d/none") is None and store.stat("d/none") is None
    store.close()


def test_a_service_that_ignores_the_condition(moto_bucket: Bucket, tmp_path: Path) -> None:
    """There a log record could be replaced: nothing is published, and nothing but one byte of ours is written."""
    store = S3Store(moto_bucket.location, tmp_path / "scratch")
    assert not store.read_only
    drop = "before-sign.s3.PutObject"
    store._objects.s3.meta.events.register(drop, lambda request, **_: request.headers.__delitem__("If-None-Match"))
    with pytest.raises(StoreError, match="ignores If-None-Match"):
        store.put_if_absent(KEY, b"one")
    assert moto_bucket.keys() == ["_bt/conditional"]
    store.close()


def test_a_service_that_is_busy_does_not_seem_to_ignore_the_condition(
    bucket: Bucket, proxy: FaultProxy, tmp_path: Path
) -> None:
    """A put that was made twice finds its own bytes there, which tells nothing of the condition."""
    store = S3Store(bucket.through(proxy.endpoint), tmp_path / "scratch", patience=IMPATIENT)
    assert not store.read_only and store._put("_bt/conditional", b".")
    lost = [proxy.add("lose", method="PUT"), proxy.add("lose", method="PUT", skip=1)]
    store.check_writing()
    assert [fault.hits for fault in lost] == [1, 1]
    store.close()


# --- names and places


def test_keys_that_ours_cannot_be_are_left_out(bucket: Bucket, store: S3Store) -> None:
    for key in ("d/ok", "d/../up", "d//double", "d/./same", "d/x\\y", "d/", "..", "d/sub/", "e/..", "d/.."):
        bucket.put(key, b"x")
    assert store.list("d/") == ("d/ok", "d/sub/")
    assert [stat.key for stat in store.list_stats("d/")] == ["d/ok"]
    assert set(store.list("")) == {"d/", "e/"}
    assert store.list("e/") == ()


def test_a_bucket_without_a_prefix(storage: Server, tmp_path: Path) -> None:
    with fresh_bucket(storage, prefix="") as bucket:
        store = S3Store(bucket.location, tmp_path / "scratch")
        assert store.put_if_absent(KEY, b"one")
        assert sorted(bucket.keys()) == ["_bt/conditional", KEY]
        assert store.list("") == ("d/",) and store.list("d/") == ("d/_bt/",)
        store.close()


def test_a_prefix_hides_its_neighbours(bucket: Bucket, tmp_path: Path) -> None:
    store = S3Store(bucket.location, tmp_path / "scratch")
    other = S3Store(replace(bucket.location, prefix=bucket.location.prefix + "2"), tmp_path / "scratch")
    assert store.put_if_absent(KEY, b"one") and other.put_if_absent(KEY, b"two")
    assert store.read(KEY) == b"one" and store.list("") == ("d/",)
    store.close()
    other.close()


def test_the_home_of_a_configuration(tmp_path: Path) -> None:
    assert isinstance(open_store(EngineConfig(tmp_path)), LocalStore)
    store = open_store(EngineConfig(S3Location("bucket", "prefix"), cache_dir=tmp_path / "cache"))
    assert isinstance(store, S3Store) and store.is_remote
    assert repr(store) == "S3Store('s3://bucket/prefix')"
    assert store.staging("d") == tmp_path / "cache/staging/d"


def test_a_folder_needs_no_client_of_object_storage() -> None:
    code = "import engine.engine, engine.store.home, sys; print('boto3' in sys.modules, 'botocore' in sys.modules)"
    run = subprocess.run(
        [sys.executable, "-P", "-c", code], env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=True
    )
    assert run.stdout == "False False\n"


def test_the_metadata_service_is_left_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from botocore.utils import InstanceMetadataFetcher

    asked: list[int] = []
    monkeypatch.setattr(InstanceMetadataFetcher, "retrieve_iam_role_credentials", lambda self: asked.append(1) or {})
    assert S3Store(S3Location("bucket", endpoint="http://127.0.0.1:9"), tmp_path).is_anonymous
    assert not asked
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "false")
    assert S3Store(S3Location("bucket", endpoint="http://127.0.0.1:9"), tmp_path).is_anonymous
    assert asked


# --- multipart uploads of others


def test_an_object_that_came_in_parts(bucket: Bucket, store: S3Store, tmp_path: Path) -> None:
    """`aws s3 cp` sends large files so; their etag is no MD5."""
    first, second = b"a" * (5 << 20), b"b" * 1_000
    where = {"Bucket": bucket.location.bucket, "Key": bucket.full("d/results.csv")}
    upload = bucket.client.create_multipart_upload(**where)["UploadId"]
    parts = []
    for number, data in enumerate((first, second), 1):
        assert store.stat("d/results.csv") is None and store.list("d/") == (), "half an upload is no object"
        etag = bucket.client.upload_part(**where, UploadId=upload, PartNumber=number, Body=data)["ETag"]
        parts.append({"ETag": etag, "PartNumber": number})
    bucket.client.complete_multipart_upload(**where, UploadId=upload, MultipartUpload={"Parts": parts})
    found = store.stat("d/results.csv")
    assert found is not None and found.etag.endswith("-2")
    assert store.list_stats("d/") == (found,)
    staged = store.fetch("d/results.csv", found.etag, tmp_path / "copy")
    assert staged.sha256 == hashlib.sha256(first + second).hexdigest()


# --- a bad network


CONTENT = bytes(range(256)) * 16_000  # 4 MB


@pytest.mark.parametrize("status", [500, 503, 429])
@pytest.mark.parametrize("method", ["GET", "PUT"])
def test_a_service_that_is_busy_for_a_moment(far: S3Store, proxy: FaultProxy, status: int, method: str) -> None:
    fault = proxy.add("answer", method=method, status=status, code="SlowDown", headers={"Retry-After": "0"}, times=2)
    assert far.put_if_absent(KEY, b"one")
    assert far.read(KEY) == b"one"
    assert fault.hits == 2


def test_a_pause_that_the_service_asks_for_is_kept(far: S3Store, proxy: FaultProxy) -> None:
    import time

    proxy.add("answer", method="GET", status=429, code="Later", headers={"Retry-After": "1"})
    started = time.monotonic()
    assert far.read(KEY) is None
    assert time.monotonic() - started >= 1.0


def test_a_service_that_stays_busy(far: S3Store, proxy: FaultProxy) -> None:
    fault = proxy.add("answer", status=503, code="SlowDown", headers={"Retry-After": "0"}, times=100)
    with pytest.raises(StoreError, match="cannot be read: the object storage is busy; try again"):
        far.read(KEY)
    assert fault.hits == IMPATIENT.attempts
    proxy.clear()
    assert far.read(KEY) is None, "it recovers with the service"


@pytest.mark.parametrize("kind", ["refuse", "lose"])
def test_a_connection_that_breaks(far: S3Store, proxy: FaultProxy, kind: str) -> None:
    for method in ("PUT", "GET", "HEAD", "DELETE"):
        proxy.add(kind, method=method)
    assert far.put_if_absent(KEY, b"one"), "tried again, the record that is there is our own"
    assert not far.put_if_absent(KEY, b"two")
    assert far.read(KEY) == b"one"
    assert far.stat(KEY) is not None
    far.delete(KEY)
    assert far.read(KEY) is None


def test_an_answer_to_a_large_put_that_got_lost(far: S3Store, proxy: FaultProxy, tmp_path: Path) -> None:
    path = tmp_path / "blob"
    path.write_bytes(CONTENT)
    proxy.add("lose", method="PUT")
    assert far.put_if_absent("d/_bt/data/a", path)
    # And when it was somebody else who was there, between the two attempts or before.
    proxy.add("lose", method="PUT")
    assert not far.put_if_absent("d/_bt/data/a", b"other")
    assert not far.put_if_absent("d/_bt/data/a", CONTENT[::-1])
    assert far.read("d/_bt/data/a") == CONTENT


@pytest.mark.parametrize("status", [409, 412])
def test_both_refusals_mean_that_it_exists(far: S3Store, proxy: FaultProxy, status: int) -> None:
    proxy.add("answer", method="PUT", status=status, code="ConditionalRequestConflict")
    assert not far.put_if_absent(KEY, b"one")
    assert far.put_if_absent(KEY, b"one")


@pytest.mark.parametrize("kind", ["truncate", "reset", "stall"])
def test_a_body_that_breaks_off(far: S3Store, bucket: Bucket, proxy: FaultProxy, tmp_path: Path, kind: str) -> None:
    bucket.put("d/results.csv", CONTENT)
    found = far.stat("d/results.csv")
    assert found is not None
    proxy.forget()
    for at in (3_000_000, 500_000):
        proxy.add(kind, method="GET", at=at)
    staged = far.fetch("d/results.csv", found.etag, tmp_path / "copy")
    assert staged.path.read_bytes() == CONTENT and staged.sha256 == hashlib.sha256(CONTENT).hexdigest()
    if kind != "reset":  # which throws away what had arrived and was not yet read
        assert proxy.bytes_down["GET"] < 1.5 * len(CONTENT), "it goes on where it broke off"
    proxy.add(kind, method="GET", at=1_000_000)
    assert far.read("d/results.csv") == CONTENT
    proxy.add(kind, method="GET", at=10)
    assert far.read_range("d/results.csv", 100, 1_000) == CONTENT[100:1_100]


@pytest.mark.parametrize("kind", ["truncate", "reset"])
def test_a_body_that_always_breaks_off(
    far: S3Store, bucket: Bucket, proxy: FaultProxy, tmp_path: Path, kind: str
) -> None:
    etag = bucket.put("d/results.csv", CONTENT)
    proxy.add(kind, method="GET", at=0, times=100)
    with pytest.raises(StoreError, match="the object storage broke"):
        far.fetch("d/results.csv", etag, tmp_path / "copy")
    with pytest.raises(StoreError, match="the object storage broke"):
        far.read_range("d/results.csv", 0, 10)


def test_a_slow_body_arrives(far: S3Store, bucket: Bucket, proxy: FaultProxy) -> None:
    bucket.put("d/results.csv", CONTENT[:200_000])
    proxy.add("slow", method="GET", rate=400_000)
    assert far.read("d/results.csv") == CONTENT[:200_000]


def test_an_object_that_is_overwritten_during_its_download(
    far: S3Store, bucket: Bucket, proxy: FaultProxy, tmp_path: Path
) -> None:
    etag = bucket.put("d/results.csv", CONTENT)
    proxy.add("truncate", method="GET", at=1_000_000)
    overwritten = threading.Event()

    def progress(step: str, done: int, total: int) -> None:
        if not overwritten.is_set():
            overwritten.set()
            bucket.put("d/results.csv", CONTENT[::-1])

    with pytest.raises(UnsettledFileError, match="changed while it was being read"):
        far.fetch("d/results.csv", etag, tmp_path / "copy", progress)


def test_damage_on_the_way_up(far: S3Store, proxy: FaultProxy) -> None:
    """Ceph refuses it by its MD5; moto takes anything, and what it took is removed. Either way it is sent again."""
    fault = proxy.add("flip-upload", method="PUT", path="/log/", at=1)
    assert far.put_if_absent(KEY, b"one")
    assert fault.hits == 1
    assert far.read(KEY) == b"one"


def test_damage_on_every_way_up(far: S3Store, proxy: FaultProxy) -> None:
    proxy.add("flip-upload", method="PUT", at=1, times=100)
    with pytest.raises(StoreError, match="damaged on the way"):
        far.put_if_absent(KEY, b"one")
    assert far.read(KEY) is None


def test_a_range_that_is_not_the_one_asked_for(moto_bucket: Bucket, tmp_path: Path) -> None:
    """Some servers answer with the whole object."""
    moto_bucket.put("d/x", CONTENT)
    store = S3Store(moto_bucket.location, tmp_path / "scratch")
    store._objects.s3.meta.events.register(
        "before-sign.s3.GetObject", lambda request, **_: request.headers.__delitem__("Range")
    )
    with pytest.raises(CorruptVersionError):
        store.read_range("d/x", 10, 10)
    store.close()


def test_few_requests(far: S3Store, proxy: FaultProxy) -> None:
    far.put_if_absent(KEY, b"one")
    far.read(KEY)
    far.list("d/")
    far.list_stats("d/")
    far.stat(KEY)
    assert proxy.requests == {"PUT": 1, "GET": 3, "HEAD": 1}


# --- the commands


def bt(location: S3Location, tmp_path: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environ = {
        "PATH": "/usr/bin:/bin",
        "PYTHONPATH": str(ROOT),
        "HOME": str(tmp_path),
        "BT_ENV_FILE": "none",
        "BT_DEFINITIONS": "none",
        "BT_STORE": str(location),
        "BT_S3_ENDPOINT": location.endpoint or "",
        "AWS_ACCESS_KEY_ID": location.access_key_id or "",
        "AWS_SECRET_ACCESS_KEY": location.secret_access_key or "",
    }
    command = [sys.executable, "-P", "-m", "server", *arguments]
    return subprocess.run(command, env=environ, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.parametrize(
    "field, value, says",
    [
        ("secret_access_key", "guessed", "the secret does not belong to the access key"),
        ("access_key_id", "AKIANOBODY", "does not know this access key"),
        ("bucket", "bt-nowhere", "there is no such bucket"),
        ("endpoint", "http://127.0.0.1:9", "the object storage cannot be reached"),
    ],
)
def test_a_bucket_that_cannot_be_opened_stops_the_start(
    bucket: Bucket, tmp_path: Path, field: str, value: str, says: str
) -> None:
    location = replace(bucket.location, **{field: value})
    run = bt(location, tmp_path, "serve", "--port", "0")
    assert run.returncode == 1, run.stderr
    (line,) = run.stderr.splitlines()
    assert says in line and str(location) in line and "guessed" not in line
    found = json.loads(bt(location, tmp_path, "doctor", "--json").stdout)
    (problem,) = [finding for finding in found["findings"] if finding["level"] == "problem"]
    assert says in problem["what"] and problem["advice"]
