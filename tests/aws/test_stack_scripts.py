"""The scripts that create, update and delete stacks by the real aws command, which talks to a recorder."""

import os
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
from aws_recorder import SECRET_KEY, AwsRecorder, Refusal
from conftest import ROOT
from shell import run

TEMPLATE = """Parameters:
  Environment:
    Type: String
  ApiKeys: {Type: String, NoEcho: true}
Resources:
  Bucket:
    Type: AWS::S3::Bucket
"""
STACK_ID = "arn:aws:cloudformation:eu-west-1:123456789012:stack/pmip-foundation/1"
LATER, EARLIER = "2100-01-01T00:00:00.000Z", "2000-01-01T00:00:00.000Z"
DEPLOYING = [
    "DescribeStacks",  # whether to update or to create
    "GetTemplateSummary",  # the parameters of the template
    "CreateChangeSet",
    "DescribeChangeSet",  # whether it is ready
    "ExecuteChangeSet",
    "DescribeStacks",  # whether it is done
    "DescribeStacks",  # the outputs
]
DELETING = [
    "DescribeStacks",  # the id
    "DescribeStacks",  # the exports
    "ListImports",
    "DeleteStack",
    "DescribeStacks",  # whether it is deleted
    "DescribeStackEvents",
]


@pytest.fixture
def scripts(tmp_path: Path) -> Path:
    """Copy the scripts with a small template in place of the foundation's."""
    folder = tmp_path / "pmip" / "scripts"
    shutil.copytree(ROOT / "scripts", folder)
    (folder / "cloudformation" / "foundation.yml").write_text(TEMPLATE)
    return folder


def stack(status: str, **outputs: str) -> dict[str, Any]:
    pairs = [{"OutputKey": key, "OutputValue": value} for key, value in outputs.items()]
    found = {"StackId": STACK_ID, "StackName": "pmip-foundation", "CreationTime": EARLIER, "StackStatus": status}
    return {"Stacks": [found | {"Outputs": pairs}]}


def event(time: str, resource: str, status: str, reason: str = "") -> dict[str, str]:
    names = {"LogicalResourceId": resource, "PhysicalResourceId": resource.lower(), "ResourceType": "AWS::S3::Bucket"}
    happened = {"Timestamp": time, "ResourceStatus": status, "ResourceStatusReason": reason}
    return {"StackId": STACK_ID, "EventId": resource, "StackName": "pmip-foundation"} | names | happened


def parameters_given(aws: AwsRecorder) -> dict[str, str | None]:
    """Return the parameters of the one change set; None stands for a parameter that keeps its value."""
    [change] = aws.parameters("CreateChangeSet")
    members = [field.removesuffix("Key") for field in change if field.endswith(".ParameterKey")]
    return {change[f"{member}Key"]: change.get(f"{member}Value") for member in members}


def deployable(aws: AwsRecorder) -> None:
    outputs = stack("UPDATE_COMPLETE", BucketName="pmip-1", JobRoleArn="arn:aws:iam::1:role/job")
    aws.answer("DescribeStacks", stack("CREATE_COMPLETE"), outputs)
    aws.answer("GetTemplateSummary", {"Parameters": []})
    aws.answer("CreateChangeSet", {"Id": "change", "StackId": STACK_ID})
    aws.answer("DescribeChangeSet", {"Status": "CREATE_COMPLETE"})
    aws.answer("ExecuteChangeSet", {})
    failures = [
        event("2100-01-01T00:00:03.000Z", "Role", "CREATE_FAILED", "Resource creation cancelled"),
        event("2100-01-01T00:00:02.000Z", "Alarm", "CREATE_FAILED", "a consequence"),
        event("2100-01-01T00:00:01.000Z", "Bucket", "CREATE_FAILED", "pmip-1 already exists"),
        event(LATER, "Queue", "CREATE_IN_PROGRESS"),
        event(EARLIER, "Old", "CREATE_FAILED", "of another time"),
    ]
    aws.answer("DescribeStackEvents", {"StackEvents": failures})
    aws.answer("ListChangeSets", {"Summaries": []})


def deletable(aws: AwsRecorder) -> None:
    exporting = stack("CREATE_COMPLETE", BucketName="pmip-1", JobRoleArn="arn:aws:iam::1:role/job")
    exporting["Stacks"][0]["Outputs"][0]["ExportName"] = "pmip-foundation-BucketName"
    aws.answer("DescribeStacks", stack("CREATE_COMPLETE"), exporting, stack("DELETE_COMPLETE"))
    aws.answer("ListImports", Refusal("ValidationError", "Export 'x' is not imported by any stack."))
    aws.answer("DeleteStack", {})
    kept = [event(LATER, "Bucket", "DELETE_SKIPPED"), event(LATER, "Role", "DELETE_COMPLETE")]
    aws.answer("DescribeStackEvents", {"StackEvents": kept})


