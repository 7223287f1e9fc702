"""Least privilege: what each role and person of the templates may and may not do, on an emulator of IAM."""

import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from botocore import xform_name
from botocore.exceptions import ClientError
from conftest import SAMPLE, publish
from emulator import ACCOUNT, BUCKET, REGION, Emulator, template

from pmip.errors import AccessDeniedError
from pmip.model.artifact import Artifact
from pmip.store.objects import S3Storage
from pmip.store.versions import ModelStore
from pmip.training.data import pull, seed

# Each role with its stage, its resource and the service that assumes it; each person with a managed policy.
ROLES = {
    "job": ("training", "JobRole", "ecs-tasks"),
    "pull": ("training", "ExecutionRole", "ecs-tasks"),
    "schedule": ("training", "ScheduleRole", "scheduler"),
    "instance": ("serving", "InstanceRole", "ec2"),
    "beanstalk": ("foundation", "BeanstalkRole", "elasticbeanstalk"),
    "lambda": ("lambda", "FunctionRole", "lambda"),
}
PEOPLE = {"deployer": "pmip-deploy", "operator": "pmip-operate"}
# Role or person, actions | resources that are allowed | resources that are refused.
RIGHTS = """
job s3:ListBucket | training/ models/prod/ | models/staging/ deployments/
job s3:GetObject | training/20260101/a.csv models/prod/20260101/model.pkl |
job s3:GetObject | | models/staging/20260101/model.pkl deployments/api/1.zip
job s3:PutObject | models/prod/20260102/model.pkl runs/prod/20260102/model-training.html |
job s3:PutObject | | models/staging/20260102/model.pkl runs/staging/20260102/model-training.html
job s3:PutObject | | training/20260101/a.csv deployments/api/1.zip
job s3:AbortMultipartUpload | models/prod/20260102/model.pkl |
job s3:DeleteObject | | models/prod/20260101/model.pkl
job s3:PutBucketPolicy | | -
job ecr:BatchGetImage | | pmip
job batch:SubmitJob | | job-queue/pmip-training
job secretsmanager:GetSecretValue | | pmip/api-keys
pull ecr:GetAuthorizationToken | - |
pull ecr:BatchGetImage | pmip | pmip_api
pull ecr:GetDownloadUrlForLayer,ecr:BatchCheckLayerAvailability | pmip |
pull ecr:PutImage | | pmip
pull logs:CreateLogStream | /pmip/training | /pmip/lambda
pull logs:PutLogEvents | /pmip/training |
pull s3:GetObject | | training/20260101/a.csv
schedule batch:SubmitJob | job-queue/pmip-training job-definition/pmip-training:7 |
schedule batch:SubmitJob | | job-queue/another job-definition/pmip-training-another:1
schedule sqs:SendMessage | pmip-training-unsent | another
schedule batch:DescribeJobs | | -
schedule s3:GetObject | | training/20260101/a.csv
instance s3:ListBucket | models/prod/ | models/staging/ training/
instance s3:GetObject | models/prod/20260101/model.pkl deployments/api/1.zip |
instance s3:GetObject | | models/staging/20260101/model.pkl training/20260101/a.csv
instance s3:PutObject | | models/prod/20260102/model.pkl deployments/api/1.zip
instance s3:DeleteObject | | models/prod/20260101/model.pkl
instance ecr:GetAuthorizationToken | - |
instance ecr:BatchGetImage | pmip_api | pmip
instance ecr:PutImage | | pmip_api
instance secretsmanager:GetSecretValue | pmip/api-keys | another
instance secretsmanager:PutSecretValue | | pmip/api-keys
instance logs:CreateLogGroup | /aws/elasticbeanstalk/pmip-env/var/log/x | /aws/elasticbeanstalk/another/var/log/x
instance elasticbeanstalk:PutInstanceStatistics | environment/pmip/pmip-env | environment/another/another
instance elasticbeanstalk:UpdateEnvironment | | environment/pmip/pmip-env
instance batch:SubmitJob | | job-queue/pmip-training
beanstalk s3:DeleteObject | deployments/api/1.zip | models/prod/20260101/model.pkl
lambda s3:ListBucket | models/prod/ | training/
lambda s3:GetObject | models/prod/20260101/model.pkl | models/staging/20260101/model.pkl
lambda s3:PutObject | | models/prod/20260102/model.pkl
lambda logs:CreateLogStream | /pmip/lambda | /pmip/training
lambda secretsmanager:GetSecretValue | | pmip/api-keys
deployer ecr:GetAuthorizationToken | - |
deployer ecr:InitiateLayerUpload | pmip |
deployer ecr:PutImage | pmip_api | another
deployer ecr:DeleteRepository | | pmip_api
deployer s3:PutObject | deployments/api/2.zip | models/prod/20260102/model.pkl
deployer s3:GetObject | | training/20260101/a.csv
deployer s3:DeleteObject | | deployments/api/1.zip
deployer cloudformation:DescribeStacks | pmip-foundation | another
deployer cloudformation:DeleteStack | | pmip-serving
deployer elasticbeanstalk:CreateApplicationVersion | applicationversion/pmip/1 | applicationversion/another/1
deployer elasticbeanstalk:UpdateEnvironment | environment/pmip/pmip-env | environment/another/another
deployer elasticbeanstalk:DescribeEnvironments | environment/pmip/pmip-env |
deployer elasticbeanstalk:TerminateEnvironment | | environment/pmip/pmip-env
deployer batch:SubmitJob | | job-queue/pmip-training
deployer secretsmanager:GetSecretValue | | pmip/api-keys
deployer iam:AttachUserPolicy | | -
operator s3:ListBucket | models/staging/ | deployments/
operator s3:PutObject | training/20260102/a.csv retired/prod/20260101/model.pkl | deployments/api/2.zip
operator s3:DeleteObject | models/prod/20260102/model.pkl | training/20260101/a.csv
operator s3:DeleteObjectVersion | | models/prod/20260102/model.pkl
operator batch:SubmitJob | job-queue/pmip-training job-definition/pmip-training:7 |
operator batch:SubmitJob | | job-queue/another job-definition/pmip-training-another:1
operator batch:DescribeJobs | - |
operator logs:GetLogEvents | /pmip/training | /another
operator ecr:PutImage | | pmip_api
operator elasticbeanstalk:UpdateEnvironment | | environment/pmip/pmip-env
operator secretsmanager:GetSecretValue | | pmip/api-keys
operator iam:AttachUserPolicy | | -
"""
CASES = [
    [name, action, resource, allowed]
    for who, allowed_on, refused_on in (line.split("|") for line in RIGHTS.strip().splitlines())
    for name, actions in [who.split()]
    for action in actions.split(",")
    for allowed, resources in (("yes", allowed_on), ("no", refused_on))
    for resource in resources.split()
]
DIGEST, STREAM = f"sha256:{0:064}", {"logStreamName": "a"}
ADMINISTRATOR = "arn:aws:iam::aws:policy/AdministratorAccess"
# The parameters of a real call for each action, from the resource in the table. The operation has the action's name,
# except for those in OPERATIONS.
OPERATIONS = {"s3:ListBucket": "list_objects_v2", "s3:DeleteObjectVersion": "delete_object"}
CALLS: dict[str, Callable[[str], dict[str, Any]]] = {
    "s3:ListBucket": lambda prefix: {"Bucket": BUCKET, "Prefix": prefix},
    "s3:GetObject": lambda key: {"Bucket": BUCKET, "Key": key},
    "s3:PutObject": lambda key: {"Bucket": BUCKET, "Key": key, "Body": b"new"},
    "s3:DeleteObject": lambda key: {"Bucket": BUCKET, "Key": key},
    "s3:DeleteObjectVersion": lambda key: {"Bucket": BUCKET, "Key": key, "VersionId": "1"},
    "s3:AbortMultipartUpload": lambda key: {"Bucket": BUCKET, "Key": key, "UploadId": "1"},
    "s3:PutBucketPolicy": lambda _: {"Bucket": BUCKET, "Policy": "{}"},
    "ecr:GetAuthorizationToken": lambda _: {},
    "ecr:BatchGetImage": lambda name: {"repositoryName": name, "imageIds": [{"imageTag": "1"}]},
    "ecr:GetDownloadUrlForLayer": lambda name: {"repositoryName": name, "layerDigest": DIGEST},
    "ecr:BatchCheckLayerAvailability": lambda name: {"repositoryName": name, "layerDigests": [DIGEST]},
    "ecr:InitiateLayerUpload": lambda name: {"repositoryName": name},
    "ecr:PutImage": lambda name: {"repositoryName": name, "imageManifest": "{}"},
    "ecr:DeleteRepository": lambda name: {"repositoryName": name},
    "secretsmanager:GetSecretValue": lambda name: {"SecretId": name},
    "secretsmanager:PutSecretValue": lambda name: {"SecretId": name, "SecretString": "new"},
    "logs:CreateLogGroup": lambda name: {"logGroupName": name},
    "logs:CreateLogStream": lambda name: STREAM | {"logGroupName": name},
    "logs:PutLogEvents": lambda name: STREAM | {"logGroupName": name, "logEvents": [{"timestamp": 1, "message": "a"}]},
    "logs:GetLogEvents": lambda name: STREAM | {"logGroupName": name},
    "cloudformation:DescribeStacks": lambda name: {"StackName": name},
    "cloudformation:DeleteStack": lambda name: {"StackName": name},
    "iam:AttachUserPolicy": lambda _: {"UserName": "operator", "PolicyArn": ADMINISTRATOR},
}
Credentials = dict[str, str]


