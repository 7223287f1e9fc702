"""A local endpoint for the real aws command, which records each call and returns the answers that a test scripted."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, unquote, urlsplit
from xml.sax.saxutils import escape

import botocore.session
import pytest
from botocore.model import OperationModel, ServiceModel, Shape
from servers import Handler, serving

SECRET_KEY = "not-to-be-seen-in-any-output"
MODELS = botocore.session.get_session()


class Call(NamedTuple):
    """One request as the service would parse it; parameters of the query protocol keep their flat names."""

    operation: str
    parameters: dict[str, Any]


class Refusal(NamedTuple):
    code: str
    message: str


Answer = dict[str, Any] | Refusal


class AwsRecorder(ThreadingHTTPServer):
    """Returns each scripted answer of an operation once, and the last one from then on."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.calls: list[Call] = []
        self.regions: set[str] = set()
        self._answers: dict[str, list[Answer]] = {}

    @property
    def operations(self) -> list[str]:
        return [call.operation for call in self.calls]

    def parameters(self, operation: str) -> list[dict[str, Any]]:
        """Return the parameters of each call of an operation."""
        return [call.parameters for call in self.calls if call.operation == operation]

    def answer(self, operation: str, *answers: Answer) -> None:
        """Script the answers of an operation; an operation without answers is refused."""
        self._answers[operation] = list(answers)

    def refuse(self, operation: str) -> None:
        """Script a refusal, as for a person who has no right to the operation."""
        self.answer(operation, Refusal("AccessDeniedException", f"you may not {operation}"))

    def next_answer(self, call: Call) -> Answer:
        self.calls.append(call)
        answers = self._answers.get(call.operation) or [Refusal("NotScripted", f"{call} has no answer in this test")]
        return answers.pop(0) if len(answers) > 1 else answers[0]


class _Handler(Handler):
    server: AwsRecorder
    protocol_version = "HTTP/1.1"

    def _serve(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        # Credential=KEY/DAY/REGION/SERVICE/aws4_request; only the renewal of 'aws login' has no signature.
        _, _, region, signed, *_ = self.headers.get("Authorization", "//any/signin").split("/")
        self.server.regions.add(region)
        service = MODELS.get_service_model(signed)
        call = _call(service, self, body)
        answer = self.server.next_answer(call)
        status = 400 if isinstance(answer, Refusal) else 200
        self.answer(status, _rendered(service.operation_model(call.operation), answer).encode())

    do_GET = do_PUT = do_POST = _serve  # noqa: N815


def _call(service: ServiceModel, request: Handler, body: bytes) -> Call:
    """Parse a request by the protocol of its service; of S3, only uploads and lists are supported."""
    path = urlsplit(request.path).path
    match service.protocol:
        case "query":
            fields = dict(parse_qsl(body.decode(), keep_blank_values=True))
            del fields["Version"]
            return Call(fields.pop("Action"), fields)
        case "json":
            return Call(request.headers["X-Amz-Target"].split(".")[1], json.loads(body))
        case "rest-json":
            [name] = [
                name for name in service.operation_names if service.operation_model(name).http["requestUri"] == path
            ]
            return Call(name, json.loads(body))
    _, bucket, *rest = unquote(path).split("/", 2)
    if not rest:
        return Call("ListObjects", {"Bucket": bucket} | dict(parse_qsl(urlsplit(request.path).query)))
    [key] = rest
    return Call("PutObject", {"Bucket": bucket, "Key": key, "Body": body})


def _rendered(operation: OperationModel, answer: Answer) -> str:
    """Write an answer as the service would; a field that the service does not have is an error."""
    xml = operation.service_model.protocol in ("query", "rest-xml")
    if isinstance(answer, Refusal):
        error = f"<Error><Code>{answer.code}</Code><Message>{answer.message}</Message></Error>"
        if operation.service_model.protocol == "query":
            error = f"<ErrorResponse>{error}<RequestId>1</RequestId></ErrorResponse>"
        return error if xml else json.dumps({"__type": answer.code, "message": answer.message})
    if not xml:
        return json.dumps(answer)
    shape = operation.output_shape
    content = _xml(shape.serialization.get("resultWrapper", shape.name), shape, answer) if shape else ""
    metadata = "<ResponseMetadata><RequestId>1</RequestId></ResponseMetadata>"
    return f"<{operation.name}Response>{content}{metadata}</{operation.name}Response>"


def _xml(name: str, shape: Shape, value: Any) -> str:
    if shape.type_name == "structure":
        inner = "".join(_xml(key, shape.members[key], member) for key, member in value.items())
    elif shape.type_name == "list":
        inner = "".join(_xml("member", shape.member, member) for member in value)
    else:
        inner = escape(str(value))
    return f"<{name}>{inner}</{name}>"


@pytest.fixture(scope="session")
def aws_command(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a folder with an aws command that talks to AWS_ENDPOINT_URL: version 2 if installed, otherwise 1.

    Versions before 2.13 accept this address only as an argument.
    """
    found = shutil.which("aws", path="/usr/local/bin:/usr/bin")
    if not found or "aws-cli/2" not in subprocess.check_output([found, "--version"], text=True, timeout=60):
        found = str(Path(sys.executable).with_name("aws"))
        if os.environ.get("REQUIRE_AWS_CLI_2") == "1":
            pytest.fail("version 2 of the aws command is not installed")
    folder = tmp_path_factory.mktemp("bin")
    (folder / "aws").write_text(f'#!/bin/sh\nexec {found} --endpoint-url "$AWS_ENDPOINT_URL" "$@"\n')
    (folder / "aws").chmod(0o755)
    return folder


@pytest.fixture
def aws(aws_command: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[AwsRecorder]:
    """Let the scripts' aws command talk to a recorder; a refused call is not repeated."""
    with serving(AwsRecorder()) as recorder:
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{recorder.server_port}")
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
        monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
        monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
        monkeypatch.setenv("POLL_SECONDS", "0")
        monkeypatch.setenv("PATH", f"{aws_command}:{Path(sys.executable).parent}:{os.environ['PATH']}")
        yield recorder
