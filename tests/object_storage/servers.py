"""Two real object storages on loopback, each a process of its own: moto's server, which truly checks signatures and
policies here, and Ceph's gateway. Used by tests and benchmarks; ends what it started, by its process id.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from engine.config import S3Location

REPOSITORY = Path(__file__).resolve().parents[2]
CEPH_PROGRAMS = ("ceph-mon", "ceph-osd", "radosgw", "radosgw-admin", "ceph-authtool", "monmaptool", "ceph")


class NoServerError(Exception):
    """A server cannot be started here; its text says what is missing."""


@dataclass(frozen=True)
class Server:
    """A running storage and the keys of its owner. ``kind`` is moto or ceph; ``folder`` is Ceph's."""

    kind: str
    endpoint: str
    access_key_id: str
    secret_access_key: str
    folder: Path | None = None

    def location(self, bucket: str, prefix: str = "") -> S3Location:
        return S3Location(
            bucket,
            prefix,
            endpoint=self.endpoint,
            access_key_id=self.access_key_id,
            secret_access_key=self.secret_access_key,
        )

    def client(self, service: str = "s3") -> Any:
        """A client of boto3 as others use it, with its own defaults."""
        import boto3
        from botocore.config import Config

        return boto3.session.Session().client(
            service,
            endpoint_url=self.endpoint,
            region_name="us-east-1",
            aws_access_key_id=self.access_key_id,
            aws_secret_access_key=self.secret_access_key,
            config=Config(s3={"addressing_style": "path"}, proxies={}),
        )

    def reader(self, bucket: str) -> tuple[str, str]:
        """The keys of somebody who may read and list this bucket and nothing else."""
        name = f"reader-{secrets.token_hex(4)}"
        if self.kind == "moto":
            statement = {"Effect": "Allow", "Action": ["s3:Get*", "s3:List*"], "Resource": "*"}
            return _moto_user(self.client("iam"), name, statement)
        assert self.folder is not None
        key, secret = name, secrets.token_hex(16)
        _radosgw_admin(
            self.folder, "user", "create", f"--uid={name}", f"--display-name={name}",
            f"--access-key={key}", f"--secret-key={secret}",
        )  # fmt: skip
        self.publish(bucket, principal={"AWS": [f"arn:aws:iam:::user/{name}"]})
        return key, secret

    def publish(self, bucket: str, *, principal: Any = "*") -> None:
        """Let everyone, or somebody, read and list a bucket."""
        with _closing(self.client()) as client:
            statement = {
                "Effect": "Allow",
                "Principal": principal,
                "Action": ["s3:GetObject", "s3:ListBucket"],
                "Resource": [f"arn:aws:s3:::{bucket}", f"arn:aws:s3:::{bucket}/*"],
            }
            client.put_bucket_policy(
                Bucket=bucket, Policy=json.dumps({"Version": "2012-10-17", "Statement": [statement]})
            )


@dataclass(frozen=True)
class Bucket:
    """A fresh bucket: where a store in it is, and a client as a researcher has one."""

    server: Server
    location: S3Location
    client: Any

    def full(self, key: str) -> str:
        return f"{self.location.prefix}/{key}" if self.location.prefix else key

    def put(self, key: str, content: bytes) -> str:
        """Drop an object as a researcher does; its etag."""
        answer = self.client.put_object(Bucket=self.location.bucket, Key=self.full(key), Body=content)
        return str(answer["ETag"].strip('"'))

    def get(self, key: str) -> bytes:
        return bytes(self.client.get_object(Bucket=self.location.bucket, Key=self.full(key))["Body"].read())

    def remove(self, key: str) -> None:
        self.client.delete_object(Bucket=self.location.bucket, Key=self.full(key))

    def keys(self, prefix: str = "") -> list[str]:
        """All keys below a prefix, at any depth."""
        pages = self.client.get_paginator("list_objects_v2").paginate(
            Bucket=self.location.bucket, Prefix=self.full(prefix)
        )
        skip = len(self.full(""))
        return [item["Key"][skip:] for page in pages for item in page.get("Contents", ())]

    def through(self, endpoint: str) -> S3Location:
        """The same place, reached by way of a proxy."""
        return replace(self.location, endpoint=endpoint)


@contextmanager
def fresh_bucket(server: Server, prefix: str = "lab/store") -> Iterator[Bucket]:
    """A bucket that is removed with all that is in it."""
    name = f"bt-{secrets.token_hex(6)}"
    with _closing(server.client()) as client:
        client.create_bucket(Bucket=name)
        try:
            yield Bucket(server, server.location(name, prefix), client)
        finally:
            pages = client.get_paginator("list_objects_v2").paginate(Bucket=name)
            for page in pages:
                for item in page.get("Contents", ()):
                    client.delete_object(Bucket=name, Key=item["Key"])
            with suppress(client.exceptions.ClientError):  # an upload that somebody left unfinished
                client.delete_bucket(Bucket=name)