@pytest.fixture(scope="module")
def who(cloud: Emulator) -> Iterator[dict[str, Credentials]]:
    """Return the credentials of each role and person; the bucket holds an object for each key of the table."""
    s3 = cloud.client("s3")
    tls_only = s3.get_bucket_policy(Bucket=BUCKET)["Policy"]
    s3.delete_bucket_policy(Bucket=BUCKET)  # the emulator speaks HTTP
    for key in {case[2] for case in CASES if case[1].startswith("s3:") and "." in case[2]}:
        s3.put_object(Bucket=BUCKET, Key=key, Body=b"old")
    yield {name: take_role(cloud, name) for name in ROLES} | {name: hire(cloud, name) for name in PEOPLE}
    s3.put_bucket_policy(Bucket=BUCKET, Policy=tls_only)


def take_role(cloud: Emulator, name: str) -> Credentials:
    """Assume a role after changing its trust policy; its other policies stay as the template defines them."""
    iam, role = cloud.client("iam"), cloud.role_name(*ROLES[name][:2])
    anyone = {"Effect": "Allow", "Principal": {"AWS": ACCOUNT}, "Action": "sts:AssumeRole"}
    trust = json.dumps({"Version": "2012-10-17", "Statement": [anyone]})
    iam.update_assume_role_policy(RoleName=role, PolicyDocument=trust)
    arn = iam.get_role(RoleName=role)["Role"]["Arn"]
    return dict(cloud.client("sts").assume_role(RoleArn=arn, RoleSessionName="trial")["Credentials"])


