"""API keys: which keys are accepted in which headers, and how a file of keys is read again while the API runs."""

import logging
from pathlib import Path

import pytest
from conftest import local_reloader
from flask import Request
from flask.testing import FlaskClient

from pmip.config import Limits, Settings
from pmip.errors import SettingsError
from pmip.http.keys import ApiKeys
from pmip.model.artifact import Artifact
from pmip.routes import create_app

ASKED = [("POST", "/predict"), ("GET", "/model-info"), ("GET", "/metrics")]
OPEN = [("GET", path) for path in ("/healthcheck", "/readiness", "/swagger.json", "/openapi.json", "/try", "/")]


def client_with(keys: ApiKeys, folder: Path, artifact: Artifact) -> FlaskClient:
    return create_app(local_reloader(folder, artifact), Limits(), api_keys=keys).test_client()


@pytest.fixture
def client(tmp_path: Path, artifact: Artifact) -> FlaskClient:
    return client_with(ApiKeys(["first", "sécond"]), tmp_path, artifact)


def showing(headers: dict[str, str]) -> Request:
    """Make a request with headers whose values are in the form of WSGI: their bytes decoded as Latin-1."""
    names = {f"HTTP_{name.upper().replace('-', '_')}": value for name, value in headers.items()}
    return Request({"REQUEST_METHOD": "GET", **names})


@pytest.mark.parametrize("key", ["first", "sécond", "€uro"])
@pytest.mark.parametrize("form", ["X-API-Key: {}", "Authorization: Bearer {}", "Authorization: bearer  {}"])
def test_a_key_is_taken_in_either_header(key: str, form: str) -> None:
    """A caller may send a key in X-API-Key or as a bearer token, in UTF-8 (as curl does) or Latin-1 (browsers)."""
    keys = ApiKeys(["first", "sécond", "€uro"])
    for code in ("utf-8", "latin-1"):
        sent = form.format(key).encode(code, "replace").decode("latin-1")
        assert keys.allow(showing(dict([sent.split(": ")]))) == ("?" not in sent)


@pytest.mark.parametrize("shown", ["", "firs", "first ", "FIRST", "first,sécond", "x" * 10_000, "uro"])
def test_only_the_keys_themselves_are_allowed(shown: str) -> None:
    """A caller whose header holds anything but one whole key is refused."""
    keys, sent = ApiKeys(["first", "sécond", "€uro"]), shown.encode().decode("latin-1")
    assert not keys.allow(showing({"X-API-Key": sent}))
    assert not keys.allow(showing({"Authorization": sent}))
    assert not keys.allow(showing({"Authorization": f"Basic {sent}"}))


def test_without_keys_everybody_may_ask() -> None:
    """An API without keys answers every caller, with or without a key in the request."""
    assert ApiKeys().allow(showing({}))
    assert ApiKeys().allow(showing({"X-API-Key": "any"}))
    assert not ApiKeys()


def test_a_refusal_is_of_a_kind_that_the_document_names(client: FlaskClient) -> None:
    """A caller without a key gets an error of a media type that the Swagger document names for the route."""
    document = client.get("/swagger.json").json
    for method, path in ASKED:
        answer = client.open(path, method=method)
        named = document["paths"][path][method.lower()].get("produces", document["produces"])
        assert answer.mimetype in named


@pytest.mark.parametrize(("method", "path"), ASKED)
def test_the_model_is_asked_with_a_key(client: FlaskClient, method: str, path: str) -> None:
    """A caller with no key or a wrong one gets 401 and the names of the headers; one with a right key gets 200."""
    call = {"path": path, "method": method, "json": {"comments": ["hello"]}}
    assert client.open(**call, headers={"X-API-Key": "first"}).status_code == 200
    for headers in ({}, {"X-API-Key": "guess"}, {"Authorization": "Bearer guess"}, {"Authorization": "Basic first"}):
        answer = client.open(**call, headers=headers)
        assert answer.status_code == 401
        assert answer.headers["WWW-Authenticate"] == "Bearer realm=pmip"
        told = "send one of the API keys in the header X-API-Key or as Authorization: Bearer"
        assert answer.json == {"message": told}
        assert answer.headers["X-Request-Id"]


