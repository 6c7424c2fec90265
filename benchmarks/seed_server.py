"""The seed's way, made again to be measured against: pandas behind FastAPI. It is no example to follow.

Each request reads the whole parquet file, filters the frame, makes a dict of each row and leaves the JSON to FastAPI's
default. It answers the same URLs as our server, as far as the workload asks them, and is given what a careful author of
that code would have: plain ``def`` routes, which run in threads, and of the ways to turn NaN into the null that JSON
needs, the fastest. ``seed_frames.py`` is its pandas.
"""

# Without `from __future__ import annotations`: FastAPI reads the annotations of routes that are made in a function.

import argparse
from pathlib import Path
from typing import Any

import uvicorn
from fastapi import FastAPI, HTTPException

from benchmarks import seed_frames

DATASET = "datadecide"
FINETUNING = "ft-matched"


def create_app(folder: Path) -> FastAPI:
    """The application over ``<folder>/<dataset>.parquet``."""
    app = FastAPI()

    # No return annotation, as the seed had none: with one, FastAPI would let pydantic write the JSON.
    @app.get("/api/health")
    def health():  # type: ignore[no-untyped-def]
        return {"status": "ok"}

    @app.get("/api/visualize/data")
    def data(  # type: ignore[no-untyped-def]
        data_source: str | None = None, params: str | None = None, metric: str | None = None, facets: str | None = None
    ):
        frame = seed_frames.select(_read(folder, DATASET), data_source, params, metric)
        if facets is not None:
            return {"data": [], "meta": {"facets": seed_frames.counts(frame, facets.split(","))}}
        return _reply(frame)

    @app.get("/api/visualize/data/small")
    def small():  # type: ignore[no-untyped-def]
        frame = seed_frames.select(_read(folder, DATASET), "Dolma1.7", None, "pile-valppl")
        return _reply(frame[frame["step"] == 5000])

    @app.get("/api/visualize/data/unmelted")
    def unmelted(data_source: str | None = None):  # type: ignore[no-untyped-def]
        return _reply(seed_frames.unmelt(seed_frames.select(_read(folder, DATASET), data_source, None, None)))

    @app.get("/api/visualize/data/ft")
    def finetuning():  # type: ignore[no-untyped-def]
        return _reply(_read(folder, FINETUNING))

    @app.get("/api/visualize/aggregated")
    def aggregated(  # type: ignore[no-untyped-def]
        group_by: str,
        metric: str | None = None,
        agg: str = "mean,std,count",
        sort: str | None = None,
        limit: int | None = None,
    ):
        frame = seed_frames.select(_read(folder, DATASET), None, None, metric)
        groups = seed_frames.aggregate(frame, group_by.split(","), agg.split(","))
        if sort is not None:
            groups = groups.sort_values(sort.removeprefix("-"), ascending=not sort.startswith("-"), kind="stable")
        return _reply(groups if limit is None else groups.iloc[:limit])

    @app.get("/api/visualize/scaling")
    def scaling(y_axis: str, group_by: str = "data", x_axis: str = "params_numeric"):  # type: ignore[no-untyped-def]
        if x_axis != "params_numeric":
            raise HTTPException(400, "x_axis is params_numeric")
        points, fits = seed_frames.scaling(_read(folder, DATASET), y_axis, group_by)
        return _reply(points) | {"fits": fits}

    @app.get("/api/visualize/table")
    def table(limit: int = 1000, offset: int = 0, sort: str | None = None):  # type: ignore[no-untyped-def]
        frame = _read(folder, DATASET)
        page = frame if sort is None else frame.sort_values(sort, kind="stable")
        return _reply(page.iloc[offset : offset + limit]) | {"total": len(frame)}

    return app


def _read(folder: Path, name: str) -> Any:
    path = folder / f"{name}.parquet"
    if not path.is_file():
        raise HTTPException(404, f"no data set {name}")
    return seed_frames.read(path)


def _reply(frame: Any) -> dict[str, Any]:
    return {"data": seed_frames.records(frame)}


def main() -> None:
    """Serve a folder until the process is ended."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.seed_server", description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="holds datadecide.parquet and ft-matched.parquet")
    parser.add_argument("--port", type=int, required=True)
    arguments = parser.parse_args()
    uvicorn.run(create_app(arguments.folder), host="127.0.0.1", port=arguments.port, access_log=False)


if __name__ == "__main__":
    main()
