"""Settings: where they come from, what they take, and the one line that a wrong one gives."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from engine.config import EngineConfig, S3Location
from engine.settings import EngineSettings, SettingsError, checkout, load_settings, settings_warnings, variables_of

ROOT = Path(__file__).parents[2]
NOTHING = {"BT_ENV_FILE": "none"}  # whoever runs these tests may have a .env in the checkout


def load(folder: Path | None = None, **environ: str) -> EngineSettings:
    return load_settings(EngineSettings, environ={**NOTHING, **environ}, folder=folder)


def refusal(folder: Path | None = None, **environ: str) -> str:
    with pytest.raises(SettingsError) as caught:
        load(folder, **environ)
    (line,) = str(caught.value).splitlines()
    return line


def test_the_defaults_are_those_of_the_engine() -> None:
    settings = load()
    assert settings.engine_config() == EngineConfig(store=ROOT / "datasets")
    assert settings == EngineSettings()


def test_every_setting_of_the_engine_can_be_set(tmp_path: Path) -> None:
    config = load(
        BT_STORE=str(tmp_path / "store"),
        BT_DEFINITIONS="none",
        BT_CACHE_DIR=str(tmp_path / "cache"),
        BT_MEMORY_LIMIT="1GB",
        BT_QUERY_TIMEOUT="0.5",
        BT_MAX_ROWS="10",
        BT_MAX_CONCURRENT="2",
        BT_QUEUE_TIMEOUT="3",
        BT_DROP_SETTLE="0",
        BT_SCHEMA_POLICY="block-breaking",
        BT_POLL_INTERVAL="1",
        BT_CACHE_BYTES="1GiB",
    ).engine_config()
    assert config == EngineConfig(
        store=tmp_path / "store",
        definitions=None,
        cache_dir=tmp_path / "cache",
        memory_limit_bytes=1_000_000_000,
        query_timeout_s=0.5,
        max_rows=10,
        max_concurrent=2,
        queue_timeout_s=3.0,
        drop_settle_s=0.0,
        schema_policy="block-breaking",
        cache_bytes=1 << 30,
        refresh_s=1.0,
    )


@pytest.mark.parametrize(
    "variable, value, says",
    [
        ("BT_STORE", "s3://", "is not the name of a bucket"),
        ("BT_STORE", "s3://ab", "is not the name of a bucket"),
        ("BT_STORE", "s3://Bucket", "is not the name of a bucket"),
        ("BT_STORE", "s3://a..b", "is not the name of a bucket"),
        ("BT_STORE", "s3://10.0.0.1", "is not the name of a bucket"),
        ("BT_STORE", "s3://bucket/a/../b", "a part that is . or .."),
        ("BT_STORE", "s3://bucket/a\\b", "a part that is . or .."),
        ("BT_STORE", "s3://host:9000/bucket", "a host in BT_S3_ENDPOINT"),
        ("BT_STORE", "gs://bucket", "neither a folder nor s3://bucket/prefix"),
        ("BT_S3_ENDPOINT", "s3.example.org", "http:// or https:// with a host"),
        ("BT_S3_ENDPOINT", "https://", "http:// or https:// with a host"),
        ("BT_S3_ENDPOINT", "https://a.example/bucket", "http:// or https:// with a host"),
        ("BT_S3_ENDPOINT", "https://a.example:http", "http:// or https:// with a host"),
        ("BT_S3_ENDPOINT", "ftp://a.example", "http:// or https:// with a host"),
        ("BT_S3_REGION", "over there", "a region, like"),
        ("BT_CACHE_BYTES", "1KB", "from 1MiB"),
        ("BT_STORE", __file__, "it is a file"),
        ("BT_DEFINITIONS", "/no/such/folder", "there is no such folder"),
        ("BT_CACHE_DIR", __file__, "it is a file"),
        ("BT_MEMORY_LIMIT", "plenty", "like 256MiB or 1GB"),
        ("BT_MEMORY_LIMIT", "1MB", "from 32MiB"),
        ("BT_MEMORY_LIMIT", "-1GB", "from 32MiB"),
        ("BT_QUERY_TIMEOUT", "soon", "seconds, more than 0"),
        ("BT_QUERY_TIMEOUT", "0", "seconds, more than 0"),
        ("BT_QUERY_TIMEOUT", "inf", "seconds, more than 0"),
        ("BT_QUERY_TIMEOUT", "nan", "seconds, more than 0"),
        ("BT_MAX_ROWS", "0", "a number of rows from 1"),
        ("BT_MAX_ROWS", "1.5", "a number of rows from 1"),
        ("BT_MAX_CONCURRENT", "1000", "from 1 to 256"),
        ("BT_QUEUE_TIMEOUT", "-1", "seconds"),
        ("BT_POLL_INTERVAL", "0", "seconds, more than 0"),
        ("BT_DROP_SETTLE", "x", "from 0"),
        ("BT_SCHEMA_POLICY", "block", "warn or block-breaking"),
    ],
)
def test_a_wrong_value_is_one_line(variable: str, value: str, says: str) -> None:
    line = refusal(**{variable: value})
    assert line.startswith(f"{variable} is {value!r}")
    assert says in line


def test_a_long_value_is_not_repeated_whole() -> None:
    assert len(refusal(BT_MAX_ROWS="9" * 10_000)) < 250


def test_an_empty_variable_counts_as_not_set() -> None:
    assert load(BT_STORE="", BT_MAX_ROWS=" ") == load()


def test_spaces_around_a_value_do_no_harm() -> None:
    assert load(BT_MAX_ROWS=" 7 ").max_rows == 7


# --- object storage

KEYS = {"AWS_ACCESS_KEY_ID": "AKIAOURS", "AWS_SECRET_ACCESS_KEY": "hush-hush", "AWS_SESSION_TOKEN": "for-an-hour"}


def located(**environ: str) -> S3Location:
    location = load(**environ).engine_config().store
    assert isinstance(location, S3Location)
    return location


def test_a_bucket_with_all_that_belongs_to_it() -> None:
    given = {"BT_S3_ENDPOINT": "https://s3.example.org:9000/", "AWS_PROFILE": "lab", **KEYS}
    assert located(BT_STORE="s3://bucket/some/prefix", BT_S3_REGION="eu-west-1", **given) == S3Location(
        bucket="bucket",
        prefix="some/prefix",
        endpoint="https://s3.example.org:9000",
        region="eu-west-1",
        access_key_id="AKIAOURS",
        secret_access_key="hush-hush",
        session_token="for-an-hour",
        profile="lab",
    )


@pytest.mark.parametrize(
    "text, shown",
    [
        ("s3://bucket", "s3://bucket"),
        ("S3://bucket/", "s3://bucket"),
        ("s3://bucket//", "s3://bucket"),
        ("s3://bucket/a/", "s3://bucket/a"),
        ("s3://bucket//a///b//", "s3://bucket/a/b"),
        ("s3://a.b-c/wörld of/d", "s3://a.b-c/wörld of/d"),
    ],
)
def test_slashes_too_many_make_no_empty_parts(text: str, shown: str) -> None:
    assert str(located(BT_STORE=text)) == shown


def test_the_region_may_be_amazons_own_variable() -> None:
    assert located(BT_STORE="s3://bucket").region == "auto"
    assert located(BT_STORE="s3://bucket", AWS_REGION="a", AWS_DEFAULT_REGION="b").region == "a"
    assert located(BT_STORE="s3://bucket", AWS_DEFAULT_REGION="b").region == "b"
    assert located(BT_STORE="s3://bucket", AWS_REGION="a", BT_S3_REGION="c").region == "c"


def test_keys_may_be_in_the_file_and_are_not_mixed_with_others(tmp_path: Path) -> None:
    lines = [f"{name}={value}" for name, value in KEYS.items()]
    (tmp_path / ".env").write_text("\n".join(["BT_STORE=s3://bucket", "AWS_SHARED_CREDENTIALS_FILE=keys", *lines]))
    location = located_in(tmp_path)
    assert (location.access_key_id, location.session_token) == ("AKIAOURS", "for-an-hour")
    assert location.credentials_file == str(tmp_path / "keys")
    other = located_in(tmp_path, AWS_ACCESS_KEY_ID="other", AWS_SECRET_ACCESS_KEY="secret")
    assert (other.access_key_id, other.secret_access_key, other.session_token) == ("other", "secret", None)
    with pytest.raises(SettingsError, match="AWS_ACCESS_KEY_ID is set without AWS_SECRET_ACCESS_KEY; set both"):
        located_in(tmp_path, AWS_ACCESS_KEY_ID="other")


def located_in(folder: Path, **environ: str) -> S3Location:
    location = load_settings(EngineSettings, environ=environ, folder=folder).engine_config().store
    assert isinstance(location, S3Location)
    return location


def test_a_location_may_be_given_whole(tmp_path: Path) -> None:
    whole = S3Location("bucket", endpoint="http://127.0.0.1:1", region="x", access_key_id="a", secret_access_key="b")
    settings = EngineSettings(store=whole, s3_endpoint="https://other", aws_access_key_id="c", aws_session_token="d")
    assert settings.engine_config().store == whole


def test_secrets_are_shown_nowhere() -> None:
    settings = load(BT_STORE="s3://bucket", **KEYS)
    for shown in (repr(settings), str(settings), repr(settings.engine_config()), str(settings.engine_config().store)):
        assert not any(secret in shown for secret in KEYS.values())
    line = refusal(BT_STORE="s3://AKIAOURS:hush-hush@bucket/x")
    assert "hush" not in line and "AKIA" not in line
    assert "hush" not in refusal(BT_S3_ENDPOINT="https://AKIAOURS:hush-hush@host")


def test_copies_of_a_buckets_files_survive_a_restart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert load(BT_STORE="s3://bucket").engine_config().local_dir == tmp_path / "bytomorrow"
    assert load(BT_STORE="s3://bucket", BT_CACHE_DIR="/x").engine_config().local_dir == Path("/x")
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert load(BT_STORE="s3://bucket").engine_config().local_dir == Path.home() / ".cache/bytomorrow"


# --- where they come from


def test_an_argument_list_reads_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BT_MAX_ROWS", "1")
    (tmp_path / ".env").write_text("BT_MAX_ROWS=2\n")
    assert EngineSettings(store=tmp_path).max_rows == 5_000_000


def test_the_environment_goes_before_the_file(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text('# mine\nBT_MAX_ROWS=2\nexport BT_QUERY_TIMEOUT="4"\nOTHER=x\n')
    settings = load_settings(environ={"BT_MAX_ROWS": "1"}, folder=tmp_path)
    assert (settings.max_rows, settings.query_timeout_s) == (1, 4.0)
    assert load_settings(environ={**NOTHING}, folder=tmp_path) == load()


def test_a_command_line_goes_before_both(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("BT_MAX_ROWS=2\n")
    environ = {"BT_MAX_ROWS": "1"}
    assert load_settings(options={"BT_MAX_ROWS": "3"}, environ=environ, folder=tmp_path).max_rows == 3
    with pytest.raises(SettingsError, match="'s3://x' \\(on the command line\\): 'x' is not the name of a bucket"):
        load_settings(options={"BT_STORE": "s3://x"}, environ=environ)


def test_the_checkouts_file_counts_wherever_one_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root, here = tmp_path / "checkout", tmp_path / "here"
    root.mkdir()
    here.mkdir()
    monkeypatch.setattr("engine.settings.checkout", lambda: root)
    (root / ".env").write_text("BT_MAX_ROWS=1\nBT_STORE=mine\nBT_MAX_CONCURRENT=3\n")
    (here / ".env").write_text("BT_MAX_ROWS=2\n")
    settings = load_settings(environ={}, folder=here)
    assert (settings.max_rows, settings.max_concurrent) == (2, 3)
    assert settings.store == root / "mine", "a folder is relative to where it is written down"


def test_a_folder_in_the_environment_is_relative_to_where_one_stands(tmp_path: Path) -> None:
    assert load(tmp_path, BT_STORE="mine").store == tmp_path / "mine"
    assert load(tmp_path, BT_STORE="~/mine").store == Path.home() / "mine"
    assert load(tmp_path, BT_STORE=str(tmp_path)).store == tmp_path


def test_the_default_store_does_not_depend_on_where_one_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "datasets").mkdir()
    monkeypatch.chdir(tmp_path)
    assert checkout() == ROOT
    assert load().store == ROOT / "datasets"


def test_an_installation_without_a_checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside an installed engine, `datasets` would be Hugging Face's package."""
    monkeypatch.setattr("engine.settings.checkout", lambda: None)
    monkeypatch.chdir(tmp_path)
    settings = load()
    assert (settings.store, settings.definitions) == (tmp_path / "datasets", None)


