"""Least privilege: what each role and person of the templates may and may not do, tried on an emulator of IAM."""

import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError
from conftest import SAMPLE, publish
from emulator import ACCOUNT, REGION, Emulator, template

from pmip.errors import AccessDeniedError
from pmip.model.artifact import Artifact
from pmip.store.objects import S3Storage
from pmip.store.versions import ModelStore
from pmip.training.data import pull, seed

BUCKET = f"pmip-{ACCOUNT}-{REGION}"
# Who: a role with its stage and the service that takes it, or a person with a managed policy.
ROLES = {
    "job": ("training", "JobRole", "ecs-tasks"),
    "pull": ("training", "ExecutionRole", "ecs-tasks"),
    "schedule": ("training", "ScheduleRole", "scheduler"),
    "instance": ("serving", "InstanceRole", "ec2"),
    "beanstalk": ("foundation", "BeanstalkRole", "elasticbeanstalk"),
    "lambda": ("lambda", "FunctionRole", "lambda"),
}
PEOPLE = {"deployer": "pmip-deploy", "operator": "pmip-operate"}
CASES = [
    line.split()
    for line in """
    job        s3:ListBucket                         training/                                    yes
    job        s3:ListBucket                         models/prod/                                 yes
    job        s3:ListBucket                         models/staging/                              no
    job        s3:ListBucket                         deployments/                                 no
    job        s3:GetObject                          training/20260101/a.csv                      yes
    job        s3:GetObject                          models/prod/20260101/model.pkl               yes
    job        s3:GetObject                          models/staging/20260101/model.pkl            no
    job        s3:GetObject                          deployments/api/1.zip                        no
    job        s3:PutObject                          models/prod/20260102/model.pkl               yes
    job        s3:PutObject                          runs/prod/20260102/model-training.html       yes
    job        s3:AbortMultipartUpload               models/prod/20260102/model.pkl               yes
    job        s3:PutObject                          models/staging/20260102/model.pkl            no
    job        s3:PutObject                          runs/staging/20260102/model-training.html    no
    job        s3:PutObject                          training/20260101/a.csv                      no
    job        s3:PutObject                          deployments/api/1.zip                        no
    job        s3:DeleteObject                       models/prod/20260101/model.pkl               no
    job        s3:PutBucketPolicy                    -                                            no
    job        ecr:BatchGetImage                     pmip                                         no
    job        batch:SubmitJob                      job-queue/pmip-training                      no
    job        secretsmanager:GetSecretValue         pmip/api-keys                                no

    pull       ecr:GetAuthorizationToken             -                                            yes
    pull       ecr:BatchGetImage                     pmip                                         yes
    pull       ecr:GetDownloadUrlForLayer            pmip                                         yes
    pull       ecr:BatchCheckLayerAvailability       pmip                                         yes
    pull       ecr:BatchGetImage                     pmip_api                                     no
    pull       ecr:PutImage                          pmip                                         no
    pull       logs:CreateLogStream                  /pmip/training                               yes
    pull       logs:PutLogEvents                     /pmip/training                               yes
    pull       logs:CreateLogStream                  /pmip/lambda                                 no
    pull       s3:GetObject                          training/20260101/a.csv                      no

    schedule   batch:SubmitJob                      job-queue/pmip-training                      yes
    schedule   batch:SubmitJob                      job-definition/pmip-training:7               yes
    schedule   batch:SubmitJob                      job-queue/another                            no
    schedule   batch:SubmitJob                      job-definition/pmip-training-another:1       no
    schedule   batch:DescribeJobs                    -                                            no
    schedule   s3:GetObject                          training/20260101/a.csv                      no

    instance   s3:ListBucket                         models/prod/                                 yes
    instance   s3:GetObject                          models/prod/20260101/model.pkl               yes
    instance   s3:ListBucket                         models/staging/                              no
    instance   s3:ListBucket                         training/                                    no
    instance   s3:GetObject                          models/staging/20260101/model.pkl            no
    instance   s3:GetObject                          training/20260101/a.csv                      no
    instance   s3:PutObject                          models/prod/20260102/model.pkl               no
    instance   s3:DeleteObject                       models/prod/20260101/model.pkl               no
    instance   s3:GetObject                          deployments/api/1.zip                        yes
    instance   s3:PutObject                          deployments/api/1.zip                        no
    instance   ecr:GetAuthorizationToken             -                                            yes
    instance   ecr:BatchGetImage                     pmip_api                                     yes
    instance   ecr:BatchGetImage                     pmip                                         no
    instance   ecr:PutImage                          pmip_api                                     no
    instance   secretsmanager:GetSecretValue         pmip/api-keys                                yes
    instance   secretsmanager:PutSecretValue         pmip/api-keys                                no
    instance   secretsmanager:GetSecretValue         another                                      no
    instance   logs:CreateLogGroup                   /aws/elasticbeanstalk/pmip-env/var/log/x     yes
    instance   logs:CreateLogGroup                   /aws/elasticbeanstalk/another/var/log/x      no
    instance   elasticbeanstalk:PutInstanceStatistics  environment/pmip/pmip-env                  yes
    instance   elasticbeanstalk:PutInstanceStatistics  environment/another/another                no
    instance   elasticbeanstalk:UpdateEnvironment    environment/pmip/pmip-env                    no
    instance   batch:SubmitJob                      job-queue/pmip-training                      no

    beanstalk  s3:DeleteObject                       deployments/api/1.zip                        yes
    beanstalk  s3:DeleteObject                       models/prod/20260101/model.pkl               no

    lambda     s3:ListBucket                         models/prod/                                 yes
    lambda     s3:GetObject                          models/prod/20260101/model.pkl               yes
    lambda     s3:ListBucket                         training/                                    no
    lambda     s3:GetObject                          models/staging/20260101/model.pkl            no
    lambda     s3:PutObject                          models/prod/20260102/model.pkl               no
    lambda     logs:CreateLogStream                  /pmip/lambda                                 yes
    lambda     logs:CreateLogStream                  /pmip/training                               no
    lambda     secretsmanager:GetSecretValue         pmip/api-keys                                no

    deployer   ecr:GetAuthorizationToken             -                                            yes
    deployer   ecr:InitiateLayerUpload               pmip                                         yes
    deployer   ecr:PutImage                          pmip_api                                     yes
    deployer   ecr:PutImage                          another                                      no
    deployer   ecr:DeleteRepository                  pmip_api                                     no
    deployer   s3:PutObject                          deployments/api/2.zip                        yes
    deployer   s3:PutObject                          models/prod/20260102/model.pkl               no
    deployer   s3:GetObject                          training/20260101/a.csv                      no
    deployer   s3:DeleteObject                       deployments/api/1.zip                        no
    deployer   cloudformation:DescribeStacks         pmip-foundation                              yes
    deployer   cloudformation:DescribeStacks         another                                      no
    deployer   cloudformation:DeleteStack            pmip-serving                                 no
    deployer   elasticbeanstalk:CreateApplicationVersion  applicationversion/pmip/1               yes
    deployer   elasticbeanstalk:CreateApplicationVersion  applicationversion/another/1            no
    deployer   elasticbeanstalk:UpdateEnvironment    environment/pmip/pmip-env                    yes
    deployer   elasticbeanstalk:DescribeEnvironments  environment/pmip/pmip-env                   yes
    deployer   elasticbeanstalk:UpdateEnvironment    environment/another/another                  no
    deployer   elasticbeanstalk:TerminateEnvironment  environment/pmip/pmip-env                   no
    deployer   batch:SubmitJob                      job-queue/pmip-training                      no
    deployer   secretsmanager:GetSecretValue         pmip/api-keys                                no
    deployer   iam:AttachUserPolicy                  -                                            no

    operator   s3:ListBucket                         models/staging/                              yes
    operator   s3:ListBucket                         deployments/                                 no
    operator   s3:PutObject                          training/20260102/a.csv                      yes
    operator   s3:DeleteObject                       training/20260101/a.csv                      no
    operator   s3:PutObject                          retired/prod/20260101/model.pkl              yes
    operator   s3:DeleteObject                       models/prod/20260102/model.pkl               yes
    operator   s3:DeleteObjectVersion                models/prod/20260102/model.pkl               no
    operator   s3:PutObject                          deployments/api/2.zip                        no
    operator   batch:SubmitJob                      job-queue/pmip-training                      yes
    operator   batch:SubmitJob                      job-definition/pmip-training:7               yes
    operator   batch:SubmitJob                      job-queue/another                            no
    operator   batch:SubmitJob                      job-definition/pmip-training-another:1       no
    operator   batch:DescribeJobs                    -                                            yes
    operator   logs:GetLogEvents                     /pmip/training                               yes
    operator   logs:GetLogEvents                     /another                                     no
    operator   ecr:PutImage                          pmip_api                                     no
    operator   elasticbeanstalk:UpdateEnvironment    environment/pmip/pmip-env                    no
    operator   secretsmanager:GetSecretValue         pmip/api-keys                                no
    operator   iam:AttachUserPolicy                  -                                            no
    """.strip().splitlines()
    if line.strip()
]
DIGEST = f"sha256:{0:064}"
# An action as a real call: service, operation, and its parameters from the table's resource.
CALLS: dict[str, tuple[str, str, Callable[[str], dict[str, Any]]]] = {
    "s3:ListBucket": ("s3", "list_objects_v2", lambda prefix: {"Bucket": BUCKET, "Prefix": prefix}),
    "s3:GetObject": ("s3", "get_object", lambda key: {"Bucket": BUCKET, "Key": key}),
    "s3:PutObject": ("s3", "put_object", lambda key: {"Bucket": BUCKET, "Key": key, "Body": b"new"}),
    "s3:DeleteObject": ("s3", "delete_object", lambda key: {"Bucket": BUCKET, "Key": key}),
    "s3:DeleteObjectVersion": ("s3", "delete_object", lambda key: {"Bucket": BUCKET, "Key": key, "VersionId": "1"}),
    "s3:AbortMultipartUpload": (
        "s3",
        "abort_multipart_upload",
        lambda key: {"Bucket": BUCKET, "Key": key, "UploadId": "1"},
    ),
    "s3:PutBucketPolicy": ("s3", "put_bucket_policy", lambda _: {"Bucket": BUCKET, "Policy": "{}"}),
    "ecr:GetAuthorizationToken": ("ecr", "get_authorization_token", lambda _: {}),
    "ecr:BatchGetImage": (
        "ecr",
        "batch_get_image",
        lambda name: {"repositoryName": name, "imageIds": [{"imageTag": "1"}]},
    ),
    "ecr:GetDownloadUrlForLayer": (
        "ecr",
        "get_download_url_for_layer",
        lambda name: {"repositoryName": name, "layerDigest": DIGEST},
    ),
    "ecr:BatchCheckLayerAvailability": (
        "ecr",
        "batch_check_layer_availability",
        lambda name: {"repositoryName": name, "layerDigests": [DIGEST]},
    ),
    "ecr:InitiateLayerUpload": ("ecr", "initiate_layer_upload", lambda name: {"repositoryName": name}),
    "ecr:PutImage": ("ecr", "put_image", lambda name: {"repositoryName": name, "imageManifest": "{}"}),
    "ecr:DeleteRepository": ("ecr", "delete_repository", lambda name: {"repositoryName": name}),
    "secretsmanager:GetSecretValue": ("secretsmanager", "get_secret_value", lambda name: {"SecretId": name}),
    "secretsmanager:PutSecretValue": (
        "secretsmanager",
        "put_secret_value",
        lambda name: {"SecretId": name, "SecretString": "new"},
    ),
    "logs:CreateLogGroup": ("logs", "create_log_group", lambda name: {"logGroupName": name}),
    "logs:CreateLogStream": ("logs", "create_log_stream", lambda name: {"logGroupName": name, "logStreamName": "a"}),
    "logs:PutLogEvents": (
        "logs",
        "put_log_events",
        lambda name: {"logGroupName": name, "logStreamName": "a", "logEvents": [{"timestamp": 1, "message": "a"}]},
    ),
    "logs:GetLogEvents": ("logs", "get_log_events", lambda name: {"logGroupName": name, "logStreamName": "a"}),
    "cloudformation:DescribeStacks": ("cloudformation", "describe_stacks", lambda name: {"StackName": name}),
    "cloudformation:DeleteStack": ("cloudformation", "delete_stack", lambda name: {"StackName": name}),
    "iam:AttachUserPolicy": (
        "iam",
        "attach_user_policy",
        lambda _: {"UserName": "operator", "PolicyArn": "arn:aws:iam::aws:policy/AdministratorAccess"},
    ),
}
Credentials = dict[str, str]


