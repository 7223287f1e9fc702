"""The API as callers see it: every route and every error, with a real reloader and a real store."""

import base64
import gzip
import hashlib
import json
import logging
import re
from dataclasses import asdict
from html import unescape
from importlib.metadata import version
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import reloader_of
from flask.testing import FlaskClient
from flask_restx import schemas
from sklearn.base import BaseEstimator

from pmip.config import Limits
from pmip.http.answers import ANSWER_TYPES
from pmip.http.swagger import EXAMPLE
from pmip.model.artifact import Artifact, Metadata, pack
from pmip.routes import create_app
from pmip.serving.reloader import Reloader
from pmip.store.objects import FolderStorage
from pmip.store.versions import ModelStore

LIMITS = Limits(max_comments=3, max_comment_chars=100, max_total_chars=200, max_explained_chars=110, max_body_bytes=500)
SECRET = "s3cr3t comment"
LINEAGE = "model_id ENVIRONMENT training_data_id training_files trained_at parameters metrics git_revision libraries"
LINEAGE += " sources not_readable"
STATE = "sha256 report batch_job_id verified scorer loaded_at version last_check_at last_error"
WRONG_CALLS = [
    ("?type=explain", '{"comments": []}', 400, "unknown type; it must be one of class, probability"),
    ("?typ=probability", '{"comments": ["a"]}', 400, "the query has an unknown argument; use 'type' and 'top'"),
    ("?type=class&type=class", '{"comments": []}', 400, "the query has 'type' 2 times"),
    ("", '{"comments": ["s3cr3t comment"]', 400, "not valid JSON"),
    ("", '{"comments": ["s3cr3t comment", 1]}', 400, "comments[1] is not a text"),
    ("", '{"comments": ["s3cr3t comment", "", "", ""]}', 400, "4 comments are too many; send at most 3"),
    ("", '{"comments": ["' + SECRET * 10 + '"]}', 400, "comments[0] has 140 characters"),
    ("", '{"comments": []}', 400, "'comments' must be a list of at least one text"),
    ("", json.dumps({"comments": [SECRET * 5] * 3}), 413, "at most 200 are allowed with type=class (MAX_TOTAL_CHARS)"),
    ("?type=explanation", json.dumps({"comments": [SECRET * 4] * 2}), 413, "(MAX_EXPLAINED_CHARS); send fewer"),
    ("", '{"comments": ["' + SECRET * 50 + '"]}', 413, "larger than 500 bytes (MAX_BODY_BYTES); send fewer"),
]
CHUNKED: dict[str, Any] = {"environ_overrides": {"wsgi.input_terminated": True, "HTTP_TRANSFER_ENCODING": "chunked"}}


class Breaking(BaseEstimator):  # type: ignore[misc]
    """A model whose error message quotes the comment."""

    classes_ = (0, 1)

    def predict_proba(self, comments: list[str]) -> list[list[float]]:
        return [[0.25, float(comment) if SECRET in comment else 0.75] for comment in comments]


class HalfPrecise(BaseEstimator):  # type: ignore[misc]
    """A model that answers in float32, which json cannot write."""

    classes_ = (0, 1)

    def predict_proba(self, comments: list[str]) -> np.ndarray[Any, Any]:
        return np.array([[0.25, 0.75]] * len(comments), np.float32)


def serving(folder: Path, artifact: Artifact | None) -> Reloader:
    store = ModelStore(FolderStorage(folder / "store"), "staging")
    if artifact:
        store.publish(artifact)
    reloader = reloader_of(store, folder, trust_pickles=True)
    reloader.step()
    return reloader


def of_another_kind(model: BaseEstimator) -> Artifact:
    return pack(model, Metadata("20260101T000000Z", "staging"))


def client_of(reloader: Reloader, *, debug: bool = False, **settings: Any) -> FlaskClient:
    app = create_app(reloader, LIMITS, environment="staging", **settings)
    app.debug = app.testing = debug
    return app.test_client()


@pytest.fixture(scope="module")
def reloader(tmp_path_factory: pytest.TempPathFactory, artifact: Artifact) -> Reloader:
    return serving(tmp_path_factory.mktemp("api"), artifact)


@pytest.fixture(scope="module", params=[False, True], ids=["production", "debug"])
def client(reloader: Reloader, request: pytest.FixtureRequest) -> FlaskClient:
    """Call an API that has a model, once in production mode and once in debug mode."""
    return client_of(reloader, debug=request.param)