def test_a_stack_is_deployed_from_its_template(scripts: Path, aws: AwsRecorder) -> None:
    """deploy_stack.sh sends the template and the caller's parameters, and stdout holds only the outputs."""
    deployable(aws)
    outcome = run(scripts / "deploy_stack.sh", "foundation", "Environment=prod", "ApiKeys=a=b, c")
    assert outcome.returncode == 0, outcome.stderr
    assert outcome.stdout == "BucketName=pmip-1\nJobRoleArn=arn:aws:iam::1:role/job\n"
    assert aws.operations == DEPLOYING
    [change] = aws.parameters("CreateChangeSet")
    expected = {
        "StackName": "pmip-foundation",
        "TemplateBody": TEMPLATE,
        "ChangeSetType": "UPDATE",
        "Capabilities.member.1": "CAPABILITY_NAMED_IAM",
    }
    assert expected.items() <= change.items()
    assert parameters_given(aws) == {"ApiKeys": "a=b, c", "Environment": "prod"}
    assert {call.get("StackName") for call in aws.parameters("DescribeStacks")} == {"pmip-foundation"}


def test_a_new_stack_is_created(scripts: Path, aws: AwsRecorder) -> None:
    """The same call creates a stack that does not exist yet; a stack without outputs prints nothing."""
    deployable(aws)
    missing = Refusal("ValidationError", "Stack with id pmip-foundation does not exist")
    aws.answer("DescribeStacks", missing, stack("CREATE_COMPLETE"))
    outcome = run(scripts / "deploy_stack.sh", "foundation")
    assert (outcome.returncode, outcome.stdout) == (0, ""), outcome.stderr
    [change] = aws.parameters("CreateChangeSet")
    assert change["ChangeSetType"] == "CREATE"


def test_a_budget_is_created_and_deleted_in_one_region(scripts: Path, aws: AwsRecorder) -> None:
    """A budget is created and deleted in us-east-1, whatever region is set, because many regions have no budgets."""
    deployable(aws)
    assert run(scripts / "deploy_stack.sh", "budget", "BudgetDollars=5", AWS_REGION="eu-north-1").returncode == 0
    deletable(aws)
    assert run(scripts / "delete_stack.sh", "budget", AWS_REGION="eu-north-1").returncode == 0
    assert aws.regions == {"us-east-1"}


def test_a_template_without_changes_is_no_failure(scripts: Path, aws: AwsRecorder) -> None:
    """If the template has no changes, nothing is executed and the outputs are still printed."""
    deployable(aws)
    nothing = "The submitted information didn't contain changes. "
    aws.answer("DescribeChangeSet", {"Status": "FAILED", "StatusReason": nothing})
    outcome = run(scripts / "deploy_stack.sh", "foundation")
    assert (outcome.returncode, outcome.stdout[:10]) == (0, "BucketName"), outcome.stderr
    assert "ExecuteChangeSet" not in aws.operations


def test_a_stack_that_fails_tells_which_resources_and_why(scripts: Path, aws: AwsRecorder) -> None:
    """The operator reads the first failure first, but no resource that was cancelled for it and no old failure."""
    deployable(aws)
    aws.answer("DescribeStacks", stack("CREATE_COMPLETE"), stack("UPDATE_ROLLBACK_COMPLETE"))
    outcome = run(scripts / "deploy_stack.sh", "foundation")
    assert (outcome.returncode, outcome.stdout) == (1, "")
    causes = ["    Bucket (AWS::S3::Bucket): pmip-1 already exists", "    Alarm (AWS::S3::Bucket): a consequence"]
    assert outcome.stderr.splitlines()[-3:-1] == causes
    assert "cancelled" not in outcome.stderr
    assert "of another time" not in outcome.stderr


def test_a_deleted_stack_names_what_is_kept(scripts: Path, aws: AwsRecorder) -> None:
    """The operator reads on stdout what AWS kept; the script follows the stack by its id, which stays valid."""
    deletable(aws)
    outcome = run(scripts / "delete_stack.sh", "foundation")
    assert (outcome.returncode, outcome.stdout) == (0, "AWS::S3::Bucket\tbucket\n"), outcome.stderr
    assert aws.operations == DELETING
    asked = [call.parameters["StackName"] for call in aws.calls if call.operation != "ListImports"]
    assert asked == ["pmip-foundation", *[STACK_ID] * 4]


