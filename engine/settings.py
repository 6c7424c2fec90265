"""The engine's settings: ``BT_*`` environment variables and ``.env`` files, read when asked for and never at import.

``server/settings.py`` adds the server's. What the settings mean for users is in ``docs/settings.md``.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from engine.config import GIBIBYTE, MEBIBYTE, PROJECT_DEFINITIONS, EngineConfig, S3Location, parse_bytes

PREFIX = "BT_"

# Read by the launcher, the tests and the benchmarks.
_OTHERS = ("BT_PYTHON", "BT_VENV", "BT_SHARED_DATA", "BT_TEST_", "BT_BENCH_")

#: Names one file to read in place of every ``.env``, or is ``none``; only the environment can set it.
ENV_FILE = "BT_ENV_FILE"

#: Named in the contract, and without effect in this release, with what they will belong to.
NOT_YET = {
    "BT_RATE_LIMIT": "rate limits",
}


class SettingsError(ValueError):
    """A setting that cannot be used. Its text is one line: the variable, what it holds, and what it takes.

    It is for whoever starts a process and may name a folder of theirs; no request ever meets it.
    """


@dataclass(frozen=True, slots=True)
class Variable:
    """What a setting is called outside Python, and what it takes, in words that follow "it takes".

    ``also`` are further names, which count when the first is not set. ``is_folder`` marks a value that is relative to
    where it was written down, and whose own rule says what is wrong with it. ``beside`` names a variable that it
    only counts with, from the same place.
    """

    name: str
    takes: str
    also: tuple[str, ...] = ()
    is_folder: bool = False
    beside: str = ""


def checkout() -> Path | None:
    """The folder of the checkout that this package lies in; None when it is installed without one.

    Installed, the folder above this package is ``site-packages``, where ``datasets`` is somebody else's.
    """
    root = PROJECT_DEFINITIONS.parent
    return root if (root / "bt").is_file() and (root / "pyproject.toml").is_file() else None


def _default_store() -> Path:
    """The checkout's ``datasets``, wherever the caller stands; without a checkout that of the current folder."""
    return (checkout() or Path.cwd()) / "datasets"


def _default_definitions() -> Path | None:
    root = checkout()
    return root / "datasets" if root else None


def _path(value: Any) -> Any:
    if not isinstance(value, (str, os.PathLike)):
        return value
    text = os.fspath(value)
    if isinstance(text, str) and "://" in text:
        raise ValueError("it is not a folder")
    return Path(text).expanduser().absolute()


def _home(value: Any) -> Any:
    if isinstance(value, str) and value.lower().startswith("s3://"):
        return S3Location.parse(value)
    if isinstance(value, str) and "://" in value:
        raise ValueError("it is neither a folder nor s3://bucket/prefix")
    return _path(value)


def _no_file(path: Any) -> Any:
    if not isinstance(path, Path):
        return path
    try:
        is_other = path.exists() and not path.is_dir()
    except OSError as error:
        raise ValueError(f"it cannot be examined ({error.strerror})") from error
    if is_other:
        raise ValueError("it is a file, and a folder is needed")
    return path


def _existing(path: Path) -> Path:
    if not path.is_dir():
        raise ValueError("there is no such folder")
    return path


def _none(value: Any) -> Any:
    return None if isinstance(value, str) and value.strip().lower() == "none" else value


def _endpoint(value: str) -> str:
    try:
        parts = urlsplit(value)
        valid = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        valid = False
    if not valid or "@" in value or parts.path not in ("", "/") or "?" in value or "#" in value:
        raise ValueError("not an endpoint")
    return f"{parts.scheme}://{parts.netloc}"


def _bytes(value: Any) -> Any:
    return parse_bytes(value) if isinstance(value, str) else value


Folder = Annotated[Path, BeforeValidator(_path), AfterValidator(_no_file)]
Home = Annotated[Path | S3Location, BeforeValidator(_home), AfterValidator(_no_file)]
#: Shown nowhere: neither when the settings are printed nor when one of them is refused.
Secret = Annotated[str | None, Field(repr=False)]
Bytes = Annotated[int, BeforeValidator(_bytes)]
Seconds = Annotated[float, Field(gt=0, le=86_400, allow_inf_nan=False)]

_SECONDS = "seconds, more than 0 and at most 86400, like {}"