def hire(cloud: Emulator, name: str) -> Credentials:
    iam = cloud.client("iam")
    iam.create_user(UserName=name)
    iam.attach_user_policy(UserName=name, PolicyArn=f"arn:aws:iam::{ACCOUNT}:policy/{PEOPLE[name]}")
    return dict(iam.create_access_key(UserName=name)["AccessKey"])


def refusal(call: Callable[[], object]) -> str:
    """Make a call; return the error if access was denied, otherwise an empty text."""
    try:
        call()
    except ClientError as error:
        return str(error) if "AccessDenied" in error.response["Error"]["Code"] else ""
    return ""


def simulated(cloud: Emulator, name: str, action: str, arn: str) -> str:
    """Ask the emulator's policy simulator about services and buckets that the emulator does not have."""
    kind = f"role/{cloud.role_name(*ROLES[name][:2])}" if name in ROLES else f"user/{name}"
    [result] = cloud.client("iam").simulate_principal_policy(
        PolicySourceArn=f"arn:aws:iam::{ACCOUNT}:{kind}", ActionNames=[action], ResourceArns=[arn]
    )["EvaluationResults"]
    return "" if result["EvalDecision"] == "allowed" else result["EvalDecision"]


@pytest.mark.parametrize("case", CASES, ids=" ".join)
def test_the_table(case: list[str], cloud: Emulator, who: dict[str, Credentials]) -> None:
    """Each role and person is allowed or refused each action as the table says."""
    name, action, resource, allowed = case
    service, _, operation = action.partition(":")
    if action in CALLS:
        call = getattr(cloud.client(service, who[name]), OPERATIONS.get(action, xform_name(operation)))
        refused = refusal(partial(call, **CALLS[action](resource)))
    else:
        arn = "*" if resource == "-" else f"arn:aws:{service}:{REGION}:{ACCOUNT}:{resource}"
        refused = simulated(cloud, name, action, arn)
    assert bool(refused) == (allowed == "no"), refused or "it was allowed"


