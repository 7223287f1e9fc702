"""The API's bundle, and its deployment to Elastic Beanstalk by the real aws command, which talks to a recorder."""

import io
import json
import os
import re
import shutil
import zipfile
from collections.abc import Iterator
from hashlib import sha256
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest
import yaml
from aws_recorder import SECRET_KEY, Answer, AwsRecorder, Refusal
from conftest import ROOT
from servers import Handler, serving
from shell import command, run

from pmip.config import MEBIBYTE, Settings

REPOSITORY = "123456789012.dkr.ecr.eu-west-1.amazonaws.com/pmip_api"
COMMIT = "0123456789abcdef0123456789abcdef01234567"
IMAGE = f"{REPOSITORY}:{COMMIT}"
FILES = {".ebextensions/pmip.config", ".platform/nginx/conf.d/pmip.conf", "Dockerrun.aws.json"}
STARTED = "2030-01-01T00:00:00.000Z"
LOOKING = ["DescribeEnvironments", "DescribeEvents"]
TO_UPDATE = ["DescribeEnvironments", "DescribeApplicationVersions", "DescribeStacks", "PutObject"]
TO_UPDATE += ["CreateApplicationVersion", "UpdateEnvironment"]
DEPLOYING = [*TO_UPDATE, *LOOKING * 2, "DescribeStacks"]
AGAIN = ["DescribeEnvironments", "DescribeApplicationVersions", "UpdateEnvironment", *LOOKING]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Copy the files that a deployment needs; the bundle is written into the copy."""
    folder = tmp_path / "pmip"
    shutil.copytree(ROOT / "scripts", folder / "scripts")
    shutil.copy(ROOT / "Dockerrun.aws.json", folder)
    return folder


@pytest.fixture
def label(project: Path) -> str:
    """Compute the label of the image's version as the script does, from the content of the bundle."""
    content, _ = bundle_of(project, IMAGE)
    return f"{COMMIT}-{sha256(content).hexdigest()[:8]}"


class Readiness(Handler):
    """Answers /readiness with each status in `answers` once, and with the last one from then on."""

    answers: ClassVar = [200]

    def do_GET(self) -> None:  # noqa: N802
        assert self.path == "/readiness"
        status = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        self.answer(status, b'{"message": "no model is loaded yet"}')


API = ThreadingHTTPServer(("127.0.0.1", 0), Readiness)
ADDRESS = f"127.0.0.1:{API.server_port}"


@pytest.fixture(autouse=True, scope="module")
def _api() -> Iterator[None]:
    with serving(API):
        yield


def environment(version: str, status: str = "Ready", health: str = "Green") -> dict[str, Any]:
    names = {"ApplicationName": "pmip", "EnvironmentName": "pmip-env", "CNAME": ADDRESS}
    return {"Environments": [names | {"VersionLabel": version, "Status": status, "Health": health}]}


def events(*messages: str) -> dict[str, Any]:
    listed = [
        {"EventDate": f"2030-01-01T00:00:0{second}.000Z", "Severity": "INFO", "Message": message}
        for second, message in enumerate(messages)
    ]
    return {"Events": listed[::-1]}


def deployable(aws: AwsRecorder, label: str) -> None:
    updating = environment(label, "Updating", "Grey")
    aws.answer("DescribeEnvironments", environment("old"), updating, environment(label))
    aws.answer("DescribeApplicationVersions", {"ApplicationVersions": []})
    serving = {"Stacks": [{"Parameters": [{"ParameterKey": "CertificateArn", "ParameterValue": ""}]}]}
    aws.answer(
        "DescribeStacks", {"Stacks": [{"Outputs": [{"OutputKey": "BucketName", "OutputValue": "pmip-1"}]}]}, serving
    )
    aws.answer("PutObject", {})
    aws.answer("CreateApplicationVersion", {"ApplicationVersion": {"VersionLabel": label}})
    aws.answer("UpdateEnvironment", {"DateUpdated": STARTED, "Status": "Updating"})
    aws.answer("DescribeEvents", events("update begins"), events("update begins", "update ends"))
    aws.answer("DescribeEnvironmentHealth", {"Causes": ["Application deployment failed", "the container ended"]})