def test_a_stack_that_others_use_is_not_deleted(scripts: Path, aws: AwsRecorder) -> None:
    """If other stacks use a stack, it is not deleted, and the message names them at once."""
    deletable(aws)
    aws.answer("ListImports", {"Imports": ["pmip-training", "pmip-lambda"]})
    outcome = run(scripts / "delete_stack.sh", "foundation")
    assert (outcome.returncode, outcome.stdout) == (1, "")
    assert "other stacks use it; delete these first: pmip-lambda pmip-training" in outcome.stderr
    assert aws.parameters("ListImports") == [{"ExportName": "pmip-foundation-BucketName"}]
    assert "DeleteStack" not in aws.operations


def test_a_deletion_that_fails_tells_why(scripts: Path, aws: AwsRecorder) -> None:
    """If a deletion fails, the message names the resource and AWS's reason."""
    deletable(aws)
    aws.answer("DescribeStacks", stack("CREATE_COMPLETE"), stack("CREATE_COMPLETE"), stack("DELETE_FAILED"))
    aws.answer("DescribeStackEvents", {"StackEvents": [event(LATER, "Repository", "DELETE_FAILED", "it has images")]})
    outcome = run(scripts / "delete_stack.sh", "foundation")
    assert (outcome.returncode, outcome.stdout) == (1, "")
    assert "    Repository (AWS::S3::Bucket): it has images\ndelete_stack.sh: pmip-foundation" in outcome.stderr


def test_a_name_that_is_taken_is_told(scripts: Path, aws: AwsRecorder, monkeypatch: pytest.MonkeyPatch) -> None:
    """The operator reads which resource has a name that is already taken, from AWS's check before any change."""
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    deployable(aws)
    reason = "AWS::EarlyValidation::ResourceExistenceCheck"
    aws.answer("DescribeChangeSet", {"Status": "FAILED", "StatusReason": reason})
    sets = [("2100-01-01T00:00:00Z", "newest"), ("2090-01-01T00:00:00Z", "newer"), (EARLIER, "old")]
    failed = [{"CreationTime": time, "ChangeSetId": name, "Status": "FAILED"} for time, name in sets]
    aws.answer("ListChangeSets", {"Summaries": failed})
    names = {"LogicalResourceId": "Bucket", "ResourceType": "AWS::S3::Bucket", "PhysicalResourceId": "pmip-1"}
    taken = {"EventId": "1", "StackId": STACK_ID, "Timestamp": LATER, "EventType": "VALIDATION_ERROR"} | names
    aws.answer("DescribeEvents", {"OperationEvents": [taken | {"ValidationStatusReason": "it exists already"}]})
    outcome = run(scripts / "deploy_stack.sh", "foundation")
    assert (outcome.returncode, outcome.stdout) == (1, "")
    assert "    Bucket (AWS::S3::Bucket) pmip-1: it exists already\n" in outcome.stderr
    [asked] = aws.parameters("DescribeEvents")
    assert (asked["ChangeSetName"], asked["Filters.FailedEvents"]) == ("newest", "true")


GIVEN = [["InstanceType=t4g.micro"], ["VersionLabel=new"], ["PlatformArn=new", "VersionLabel=new"]]


@pytest.mark.parametrize("given", GIVEN, ids=" ".join)
def test_an_environment_keeps_its_version_and_platform(given: list[str], scripts: Path, aws: AwsRecorder) -> None:
    """An update of the serving stack keeps the environment's version and platform unless the caller gives others."""
    deployable(aws)
    names = {"ApplicationName": "pmip", "EnvironmentName": "pmip-env", "Status": "Ready"}
    kept = {"VersionLabel": "now", "PlatformArn": "a platform"}
    aws.answer("DescribeEnvironments", {"Environments": [names | kept]})
    outcome = run(scripts / "deploy_stack.sh", "serving", *given)
    assert outcome.returncode == 0, outcome.stderr
    expected = kept | dict(pair.split("=") for pair in given)
    assert expected.items() <= parameters_given(aws).items()


def test_a_first_environment_gets_what_is_given(scripts: Path, aws: AwsRecorder) -> None:
    """The first serving stack gets only what the caller gives, since no environment has a version to keep."""
    deployable(aws)
    aws.answer("DescribeEnvironments", {"Environments": []})
    assert run(scripts / "deploy_stack.sh", "serving", "VersionLabel=new").returncode == 0
    assert "None" not in parameters_given(aws).values()