@pytest.fixture(scope="module")
def who(cloud: Emulator) -> Iterator[dict[str, Credentials]]:
    """Be each role and person in turn; the bucket holds something of everything."""
    s3 = cloud.client("s3")
    tls_only = s3.get_bucket_policy(Bucket=BUCKET)["Policy"]
    s3.delete_bucket_policy(Bucket=BUCKET)  # the emulator speaks HTTP
    for key in {case[2] for case in CASES if case[1].startswith("s3:") and "." in case[2]}:
        s3.put_object(Bucket=BUCKET, Key=key, Body=b"old")
    yield {name: take_role(cloud, name) for name in ROLES} | {name: hire(cloud, name) for name in PEOPLE}
    s3.put_bucket_policy(Bucket=BUCKET, Policy=tls_only)


def role_name(cloud: Emulator, name: str) -> str:
    """Return what CloudFormation called a role."""
    stage, resource, _service = ROLES[name]
    found = cloud.client("cloudformation").describe_stack_resource(
        StackName=f"pmip-{stage}", LogicalResourceId=resource
    )
    return str(found["StackResourceDetail"]["PhysicalResourceId"])


def take_role(cloud: Emulator, name: str) -> Credentials:
    """Take a role, whose trust is changed for that; its policies stay as the template made them."""
    iam, role = cloud.client("iam"), role_name(cloud, name)
    anyone = {"Effect": "Allow", "Principal": {"AWS": ACCOUNT}, "Action": "sts:AssumeRole"}
    trust = json.dumps({"Version": "2012-10-17", "Statement": [anyone]})
    iam.update_assume_role_policy(RoleName=role, PolicyDocument=trust)
    arn = iam.get_role(RoleName=role)["Role"]["Arn"]
    return dict(cloud.client("sts").assume_role(RoleArn=arn, RoleSessionName="trial")["Credentials"])


