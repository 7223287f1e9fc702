"""An emulator of AWS that creates stacks from the templates and enforces their policies."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from api import wait_for
from botocore.client import BaseClient
from botocore.exceptions import ClientError, EndpointConnectionError
from conftest import ROOT, free_port, seeded, without

TEMPLATES = ROOT / "scripts" / "cloudformation"
STAGES = ("foundation", "budget", "training", "serving", "lambda")
PACKAGE = "ministack==1.5.33"  # it needs another botocore, so it gets its own environment
ACCOUNT, REGION = "000000000000", "us-east-1"
BUCKET = f"pmip-{ACCOUNT}-{REGION}"
REGISTRY = f"{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com"
PLATFORMS = f"arn:aws:elasticbeanstalk:{REGION}::platform"
# The parameters without a default.
PARAMETERS = {
    "foundation": {},
    "budget": {"AlarmEmail": "a@example.com"},
    "training": {"Image": f"{REGISTRY}/pmip:1", "VpcId": "vpc-1", "Subnets": "subnet-1,subnet-2"},
    "serving": {"PlatformArn": f"{PLATFORMS}/Docker running on 64bit Amazon Linux 2023/4.7.1", "VersionLabel": "1"},
    "lambda": {"Image": f"{REGISTRY}/pmip_api:1"},
}
# The resource types that the emulator cannot create, and the value of a Ref to each on AWS.
NOT_EMULATED = {
    "AWS::Batch::ComputeEnvironment": f"arn:aws:batch:{REGION}:{ACCOUNT}:compute-environment/pmip",
    "AWS::Batch::JobQueue": f"arn:aws:batch:{REGION}:{ACCOUNT}:job-queue/pmip-training",
    "AWS::Batch::JobDefinition": f"arn:aws:batch:{REGION}:{ACCOUNT}:job-definition/pmip-training:1",
    "AWS::ElasticBeanstalk::Application": "pmip",
    "AWS::ElasticBeanstalk::Environment": "pmip-env",
    "AWS::Budgets::Budget": "budget",
}


def template(stage: str) -> dict[str, Any]:
    """Read a template, with CloudFormation's short forms, such as !Ref, written as their long forms."""
    from cfnlint.decode.cfn_yaml import load  # only the extra 'test-all' has it

    return json.loads(json.dumps(load(str(TEMPLATES / f"{stage}.yml"))))


def with_stand_ins(body: dict[str, Any]) -> dict[str, Any]:
    """Replace each resource that the emulator cannot create with a parameter that holds its name."""
    body["Outputs"] = {name: output for name, output in body["Outputs"].items() if "EndpointURL" not in str(output)}
    for name, resource in body["Resources"].items():
        if resource["Type"] in NOT_EMULATED:
            named = {"Name": NOT_EMULATED[resource["Type"]], "Type": "String", "Value": "a stand-in"}
            body["Resources"][name] = resource | {"Type": "AWS::SSM::Parameter", "Properties": named}
    return body


def with_properties(body: dict[str, Any]) -> dict[str, Any]:
    """Add the properties of resources that the emulator cannot create to the outputs, with references resolved."""
    for name, resource in body["Resources"].items():
        if resource["Type"] in NOT_EMULATED and "Condition" not in resource:
            body["Outputs"][f"{name}Properties"] = {"Value": {"Fn::ToJsonString": resource["Properties"]}}
    return body | {"Transform": "AWS::LanguageExtensions"}  # for Fn::ToJsonString


class Emulator:
    """One account of the emulator; calls are made as its root unless other credentials are given."""

    def __init__(self, port: int, account: str = ACCOUNT) -> None:
        self.port, self.account = port, account
        self.url = f"http://127.0.0.1:{port}"
        self.outputs: dict[str, dict[str, str]] = {}
        self._others = seeded(account)
        self._clients: dict[tuple[str, str], BaseClient] = {}

    def client(self, service: str, credentials: dict[str, str] | None = None) -> BaseClient:
        """Return a client of a service, as root or with credentials from STS or IAM."""
        given = credentials or {"AccessKeyId": self.account, "SecretAccessKey": "any"}
        known = (service, given["AccessKeyId"])
        if known not in self._clients:
            keys = (given["AccessKeyId"], given["SecretAccessKey"], given.get("SessionToken"))
            session = boto3.session.Session(*keys, region_name=REGION)
            self._clients[known] = session.client(service, endpoint_url=self.url)
        return self._clients[known]

    def answers(self) -> bool:
        try:
            return bool(self.client("sts").get_caller_identity())
        except (EndpointConnectionError, ClientError):
            return False

    def elsewhere(self) -> "Emulator":
        return Emulator(self.port, f"{self._others.randrange(10**11, 10**12)}")

    def deploy(self, stage: str, **parameters: str) -> dict[str, str]:
        name = f"pmip-{stage}"
        given = PARAMETERS[stage] | parameters
        stacks = self.client("cloudformation")
        stacks.create_stack(
            StackName=name,
            TemplateBody=json.dumps(with_stand_ins(with_properties(template(stage)))),
            Capabilities=["CAPABILITY_NAMED_IAM", "CAPABILITY_AUTO_EXPAND"],
            Parameters=[{"ParameterKey": key, "ParameterValue": value} for key, value in given.items()],
        )
        stacks.get_waiter("stack_create_complete").wait(StackName=name, WaiterConfig={"Delay": 1, "MaxAttempts": 30})
        [stack] = stacks.describe_stacks(StackName=name)["Stacks"]
        return {output["OutputKey"]: output["OutputValue"] for output in stack["Outputs"]}

    def role_name(self, stage: str, resource: str) -> str:
        found = self.client("cloudformation").describe_stack_resource(
            StackName=f"pmip-{stage}", LogicalResourceId=resource
        )
        return str(found["StackResourceDetail"]["PhysicalResourceId"])


def installed(package: str, name: str) -> Path:
    """Install a package into its own environment, once per machine, and return its program; skip if impossible."""
    folder = Path(tempfile.gettempdir()) / f"pmip-{package.replace('==', '-')}-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.stat().st_uid != os.getuid():
        pytest.fail(f"{folder} belongs to somebody else")
    program = folder / "bin" / name
    if not program.exists():
        pip = [folder / "bin" / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check", package]
        for command in ([sys.executable, "-m", "venv", folder], pip):
            run = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
            if run.returncode:
                reason = f"{package} could not be installed: {(run.stderr or run.stdout).strip()[-300:]}"
                without("EMULATOR", reason)
    return program


@pytest.fixture(scope="session")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    """Start the emulator, which enforces IAM policies, and deploy all stacks."""
    port, folder = free_port(), tmp_path_factory.mktemp("cloud")
    environ = {"BIND_HOST": "127.0.0.1", "GATEWAY_PORT": str(port), "AUTH": "true", "HOME": str(folder)}
    with (folder / "log").open("w") as log:
        process = subprocess.Popen([installed(PACKAGE, "ministack")], env=environ, cwd=folder, stdout=log, stderr=log)
        try:
            emulator = Emulator(port)
            wait_for(emulator.answers, 30)
            emulator.outputs = {stage: emulator.deploy(stage) for stage in STAGES}
            yield emulator
        finally:
            process.terminate()
            process.wait(30)
