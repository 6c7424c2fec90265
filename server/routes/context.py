"""What routes need of the application: the engine, the settings, and the request's decoded parameters."""

from __future__ import annotations

from typing import Annotated, cast

from fastapi import Depends
from starlette.requests import Request

from engine.engine import Engine
from server.parameters import Pairs, read_pairs
from server.settings import Settings


# async, though they wait for nothing: a plain function would cost each of them a trip to a worker thread.
async def _engine(request: Request) -> Engine:
    return cast(Engine, request.app.state.engine)


async def _settings(request: Request) -> Settings:
    return cast(Settings, request.app.state.settings)


async def _pairs(request: Request) -> Pairs:
    return read_pairs(request.scope.get("query_string", b""))


OpenEngine = Annotated[Engine, Depends(_engine)]
ServerSettings = Annotated[Settings, Depends(_settings)]
Parameters = Annotated[Pairs, Depends(_pairs)]