def test_classes_are_the_default_answer(client: FlaskClient) -> None:
    """A caller who names no type gets one class for each comment, in order, and the id of the model."""
    for url in ("/predict", "/predict?type=class", "/predict?"):
        answer = client.post(url, json={"comments": EXAMPLE}, headers={"X-Fields": "nothing"})
        assert (answer.status_code, answer.json) == (200, {"result": [{"class": 1}, {"class": 0}]})
        assert answer.headers["X-Model-Id"] == "20260101T000000Z"


def test_probabilities_are_the_scorers(reloader: Reloader, tmp_path: Path, artifact: Artifact) -> None:
    """A caller gets two probabilities for each comment, to the last digit, even if the model uses float32."""
    comments = [*EXAMPLE, "\0 😍"]
    for served in (reloader, serving(tmp_path, of_another_kind(HalfPrecise()))):
        answer = client_of(served).post("/predict?type=probability", json={"comments": comments})
        assert [row["probability"] for row in answer.json["result"]] == served.scorer.probabilities(comments)


def test_an_explanation_is_the_scorers_or_a_reason(reloader: Reloader, tmp_path: Path, artifact: Artifact) -> None:
    """A caller gets explanations from a linear model, and the reason why any other model has none."""
    asked = {"path": "/predict?type=explanation", "json": {"comments": EXAMPLE}}
    assert client_of(reloader).post(**asked).json == {"result": reloader.scorer.explanations(EXAMPLE, 100)}
    short = client_of(reloader).post("/predict?type=explanation&top=2", json=asked["json"])
    assert short.json == {"result": reloader.scorer.explanations(EXAMPLE, 2)}
    refused = client_of(serving(tmp_path, of_another_kind(HalfPrecise()))).post(**asked)
    assert refused.status_code == 400
    assert refused.json == {
        "message": "this model's answers cannot be explained: the model contains test_routes.HalfPrecise"
    }


@pytest.mark.parametrize("wanted", ["", "a b", "x" * 65, "é", "<script>", "id\tid", "Az0._-", "x" * 64])
def test_every_answer_has_a_request_id(client: FlaskClient, wanted: str) -> None:
    """Every answer has the caller's own request id if it is valid, and else a new one."""
    for path in ("/healthcheck", "/predict", "/nothing", "/"):
        named = client.get(path, headers={"X-Request-Id": wanted}).headers["X-Request-Id"]
        assert named == wanted if wanted in ("Az0._-", "x" * 64) else len(named) == 32


@pytest.mark.parametrize("call", WRONG_CALLS)
def test_a_wrong_call_is_told_what_is_wrong(client: FlaskClient, call: tuple[str, str, int, str], caplog: Any) -> None:
    """A caller with a wrong request gets the fault, and neither the answer nor the log has the comment."""
    caplog.set_level(logging.DEBUG)
    query, body, status, message = call
    for sent in ({"data": body}, {"input_stream": BytesIO(body.encode()), **CHUNKED}):
        answer = client.post(f"/predict{query}", content_type="application/json; charset=utf-8", **sent)
        assert answer.status_code == status
        assert message in answer.json["message"]
        assert "s3cr3t" not in answer.text + caplog.text


@pytest.mark.parametrize("content_type", [None, "text/plain", "application/x-www-form-urlencoded"])
def test_only_json_is_taken(client: FlaskClient, content_type: str | None) -> None:
    """A caller who sends anything but JSON gets 415 and the header to send."""
    answer = client.post("/predict", data='{"comments": ["a"]}', content_type=content_type)
    assert answer.status_code == 415
    assert "Content-Type: application/json" in answer.json["message"]


@pytest.mark.parametrize(("encoding", "named"), [("gzip", "gzip"), ("BR", "br"), ("s3cr3t", "encoded")])
def test_a_compressed_body_is_told_so(client: FlaskClient, encoding: str, named: str) -> None:
    """A caller who sends a compressed body gets 415 and the name of the encoding, if it is a known one."""
    body = gzip.compress(b'{"comments": ["a"]}')
    headers = {"Content-Encoding": encoding, "Content-Type": "application/json"}
    answer = client.post("/predict", data=body, headers=headers)
    assert (answer.status_code, "s3cr3t" in answer.text) == (415, False)
    assert answer.json["message"].startswith(f"the body is compressed ({named}); send plain JSON")


@pytest.mark.parametrize("length", ["", "1e3", "-1", "+5", "0"])
def test_without_its_length_a_body_is_none(client: FlaskClient, length: str) -> None:
    """A body whose length is missing, zero or invalid counts as empty and gets 400."""
    sent = {"input_stream": BytesIO(b'{"comments": ["a"]}'), "environ_overrides": {"CONTENT_LENGTH": length}}
    answer = client.post("/predict", content_type="application/json", **sent)
    assert (answer.status_code, "not valid JSON" in answer.json["message"]) == (400, True)