def deployed_before(aws: AwsRecorder, label: str, *looks: Answer) -> None:
    """Script the deployment of a version that Beanstalk already has, with the environment's states in turn."""
    deployable(aws, label)
    aws.answer("DescribeApplicationVersions", {"ApplicationVersions": [{"VersionLabel": label}]})
    aws.answer("DescribeEnvironments", *looks)


def deploy(project: Path, *words: str, **environ: str) -> Any:
    return run(project / "scripts" / "deploy_api.sh", *(words or [IMAGE]), **{"HEALTH_SECONDS": "0"} | environ)


def bundle_of(project: Path, image: str) -> tuple[bytes, dict[str, str]]:
    outcome = deploy(project, "--bundle-only", image, PATH="/usr/bin:/bin")  # no aws command is needed
    assert (outcome.returncode, outcome.stdout) == (0, "build/pmip_api.zip\n"), outcome.stderr
    content = (project / "build" / "pmip_api.zip").read_bytes()
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        assert {entry.date_time for entry in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
        return content, {name: archive.read(name).decode() for name in archive.namelist()}


def test_the_bundle_has_exactly_what_beanstalk_needs(project: Path) -> None:
    """The bundle holds the image's name and Beanstalk's files, but no Dockerfile, which Beanstalk would build."""
    (project / "scripts" / "beanstalk" / ".ebextensions" / "pmip.config~").write_text("")
    (project / "Dockerfile").write_text("")
    _, files = bundle_of(project, IMAGE)
    assert files.keys() == FILES
    rendered, template = (json.loads(text) for text in (files["Dockerrun.aws.json"], dockerrun_text()))
    assert rendered["Image"].pop("Name") == IMAGE
    assert "deploy_api.sh" in template["Image"].pop("Name")
    assert rendered == template


def test_the_same_image_makes_the_same_bytes(project: Path) -> None:
    """The bundle of an image has the same bytes whenever it is made, and another image has another bundle."""
    first, _ = bundle_of(project, IMAGE)
    for path in project.rglob("*"):
        path.touch()
    assert bundle_of(project, IMAGE)[0] == first
    assert bundle_of(project, f"{REPOSITORY}@sha256:{'a' * 64}")[0] != first


def dockerrun_text() -> str:
    return (ROOT / "Dockerrun.aws.json").read_text()


def test_one_port_everywhere() -> None:
    """Beanstalk's nginx forwards to the port on which the image and pmip listen by default."""
    dockerrun = json.loads(dockerrun_text())
    assert dockerrun["AWSEBDockerrunVersion"] == "1"
    assert [port["ContainerPort"] for port in dockerrun["Ports"]] == ["8000"]
    dockerfile = (ROOT / "Dockerfile").read_text()
    assert re.findall(r"PORT=(\d+)", dockerfile) == re.findall(r"EXPOSE (\d+)", dockerfile) == ["8000"]
    assert Settings.port == 8000


def test_the_models_cache_is_the_images_users() -> None:
    """The host creates the folder of the model cache, which is mounted and private to the image's user."""
    settings = yaml.safe_load((ROOT / "scripts" / "beanstalk" / ".ebextensions" / "pmip.config").read_text())
    [volume] = json.loads(dockerrun_text())["Volumes"]
    folder = settings["option_settings"]["aws:elasticbeanstalk:application:environment"]["MODEL_CACHE_DIR"]
    assert volume == {"HostDirectory": folder, "ContainerDirectory": folder}
    [user] = re.findall(r"^USER (\d+):\1$", (ROOT / "Dockerfile.train").read_text(), re.MULTILINE)
    assert settings["commands"]["model_cache"]["command"] == f"install -d -m 0700 -o {user} -g {user} {folder}"


def test_the_api_itself_refuses_what_is_too_large() -> None:
    """The proxy accepts bodies above MAX_BODY_BYTES, so that the API refuses them with JSON, which nginx would not."""
    nginx = (ROOT / "scripts" / "beanstalk" / ".platform" / "nginx" / "conf.d" / "pmip.conf").read_text()
    [megabytes] = re.findall(r"^client_max_body_size (\d+)m;$", nginx, re.MULTILINE)
    assert int(megabytes) * MEBIBYTE == Settings.max_body_bytes + MEBIBYTE


def test_a_version_is_uploaded_deployed_and_told_where_it_is(project: Path, label: str, aws: AwsRecorder) -> None:
    """The operator sees each event once, and stdout holds only the address of the deployed API."""
    deployable(aws, label)
    outcome = deploy(project)
    assert (outcome.returncode, outcome.stdout) == (0, f"http://{ADDRESS}/\n"), outcome.stderr
    assert aws.operations == DEPLOYING
    key = f"deployments/api/{label}.zip"
    content = (project / "build" / "pmip_api.zip").read_bytes()
    assert [call["StackName"] for call in aws.parameters("DescribeStacks")] == ["pmip-foundation", "pmip-serving"]
    assert aws.parameters("PutObject") == [{"Bucket": "pmip-1", "Key": key, "Body": content}]
    version = {"ApplicationName": "pmip", "VersionLabel": label, "Description": IMAGE}
    source = {"SourceBundle.S3Bucket": "pmip-1", "SourceBundle.S3Key": key}
    assert aws.parameters("CreateApplicationVersion") == [version | source]
    assert aws.parameters("UpdateEnvironment") == [{"EnvironmentName": "pmip-env", "VersionLabel": label}]
    for looked in aws.parameters("DescribeEnvironments"):
        assert looked.items() >= {"ApplicationName": "pmip", "EnvironmentNames.member.1": "pmip-env"}.items()
    for asked in aws.parameters("DescribeEvents"):
        assert asked.items() >= {"EnvironmentName": "pmip-env", "StartTime": "2030-01-01T00:00:00Z"}.items()
    told = [f"2030-01-01T00:00:0{second}\tINFO\tupdate {what}" for second, what in enumerate(("begins", "ends"))]
    shown = re.sub(r"\.000Z|\+00:00", "", outcome.stderr)  # versions of the aws command write UTC differently
    assert shown.splitlines() == [f"==> uploading version {label}", f"==> deploying {label}", *told]
    assert SECRET_KEY not in outcome.stderr


def test_the_operator_is_warned_of_an_image_that_can_serve_no_version(
    project: Path, label: str, aws: AwsRecorder, tmp_path: Path
) -> None:
    """Where an engine has the image, the script asks it which version it would serve, and warns if there is none."""
    deployable(aws, label)
    foundation = {"Stacks": [{"Outputs": [{"OutputKey": "BucketName", "OutputValue": "pmip-1"}]}]}
    serving = {"Stacks": [{"Parameters": [{"ParameterKey": "Environment", "ParameterValue": "staging"}]}]}
    aws.answer("DescribeStacks", foundation, serving, foundation, serving)
    command(tmp_path, "docker", 'echo "$ENVIRONMENT $BUCKET $*" >>"$0.log"; [ "$1" = image ]')
    outcome = deploy(project, PATH=f"{tmp_path}:{os.environ['PATH']}")
    assert outcome.returncode == 0, outcome.stderr
    warning = f"==> warning: {IMAGE} serves no version of staging yet, as its message above says; train with its code"
    assert warning in outcome.stderr
    *_, ran = (tmp_path / "docker.log").read_text().splitlines()
    assert ran.startswith("staging pmip-1 run --rm ")
    assert ran.endswith(f" {IMAGE} -c exec python -m pmip versions --servable")
    assert SECRET_KEY not in ran


def test_an_image_that_was_deployed_before_is_its_old_version(project: Path, label: str, aws: AwsRecorder) -> None:
    """A rollback or retry deploys the existing version without an upload; with a certificate its address is HTTPS."""
    deployed_before(aws, label, environment("new"), environment(label))
    certificate = {"ParameterKey": "CertificateArn", "ParameterValue": "arn:aws:acm:eu-west-1:1:certificate/1"}
    aws.answer("DescribeStacks", {"Stacks": [{"Parameters": [certificate]}]})
    outcome = deploy(project)
    assert (outcome.returncode, outcome.stdout) == (0, f"https://{ADDRESS}/\n"), outcome.stderr
    assert aws.operations == [*AGAIN, "DescribeStacks"]
    assert aws.parameters("DescribeApplicationVersions")[0]["VersionLabels.member.1"] == label


def test_health_is_waited_for_when_the_update_has_ended(project: Path, label: str, aws: AwsRecorder) -> None:
    """The script waits until a red environment is green, and prints the address even if the stack cannot be read."""
    deployed_before(aws, label, environment("old"), environment(label, health="Red"), environment(label))
    aws.refuse("DescribeStacks")
    outcome = deploy(project, HEALTH_SECONDS="60")
    assert (outcome.returncode, outcome.stdout) == (0, f"http://{ADDRESS}/\n"), outcome.stderr
    assert aws.operations == [*AGAIN, *LOOKING, "DescribeStacks"]


# The environment's states in turn, the status of /readiness, the updates, and the last line on stderr.
FAILING: dict[str, tuple[list[str], int, list[str], str]] = {
    "it is red": (["old Green", "new Red", "old Green"], 200, ["new", "old"], "new failed; old serves again"),
    "the old one is back, but some host is not well": (
        ["old Green", "old Red", "old Green"],
        200,
        ["new", "old"],
        "new failed; old serves again",
    ),
    "Beanstalk gave it up": (["old Green"], 200, ["new"], "new failed; old still serves"),
    "and so did the way back": (
        ["old Green", "new Red", "old Red"],
        200,
        ["new", "old"],
        "new failed, and so did the return to old: pmip-env has old and is Red",
    ),
    "no other version": (["new Red"], 200, ["new"], "new failed, and there is no previous version to return to"),
    "it has no model": (["old Green", "new Green", "old Green"], 503, ["new", "old"], "new failed; old serves again"),
    "its API has no model yet": (["new Green"], 503, [], "new failed, and there is no previous version to return to"),
}


@pytest.mark.parametrize("case", FAILING)
def test_a_version_that_fails_gives_way_to_the_old_one(
    case: str, project: Path, label: str, aws: AwsRecorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If a version fails, the script returns to the previous one if there is one, and prints the causes; exit 1."""
    looks, readiness, updates, told = FAILING[case]
    monkeypatch.setattr(Readiness, "answers", [readiness])
    seen = [environment(version.replace("new", label), health=health) for version, health in map(str.split, looks)]
    deployed_before(aws, label, *seen)
    outcome = deploy(project)
    assert (outcome.returncode, outcome.stdout) == (1, "")
    updated = [call["VersionLabel"] for call in aws.parameters("UpdateEnvironment")]
    assert updated == [label if version == "new" else version for version in updates]
    assert outcome.stderr.endswith(f"deploy_api.sh: {told.replace('new', label)}\n")
    if readiness == 503:
        assert '/readiness answers 503: {"message": "no model is loaded yet"}\n' in outcome.stderr
    else:
        assert "Application deployment failed\nthe container ended\n" in outcome.stderr
        going_back = ["UpdateEnvironment", *LOOKING] if len(updates) > 1 else []
        assert aws.operations == [*AGAIN, "DescribeEnvironmentHealth", *going_back]


def test_a_version_that_serves_is_not_deployed_again(project: Path, label: str, aws: AwsRecorder) -> None:
    """The script prints the address of a version that is already in service, and changes nothing."""
    deployed_before(aws, label, environment(label))
    aws.answer("DescribeStacks", {"Stacks": [{}]})
    outcome = deploy(project)
    assert (outcome.returncode, outcome.stdout) == (0, f"http://{ADDRESS}/\n"), outcome.stderr
    assert aws.operations == ["DescribeEnvironments", "DescribeStacks"]


def test_an_image_that_serves_is_deployed_anew_by_another_label(project: Path, label: str, aws: AwsRecorder) -> None:
    """--redeploy deploys the same image under a new label, so that its API restarts and reads the current keys."""
    deployable(aws, label)
    aws.answer("DescribeEnvironments", environment(label))
    outcome = deploy(project, "--redeploy", IMAGE)
    [version] = aws.parameters("CreateApplicationVersion")
    assert re.fullmatch(rf"{label}-\d{{8}}T\d{{6}}", version["VersionLabel"])
    first, *_ = aws.parameters("UpdateEnvironment")
    assert first["VersionLabel"] == version["VersionLabel"]
    assert f"{version['VersionLabel']} failed; {label} still serves" in outcome.stderr


def test_a_version_can_be_made_before_there_is_an_environment(project: Path, label: str, aws: AwsRecorder) -> None:
    """--version-only creates the version without an environment, and stdout holds only its label for the stack."""
    deployable(aws, label)
    outcome = deploy(project, "--version-only", IMAGE)
    assert (outcome.returncode, outcome.stdout) == (0, f"{label}\n"), outcome.stderr
    assert aws.operations == ["DescribeApplicationVersions", "DescribeStacks", "PutObject", "CreateApplicationVersion"]


def test_the_api_may_take_a_while_to_have_its_model(
    project: Path, label: str, aws: AwsRecorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The script repeats its request to /readiness until the API has a model."""
    monkeypatch.setattr(Readiness, "answers", [502, 503, 200])
    deployable(aws, label)
    assert deploy(project, HEALTH_SECONDS="60").returncode == 0


@pytest.mark.parametrize(
    ("found", "told"),
    [
        ({"Environments": []}, "there is no environment pmip-env; 'bash scripts/deploy_stack.sh serving' creates it"),
        (environment("old", "Terminated"), "there is no environment pmip-env; "),
        (environment("old", "Updating"), "pmip-env is Updating: try again when it is Ready"),
    ],
)
def test_without_a_ready_environment_nothing_is_uploaded(
    found: dict[str, Any], told: str, project: Path, label: str, aws: AwsRecorder
) -> None:
    """Without a ready environment, the operator gets exit 1 and a message about it, and nothing is uploaded."""
    deployable(aws, label)
    aws.answer("DescribeEnvironments", found)
    outcome = deploy(project)
    assert (outcome.returncode, told in outcome.stderr) == (1, True)
    assert aws.operations == ["DescribeEnvironments"]


@pytest.mark.parametrize("operation", TO_UPDATE)
def test_a_call_that_may_not_be_made_is_told(operation: str, project: Path, label: str, aws: AwsRecorder) -> None:
    """If AWS refuses a call, the operator sees AWS's message and the version in service, and no later call is made."""
    deployable(aws, label)
    aws.refuse(operation)
    outcome = deploy(project)
    assert (outcome.returncode, outcome.stdout) == (1, "")
    assert f"you may not {operation}" in outcome.stderr
    assert SECRET_KEY not in outcome.stderr
    assert aws.operations == TO_UPDATE[: TO_UPDATE.index(operation) + 1]
    if operation not in ("DescribeEnvironments", "DescribeStacks"):
        assert outcome.stderr.endswith("pmip-env is unchanged, with old (Green); the message of aws is above\n")


def test_a_look_that_fails_does_not_end_the_update(project: Path, label: str, aws: AwsRecorder) -> None:
    """If the environment cannot be read during an update, the message says that the update continues."""
    deployed_before(aws, label, environment("old"), Refusal("Throttling", "Rate exceeded"))
    outcome = deploy(project)
    assert (outcome.returncode, "Rate exceeded" in outcome.stderr) == (1, True)
    assert outcome.stderr.endswith(
        "the state of pmip-env could not be read; its update continues; the message of aws is above\n"
    )


def test_events_and_causes_that_may_not_be_read_spoil_nothing(project: Path, label: str, aws: AwsRecorder) -> None:
    """An operator who may not read events and causes sees the refusals, and still reads which version serves."""
    deployed_before(aws, label, environment("old"))
    aws.refuse("DescribeEvents")
    aws.refuse("DescribeEnvironmentHealth")
    outcome = deploy(project)
    assert outcome.returncode == 1
    for operation in ("DescribeEvents", "DescribeEnvironmentHealth"):
        assert f"you may not {operation}" in outcome.stderr
    assert outcome.stderr.endswith("old still serves\n")


NO_IMAGES = [[], [IMAGE, IMAGE], ["--bundle-only"], [json.loads(dockerrun_text())["Image"]["Name"]], ["pmip_api:1"]]
NO_IMAGES += [[REPOSITORY], [f"{REPOSITORY}:"], [f"{REPOSITORY}:latest"], [f"{REPOSITORY}@sha256:1"]]
NO_IMAGES += [[f"https://{IMAGE}"], [f"{IMAGE} "], [f'{REPOSITORY}:1",']]


@pytest.mark.parametrize("words", NO_IMAGES, ids=repr)
def test_what_is_no_image_is_refused(words: list[str], project: Path, aws: AwsRecorder) -> None:
    """An argument that is not an image with a fixed tag or digest ends with exit 2 before any file or request."""
    outcome = deploy(project, *words) if words else run(project / "scripts" / "deploy_api.sh")
    assert (outcome.returncode, outcome.stdout, aws.calls) == (2, "", [])
    assert not (project / "build").exists()