def hire(cloud: Emulator, name: str) -> Credentials:
    """Make a user with one managed policy of the templates."""
    iam = cloud.client("iam")
    iam.create_user(UserName=name)
    iam.attach_user_policy(UserName=name, PolicyArn=f"arn:aws:iam::{ACCOUNT}:policy/{PEOPLE[name]}")
    return dict(iam.create_access_key(UserName=name)["AccessKey"])


def refusal(call: Callable[[], object]) -> str:
    """Make a call; return why it was refused for want of rights, or nothing."""
    try:
        call()
    except ClientError as error:
        return str(error) if "AccessDenied" in error.response["Error"]["Code"] else ""
    return ""


def simulated(cloud: Emulator, name: str, action: str, resource: str) -> str:
    """Ask the emulator's policy simulator, for services that it does not have."""
    arn = "*" if resource == "-" else f"arn:aws:{action.split(':')[0]}:{REGION}:{ACCOUNT}:{resource}"
    kind = f"role/{role_name(cloud, name)}" if name in ROLES else f"user/{name}"
    [result] = cloud.client("iam").simulate_principal_policy(
        PolicySourceArn=f"arn:aws:iam::{ACCOUNT}:{kind}", ActionNames=[action], ResourceArns=[arn]
    )["EvaluationResults"]
    return "" if result["EvalDecision"] == "allowed" else result["EvalDecision"]


