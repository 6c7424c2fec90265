"""The promises of SPEC 7, read off a store as plain JSON and bytes: nothing of the code under test is used."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from tests.engine.store.homes import FolderHome, Home

Records = list[dict[str, Any]]


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def home_of(where: Path | Home) -> Home:
    return FolderHome(where) if isinstance(where, Path) else where


def read_log(where: Path | Home, dataset: str) -> Records:
    """The log as plain JSON, in order; fails when it is not dense."""
    home = home_of(where)
    prefix = f"{dataset}/_bt/log/"
    return parse_log({key: home.get(key) for key in home.stamps(prefix)}, dataset)


def parse_log(data: dict[str, bytes], dataset: str) -> Records:
    keys = sorted(data)
    assert keys == [f"{dataset}/_bt/log/{seq:010d}.json" for seq in range(1, len(keys) + 1)], (
        f"the log is not dense: {keys}"
    )
    records = [json.loads(data[key]) for key in keys]
    assert [record["seq"] for record in records] == list(range(1, len(keys) + 1))
    return records


def current_of(where: Path | Home, dataset: str) -> dict[str, Any] | None:
    """The publish record that readers follow, by the rule of SPEC 7 and nothing else."""
    return Model.of(read_log(where, dataset)).current


@dataclass
class Model:
    """What a log's records say, folded as simply as can be. It fails where a record says what it may not."""

    versions: dict[int, dict[str, Any]] = field(default_factory=dict)
    pointers: list[int] = field(default_factory=list)
    tags: dict[str, int] = field(default_factory=dict)
    yanked: set[int] = field(default_factory=set)
    expired: set[int] = field(default_factory=set)
    drops: dict[tuple[str, str, int, str | None], int | None] = field(default_factory=dict)

    @classmethod
    def of(cls, records: Iterable[dict[str, Any]]) -> Model:
        model = cls()
        for record in records:
            model.add(record)
        return model

    @property
    def current(self) -> dict[str, Any] | None:
        unusable = self.yanked | self.expired
        return next((self.versions[one] for one in reversed(self.pointers) if one not in unusable), None)

    @property
    def live(self) -> list[int]:
        return [number for number in self.versions if number not in self.expired]

    def files(self, number: int) -> list[dict[str, Any]]:
        """All files of a version, those beside its rows included."""
        record = self.versions[number]
        return [*record["files"], *(record[name] for name in ("facts",) if record.get(name))]

    def add(self, record: dict[str, Any]) -> None:
        kind, seq = record["kind"], record["seq"]
        targets = [*record.get("targets", ()), *([record["target"]] if record.get("target") is not None else [])]
        assert all(target in self.versions for target in targets), f"record {seq} names a version that does not exist"
        if kind == "publish":
            self.versions[seq] = record
            self.pointers.append(seq)
        elif kind == "set_current":
            assert targets[0] not in self.expired and targets[0] not in self.yanked, "it cannot be given to readers"
            self.pointers.append(targets[0])
        elif kind == "tag":
            if record["target"] is None:
                self.tags.pop(record["name"], None)
            else:
                assert targets[0] not in self.expired, "nothing expired is tagged"
                self.tags[record["name"]] = targets[0]
        elif kind == "yank":
            self.yanked.add(targets[0])
        elif kind == "restore":
            self.yanked.discard(targets[0])
        elif kind == "expire":
            current = self.current
            for target in targets:
                assert current is None or target != current["seq"], "the current version never expires"
                assert target not in self.tags.values(), "a tagged version never expires"
            self.expired.update(targets)
        source = record.get("source")
        if source is not None:
            identity = (source["key"], source["etag"], source["size"], source["last_modified"])
            assert identity not in self.drops, f"one drop was recorded twice: {identity}"
            self.drops[identity] = {"publish": seq, "seen": record.get("target")}.get(kind)

    def as_of(self, records: Records, at: str) -> dict[str, Any] | None:
        """What was current at a moment: the state after the last record that was written by then."""
        last = max((record["seq"] for record in records if _time(record["at"]) <= _time(at)), default=0)
        return Model.of(records[:last]).current


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)


class Witness:
    """Remembers what a store held, and checks that it holds to its promises each time it looks."""

    def __init__(self, where: Path | Home) -> None:
        self.home = home_of(where)
        self.models: dict[str, Model] = {}
        self.records: dict[str, Records] = {}
        self.looks = 0
        self._seen: dict[str, object] = {}
        self._logged: dict[str, bytes] = {}
        self._blobs: dict[str, str] = {}

    def of_copy(self, home: Home) -> Witness:
        """One that knows already what a copy of its home holds."""
        witness = Witness(home)
        witness._seen, witness._logged, witness._blobs = dict(self._seen), dict(self._logged), dict(self._blobs)
        return witness

    def kinds(self) -> dict[str, list[str]]:
        """The kinds of record in each log, as of the last check."""
        return {name: [record["kind"] for record in records] for name, records in self.records.items()}

    def check(self) -> None:
        self.looks += 1
        stamps = self.home.stamps()
        for key in self._logged.keys() - stamps.keys():
            raise AssertionError(f"the log record {key} has disappeared")
        for dataset in sorted({key.partition("/")[0] for key in stamps if "/_bt/log/" in key}):
            self._check_dataset(dataset, stamps)

    def model(self, dataset: str) -> Model:
        return self.models.get(dataset, Model())

    def _check_dataset(self, dataset: str, stamps: dict[str, object]) -> None:
        prefix = f"{dataset}/_bt/log/"
        data = {key: self._record(key, stamps[key]) for key in stamps if key.startswith(prefix)}
        records = parse_log(data, dataset)
        model = Model.of(records)
        live = {file["key"] for number in model.live for file in model.files(number)}
        for number in model.versions:
            for file in model.files(number):
                assert file["key"] in stamps or file["key"] not in live, f"v{number} lacks {file['key']}"
                if file["key"] in stamps:
                    self._check_blob(file, stamps[file["key"]])
        self.models[dataset], self.records[dataset] = model, records

    def _record(self, key: str, stamp: object) -> bytes:
        if self._seen.get(key) != stamp:
            data = self.home.get(key)
            assert self._logged.setdefault(key, data) == data, f"{key} was rewritten"
            self._seen[key] = stamp
        return self._logged[key]

    def _check_blob(self, file: dict[str, Any], stamp: object) -> None:
        key, digest = file["key"], file["sha256"]
        if self._seen.get(key) != stamp:
            data = self.home.get(key)
            assert len(data) == file["size"]
            assert sha256(data) == digest, "a blob does not hash to its record"
            self._seen[key] = stamp
        assert self._blobs.setdefault(key, digest) == digest, "a blob's name was used twice"