@pytest.mark.parametrize("is_there", [True, False])
def test_the_role_by_which_batch_runs_jobs_is_made(is_there: bool, scripts: Path, aws: AwsRecorder) -> None:
    """deploy_stack.sh creates Batch's ECS role if it is missing, and continues if that is refused."""
    deployable(aws)
    role = {"Path": "/", "RoleName": "AWSServiceRoleForECS", "RoleId": "1", "Arn": "role", "CreateDate": EARLIER}
    if is_there:
        aws.answer("GetRole", {"Role": role})
    outcome = run(scripts / "deploy_stack.sh", "training", "Image=r/pmip:1", "VpcId=vpc-1", "Subnets=subnet-1")
    assert outcome.returncode == 0, outcome.stderr
    assert [call["AWSServiceName"] for call in aws.parameters("CreateServiceLinkedRole")] == (
        [] if is_there else ["ecs.amazonaws.com"]
    )


@pytest.mark.parametrize("operation", sorted({*DEPLOYING, "DescribeStackEvents"}))
def test_a_call_that_deploy_stack_may_not_make_is_told(operation: str, scripts: Path, aws: AwsRecorder) -> None:
    """If AWS refuses a call, the operator gets AWS's message and exit 1, and no change set is executed after it."""
    deployable(aws)
    if operation == "DescribeStackEvents":
        aws.answer("DescribeStacks", stack("CREATE_COMPLETE"), stack("UPDATE_ROLLBACK_COMPLETE"))
    aws.refuse(operation)
    outcome = run(scripts / "deploy_stack.sh", "foundation", "ApiKeys=a-secret")
    assert (outcome.returncode, outcome.stdout) == (1, "")
    if operation != "DescribeChangeSet":  # here the aws command prints only the status
        assert f"you may not {operation}" in outcome.stderr
    assert "deploy_stack.sh: pmip-foundation was not deployed." in outcome.stderr
    assert SECRET_KEY not in outcome.stderr
    assert "a-secret" not in outcome.stderr
    if operation in DEPLOYING[:4]:
        assert "ExecuteChangeSet" not in aws.operations


@pytest.mark.parametrize("operation", sorted({*DELETING} - {"ListImports"}))
def test_a_call_that_delete_stack_may_not_make_is_told(operation: str, scripts: Path, aws: AwsRecorder) -> None:
    """If AWS refuses a call, the operator gets AWS's message and exit 1; a stack that was not read is not deleted."""
    deletable(aws)
    aws.refuse(operation)
    outcome = run(scripts / "delete_stack.sh", "foundation")
    assert (outcome.returncode, outcome.stdout) == (1, "")
    assert f"you may not {operation}" in outcome.stderr
    assert outcome.stderr.splitlines()[-1].startswith("delete_stack.sh: pmip-foundation ")
    assert ("DeleteStack" in aws.operations) == (operation != "DescribeStacks")


WRONG = ["deploy_stack.sh", "deploy_stack.sh staging", "deploy_stack.sh ../foundation"]
WRONG += ["deploy_stack.sh foundation Environment", "deploy_stack.sh foundation =prod"]
WRONG += ["deploy_stack.sh foundation Enviroment=prod", "deploy_stack.sh foundation Bucket=prod", "delete_stack.sh"]
WRONG += ["delete_stack.sh bucket", "delete_stack.sh foundation training"]


@pytest.mark.parametrize("command", WRONG)
def test_a_wrong_call_asks_aws_nothing(command: str, scripts: Path, aws: AwsRecorder) -> None:
    """A wrong call ends with exit 2 before any request to AWS, and a missing or wrong stage gets the list of stages."""
    script, *words = command.split()
    outcome = run(scripts / script, *words)
    assert (outcome.returncode, outcome.stdout, aws.calls) == (2, "", [])
    if "foundation" not in words:
        assert "foundation" in outcome.stderr


@pytest.mark.parametrize("words", [["deploy_stack.sh", "foundation"], ["delete_stack.sh", "foundation"]])
def test_without_the_aws_command_one_line_says_so(words: list[str], scripts: Path, tmp_path: Path) -> None:
    """Without the aws command, the operator gets exit 1 and the address of its installation."""
    for name in ("bash", "dirname", "basename", "awk", "sed", "grep"):
        (tmp_path / name).symlink_to(str(shutil.which(name)))
    outcome = run(scripts / words[0], *words[1:], PATH=str(tmp_path))
    assert outcome.returncode == 1
    assert outcome.stderr.startswith(f"{words[0]}: the aws command is not installed; see https://")


def test_the_templates_fit_into_a_request() -> None:
    """Each template is at most 51,200 bytes, so it needs no upload to S3, and the help names its stage."""
    shown = run("deploy_stack.sh", "--help").stdout
    for template in (ROOT / "scripts" / "cloudformation").glob("*.yml"):
        assert template.stat().st_size <= 51_200
        assert template.stem in shown
