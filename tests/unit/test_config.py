"""Settings from the environment: their defaults, which values are accepted, and how mistakes are reported at once."""

import sys
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from pmip.config import LOG_LEVELS, Settings
from pmip.errors import SettingsError

# Each variable: its field, the default, a text, and what the text means.
VARIABLES = {
    "ENVIRONMENT": ("environment", "dev", "staging", "staging"),
    "BUCKET": ("bucket", None, " comments ", "comments"),
    "AWS_ENDPOINT_URL": ("endpoint", None, "http://127.0.0.1:9000", "http://127.0.0.1:9000"),
    "DATA_DIR": ("data_dir", Path("data"), "/srv/pmip", Path("/srv/pmip")),
    "PINNED_MODEL_ID": ("pinned_model_id", None, "20260101T000000Z", "20260101T000000Z"),
    "MODEL_POLL_SECONDS": ("model_poll_seconds", 60.0, "0.5", 0.5),
    "MODEL_CACHE_DIR": ("model_cache_dir", None, "/var/cache/pmip", Path("/var/cache/pmip")),
    "TRUST_PICKLES": ("trust_pickles", False, "True", True),
    "MAX_COMMENTS": ("max_comments", 1000, "1", 1),
    "MAX_COMMENT_CHARS": ("max_comment_chars", 10_000, "2", 2),
    "MAX_TOTAL_CHARS": ("max_total_chars", 300_000, "4", 4),
    "MAX_EXPLAINED_CHARS": ("max_explained_chars", 100_000, "5", 5),
    "MAX_BODY_BYTES": ("max_body_bytes", 4 * 2**20, "3", 3),
    "API_KEYS": ("api_keys", (), "key", ("key",)),
    "API_KEYS_FILE": ("api_keys_file", None, "/etc/pmip/keys", Path("/etc/pmip/keys")),
    "WEB_CONCURRENCY": ("workers", 3, "4", 4),
    "HOST": ("host", "127.0.0.1", "0.0.0.0", "0.0.0.0"),  # noqa: S104 - the images listen on all addresses
    "PORT": ("port", 8000, "65535", 65535),
    "LOG_LEVEL": ("log_level", "info", "debug", "debug"),
    "TRUSTED_PROXIES": ("trusted_proxies", 0, "2", 2),
    "URL_PREFIX": ("url_prefix", "", "/spam/api/", "/spam/api"),
    "CORS_ORIGINS": (
        "cors_origins",
        (),
        "https://a.org, http://127.0.0.1:80",
        ("https://a.org", "http://127.0.0.1:80"),
    ),
    "GIT_REVISION": ("git_revision", None, "abc1234", "abc1234"),
    "AWS_BATCH_JOB_ID": ("batch_job_id", None, "job-1", "job-1"),
    "AWS_BATCH_JOB_ARRAY_INDEX": ("batch_array_index", None, "0", 0),
    "AWS_BATCH_JOB_ARRAY_SIZE": ("batch_array_size", None, "2", 2),
    "DASK_SCHEDULER": ("dask_scheduler", "", "tcp://127.0.0.1:8786", "tcp://127.0.0.1:8786"),
    "PROMETHEUS_MULTIPROC_DIR": ("metrics_dir", None, "/srv/figures", Path("/srv/figures")),
    "AWS_LAMBDA_RUNTIME_API": ("on_lambda", False, "127.0.0.1:9001", True),
}
DEFAULTS = Settings(**{field: default for field, default, _, _ in VARIABLES.values()})  # type: ignore[arg-type]
NUMBERS = [name for name, (_, default, _, _) in VARIABLES.items() if type(default) in (int, float)]


def test_an_empty_environment_gives_the_defaults() -> None:
    """A user on a laptop gets the defaults without setting any variable."""
    assert Settings.from_environ({}) == DEFAULTS


def test_every_variable_sets_its_field() -> None:
    """Each variable sets its field, and space around its value is ignored."""
    settings = Settings.from_environ({name: text for name, (_, _, text, _) in VARIABLES.items()})
    assert asdict(settings) == {field: value for field, _, _, value in VARIABLES.values()}


def test_the_environment_of_the_process_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without an argument the settings come from the variables that this process has at the time of the call."""
    monkeypatch.setenv("PORT", "8123")
    assert Settings.from_environ().port == 8123


@pytest.mark.parametrize("value", ["", " ", "\t\n"])
def test_an_empty_variable_counts_as_unset(value: str) -> None:
    """An empty variable counts as unset, because a scheduler passes on empty variables too."""
    names = ("ENVIRONMENT", "BUCKET", "DATA_DIR", "PINNED_MODEL_ID", "TRUST_PICKLES", "HOST", "LOG_LEVEL")
    assert Settings.from_environ(dict.fromkeys((*names, *NUMBERS), value)) == DEFAULTS


@pytest.mark.parametrize("text", ["comments", "s3://comments", "s3://comments/", "comments/"])
def test_a_bucket_is_named_with_or_without_its_scheme(text: str) -> None:
    """A user may write the bucket with or without s3:// and a slash at the end."""
    assert Settings.from_environ({"BUCKET": text}).bucket == "comments"