@pytest.mark.parametrize(("name", "action", "resource", "allowed"), CASES, ids=[" ".join(case) for case in CASES])
def test_the_table(
    cloud: Emulator, who: dict[str, Credentials], name: str, action: str, resource: str, allowed: str
) -> None:
    """Each line of the table holds."""
    if action in CALLS:
        service, operation, parameters = CALLS[action]
        refused = refusal(partial(getattr(cloud.client(service, who[name]), operation), **parameters(resource)))
    else:
        refused = simulated(cloud, name, action, resource)
    assert bool(refused) == (allowed == "no"), refused or "it was allowed"


@pytest.mark.parametrize(
    ("key", "allowed"),
    [("pmip/app-1.zip", True), ("another/app-1.zip", False), ("resources/environments/e-1/a", True)],
)
def test_instances_read_what_the_eb_command_uploads(cloud: Emulator, key: str, allowed: bool) -> None:
    """From the bucket that Beanstalk makes for an account, and nothing of other applications."""
    arn = f"arn:aws:s3:::elasticbeanstalk-{REGION}-{ACCOUNT}/{key}"
    source = f"arn:aws:iam::{ACCOUNT}:role/{role_name(cloud, 'instance')}"
    [result] = cloud.client("iam").simulate_principal_policy(
        PolicySourceArn=source, ActionNames=["s3:GetObject"], ResourceArns=[arn]
    )["EvaluationResults"]
    assert (result["EvalDecision"] == "allowed") == allowed


