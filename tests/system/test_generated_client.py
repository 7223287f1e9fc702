"""A client that openapi-python-client generates from a running API's /openapi.json gets each answer as an object."""

import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from api import EXAMPLE, ask, running_api

from pmip.http.answers import ANSWER_TYPES
from pmip.model.artifact import Artifact
from pmip.store.versions import LocalModel

KEY = "a-key-of-the-tests"
PACKAGE = "pmip_client"


class Caller(NamedTuple):
    """The generated client of an API, with a key or without one."""

    port: int
    client: Any

    def call(self, operation: str, **arguments: Any) -> Any:
        """Call an operation such as `service.get_readiness`, and return the parsed answer."""
        return import_module(f"{PACKAGE}.api.{operation}").sync(client=self.client, **arguments)

    def predict(self, comments: list[str], kind: str) -> Any:
        models = import_module(f"{PACKAGE}.models")
        body, type_ = models.Comments(comments), models.PostPredictType(kind)
        return self.call("comments.post_predict", body=body, type_=type_)


@pytest.fixture(scope="module")
def port(artifact: Artifact, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """Serve the artifact under a URL prefix with API keys, and generate the client from the document of this API."""
    folder = tmp_path_factory.mktemp("client")
    LocalModel(folder).save(artifact)
    with running_api(folder, API_KEYS=KEY, URL_PREFIX="/pre") as (port, _):
        command = [sys.executable, "-m", "openapi_python_client", "generate", "--fail-on-warning", "--meta", "none"]
        source = ["--url", f"http://127.0.0.1:{port}/pre/openapi.json", "--output-path", str(folder / PACKAGE)]
        subprocess.run([*command, *source], check=True, timeout=120)
        sys.path.insert(0, str(folder))
        yield port
        sys.path.remove(str(folder))


@pytest.fixture
def document(port: int) -> dict[str, Any]:
    body: dict[str, Any] = ask(port, "/pre/openapi.json").body
    return body


@pytest.fixture
def caller(port: int, document: dict[str, Any]) -> Iterator[Caller]:
    """Yield a client that sends the key in the header that the document names."""
    [scheme] = document["components"]["securitySchemes"].values()
    address = f"http://127.0.0.1:{port}{document['servers'][0]['url']}"
    make = import_module(PACKAGE).AuthenticatedClient
    with make(address, KEY, prefix="", auth_header_name=scheme["name"]) as client:
        yield Caller(port, client)


def test_the_document_is_valid_openapi(document: dict[str, Any]) -> None:
    """The document is valid OpenAPI, so that generators of any language can read it."""
    from openapi_spec_validator import validate  # of the extra test-all

    validate(document)


def test_each_operation_gives_what_the_api_answers(caller: Caller, document: dict[str, Any]) -> None:
    """The client has a function for each operation, and its objects leave out nothing that the API answers."""
    folder = Path(import_module(f"{PACKAGE}.api").__path__[0])
    operations = {method["operationId"] for path in document["paths"].values() for method in path.values()}
    assert operations == {path.stem for path in folder.glob("*/[a-z]*.py")}
    for kind in ANSWER_TYPES:
        answer = caller.predict(EXAMPLE["comments"], kind).to_dict()
        assert answer == ask(caller.port, f"/pre/predict?type={kind}", EXAMPLE, key=KEY).body
    for name in ("healthcheck", "readiness"):
        assert caller.call(f"service.get_{name}").status == "ok"
    info = caller.call("service.get_model_info").result
    assert (info.model_id, info.last_error, info.to_dict().keys()) == (
        "local",
        None,
        ask(caller.port, "/pre/model-info", key=KEY).body["result"].keys(),
    )
    assert "pmip_model_info" in caller.call("service.get_metrics")


def test_a_refusal_is_an_object_with_the_message(caller: Caller) -> None:
    """The client returns the API's own message for a wrong request and for a missing key."""
    assert "1001 comments are too many" in caller.predict(["x"] * 1001, "class").message
    with import_module(PACKAGE).Client(f"http://127.0.0.1:{caller.port}/pre") as client:
        stranger = Caller(caller.port, client)
        assert "send one of the API keys" in stranger.predict(["x"], "class").message
        assert stranger.call("service.get_healthcheck").status == "ok"
