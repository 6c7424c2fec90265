"""What both servers are asked about: one store for ours, the same rows as plain parquet files for the seed's way."""

from __future__ import annotations

from pathlib import Path

from benchmarks.client import Client
from benchmarks.process import Server, run_cli
from engine.demo import write_demo_parquet

DATASETS = ("datadecide", "ft-matched")


def make_files(folder: Path) -> None:
    """Write the demo data as ``<folder>/<dataset>.parquet``."""
    folder.mkdir(exist_ok=True)
    for name in DATASETS:
        write_demo_parquet(name, folder / f"{name}.parquet")


def publish_files(folder: Path, store: Path, scratch: Path) -> None:
    """Publish those files into a store by the command line, as a user would."""
    store.mkdir(exist_ok=True)
    for name in DATASETS:
        run_cli(["publish", name, str(folder / f"{name}.parquet")], store, scratch)


def download_files(ours: Server, folder: Path) -> None:
    """The latest versions of a store that already exists, from its server, as the seed's files."""
    folder.mkdir(exist_ok=True)
    with Client(ours.port) as client:
        for name in DATASETS:
            reply = client.get(f"/api/datasets/{name}/versions/latest/file")
            (folder / f"{name}.parquet").write_bytes(reply.body)