@pytest.mark.parametrize("name", ROLES)
def test_a_role_is_one_service_s_alone(name: str) -> None:
    """No person and no other service can take a role."""
    stage, resource, service = ROLES[name]
    [trust] = template(stage)["Resources"][resource]["Properties"]["AssumeRolePolicyDocument"]["Statement"]
    assert (trust["Effect"], trust["Action"]) == ("Allow", "sts:AssumeRole")
    assert trust["Principal"] == {"Service": f"{service}.amazonaws.com"}


@pytest.fixture
def as_(cloud: Emulator, who: dict[str, Credentials], monkeypatch: pytest.MonkeyPatch) -> Callable[[str], S3Storage]:
    """Return the bucket as the package has it when somebody runs it."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", cloud.url)
    monkeypatch.setenv("AWS_DEFAULT_REGION", REGION)

    def become(name: str) -> S3Storage:
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", who[name]["AccessKeyId"])
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", who[name]["SecretAccessKey"])
        monkeypatch.setenv("AWS_SESSION_TOKEN", who[name].get("SessionToken", ""))
        return S3Storage(BUCKET)  # it reads the credentials at its first call: one at a time

    return become


def test_the_rights_are_enough(as_: Callable[[str], S3Storage], artifact: Artifact, tmp_path: Path) -> None:
    """The package does its work by them: data to model, model to API, and all that an operator does by hand."""
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
    """What the job of prod may not even read, the operator copies."""
    operator = ModelStore(as_("operator"), "staging")
    publish(operator, artifact, "20260401T000000Z")
    operator.promote("20260401T000000Z", "prod")
    assert ModelStore(as_("instance"), "prod").fetch("20260401T000000Z").model == artifact.model
    with pytest.raises(AccessDeniedError):
        ModelStore(as_("job"), "staging").promote("20260401T000000Z", "prod")
