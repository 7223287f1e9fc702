"""The tutorial's way to Elastic Beanstalk by the real eb command, which talks to a recorder."""

import os
import subprocess
from pathlib import Path

import pytest
from aws_recorder import SECRET_KEY, AwsRecorder
from conftest import ROOT
from emulator import installed
from shell import run

IMAGE = "123456789012.dkr.ecr.eu-west-1.amazonaws.com/pmip_api:0123456789abcdef0123456789abcdef01234567"
BUCKET = "elasticbeanstalk-eu-west-1-123456789012"
BRANCH = "Docker running on 64bit Amazon Linux 2023"
STACK = "64bit Amazon Linux 2023 v4.7.1 running Docker"
PLATFORM = {"PlatformArn": f"arn:aws:elasticbeanstalk:eu-west-1::platform/{BRANCH}/4.7.1", "PlatformStatus": "Ready"}
SUPPORTED = {"PlatformBranchName": BRANCH, "PlatformBranchLifecycleState": "Supported"}
NAMES = {"ApplicationName": "pmip", "EnvironmentName": "pmip-env"}
TIER = {"Name": "WebServer", "Type": "Standard", "Version": "1.0"}


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    folder = tmp_path / "pmip"
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(folder)], check=True, timeout=60)
    return folder


def made_by_the_console(aws: AwsRecorder) -> None:
    """Script an application with one environment and a deployment that succeeds."""
    environment = NAMES | {"EnvironmentId": "e-1", "Status": "Ready", "Health": "Green", "VersionLabel": "Sample"}
    environment |= {"PlatformArn": PLATFORM["PlatformArn"], "SolutionStackName": STACK}
    aws.answer("DescribeApplications", {"Applications": [{"ApplicationName": "pmip"}]})
    aws.answer("DescribeEnvironments", {"Environments": [environment | {"Tier": TIER}]})
    aws.answer("DescribeConfigurationSettings", {"ConfigurationSettings": [NAMES | {"OptionSettings": []}]})
    aws.answer("ListAvailableSolutionStacks", {"SolutionStacks": [STACK]})
    branch = {"PlatformName": "Docker", "BranchName": BRANCH, "LifecycleState": "Supported", "BranchOrder": 1}
    aws.answer("ListPlatformBranches", {"PlatformBranchSummaryList": [branch]})
    aws.answer("ListPlatformVersions", {"PlatformSummaryList": [PLATFORM | SUPPORTED]})
    aws.answer("DescribePlatformVersion", {"PlatformDescription": PLATFORM | SUPPORTED | {"PlatformName": "Docker"}})
    aws.answer("CreateStorageLocation", {"S3Bucket": BUCKET})
    aws.answer("ListObjects", {})
    aws.answer("PutObject", {})
    aws.answer("CreateApplicationVersion", {"ApplicationVersion": {"VersionLabel": "1"}})
    aws.answer("UpdateEnvironment", {"Status": "Updating", "EnvironmentName": "pmip-env"})
    done = {"EventDate": "2030-01-01T00:00:05.000Z", "Message": "Environment update completed successfully."}
    aws.answer("DescribeEvents", {"Events": [done | {"Severity": "INFO"}]})


def eb(folder: Path, *words: str) -> str:
    environ = os.environ | {"HOME": str(folder.parent)}
    program, said = installed("awsebcli==3.27.5", "eb"), subprocess.PIPE
    command, nobody = [program, *words], subprocess.DEVNULL
    done = subprocess.run(
        command, cwd=folder, env=environ, stdin=nobody, stdout=said, stderr=subprocess.STDOUT, timeout=120, check=False
    )
    assert done.returncode == 0, done.stdout
    return done.stdout.decode()


def test_eb_deploys_the_bundle_and_leaves_the_project_as_it_is(clone: Path, aws: AwsRecorder) -> None:
    """`eb init` leaves nothing to commit, and `eb deploy` uploads the bundle where the instances may read it."""
    made_by_the_console(aws)
    printed = eb(clone, "init", "pmip", "--region", "eu-west-1", "--platform", "Docker")
    status = ["git", "-C", str(clone), "status", "--porcelain"]
    assert subprocess.run(status, capture_output=True, text=True, check=True, timeout=30).stdout == ""
    run(clone / "scripts" / "deploy_api.sh", "--bundle-only", IMAGE)
    printed += eb(clone, "deploy")
    assert SECRET_KEY not in printed
    [upload] = aws.parameters("PutObject")
    assert upload["Body"] == (clone / "build" / "pmip_api.zip").read_bytes()
    assert (upload["Bucket"], upload["Key"].split("/")[0]) == (BUCKET, "pmip")  # see the instances' role in serving.yml
    assert [call["EnvironmentName"] for call in aws.parameters("UpdateEnvironment")] == ["pmip-env"]
