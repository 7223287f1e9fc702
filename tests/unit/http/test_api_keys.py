"""API keys: who may ask, and what the Swagger page says of it."""

from pathlib import Path

import pytest
from conftest import reloader_of
from flask.testing import FlaskClient

from pmip.http.requests import ApiKeys, Limits
from pmip.model.artifact import Artifact
from pmip.routes import create_app
from pmip.store.versions import LocalModel

ASKED = [("POST", "/predict"), ("GET", "/model-info"), ("GET", "/metrics")]
OPEN = [("GET", "/healthcheck"), ("GET", "/readiness"), ("GET", "/swagger.json"), ("GET", "/")]


def client_with(keys: ApiKeys, folder: Path, artifact: Artifact) -> FlaskClient:
    """Return a caller of an API that serves the artifact."""
    local = LocalModel(folder)
    local.save(artifact)
    reloader = reloader_of(local, folder)
    reloader.step()
    return create_app(reloader, Limits(), api_keys=keys).test_client()


@pytest.fixture
def client(tmp_path: Path, artifact: Artifact) -> FlaskClient:
    """Set two keys."""
    return client_with(ApiKeys(["first", "sécond"]), tmp_path, artifact)


@pytest.mark.parametrize("shown", [None, "", "firs", "first ", "FIRST", "first,sécond", "\ud800", "x" * 10_000])
def test_only_the_keys_themselves_are_allowed(shown: str | None) -> None:
    """Nothing but one whole key opens."""
    keys = ApiKeys(["first", "sécond"])
    assert keys.allow("first")
    assert keys.allow("sécond")
    assert not keys.allow(shown)


def test_without_keys_everybody_may_ask() -> None:
    """No key set means none wanted."""
    assert ApiKeys().allow(None)
    assert ApiKeys().allow("any")
    assert not ApiKeys()


def test_a_refusal_is_of_a_kind_that_the_document_names(client: FlaskClient) -> None:
    """Errors are JSON, also of a route whose own answer is not."""
    document = client.get("/swagger.json").json
    for method, path in ASKED:
        answer = client.open(path, method=method)
        named = document["paths"][path][method.lower()].get("produces", document["produces"])
        assert answer.mimetype in named


@pytest.mark.parametrize(("method", "path"), ASKED)
def test_the_model_is_asked_with_a_key(client: FlaskClient, method: str, path: str) -> None:
    """With none or a wrong one the answer is 401 and says which header; it never repeats a key."""
    call = {"path": path, "method": method, "json": {"comments": ["hello"]}}
    assert client.open(**call, headers={"X-API-Key": "first"}).status_code == 200
    for headers in ({}, {"X-API-Key": "guess"}):
        answer = client.open(**call, headers=headers)
        assert answer.status_code == 401
        assert answer.json == {"message": "send one of the API keys in the header X-API-Key"}
        assert answer.headers["X-Request-Id"]


@pytest.mark.parametrize(("method", "path"), OPEN)
def test_what_watches_the_process_needs_no_key(client: FlaskClient, method: str, path: str) -> None:
    """Load balancers show none, and the page is where a person enters one."""
    assert client.open(path, method=method).status_code == 200


def test_the_document_declares_keys_only_when_they_are_asked_for(
    client: FlaskClient, tmp_path: Path, artifact: Artifact
) -> None:
    """The Authorize button appears with the keys, and names the routes that want one."""
    document = client.get("/swagger.json").json
    scheme = {"type": "apiKey", "in": "header", "name": "X-API-Key"}
    assert document["securityDefinitions"] == {"X-API-Key": scheme}
    assert document["security"] == [{"X-API-Key": []}]
    for _, path in OPEN[:2]:
        assert document["paths"][path]["get"]["security"] == []
    without = client_with(ApiKeys(), tmp_path, artifact).get("/swagger.json").json
    assert "securityDefinitions" not in without
    assert "security" not in without