@pytest.mark.parametrize(
    "text", ["s3://comments/models", "comments/models/", "s3://", "/", "https://comments", "My Bucket", "s3"]
)
def test_a_bucket_with_a_path_or_an_impossible_name_is_refused(text: str) -> None:
    """A bucket with a path or an impossible name is refused, because the layout inside the bucket is fixed."""
    with pytest.raises(SettingsError, match=r"BUCKET=.*without a path"):
        Settings.from_environ({"BUCKET": text})


@pytest.mark.parametrize(
    "text", ["//evil.example/x", "pre", "/", "/a//b", "/../x", "/a?b", "/a b", "/é", "https://x/y"]
)
def test_a_prefix_that_is_no_plain_path_is_refused(text: str) -> None:
    """A URL prefix that is no plain path is refused, because a page that runs scripts contains it."""
    with pytest.raises(SettingsError, match=r"URL_PREFIX=.*must be a path such as /spam"):
        Settings.from_environ({"URL_PREFIX": text})


@pytest.mark.parametrize("text", ["*", "example.org", "https://example.org/", "https://*.example.org", "null", ","])
def test_an_origin_is_a_scheme_and_a_host(text: str) -> None:
    """An origin for CORS that is not a scheme and a host is refused, so that nobody admits every page by mistake."""
    with pytest.raises(SettingsError, match=r"CORS_ORIGINS=.*must be origins such as"):
        Settings.from_environ({"CORS_ORIGINS": text})


@pytest.mark.parametrize("environment", ["staging", "prod", "Prod"])
def test_a_bucket_is_required_outside_dev(environment: str) -> None:
    """An operator of staging or prod without a bucket gets an error that names BUCKET."""
    with pytest.raises(SettingsError, match="BUCKET is missing"):
        Settings.from_environ({"ENVIRONMENT": environment})
    settings = Settings.from_environ({"ENVIRONMENT": environment, "BUCKET": "comments"})
    assert settings == replace(DEFAULTS, environment=environment.lower(), bucket="comments")


def test_all_mistakes_are_told_in_one_message() -> None:
    """A user gets all wrong and missing settings in one line, each with the values that are allowed."""
    bad = dict.fromkeys(NUMBERS, "many") | {"ENVIRONMENT": "prod", "LOG_LEVEL": "loud"}
    with pytest.raises(SettingsError) as raised:
        Settings.from_environ(bad)
    message = str(raised.value)
    assert "\n" not in message
    assert "BUCKET is missing" in message
    assert all(f"{name}='many': must be a" in message for name in NUMBERS)
    assert f"LOG_LEVEL='loud': must be one of {', '.join(LOG_LEVELS)}" in message


@pytest.mark.parametrize("text", ["production", "test", "dev,prod"])
def test_an_unknown_environment_is_refused(text: str) -> None:
    """A mistyped environment is refused with the list of environments, and is not taken for dev."""
    with pytest.raises(SettingsError, match=r"ENVIRONMENT=.*must be one of dev, staging, prod"):
        Settings.from_environ({"ENVIRONMENT": text})


@pytest.mark.parametrize("text", ["nan", "inf", "-inf", "1e999", "-1", "many", "1,5", "9" * 5000])
@pytest.mark.parametrize("name", NUMBERS)
def test_a_number_that_is_none_or_out_of_bounds_is_refused(name: str, text: str) -> None:
    """A number that is not finite, not a number or out of bounds is refused with the name of its variable."""
    with pytest.raises(SettingsError, match=f"{name}=.*must be a (whole )?number"):
        Settings.from_environ({name: text})


@pytest.mark.parametrize(
    ("name", "text"),
    [
        *(("PORT", text) for text in ("0", "65536", "80.0")),
        *(("MODEL_POLL_SECONDS", text) for text in ("0", "0.09")),
        ("MAX_COMMENTS", "0"),
        ("MAX_BODY_BYTES", "8 MiB"),
    ],
)
def test_the_first_number_beyond_a_bound_is_refused(name: str, text: str) -> None:
    """The first number beyond a bound is refused, and the message names the bound."""
    with pytest.raises(SettingsError, match=r"must be a (whole )?number (of at least [\d.]+|from 1 to 65535)$"):
        Settings.from_environ({name: text})


def test_api_keys_are_read_and_never_shown() -> None:
    """Keys are separated by commas and not shown by repr; a list without any key is refused."""
    settings = Settings.from_environ({"API_KEYS": " first, second ,"})
    assert settings.api_keys == ("first", "second")
    assert "first" not in repr(settings)
    with pytest.raises(SettingsError, match="holds no key"):
        Settings.from_environ({"API_KEYS": " , "})


def test_pickles_are_trusted_only_where_they_can_be_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """An operator who trusts pickles without scikit-learn gets an error at the start that says how to install it."""
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(SettingsError, match=r"TRUST_PICKLES='true': .* with sklearn, .* EXTRAS=lambda,pickles"):
        Settings.from_environ({"TRUST_PICKLES": "true"})
    assert not Settings.from_environ({"TRUST_PICKLES": "false"}).trust_pickles