@pytest.mark.parametrize("path", ["/nothing", "/predict/", "/%00%ff<b>é", "/../x", "/swaggerui/nothing"])
def test_an_unknown_path_is_404_in_json(client: FlaskClient, path: str) -> None:
    """A caller with an unknown path gets 404 and the page that lists all routes, without the path."""
    answer = client.get(path)
    message = "there is no such route; / is the page that lists all routes"
    assert (answer.status_code, answer.json) == (404, {"message": message})


@pytest.mark.parametrize(("method", "path"), [("GET", "/predict"), ("HEAD", "/predict"), ("X", "/")])
def test_a_wrong_method_is_405_and_told_the_right_ones(client: FlaskClient, method: str, path: str) -> None:
    """A caller with a wrong method gets 405 and the allowed methods in the header Allow and in the message."""
    answer = client.open(path, method=method)
    assert (answer.status_code, answer.mimetype) == (405, "application/json")
    assert ("POST" if path == "/predict" else "GET") in answer.headers["Allow"]
    assert method == "HEAD" or answer.json["message"].endswith(f"only {answer.headers['Allow']}")


PATHS = ["/", "/try", "/swagger.json", "/openapi.json", "/healthcheck", "/readiness", "/model-info", "/metrics"]


@pytest.mark.parametrize("path", PATHS)
def test_head_and_options_work(client: FlaskClient, path: str) -> None:
    """A load balancer or browser can send HEAD and OPTIONS to every page."""
    assert client.head(path).status_code == 200
    assert "GET" in client.options(path).headers["Allow"]