def test_another_file_can_be_named(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("BT_MAX_ROWS=1\n")
    (tmp_path / "other").write_text("BT_MAX_ROWS=2\n")
    assert load(tmp_path, BT_ENV_FILE="other").max_rows == 2
    assert "BT_ENV_FILE is 'missing': there is no such file" in refusal(tmp_path, BT_ENV_FILE="missing")


def test_a_folder_called_env_is_no_settings(tmp_path: Path) -> None:
    (tmp_path / ".env").mkdir()
    assert load(tmp_path, BT_ENV_FILE="") == load()


def test_a_file_that_is_not_text(tmp_path: Path) -> None:
    (tmp_path / ".env").write_bytes(b"BT_MAX_ROWS=\xff\xfe\n")
    assert refusal(tmp_path, BT_ENV_FILE="") == f"{tmp_path / '.env'} is not UTF-8"


def test_a_wrong_line_names_its_file(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("BT_MAX_ROWS=x\n")
    assert refusal(tmp_path, BT_ENV_FILE="").startswith(f"BT_MAX_ROWS is 'x' (in {tmp_path / '.env'}); it takes")


# --- what is set and does nothing


def warnings(**environ: str) -> list[str]:
    return settings_warnings(EngineSettings, environ={**NOTHING, **environ})


def test_an_unknown_variable_is_told_with_what_was_meant() -> None:
    assert warnings(BT_STOER="x") == ["BT_STOER is no setting; did you mean BT_STORE?"]
    assert warnings(BT_MEMORYLIMIT="x") == ["BT_MEMORYLIMIT is no setting; did you mean BT_MEMORY_LIMIT?"]
    assert warnings(BT_XYZZY="x") == ["BT_XYZZY is no setting"]


def test_one_in_a_file_is_told_with_the_file(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("BT_STOER=x\n")
    (line,) = settings_warnings(EngineSettings, environ={}, folder=tmp_path)
    assert line == f"BT_STOER is no setting (in {tmp_path / '.env'}); did you mean BT_STORE?"


def test_a_setting_of_a_later_release_is_told() -> None:
    (line,) = warnings(BT_RATE_LIMIT="1")
    assert line.startswith("BT_RATE_LIMIT has no effect yet")


def test_the_launchers_and_the_tests_variables_are_nobodys_mistake() -> None:
    given = {"BT_PYTHON": "x", "BT_VENV": "x", "BT_SHARED_DATA": "x", "BT_STORE": "x", "BT_EMPTY": "", "PATH": "x"}
    assert warnings(**given) == []


# --- and what reads nothing at import


def test_nothing_is_read_at_import(tmp_path: Path) -> None:
    """A wrong setting must not break whoever imports, only whoever asks."""
    run = subprocess.run(
        [
            sys.executable,
            "-P",
            "-c",
            "import engine.settings, sys; print('fastapi' in sys.modules, 'click' in sys.modules)",
        ],
        env={**os.environ, "PYTHONPATH": str(ROOT), "BT_STORE": "s3://x"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert run.stdout == "False False\n"


def test_every_setting_has_a_variable_of_its_own() -> None:
    names = [variable.name for variable in variables_of(EngineSettings).values()]
    assert len(names) == len(set(names)) == len(EngineSettings.model_fields)
    assert all(name.startswith(("BT_", "AWS_")) for name in names)