@pytest.mark.parametrize(("method", "path"), OPEN)
def test_what_watches_the_process_needs_no_key(client: FlaskClient, method: str, path: str) -> None:
    """A caller without a key can read the health checks, the documents and the pages."""
    assert client.open(path, method=method).status_code == 200


def test_the_document_declares_keys_only_when_they_are_asked_for(
    client: FlaskClient, tmp_path: Path, artifact: Artifact
) -> None:
    """The Swagger document declares keys only if the API requires them, and never for the health checks."""
    document = client.get("/swagger.json").json
    scheme = {"type": "apiKey", "in": "header", "name": "X-API-Key"}
    assert document["securityDefinitions"] == {"X-API-Key": scheme}
    assert document["security"] == [{"X-API-Key": []}]
    for _, path in OPEN[:2]:
        assert document["paths"][path]["get"]["security"] == []
    without = client_with(ApiKeys(), tmp_path, artifact).get("/swagger.json").json
    assert "securityDefinitions" not in without
    assert "security" not in without


def test_no_page_holds_a_key(tmp_path: Path, artifact: Artifact) -> None:
    """The pages that need no key, which show the limits of the settings, hold no key of these settings."""
    settings = Settings(api_keys=("key-of-these-settings",))
    app = create_app(local_reloader(tmp_path, artifact), settings, api_keys=ApiKeys(settings.api_keys))
    for _, path in OPEN:
        assert "key-of-these-settings" not in app.test_client().get(path).text


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "keys").write_bytes(b"\xef\xbb\xbf# of the shop\r\nfirst, second\r\n\r\nthird\r\n")
    return tmp_path / "keys"


def allowed(keys: ApiKeys, *shown: str) -> list[str]:
    return [key for key in shown if keys.allow(showing({"X-API-Key": key}))]


def test_keys_of_a_file_count_beside_the_others(file: Path) -> None:
    """The keys of a file, on lines or between commas, are accepted beside those of API_KEYS; its comments are not."""
    keys = ApiKeys(["other"], file)
    assert allowed(keys, "other", "first", "second", "third", "# of the shop", "") == [
        "other",
        "first",
        "second",
        "third",
    ]


def test_a_changed_file_counts_at_the_next_look(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    """After the file has changed, new keys are accepted, removed keys are refused, and the log says so once."""
    caplog.set_level(logging.INFO)
    keys = ApiKeys([], file)
    file.write_text("second\nfourth")
    keys.look()
    keys.look()
    assert allowed(keys, "first", "second", "third", "fourth") == ["second", "fourth"]
    assert caplog.messages == ["the API keys have changed"]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "cannot be read (No such file or directory)"),
        ("", "holds no key; unset it to allow everybody"),
        ("# first\n,\n", "holds no key; unset it to allow everybody"),
    ],
)
def test_a_file_without_keys_lets_nobody_in(
    file: Path, content: str | None, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A missing or empty file is an error at the start; later the old keys stay and one log line gives the reason."""
    keys = ApiKeys([], file)
    file.unlink() if content is None else file.write_text(content)
    for _ in range(3):
        keys.look()
    assert allowed(keys, "first", "fourth", "") == ["first"]
    assert caplog.messages == [f"API_KEYS_FILE='{file}': {reason}; the keys that were read before stay accepted"]
    with pytest.raises(SettingsError) as caught:
        ApiKeys(["other"], file)
    assert str(caught.value) == f"API_KEYS_FILE='{file}': {reason}"
    file.write_text("fourth")
    keys.look()
    assert allowed(keys, "first", "fourth") == ["fourth"]