@contextmanager
def moto_server() -> Iterator[Server]:
    """Moto's server. Its first three requests are free, and make a user; from then on each is checked."""
    port = _free_port()
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "MOTO_"))}
    process = subprocess.Popen(
        [sys.executable, "-P", "-W", "ignore", "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
        env={**environ, "INITIAL_NO_AUTH_ACTION_COUNT": "3", "PYTHONPATH": ""},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        _wait_for(port, process)
        first = Server("moto", f"http://127.0.0.1:{port}", "first", "first")
        everything = {"Effect": "Allow", "Action": "*", "Resource": "*"}
        with _closing(first.client("iam")) as client:
            key, secret = _moto_user(client, "owner", everything)
        yield replace(first, access_key_id=key, secret_access_key=secret)
    finally:
        process.kill()
        process.wait()


def _moto_user(client: Any, name: str, statement: dict[str, Any]) -> tuple[str, str]:
    with _closing(client):
        client.create_user(UserName=name)
        policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
        client.put_user_policy(UserName=name, PolicyName="all", PolicyDocument=policy)
        key = client.create_access_key(UserName=name)["AccessKey"]
    return key["AccessKeyId"], key["SecretAccessKey"]


@contextmanager
def ceph_server() -> Iterator[Server]:
    """Ceph's gateway. Raises NoServerError when this machine lacks what it needs."""
    shared = Path(os.environ["BT_SHARED_DATA"]).parent if os.environ.get("BT_SHARED_DATA") else None
    places = [REPOSITORY.parent / "shared", *([shared] if shared else [])]
    tool = next((place / "tools" / "radosgw" for place in places if (place / "tools" / "radosgw").is_file()), None)
    if tool is None:
        raise NoServerError("../shared/tools/radosgw is not here")
    missing = [name for name in CEPH_PROGRAMS if shutil.which(name) is None]
    if missing:
        raise NoServerError(
            f"Ceph is not installed ({missing[0]} is missing); the head of shared/tools/radosgw says how"
        )
    # Short, for the names of sockets in it may have 107 bytes at most.
    folder = Path(tempfile.mkdtemp(prefix="bt-ceph-"))
    port = _free_port(also=(37, 38))
    try:
        run = subprocess.run(
            ["bash", str(tool), "start", str(folder), str(port)],
            capture_output=True,
            text=True,
            timeout=180,
            check=False,
        )
        if run.returncode:
            raise NoServerError(f"Ceph did not start: {run.stderr.strip()[-300:]}")
        given = dict(word.split("=", 1) for word in run.stdout.split())
        server = Server(
            "ceph", given["BT_S3_ENDPOINT"], given["AWS_ACCESS_KEY_ID"], given["AWS_SECRET_ACCESS_KEY"], folder
        )
        with fresh_bucket(server) as bucket:  # its pools are made by what first needs them, which takes seconds
            bucket.put("x", b"x")
            started = bucket.client.create_multipart_upload(Bucket=bucket.location.bucket, Key="y")
            bucket.client.abort_multipart_upload(Bucket=bucket.location.bucket, Key="y", UploadId=started["UploadId"])
        yield server
    finally:
        subprocess.run(["bash", str(tool), "stop", str(folder)], capture_output=True, timeout=60, check=False)
        shutil.rmtree(folder, ignore_errors=True)


def _radosgw_admin(folder: Path, *arguments: str) -> None:
    subprocess.run(
        ["radosgw-admin", "-n", "client.admin", *arguments],
        env={**os.environ, "CEPH_CONF": str(folder / "ceph.conf"), "CEPH_ARGS": ""},
        capture_output=True,
        timeout=60,
        check=True,
    )


def _free_port(also: tuple[int, ...] = ()) -> int:
    """A port of loopback that is free, and those at some distance from it too."""
    while True:
        with socket.create_server(("127.0.0.1", 0)) as first:
            port: int = first.getsockname()[1]
        if port + max(also, default=0) > 65_535:
            continue
        try:
            for distance in also:
                socket.create_server(("127.0.0.1", port + distance)).close()
        except OSError:
            continue
        return port


def _wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    for _ in range(600):
        if process.poll() is not None:
            raise NoServerError(f"moto's server ended with {process.returncode}")
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            time.sleep(0.05)
    raise NoServerError("moto's server does not listen after 30 seconds")


@contextmanager
def _closing(client: Any) -> Iterator[Any]:
    try:
        yield client
    finally:
        client.close()