def test_without_a_model_it_is_alive_but_not_ready(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Without a model the API is alive, and answers 503 with the reason and Retry-After to what needs a model."""
    empty = client_of(serving(tmp_path, None))
    caplog.clear()
    for answer in (empty.get("/readiness"), empty.post("/predict", json={"comments": EXAMPLE})):
        assert (answer.status_code, answer.headers["Retry-After"], "X-Model-Id" in answer.headers) == (503, "5", False)
        told = "not ready: no model is loaded yet; see /model-info and the log for the reason"
        assert answer.json == {"message": told}
    assert empty.get("/healthcheck").json == {"status": "ok"}
    info = empty.get("/model-info").json["result"]
    assert (info["model_id"], info["ENVIRONMENT"]) == (None, "staging")
    assert "does not hold any version" in info["last_error"]
    assert caplog.records == []


def test_with_a_model_it_is_ready_and_tells_which(client: FlaskClient, artifact: Artifact) -> None:
    """A caller of /model-info gets the lineage and state, without the golden comments and held-out answers."""
    ready = client.get("/readiness")
    assert (ready.status_code, ready.headers["X-Model-Id"]) == (200, "20260101T000000Z")
    info = client.get("/model-info").json["result"]
    assert info.keys() == {*LINEAGE.split(), *STATE.split()}
    assert (info["model_id"], info["ENVIRONMENT"]) == ("20260101T000000Z", "staging")
    assert (info["sha256"], info["verified"], info["last_error"]) == (artifact.sha256, True, None)


def test_a_fault_is_told_by_its_request_id_alone(tmp_path: Path, caplog: Any) -> None:
    """After an internal error the caller gets only the request id, and the log the place without the comment."""
    reloader = serving(tmp_path, of_another_kind(Breaking()))
    for debug in (False, True):
        client = client_of(reloader, debug=debug)
        answer = client.post("/predict", json={"comments": [SECRET]}, headers={"X-Request-Id": f"id-{debug}"})
        message = f"internal error; the log has the details under request id id-{debug}"
        assert (answer.status_code, answer.json) == (500, {"message": message})
        assert f"request id-{debug} failed: ValueError" in caplog.text
        assert "in predict_proba" in caplog.text
        assert SECRET not in caplog.text


def test_the_document_describes_every_route(client: FlaskClient) -> None:
    """The Swagger document is valid and has every route, the example comments and the types of answers."""
    document = client.get("/swagger.json").json
    schemas.validate(document)
    assert document["paths"].keys() == {"/predict", "/model-info", "/healthcheck", "/readiness", "/metrics"}
    assert document["definitions"]["Comments"]["properties"]["comments"]["example"] == EXAMPLE
    query = {item["name"]: item for item in document["paths"]["/predict"]["post"]["parameters"]}["type"]
    assert (query["in"], query["enum"], query["default"]) == ("query", list(ANSWER_TYPES), "class")


def test_the_document_shows_each_answer_and_error(client: FlaskClient) -> None:
    """The Swagger document has limits, version, licence, an example of each error, and each field of /model-info."""
    document = client.get("/swagger.json").json
    told = document["info"]
    assert (told["version"], told["license"]["name"]) == (version("pmip"), "MIT")
    for limit in asdict(LIMITS).values():
        assert str(limit) in told["description"]
    responses = document["paths"]["/predict"]["post"]["responses"]
    assert responses.keys() == {"200", "400", "401", "413", "415", "503"}
    assert {bool(answer["examples"]["application/json"]["message"]) for code, answer in responses.items() if code > "3"}
    for kind in ANSWER_TYPES:
        assert f"- `{kind}`" in document["paths"]["/predict"]["post"]["description"]
    fields = document["definitions"]["Lineage"]["properties"]
    info = client.get("/model-info").json["result"]
    assert fields.keys() == info.keys()
    kinds = {"string": str, "boolean": bool, "object": dict, "array": list}
    for name, value in info.items():
        assert fields[name].get("x-nullable") if value is None else isinstance(value, kinds[fields[name]["type"]])


@pytest.mark.parametrize("taken_away", [True, False])
def test_the_page_finds_its_document_below_a_path(reloader: Reloader, taken_away: bool) -> None:
    """Below a URL prefix the page links to its documents, whether or not the proxy removes it or a caller forges it."""
    client = client_of(reloader, trusted_proxies=1, url_prefix="/pre")
    headers = {"X-Forwarded-Prefix": "//evil.example/x", "X-Script-Name": "//evil.example/x"}
    below = "" if taken_away else "/pre"
    page = client.get(f"{below}/", headers=headers)
    assert (page.mimetype, "evil.example" in page.text) == ("text/html", False)
    assert 'url: "/pre/swagger.json"' in page.text
    assert client.get(f"{below}/swagger.json", headers=headers).json["basePath"] == "/pre"
    assert client.get(f"{below}/openapi.json", headers=headers).json["servers"] == [{"url": "/pre"}]
    assert 'href="/pre/openapi.json"' in page.text
    assert client.get("/prefix/swagger.json").status_code == 404


def test_without_a_prefix_no_header_makes_one(reloader: Reloader) -> None:
    """An API without a URL prefix ignores the header X-Forwarded-Prefix."""
    client = client_of(reloader, trusted_proxies=1)
    headers = {"X-Forwarded-Prefix": "/pre"}
    assert 'url: "/swagger.json"' in client.get("/", headers=headers).text
    assert client.get("/swagger.json", headers=headers).json["basePath"] == "/"


@pytest.mark.parametrize("path", [*PATHS, "/x"])
def test_nothing_that_may_change_is_stored(client: FlaskClient, path: str) -> None:
    """No answer may be cached, and no browser may guess its type."""
    headers = client.get(path).headers
    assert (headers["Cache-Control"], headers["X-Content-Type-Options"]) == ("no-store", "nosniff")


def test_the_page_may_run_its_own_script_alone(client: FlaskClient) -> None:
    """The page permits only its own script, by a new nonce for each request, and no other site may embed it."""
    pages = [client.get("/") for _ in range(2)]
    policies = [page.headers["Content-Security-Policy"] for page in pages]
    nonces = [re.findall(r"script-src 'self' 'nonce-([\w-]{20,})'", policy) for policy in policies]
    assert [len(found) for found in nonces] == [1, 1]
    assert nonces[0] != nonces[1]
    for page, [nonce] in zip(pages, nonces, strict=True):
        scripts = re.findall("<script(?! src)([^>]*)>", page.text)
        assert scripts == [f' nonce="{nonce}"']
        assert page.headers["X-Frame-Options"] == "DENY"
        assert "default-src 'none'" in page.headers["Content-Security-Policy"]
    assert "Content-Security-Policy" not in client.get("/healthcheck").headers


def test_try_may_run_its_own_script_alone(client: FlaskClient) -> None:
    """/try permits only its own script and style, by their hashes, and no other site may embed it."""
    page = client.get("/try")
    policy = dict(part.strip().split(" ", 1) for part in page.headers["Content-Security-Policy"].split(";"))
    for element in ("script", "style"):
        [content] = re.findall(f"<{element}>(.*)</{element}>", page.text, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert policy[f"{element}-src"] == f"'sha256-{digest}'"
    closed = ("default-src", "base-uri", "form-action", "frame-ancestors")
    assert {policy[name] for name in closed} == {"'none'"}
    assert json.loads(unescape(re.findall('data-limits="(.*)"', page.text)[0])) == {
        "max_comments": 3,
        "max_comment_chars": 100,
        "max_total_chars": 200,
    }