@pytest.mark.parametrize(
    ("key", "allowed"),
    [("pmip/app-1.zip", True), ("another/app-1.zip", False), ("resources/environments/e-1/a", True)],
)
def test_instances_read_what_the_eb_command_uploads(cloud: Emulator, key: str, allowed: bool) -> None:
    """Instances can read their application's files in Beanstalk's own bucket, but not those of other applications."""
    arn = f"arn:aws:s3:::elasticbeanstalk-{REGION}-{ACCOUNT}/{key}"
    assert bool(simulated(cloud, "instance", "s3:GetObject", arn)) != allowed


@pytest.mark.parametrize("name", ROLES)
def test_a_role_is_one_service_s_alone(name: str) -> None:
    """Only its own AWS service can assume a role: no person and no other service can."""
    stage, resource, service = ROLES[name]
    [trust] = template(stage)["Resources"][resource]["Properties"]["AssumeRolePolicyDocument"]["Statement"]
    assert (trust["Effect"], trust["Action"]) == ("Allow", "sts:AssumeRole")
    assert trust["Principal"] == {"Service": f"{service}.amazonaws.com"}


@pytest.fixture
def as_(cloud: Emulator, who: dict[str, Credentials], monkeypatch: pytest.MonkeyPatch) -> Callable[[str], S3Storage]:
    """Return a function that opens the bucket through the package as a role or person."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", cloud.url)
    monkeypatch.setenv("AWS_DEFAULT_REGION", REGION)

    def become(name: str) -> S3Storage:
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", who[name]["AccessKeyId"])
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", who[name]["SecretAccessKey"])
        monkeypatch.setenv("AWS_SESSION_TOKEN", who[name].get("SessionToken", ""))
        return S3Storage(BUCKET)  # it reads the credentials at its first call

    return become


def test_the_rights_are_enough(as_: Callable[[str], S3Storage], artifact: Artifact, tmp_path: Path) -> None:
    """Job, API, Lambda and operator can do all their work through the package with the rights of the templates."""
    first, second = "20260301T000000Z", "20260302T000000Z"
    job = as_("job")
    assert pull(job, tmp_path).files
    for model_id in (first, second):
        publish(ModelStore(job, "prod"), artifact, model_id)
    ModelStore(job, "prod").publish_report(second, {".html": b"report"}, beside_model=True)
    ModelStore(job, "prod").publish_report("20260303T000000Z", {".html": b"report"}, beside_model=False)

    api = ModelStore(as_("instance"), "prod")
    assert api.fetch_newest()[0] == second
    operator = as_("operator")
    ModelStore(operator, "prod").retire(second)
    assert seed(operator, [SAMPLE[0]], "20260304")
    assert api.fetch_newest()[0] == first
    ModelStore(operator, "prod").restore(second)
    assert ModelStore(as_("lambda"), "prod").fetch_newest()[0] == second


def test_a_model_is_promoted_by_the_operator_alone(as_: Callable[[str], S3Storage], artifact: Artifact) -> None:
    """The operator can promote a model from staging to prod, and the job of prod cannot."""
    operator = ModelStore(as_("operator"), "staging")
    publish(operator, artifact, "20260401T000000Z")
    operator.promote("20260401T000000Z", "prod")
    assert ModelStore(as_("instance"), "prod").fetch("20260401T000000Z").model == artifact.model
    with pytest.raises(AccessDeniedError):
        ModelStore(as_("job"), "staging").promote("20260401T000000Z", "prod")