class EngineSettings(BaseModel):
    """Settings of an engine. Called directly, it takes what it is given and reads nothing: see ``load_settings``.

    Attributes
    ----------
    store
        Folder that holds the datasets, which the first publish makes when it is not there; or the bucket.
    s3_endpoint, s3_region
        How the bucket is reached; None for Amazon's own service.
    aws_access_key_id, aws_secret_access_key, aws_session_token, aws_profile, aws_shared_credentials_file
        Whose the requests are: see :class:`engine.config.S3Location`.
    definitions
        Folder of ``<name>/dataset.toml`` which win over those beside the data; None for none.
    cache_dir
        Folder for what large queries spill and copies of a bucket's files: see ``EngineConfig``.
    poll_interval_s
        How often a serving process looks for dropped files.
    cache_bytes, memory_limit_bytes, query_timeout_s, max_rows, max_concurrent, results_cache_bytes, tables_bytes,
    lookup_bytes, queue_timeout_s, drop_settle_s, schema_policy
        See :class:`engine.config.EngineConfig`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    store: Annotated[Home, Variable("BT_STORE", "a folder, or s3://bucket/prefix", is_folder=True)] = Field(
        default_factory=_default_store
    )
    s3_endpoint: Annotated[
        Annotated[str, AfterValidator(_endpoint)] | None,
        BeforeValidator(_none),
        Variable("BT_S3_ENDPOINT", "http:// or https:// with a host and maybe a port, like https://s3.example.org"),
    ] = None
    s3_region: Annotated[
        str,
        Field(pattern=r"^[A-Za-z0-9-]{1,63}$"),
        Variable("BT_S3_REGION", "a region, like eu-west-1 or auto", also=("AWS_REGION", "AWS_DEFAULT_REGION")),
    ] = "auto"
    aws_access_key_id: Annotated[Secret, Variable("AWS_ACCESS_KEY_ID", "the name of an access key")] = None
    aws_secret_access_key: Annotated[
        Secret, Variable("AWS_SECRET_ACCESS_KEY", "its secret", beside="AWS_ACCESS_KEY_ID")
    ] = None
    aws_session_token: Annotated[
        Secret, Variable("AWS_SESSION_TOKEN", "what comes with a temporary key", beside="AWS_ACCESS_KEY_ID")
    ] = None
    aws_profile: Annotated[str | None, Variable("AWS_PROFILE", "a profile of the credentials file")] = None
    aws_shared_credentials_file: Annotated[
        str | None, Variable("AWS_SHARED_CREDENTIALS_FILE", "a file", is_folder=True)
    ] = None
    definitions: Annotated[
        Annotated[Folder, AfterValidator(_existing)] | None,
        BeforeValidator(_none),
        Variable("BT_DEFINITIONS", "a folder, or none", is_folder=True),
    ] = Field(default_factory=_default_definitions)
    cache_dir: Annotated[Folder | None, Variable("BT_CACHE_DIR", "a folder", is_folder=True)] = None
    cache_bytes: Annotated[
        Bytes, Field(ge=MEBIBYTE), Variable("BT_CACHE_BYTES", "an amount of disk from 1MiB, like 4GiB or 500MB")
    ] = 4 * GIBIBYTE
    memory_limit_bytes: Annotated[
        Bytes,
        Field(ge=32 * MEBIBYTE),
        Variable("BT_MEMORY_LIMIT", "an amount of memory from 32MiB, like 256MiB or 1GB"),
    ] = 256 * MEBIBYTE
    query_timeout_s: Annotated[Seconds, Variable("BT_QUERY_TIMEOUT", _SECONDS.format("30"))] = 30.0
    max_rows: Annotated[int, Field(ge=1), Variable("BT_MAX_ROWS", "a number of rows from 1, like 5000000")] = 5_000_000
    max_concurrent: Annotated[
        int, Field(ge=1, le=256), Variable("BT_MAX_CONCURRENT", "a number of queries from 1 to 256, like 8")
    ] = 8
    results_cache_bytes: Annotated[
        Bytes, Field(ge=0), Variable("BT_RESULTS_CACHE", "an amount of memory, like 16MiB, or 0")
    ] = 16 * MEBIBYTE
    tables_bytes: Annotated[Bytes, Field(ge=0), Variable("BT_TABLES", "an amount of memory, like 96MiB, or 0")] = (
        96 * MEBIBYTE
    )
    lookup_bytes: Annotated[Bytes, Field(ge=0), Variable("BT_LOOKUP_BYTES", "an amount of disk, like 1GiB, or 0")] = (
        GIBIBYTE
    )
    queue_timeout_s: Annotated[Seconds, Variable("BT_QUEUE_TIMEOUT", _SECONDS.format("10"))] = 10.0
    poll_interval_s: Annotated[Seconds, Variable("BT_POLL_INTERVAL", _SECONDS.format("15"))] = 15.0
    drop_settle_s: Annotated[
        float,
        Field(ge=0, le=86_400, allow_inf_nan=False),
        Variable("BT_DROP_SETTLE", "seconds, from 0 to 86400, like 2"),
    ] = 2.0
    schema_policy: Annotated[
        Literal["warn", "block-breaking"], Variable("BT_SCHEMA_POLICY", "warn or block-breaking")
    ] = "warn"

    def engine_config(self) -> EngineConfig:
        """The same as the argument that an engine takes."""
        return EngineConfig(
            store=self._location(self.store) if isinstance(self.store, S3Location) else self.store,
            definitions=self.definitions,
            cache_dir=self.cache_dir,
            memory_limit_bytes=self.memory_limit_bytes,
            query_timeout_s=self.query_timeout_s,
            max_rows=self.max_rows,
            max_concurrent=self.max_concurrent,
            results_cache_bytes=self.results_cache_bytes,
            tables_bytes=self.tables_bytes,
            lookup_bytes=self.lookup_bytes,
            queue_timeout_s=self.queue_timeout_s,
            drop_settle_s=self.drop_settle_s,
            schema_policy=self.schema_policy,
            cache_bytes=self.cache_bytes,
            refresh_s=self.poll_interval_s,
        )

    def _location(self, store: S3Location) -> S3Location:
        located = store.filled(endpoint=self.s3_endpoint, region=self.s3_region)
        if located.access_key_id is not None:
            return located
        return located.filled(
            access_key_id=self.aws_access_key_id,
            secret_access_key=self.aws_secret_access_key,
            session_token=self.aws_session_token,
            profile=self.aws_profile,
            credentials_file=self.aws_shared_credentials_file,
        )


SettingsType = TypeVar("SettingsType", bound=EngineSettings)


def variables_of(kind: type[EngineSettings]) -> dict[str, Variable]:
    """Field name → its variable, in order."""
    return {
        name: next(item for item in field.metadata if isinstance(item, Variable))
        for name, field in kind.model_fields.items()
    }


@dataclass(frozen=True, slots=True)
class _Layer:
    """One place where variables are written down, and the folder that paths in it are relative to."""

    label: str
    folder: Path
    values: Mapping[str, str | None]


@dataclass(frozen=True, slots=True)
class _Given:
    variable: str
    value: str
    layer: _Layer

    def __str__(self) -> str:
        value = re.sub(r"://[^/]*:[^/]*@", "://…@", self.value)  # somebody's key
        shown = value if len(value) <= 100 else f"{value[:100]}…"
        return f"{self.variable} is {shown!r}{self.layer.label}"


def load_settings(
    kind: type[SettingsType] = EngineSettings,  # type: ignore[assignment]
    *,
    store: str | Path | None = None,
    options: Mapping[str, str] | None = None,
    environ: Mapping[str, str] | None = None,
    folder: Path | None = None,
) -> SettingsType:
    """Read the settings: the environment first, then ``.env`` in the working folder, then ``.env`` in the checkout.

    An empty variable counts as not set. ``BT_ENV_FILE`` in the environment names another file than those two.

    Parameters
    ----------
    kind
        Which settings; those of the server are a subclass.
    store
        The store that a caller names, in place of ``BT_STORE``.
    options
        Variables given on a command line, which come before all others.
    environ, folder
        What to read instead of the process's environment and current folder.

    Raises
    ------
    SettingsError
        For the first setting that cannot be used.
    """
    layers = tuple(_layers(environ, folder, options))
    if store is not None:
        layers = (_Layer(" (given by the caller)", layers[0].folder, {"BT_STORE": str(store)}), *layers)
    given = {name: found for name, variable in variables_of(kind).items() if (found := _look_up(variable, layers))}
    _check_credentials(given)
    try:
        return kind.model_validate({name: _value(kind, name, found) for name, found in given.items()})
    except ValidationError as error:
        first = error.errors()[0]
        name = str(first["loc"][0])
        raise SettingsError(_explain(given[name], variables_of(kind)[name], first)) from None


def settings_warnings(
    kind: type[EngineSettings] = EngineSettings,
    *,
    environ: Mapping[str, str] | None = None,
    folder: Path | None = None,
) -> list[str]:
    """One line for each ``BT_`` variable that is set and does nothing, with the name that may have been meant."""
    known = [*(variable.name for variable in variables_of(kind).values()), ENV_FILE]
    found: dict[str, str] = {}
    for layer in _layers(environ, folder):
        for name, value in layer.values.items():
            if not name.startswith(PREFIX) or not value or name in known or name.startswith(_OTHERS):
                continue
            if name in NOT_YET:
                line = f"{name} has no effect yet: {NOT_YET[name]} will come with a later release"
            else:
                # Without the prefix, which would make any two of them look alike.
                meant = get_close_matches(name.removeprefix(PREFIX), [item.removeprefix(PREFIX) for item in known], 1)
                line = f"{name} is no setting{layer.label}" + (f"; did you mean {PREFIX}{meant[0]}?" if meant else "")
            found.setdefault(name, line)
    return [found[name] for name in sorted(found)]


def _layers(
    environ: Mapping[str, str] | None, folder: Path | None, options: Mapping[str, str] | None = None
) -> Iterator[_Layer]:
    environ = os.environ if environ is None else environ
    folder = Path.cwd() if folder is None else folder
    yield _Layer(" (on the command line)", folder, options or {})
    yield _Layer("", folder, environ)
    for path in _env_files(environ.get(ENV_FILE, "").strip(), folder):
        yield _Layer(f" (in {path})", path.parent, _read_env_file(path))


def _env_files(named: str, folder: Path) -> Iterator[Path]:
    if named.lower() == "none":
        return
    if named:
        path = folder / Path(named).expanduser()
        if not path.is_file():
            raise SettingsError(f"{ENV_FILE} is {named!r}: there is no such file")
        yield path
        return
    # The checkout's too, so that `bt` means the same store wherever it is called.
    for place in dict.fromkeys(item.resolve() for item in (folder, checkout()) if item is not None):
        if (place / ".env").is_file():  # a virtual environment is often a folder of that name
            yield place / ".env"


def _read_env_file(path: Path) -> Mapping[str, str | None]:
    from dotenv import dotenv_values  # 25 ms, which most starts need not spend

    try:
        return dotenv_values(path)
    except UnicodeDecodeError as error:
        raise SettingsError(f"{path} is not UTF-8") from error
    except OSError as error:
        raise SettingsError(f"{path} cannot be read: {error.strerror}") from error


def _look_up(variable: Variable, layers: tuple[_Layer, ...]) -> _Given | None:
    if variable.beside:  # one key's name with another key's secret helps nobody
        found = _look_up(Variable(variable.beside, ""), layers)
        layers = (found.layer,) if found else ()
    for layer in layers:
        for name in (variable.name, *variable.also):
            value = layer.values.get(name)
            if value is not None and value.strip():
                return _Given(name, value.strip(), layer)
    return None


def _check_credentials(given: Mapping[str, _Given]) -> None:
    found = given.get("aws_access_key_id")
    if found and "aws_secret_access_key" not in given:
        raise SettingsError(
            f"AWS_ACCESS_KEY_ID is set{found.layer.label} without AWS_SECRET_ACCESS_KEY; set both in one place, or none"
        )


def _value(kind: type[EngineSettings], name: str, given: _Given) -> str:
    """The value as the model takes it: a folder relative to where it is written down becomes absolute."""
    is_path = variables_of(kind)[name].is_folder and "://" not in given.value and _none(given.value) is not None
    return str(given.layer.folder / Path(given.value).expanduser()) if is_path else given.value


def _explain(given: _Given, variable: Variable, error: Any) -> str:
    cause = error.get("ctx", {}).get("error")
    if variable.is_folder and cause is not None:
        return f"{given}: {cause}"
    return f"{given}; it takes {variable.takes}"
