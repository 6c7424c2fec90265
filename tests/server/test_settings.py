"""The server's settings, and that docs/settings.md says of all of them what is true."""

import re
from pathlib import Path

import pytest
from pydantic import ValidationError

from engine.settings import ENV_FILE, NOT_YET, SettingsError, load_settings, settings_warnings, variables_of
from server.settings import Settings

ROOT = Path(__file__).parents[2]
NOTHING = {"BT_ENV_FILE": "none"}
MANUAL = (ROOT / "docs" / "settings.md").read_text(encoding="utf-8")
LAUNCHER = {"BT_PYTHON", "BT_VENV"}


def load(**environ: str) -> Settings:
    return load_settings(Settings, environ={**NOTHING, **environ})


def test_the_defaults() -> None:
    settings = load()
    assert (settings.host, settings.port, settings.dataset, settings.ingest) == ("127.0.0.1", 8000, "datadecide", True)
    assert settings.cors_origins == ("https://bytomorrow.app",)
    assert (settings.max_body_bytes, settings.max_upload_bytes) == (1_000_000, 2_000_000_000)


def test_given_as_arguments_nothing_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PORT", "1")
    monkeypatch.setenv("BT_HOST", "0.0.0.0")
    assert Settings(store=tmp_path) == Settings(store=tmp_path, port=8000, host="127.0.0.1")
    with pytest.raises(ValidationError):
        Settings(store=tmp_path, prot=8000)  # type: ignore[call-arg]


def test_port_is_honoured() -> None:
    assert load(PORT="9000").port == 9000
    assert load(PORT="9000", BT_PORT="9001").port == 9001
    with pytest.raises(SettingsError, match="PORT is 'http'; it takes a port from 0 to 65535"):
        load(PORT="http")


@pytest.mark.parametrize(
    "given, origins",
    [
        ("https://a.example", ("https://a.example",)),
        ("https://a.example/, http://localhost:5173", ("https://a.example", "http://localhost:5173")),
        ("https://A.example:443,http://b:80,http://b:443", ("https://a.example", "http://b", "http://b:443")),
        ("https://a,https://a", ("https://a",)),
        ("*", ("*",)),
        ("none", ()),
        ("http://[::1]:3000", ("http://[::1]:3000",)),
    ],
)
def test_origins_are_spelt_as_a_browser_does(given: str, origins: tuple[str, ...]) -> None:
    assert load(BT_CORS_ORIGINS=given).cors_origins == origins


@pytest.mark.parametrize(
    "variable, value, says",
    [
        ("BT_CORS_ORIGINS", "bytomorrow.app", "a comma-separated list of origins"),
        ("BT_CORS_ORIGINS", "https://a/path", "a comma-separated list of origins"),
        ("BT_CORS_ORIGINS", "https://*.example", "a comma-separated list of origins"),
        ("BT_CORS_ORIGINS", "https://a:port", "a comma-separated list of origins"),
        ("BT_CORS_ORIGINS", "https://user@a", "a comma-separated list of origins"),
        ("BT_HOST", "two words", "a host name or an address"),
        ("BT_HOST", "http://localhost", "a host name or an address"),
        ("BT_PORT", "65536", "a port from 0 to 65535"),
        ("BT_PORT", "-1", "a port from 0 to 65535"),
        ("BT_DATASET", "No Such", "the name of a dataset"),
        ("BT_MAX_BODY", "1", "from 1KB"),
        ("BT_MAX_UPLOAD", "much", "an amount of bytes"),
        ("BT_INGEST", "maybe", "on or off"),
        ("BT_STORE", "s3://Bucket", "is not the name of a bucket"),
    ],
)
def test_a_wrong_value_is_one_line(variable: str, value: str, says: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load(**{variable: value})
    (line,) = str(caught.value).splitlines()
    assert line.startswith(f"{variable} is {value!r}")
    assert says in line


@pytest.mark.parametrize("host", ["localhost", "0.0.0.0", "::1", "::", "fe80::1%eth0", "lab-3.example.org"])
def test_hosts(host: str) -> None:
    assert load(BT_HOST=host).host == host


@pytest.mark.parametrize("word, ingest", [("on", True), ("OFF", False), ("0", False), ("true", True), ("no", False)])
def test_ingest(word: str, ingest: bool) -> None:
    assert load(BT_INGEST=word).ingest is ingest


def test_the_engines_settings_are_the_servers_too() -> None:
    assert load(BT_MAX_ROWS="7").engine_config().max_rows == 7
    assert settings_warnings(Settings, environ={**NOTHING, "BT_HOTS": "x"}) == [
        "BT_HOTS is no setting; did you mean BT_HOST?"
    ]


# --- the manual


def rows() -> dict[str, tuple[str, str]]:
    """Variable → its default and its example, as the manual's tables have them."""
    found = re.findall(r"^\| `(\w+)` \| (.+?) \| `(.+?)` \| .+ \|$", MANUAL, re.MULTILINE)
    assert len(found) == len({name for name, _, _ in found})
    return {name: (default, example) for name, default, example in found}


def test_every_setting_is_documented_and_every_documented_one_exists() -> None:
    ours = {variable.name for variable in variables_of(Settings).values()}
    assert set(rows()) == ours | LAUNCHER | {ENV_FILE}
    also = {name for variable in variables_of(Settings).values() for name in variable.also}
    mentioned = set(re.findall(r"\b(?:BT|AWS)_\w+\b", MANUAL)) - {"AWS_EC2_METADATA_DISABLED"} - also
    assert mentioned == ours | LAUNCHER | {ENV_FILE} | set(NOT_YET)
    assert all(f"`{name}`" in MANUAL for name in also)


#: Defaults that are a place of this machine or depend on one; the words for them are in the manual.
PLACES = {"BT_STORE", "BT_DEFINITIONS", "BT_CACHE_DIR"}

#: Without a default of ours.
ACCOUNT = {name for name in variables_of(Settings) if name.startswith("aws_")}


@pytest.mark.parametrize("name", sorted(set(variables_of(Settings)) - {"store", "definitions", "cache_dir"} - ACCOUNT))
def test_the_documented_default_is_the_default(name: str) -> None:
    default, _ = rows()[variables_of(Settings)[name].name]
    said = load(**{variables_of(Settings)[name].name: default.strip("`")})
    assert getattr(said, name) == getattr(load(), name)


@pytest.mark.parametrize("name", sorted(set(variables_of(Settings)) - {"definitions"}))
def test_the_documented_example_is_taken(name: str) -> None:
    variable = variables_of(Settings)[name]
    beside = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret"} if name in ACCOUNT else {}
    given = {**beside, variable.name: rows()[variable.name][1]}
    assert getattr(load(**given), name) != getattr(load(), name)


@pytest.mark.parametrize("variable", [variable.name for variable in variables_of(Settings).values()])
def test_the_manual_has_a_row_for_it(variable: str) -> None:
    default, example = rows()[variable]
    assert default.startswith("`") or variable in PLACES or variable.lower() in ACCOUNT
    assert example
