"""Tags, yanking, expired versions, histories and versions in several files, over HTTP."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from starlette.testclient import TestClient

from engine import Engine, EngineConfig
from engine.store import DatasetLog, LocalStore
from engine.store.records import Body, Publish
from engine.store.state import DatasetState
from tests.server.conftest import DEFINITION, local_client, settings, sweep

SWEEP = "/api/datasets/sweep"
STATUS = ("latest", "tags", "yanked", "expired")


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """Three versions of ``sweep``, the first of which has expired."""
    folder = tmp_path / "store"
    (folder / "sweep").mkdir(parents=True)
    (folder / "sweep" / "dataset.toml").write_text(DEFINITION, encoding="utf-8")
    with Engine(EngineConfig(store=folder, definitions=None)) as engine:
        for offset in (0.0, 1.0, 2.0):
            engine.publish("sweep", sweep(offset), message=f"by {offset}", by="tests")
        engine.expire("sweep", ["v1"], keep=1, by="tests", message="old")
    return folder


@pytest.fixture
def client(store: Path) -> Iterator[TestClient]:
    with local_client(settings(store)) as opened:
        yield opened


def status(client: TestClient, version: str) -> dict[str, Any]:
    listed = client.get(f"{SWEEP}/versions").json()["data"]
    return {key: value for one in listed if one["version"] == version for key, value in one.items() if key in STATUS}


def test_a_tag(client: TestClient) -> None:
    found = client.put(f"{SWEEP}/tags/paper", json={"version": "v2", "message": "figure 3", "by": "ada"})
    assert found.status_code == 200, found.text
    assert (found.json()["tag"], found.json()["version"]["tags"], found.json()["latest"]) == ("paper", ["paper"], "v3")
    assert found.headers["cache-control"] == "no-store"
    rows = client.get(f"{SWEEP}/rows?version=paper&limit=1")
    assert rows.json()["meta"]["version"] == "v2"
    assert rows.headers["cache-control"] == "no-cache", "it may be moved"
    assert "version=v2" in rows.headers["content-location"]
    assert client.get(f"{SWEEP}/versions/paper").json()["version"] == "v2"
    assert client.get(f"{SWEEP}/versions/paper").headers["cache-control"] == "no-cache"
    assert client.get(f"{SWEEP}/versions").json()["tags"] == {"paper": "v2"} == client.get(SWEEP).json()["tags"]
    taken = client.put(f"{SWEEP}/tags/paper", json={"version": "v3"})
    assert (taken.status_code, taken.json()["code"]) == (409, "publish_conflict")
    assert client.put(f"{SWEEP}/tags/paper", json={"version": 3, "move": True}).status_code == 200
    assert client.get(f"{SWEEP}/rows?version=paper&limit=1").json()["meta"]["version"] == "v3"
    gone = client.delete(f"{SWEEP}/tags/paper?message=done")
    assert (gone.status_code, gone.json()["was"], gone.json()["tags"]) == (200, "v3", {})
    again = client.delete(f"{SWEEP}/tags/paper")
    assert (again.status_code, again.json()["code"]) == (404, "tag_not_found")


@pytest.mark.parametrize(
    "path, body, expected",
    [
        ("tags/v7", {"version": "v2"}, (422, "invalid_name")),
        ("tags/latest", {"version": "v2"}, (422, "invalid_name")),
        ("tags/x", {"version": "v1"}, (404, "version_not_found")),
        ("tags/x", {"version": "v9"}, (404, "version_not_found")),
        ("tags/x", {}, (400, "grammar")),
        ("tags/x", {"version": "v2", "move": "yes"}, (400, "grammar")),
        ("tags/x", {"version": "v2", "mov": True}, (400, "unknown_parameter")),
        ("tags/x", [], (400, "grammar")),
    ],
)
def test_wrong_tags(client: TestClient, path: str, body: Any, expected: tuple[int, str]) -> None:
    found = client.put(f"{SWEEP}/{path}", json=body)
    assert (found.status_code, found.json()["code"]) == expected, found.text


def test_a_page_by_a_tag_that_was_moved(client: TestClient) -> None:
    """The cursor knows which version its first page was of."""
    client.put(f"{SWEEP}/tags/paper", json={"version": "v2"})
    first = client.get(f"{SWEEP}/rows?version=paper&limit=5").json()
    client.put(f"{SWEEP}/tags/paper", json={"version": "v3", "move": True})
    second = client.get(first["links"]["next"])
    assert second.status_code == 200, second.text
    assert second.json()["meta"]["version"] == "v2"
    wrong = client.get(f"{SWEEP}/rows?version=v3&limit=5&cursor={first['meta']['next_cursor']}")
    assert wrong.json()["code"] == "bad_cursor"


def test_yanking_and_restoring(client: TestClient) -> None:
    pinned = client.get(f"{SWEEP}/rows?version=v3&limit=3")
    document = client.get(f"{SWEEP}/versions/v3")
    found = client.post(f"{SWEEP}/versions/latest/yank", json={"message": "wrong seed", "by": "ada"})
    assert found.status_code == 200, found.text
    assert found.json()["latest"] == "v2"
    assert found.json()["version"]["yanked"]["message"] == "wrong seed"
    assert client.get(SWEEP).json()["yanked"] == ["v3"]
    assert client.get(f"{SWEEP}/rows?limit=1").json()["meta"]["version"] == "v2"
    for before in (pinned, document):
        after = client.get(before.request.url.path, params=before.request.url.params)
        assert after.content == before.content, "a pinned answer is the same for ever"
        assert after.headers["etag"] == before.headers["etag"] and "immutable" in after.headers["cache-control"]
    refused = client.put(f"{SWEEP}/latest", json={"version": "v3"})
    assert (refused.status_code, refused.json()["code"]) == (409, "publish_conflict")
    assert "wrong seed" in refused.json()["detail"]
    assert client.post(f"{SWEEP}/versions/v3/restore").json()["latest"] == "v3"
    assert status(client, "v3") == {"latest": True, "tags": [], "yanked": None, "expired": None}
    client.post(f"{SWEEP}/versions/v2/yank")
    client.post(f"{SWEEP}/versions/v3/yank")
    nothing = client.get(f"{SWEEP}/rows?limit=1")
    assert (nothing.status_code, nothing.json()["code"]) == (404, "version_not_found")
    assert "every version of sweep is yanked or expired" in nothing.json()["detail"]


def test_an_expired_version(client: TestClient) -> None:
    assert status(client, "v1")["expired"]["message"] == "old"
    assert (client.get(SWEEP).json()["versions"], client.get(SWEEP).json()["expired"]) == (["v3", "v2"], ["v1"])
    for path in ("versions/v1", "versions/v1/file", "rows?version=v1", "columns/step?version=v1", "?version=1"):
        found = client.get(f"{SWEEP}/{path}" if not path.startswith("?") else f"{SWEEP}{path}")
        assert (found.status_code, found.json()["code"]) == (404, "version_not_found"), path
        assert "sweep v1 has expired: its files are kept no longer" in found.json()["detail"]
    for method, path in (("POST", "versions/v1/restore"), ("POST", "versions/v1/yank")):
        assert client.request(method, f"{SWEEP}/{path}").status_code == 404


def test_a_cursor_of_a_version_that_expires(store: Path, client: TestClient) -> None:
    first = client.get(f"{SWEEP}/rows?version=v2&limit=5").json()
    with Engine(EngineConfig(store=store, definitions=None)) as engine:
        engine.expire("sweep", ["v2"], keep=1)
    found = client.get(first["links"]["next"])
    assert (found.status_code, found.json()["code"]) == (404, "version_not_found")


def test_a_time(client: TestClient) -> None:
    at = client.get(f"{SWEEP}/versions/v2").json()["at"]
    found = client.get(f"{SWEEP}/rows", params={"version": at, "limit": "1"})
    assert found.json()["meta"]["version"] == "v2"
    assert found.headers["cache-control"] == "no-cache"
    assert client.get(f"{SWEEP}/rows?version=2001-01-01").status_code == 404


def test_the_history(client: TestClient) -> None:
    found = client.get(f"{SWEEP}/history")
    assert found.headers["cache-control"] == "no-cache"
    assert found.json()["total"] == 4
    events = found.json()["data"]
    assert [(event["seq"], event["kind"], event["version"]) for event in events] == [
        (4, "expire", None),
        (3, "publish", "v3"),
        (2, "publish", "v2"),
        (1, "publish", "v1"),
    ]
    assert (events[0]["detail"], events[0]["message"], events[1]["by"]) == ("v1", "old", "tests")
    page = client.get(f"{SWEEP}/history?limit=2&offset=1").json()
    assert [event["seq"] for event in page["data"]] == [3, 2]
    assert client.get(f"{SWEEP}/history?limit=100000").status_code == 422
    assert client.get("/api/datasets/none/history").status_code == 404


@pytest.fixture
def parts(store: Path, client: TestClient) -> TestClient:
    """The same with v5, which is stored in two files."""

    def write(state: DatasetState) -> Body:
        one, two = state.resolve("v2"), state.resolve("v3")
        files = (*one.files, *two.files)
        return Publish(files, one.schema, one.schema_hash, one.diff, one.original, definition=one.definition)

    DatasetLog(LocalStore(store), "sweep").append(write, by="tests")
    return client


def test_a_version_in_several_files(parts: TestClient) -> None:
    document = parts.get(f"{SWEEP}/versions/v5").json()
    links = [file["link"] for file in document["files"]]
    assert links == [f"{SWEEP}/versions/v5/file?part={part}" for part in (1, 2)]
    found = parts.get(document["links"]["file"])
    assert (found.status_code, found.json()["code"]) == (404, "several_files")
    assert found.json()["errors"][0]["did_you_mean"] == links
    read = [parts.get(link) for link in links]
    assert [answer.headers["etag"].strip('"') for answer in read] == [file["sha256"] for file in document["files"]]
    assert read[1].headers["content-disposition"] == 'attachment; filename="sweep-v5-2.parquet"'
    table = pa.concat_tables(pq.read_table(io.BytesIO(answer.content)) for answer in read)
    assert table.num_rows == document["rows"] == 180
    latest = parts.get(f"{SWEEP}/versions/latest/file?part=2")
    assert latest.headers["content-location"] == links[1]
    assert parts.get(links[0], headers={"range": "bytes=0-3"}).content == b"PAR1"
    assert parts.head(links[0]).headers["content-length"] == str(document["files"][0]["bytes"])
    assert parts.get(f"{SWEEP}/rows?limit=0").json()["meta"]["total"] == 180


@pytest.mark.parametrize(
    "path, expected",
    [
        ("v5/file?part=3", (404, "several_files")),
        ("v5/file?part=0", (404, "several_files")),
        ("v5/file?part=x", (422, "invalid_value")),
        ("v3/file?part=2", (404, "not_found")),
        ("v3/file?part=1", (200, None)),
    ],
)
def test_parts_that_are_not_there(parts: TestClient, path: str, expected: tuple[int, str | None]) -> None:
    found = parts.get(f"{SWEEP}/versions/{path}")
    code = found.json()["code"] if found.status_code >= 400 else None
    assert (found.status_code, code) == expected
