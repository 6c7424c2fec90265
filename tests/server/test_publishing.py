"""Uploads, rolling back, and looking for dropped files, over HTTP."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.feather
import pytest
from starlette.testclient import TestClient

from server.app import create_app
from tests.server.conftest import local_client, settings, sweep

VERSIONS = "/api/datasets/sweep/versions"


def _offset(client: TestClient, **parameters: str) -> float:
    """How far the values lie above those of ``sweep()``."""
    query = {"metric": "pile-valppl", "params": "4M", "data": "Dolma1.7", "step": "1250", **parameters}
    found: float = client.get("/api/datasets/sweep/rows", params=query).json()["data"][0]["value"] - 100.0
    return found


def test_an_upload_becomes_the_latest_version(own_client: TestClient, parquet_file: Path) -> None:
    found = own_client.post(f"{VERSIONS}?message=more%20seeds&by=me", content=parquet_file.read_bytes())
    assert found.status_code == 201, found.text
    assert found.headers["location"] == "/api/datasets/sweep/versions/v2"
    version = found.json()["version"]
    assert (version["version"], version["message"], version["by"], version["rows"]) == ("v2", "more seeds", "me", 90)
    assert found.json()["created"] is True
    assert own_client.get(found.headers["location"]).json() == version
    assert _offset(own_client) == 5.0
    assert _offset(own_client, version="v1") == 0.0


def test_the_same_bytes_again_are_no_new_version(own_client: TestClient, parquet_file: Path) -> None:
    assert own_client.post(VERSIONS, content=parquet_file.read_bytes()).status_code == 201
    again = own_client.post(VERSIONS, content=parquet_file.read_bytes())
    assert again.status_code == 200
    assert again.json()["created"] is False
    assert again.json()["version"]["version"] == "v2"


def test_a_form(own_client: TestClient, parquet_file: Path) -> None:
    with parquet_file.open("rb") as file:
        found = own_client.post(
            VERSIONS, files={"file": ("../../etc/runs.parquet", file)}, data={"message": "a form", "by": "somebody"}
        )
    assert found.status_code == 201, found.text
    version = found.json()["version"]
    assert (version["message"], version["by"], version["original"]["name"]) == ("a form", "somebody", "runs.parquet")


def test_a_new_dataset(own_client: TestClient) -> None:
    found = own_client.post("/api/datasets/fresh/versions?filename=a.csv", content=b"step,loss\n1,2.5\n2,nan\n")
    assert found.status_code == 201, found.text
    assert own_client.get("/api/datasets/fresh/rows").json()["data"] == [
        {"step": 1, "loss": 2.5},
        {"step": 2, "loss": None},
    ]


def test_arrow_and_json_lines(own_client: TestClient, tmp_path: Path) -> None:
    path = tmp_path / "a.arrow"
    pyarrow.feather.write_feather(pa.table({"n": [1, 2]}), path, compression="uncompressed")
    assert own_client.post("/api/datasets/arrow/versions", content=path.read_bytes()).status_code == 201
    lines = own_client.post("/api/datasets/lines/versions?filename=x.jsonl", content=b'{"n":1}\n{"n":2}\n')
    assert lines.status_code == 201
    for name in ("arrow", "lines"):
        assert own_client.get(f"/api/datasets/{name}/rows").json()["data"] == [{"n": 1}, {"n": 2}]


def _broken(whole: bytes) -> dict[str, bytes]:
    return {
        "empty.parquet": b"",
        "text.parquet": b"not parquet at all",
        "short.parquet": whole[:-20],
        "hollow.parquet": whole[:4] + whole[-12:],
        "noise.parquet": whole[:50] + os.urandom(200) + whole[250:],
        "unknown.xyz": b"\x00\x01\x02",
    }


@pytest.mark.parametrize("name", list(_broken(b"x" * 1000)))
def test_a_bad_file_is_rejected_with_its_reason(own_client: TestClient, parquet_file: Path, name: str) -> None:
    content = _broken(parquet_file.read_bytes())[name]
    found = own_client.post(f"{VERSIONS}?filename={name}", content=content)
    assert found.status_code == (400 if not content else 422), found.text
    assert found.headers["content-type"] == "application/problem+json"
    assert found.json()["code"] == ("bad_request" if not content else "rejected_file")
    assert "/tmp" not in found.text
    assert own_client.get(VERSIONS).json()["latest"] == "v1"


@pytest.mark.parametrize(
    "content, kind, status",
    [
        (b"x", "multipart/form-data", 400),
        (b"nothing", "multipart/form-data; boundary=abc", 400),
        (
            b'--abc\r\nContent-Disposition: form-data; name="message"\r\n\r\nhi\r\n--abc--\r\n',
            "multipart/form-data; boundary=abc",
            400,
        ),
        (
            b'--abc\r\nContent-Disposition: form-data; name="file"; filename="a.csv"\r\n\r\na\n1',
            "multipart/form-data; boundary=abc",
            400,
        ),
        (
            b'--abc\r\nContent-Disposition: form-data; name="other"; filename="a.csv"\r\n\r\na\n1\r\n--abc--\r\n',
            "multipart/form-data; boundary=abc",
            400,
        ),
        (
            b'--abc\r\nContent-Disposition: form-data; name="color"\r\n\r\nred\r\n'
            b'--abc\r\nContent-Disposition: form-data; name="file"; filename="a.csv"\r\n\r\na\n1\r\n--abc--\r\n',
            "multipart/form-data; boundary=abc",
            400,
        ),
    ],
    ids=["no boundary", "no form", "no file", "cut short", "another field", "an unknown field"],
)
def test_bad_forms(own_client: TestClient, content: bytes, kind: str, status: int) -> None:
    found = own_client.post(VERSIONS, content=content, headers={"content-type": kind})
    assert found.status_code == status, found.text
    assert own_client.get(VERSIONS).json()["latest"] == "v1"


def test_uploads_are_bounded(own_store: Path, parquet_file: Path) -> None:
    content = parquet_file.read_bytes()

    def pieces() -> Any:
        yield content[:100]
        yield content[100:]

    with local_client(settings(own_store, max_upload_bytes=len(content) - 1)) as served:
        for sent in (content, pieces()):
            found = served.post(VERSIONS, content=sent)
            assert found.status_code == 413
            assert found.json()["code"] == "body_too_large"
        found = served.post(VERSIONS, files={"file": ("a.parquet", content)})
        assert found.status_code == 413
        assert served.get(VERSIONS).json()["latest"] == "v1"


def test_a_bad_name(own_client: TestClient) -> None:
    found = own_client.post("/api/datasets/Bad%20Name/versions", content=b"x")
    assert (found.status_code, found.json()["code"]) == (422, "invalid_name")


def test_a_schema_that_breaks_queries(own_store: Path) -> None:
    with local_client(settings(own_store, schema_policy="block-breaking")) as served:
        found = served.post(f"{VERSIONS}?filename=x.csv", content=b"a\n1\n")
        assert (found.status_code, found.json()["code"]) == (409, "publish_conflict")


def test_rolling_back_and_forward(own_client: TestClient, parquet_file: Path) -> None:
    own_client.post(VERSIONS, content=parquet_file.read_bytes())
    etag = own_client.get("/api/datasets/sweep/rows").headers["etag"]
    for version, offset in (("v1", 0.0), (2, 5.0), ("1", 0.0)):
        found = own_client.put("/api/datasets/sweep/latest", json={"version": version, "message": "why"})
        assert found.status_code == 200, found.text
        assert found.json()["latest"] == f"v{str(version).removeprefix('v')}"
        assert _offset(own_client) == offset
    assert own_client.get("/api/datasets/sweep/rows").headers["etag"] != etag


@pytest.mark.parametrize(
    "body, status, code",
    [
        (b"", 400, "grammar"),
        (b"[]", 400, "grammar"),
        (b'{"version":true}', 400, "grammar"),
        (b'{"version":null}', 400, "grammar"),
        (b'{"version":"v1","x":1}', 400, "unknown_parameter"),
        (b'{"version":"v9"}', 404, "version_not_found"),
        (b'{"version":"' + b"x" * 20_000 + b'"}', 413, "body_too_large"),
    ],
)
def test_wrong_roll_backs(own_client: TestClient, body: bytes, status: int, code: str) -> None:
    found = own_client.put("/api/datasets/sweep/latest", content=body)
    assert (found.status_code, found.json()["code"]) == (status, code)


def test_a_roll_back_of_nothing(own_client: TestClient) -> None:
    found = own_client.put("/api/datasets/none/latest", json={"version": "v1"})
    assert (found.status_code, found.json()["code"]) == (404, "dataset_not_found")


def test_a_roll_back_that_expects_a_state(own_client: TestClient, parquet_file: Path) -> None:
    before = own_client.get("/api/datasets/sweep", headers={"accept-encoding": "gzip"}).headers["etag"]
    own_client.post(VERSIONS, content=parquet_file.read_bytes())
    late = own_client.put("/api/datasets/sweep/latest", json={"version": "v1"}, headers={"if-match": before})
    assert (late.status_code, late.json()["code"]) == (412, "precondition_failed")
    now = own_client.get("/api/datasets/sweep", headers={"accept-encoding": "gzip"}).headers["etag"]
    fine = own_client.put("/api/datasets/sweep/latest", json={"version": "v1"}, headers={"if-match": now})
    assert fine.status_code == 200


@pytest.mark.parametrize("given", ["v1", "1", "parameter", "field"])
def test_a_publish_that_expects_a_state(own_client: TestClient, parquet_file: Path, given: str) -> None:
    content, version = parquet_file.read_bytes(), given if given in ("v1", "1") else "v1"
    options: dict[str, Any] = {"content": content, "params": {"if_latest": version}}
    if given == "field":
        options = {"files": {"file": ("a.parquet", content)}, "data": {"if_latest": version}}
    assert own_client.post(VERSIONS, **options).status_code == 201
    other = {"content": b"step\n1\n", "params": {"if_latest": version, "filename": "a.csv"}}
    late = own_client.post(VERSIONS, **other)
    assert (late.status_code, late.json()["code"]) == (412, "precondition_failed")
    assert own_client.get(VERSIONS).json()["latest"] == "v2"


def test_a_publish_with_if_match(own_client: TestClient, parquet_file: Path) -> None:
    before = own_client.get("/api/datasets/sweep").headers["etag"]
    content = parquet_file.read_bytes()
    assert own_client.post(VERSIONS, content=content, headers={"if-match": before}).status_code == 201
    late = own_client.post(VERSIONS, content=content, headers={"if-match": before})
    assert (late.status_code, late.json()["code"]) == (412, "precondition_failed")
    nothing = own_client.post("/api/datasets/fresh/versions", content=content, headers={"if-match": before})
    assert (nothing.status_code, nothing.json()["code"]) == (412, "precondition_failed")


def test_a_dry_run(own_client: TestClient, parquet_file: Path) -> None:
    found = own_client.post(f"{VERSIONS}?dry_run=1", content=parquet_file.read_bytes())
    assert found.status_code == 200, found.text
    plan = found.json()
    assert (plan["kind"], plan["latest"], plan["rows"], plan["rows_before"]) == ("new", "v1", 90, 90)
    assert plan["diff"]["added"] == [] and plan["schema"][0]["name"] == "params"
    csv = own_client.post(f"{VERSIONS}?dry_run=true&filename=a.csv", content=b"step,note\n1,x\n").json()
    assert csv["diff"]["added"] == ["note"] and csv["rows"] == 1
    assert own_client.post(f"{VERSIONS}?dry_run=maybe", content=b"x").status_code == 422
    late = own_client.post(f"{VERSIONS}?dry_run=1&if_latest=v9", content=parquet_file.read_bytes())
    assert late.status_code == 412
    assert [one["version"] for one in own_client.get(VERSIONS).json()["data"]] == ["v1"]
    assert own_client.post(VERSIONS, content=parquet_file.read_bytes()).status_code == 201
    again = own_client.post(f"{VERSIONS}?dry_run=1", content=parquet_file.read_bytes()).json()
    assert (again["kind"], again["version"]) == ("same", "v2")


def test_refresh_finds_what_was_dropped(own_store: Path) -> None:
    import pyarrow.parquet as pq

    with local_client(settings(own_store, drop_settle_s=0)) as served:
        drop = own_store / "sweep" / "results.parquet"
        pq.write_table(sweep(7.0), drop)
        past = time.time() - 60
        os.utime(drop, (past, past))
        found = served.post("/api/datasets/sweep/refresh")
        assert found.status_code == 200
        (event,) = found.json()["events"]
        assert (event["kind"], event["file"], event["version"]) == ("published", "results.parquet", "v2")
        assert _offset(served) == 7.0
        drop.write_bytes(b"PAR1 nonsense")
        os.utime(drop, (past + 1, past + 1))
        (event,) = served.post("/api/datasets/sweep/refresh").json()["events"]
        assert event["kind"] == "rejected"
        (reject,) = served.get(VERSIONS).json()["rejects"]
        assert reject["reason"] == event["reason"]
        assert _offset(served) == 7.0


@pytest.mark.parametrize(
    "headers",
    [
        {"host": "bytomorrow.app"},
        {"origin": "https://evil.example"},
        {"sec-fetch-site": "cross-site"},
        {"x-forwarded-for": "192.0.2.7"},
    ],
    ids=["another host", "another origin", "another site", "through a proxy"],
)
def test_strangers_cannot_publish(own_client: TestClient, parquet_file: Path, headers: dict[str, str]) -> None:
    for method, path, body in (
        ("POST", VERSIONS, parquet_file.read_bytes()),
        ("PUT", "/api/datasets/sweep/latest", b'{"version":"v1"}'),
        ("POST", "/api/datasets/sweep/refresh", b""),
        ("PUT", "/api/datasets/sweep/tags/paper", b'{"version":"v1"}'),
        ("DELETE", "/api/datasets/sweep/tags/paper", b""),
        ("POST", "/api/datasets/sweep/versions/v1/yank", b""),
        ("POST", "/api/datasets/sweep/versions/v1/restore", b""),
    ):
        found = own_client.request(method, path, content=body, headers=headers)
        assert (found.status_code, found.json()["code"]) == (403, "forbidden")
    assert own_client.get(VERSIONS).json()["latest"] == "v1"


def test_nor_can_other_machines(own_store: Path) -> None:
    application = create_app(settings(own_store))
    with TestClient(application, client=("192.0.2.7", 1), base_url="http://localhost") as stranger:
        assert stranger.get("/api/datasets/sweep/rows").status_code == 200
        assert stranger.post(VERSIONS, content=b"x").status_code == 403


def test_refresh_waits_until_a_drop_holds_still(own_store: Path) -> None:
    """Who asks for a refresh just dropped the file, and should not have to ask again."""
    with local_client(settings(own_store, drop_settle_s=0.1)) as client:
        (own_store / "fresh").mkdir()
        (own_store / "fresh" / "results.csv").write_text("a\n1\n")
        found = client.post("/api/datasets/fresh/refresh").json()
        assert [event["kind"] for event in found["events"]] == ["published"]
        assert found["latest"] == "v1"
