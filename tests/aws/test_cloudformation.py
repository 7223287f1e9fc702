"""The templates: they have no findings, agree with each other and the code, and can be deployed to an emulator."""

import ast
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import botocore.session
import pytest
from botocore.exceptions import ClientError, WaiterError
from cfnlint.helpers import REGIONS
from cfnlint.schema.manager import PROVIDER_SCHEMA_MANAGER
from conftest import ROOT
from emulator import ACCOUNT, BUCKET, REGION, REGISTRY, STAGES, TEMPLATES, Emulator, template

from pmip.store.versions import new_model_id

CERTIFICATE = f"arn:aws:acm:{REGION}:{ACCOUNT}:certificate/1"
# Actions that may be allowed on "*": AWS has no resource for them, and none of them changes anything.
ON_EVERYTHING = {"ecr:GetAuthorizationToken", "batch:DescribeJobs", "batch:ListJobs"}
DESCRIBED = {
    "autoscaling": ("AutoScalingGroups", "ScalingActivities"),
    "ec2": ("Images", "Instances", "LaunchTemplateVersions", "LaunchTemplates", "SecurityGroups", "Subnets", "Vpcs"),
    "elasticloadbalancing": ("LoadBalancers", "TargetGroups", "TargetHealth"),
}
ON_EVERYTHING |= {f"{service}:Describe{what}" for service, kinds in DESCRIBED.items() for what in kinds}
DOCKERFILE, DOCKERFILE_TRAIN = ((ROOT / name).read_text() for name in ("Dockerfile", "Dockerfile.train"))
Json = dict[str, Any]


def nodes(tree: object) -> Iterator[Json]:
    if isinstance(tree, dict):
        yield tree
        for value in tree.values():
            yield from nodes(value)
    elif isinstance(tree, list):
        for value in tree:
            yield from nodes(value)


def listed(value: object) -> list[Any]:
    return value if isinstance(value, list) else [value]


REGIONAL = [stage for stage in STAGES if stage != "budget"]
COMMON = "us-east-1 us-east-2 us-west-2 eu-west-1 eu-central-1 eu-north-1 ap-northeast-1 ap-southeast-2 sa-east-1"
COMMERCIAL = set(botocore.session.get_session().get_available_regions("s3")) & set(REGIONS)
# The three regions beyond the common ones have neither budgets nor function URLs.
REGIONS_OF = {"budget": "us-east-1", "lambda": COMMON} | dict.fromkeys(
    ("foundation", "training", "serving"), f"{COMMON} ca-west-1 eu-central-2 il-central-1"
)


@pytest.mark.parametrize("stage", STAGES)
def test_cfn_lint_finds_nothing(stage: str) -> None:
    """cfn-lint reports no error, warning or hint for a template in any of the regions in REGIONS_OF."""
    command = [Path(sys.executable).with_name("cfn-lint"), "-I", "-r", *REGIONS_OF[stage].split()]
    run = subprocess.run(
        [*command, "--", TEMPLATES / f"{stage}.yml"], capture_output=True, text=True, timeout=300, check=False
    )
    assert (run.returncode, run.stdout) == (0, ""), run.stderr


@pytest.mark.parametrize("stage", REGIONAL)
def test_the_page_names_each_region_that_lacks_a_resource(stage: str) -> None:
    """A person who chooses a region reads on the page which regions cannot run the Lambda stack."""
    types = {resource["Type"] for resource in template(stage)["Resources"].values()}
    schemas = PROVIDER_SCHEMA_MANAGER.get_resource_types
    lacking = {region for region in COMMERCIAL if not types <= set(schemas(region))}
    [_, rest] = (TEMPLATES / "README.md").read_text().split("- **A region.**")
    told = set(re.findall(r"`([a-z]{2}-[a-z]+-\d)`", rest.split("\n- ")[0]))
    assert lacking == (told if stage == "lambda" else set())


@pytest.mark.parametrize("stage", REGIONAL)
def test_no_policy_says_more_than_it_must(stage: str) -> None:
    """No policy allows an action with a wildcard, and "*" as a resource is for the actions of ON_EVERYTHING only."""
    statements = [node for node in nodes(template(stage)) if node.get("Effect") == "Allow"]
    assert statements
    for statement in statements:
        actions = listed(statement["Action"])
        assert not [action for action in actions if "*" in action]
        if "*" in listed(statement.get("Resource")):
            assert set(actions) <= ON_EVERYTHING


def test_only_settings_that_are_read_are_given(cloud: Emulator) -> None:
    """The job, Beanstalk and Lambda get BUCKET, ENVIRONMENT and no variable that nothing reads."""
    read = set(re.findall(r'read\("([A-Z_]+)"', (ROOT / "pmip" / "config.py").read_text()))
    function = template("lambda")["Resources"]["Function"]["Properties"]
    for names in (
        {entry["Name"] for entry in job_definition(cloud)["ContainerProperties"]["Environment"]},
        {name for kind, name in options(cloud) if kind.startswith("aws:elasticbeanstalk:application:env")},
        set(function["Environment"]["Variables"]),
    ):
        assert {"BUCKET", "ENVIRONMENT"} <= names
        assert names - {"AWS_DEFAULT_REGION", "API_KEYS_VERSION"} <= read


def job_definition(cloud: Emulator) -> Json:
    return json.loads(cloud.outputs["training"]["JobDefinitionProperties"])


def options(cloud: Emulator, outputs: dict[str, str] | None = None) -> dict[tuple[str, str], str]:
    """Return the options of the Beanstalk environment, each of which may occur only once."""
    settings = json.loads((outputs or cloud.outputs["serving"])["ApiProperties"])["OptionSettings"]
    found = {(option["Namespace"], option["OptionName"]): option["Value"] for option in settings}
    assert len(found) == len(settings)
    return found


def camel(value: Any) -> Any:
    """Write the first letter of each key small, as Batch's own API does."""
    if isinstance(value, dict):
        return {key[0].lower() + key[1:]: camel(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [camel(inner) for inner in value]
    return value


@pytest.fixture(scope="module")
def elsewhere(cloud: Emulator) -> Emulator:
    """Deploy the foundation in another account, for stacks with other parameters."""
    other = cloud.elsewhere()
    other.deploy("foundation")
    return other


def test_the_bucket_is_private_encrypted_and_versioned(cloud: Emulator) -> None:
    """S3 reports that the bucket blocks public access, keeps versions and encrypts objects."""
    s3 = cloud.client("s3")
    assert cloud.outputs["foundation"]["BucketName"] == BUCKET
    assert set(s3.get_public_access_block(Bucket=BUCKET)["PublicAccessBlockConfiguration"].values()) == {True}
    assert s3.get_bucket_versioning(Bucket=BUCKET)["Status"] == "Enabled"
    [rule] = s3.get_bucket_encryption(Bucket=BUCKET)["ServerSideEncryptionConfiguration"]["Rules"]
    assert rule["ApplyServerSideEncryptionByDefault"] == {"SSEAlgorithm": "AES256"}


def test_the_bucket_answers_tls_only(cloud: Emulator) -> None:
    """Not even an administrator can list the bucket over HTTP."""
    iam = cloud.client("iam")
    iam.create_user(UserName="administrator")
    iam.attach_user_policy(UserName="administrator", PolicyArn="arn:aws:iam::aws:policy/AdministratorAccess")
    s3 = cloud.client("s3", iam.create_access_key(UserName="administrator")["AccessKey"])
    assert s3.list_buckets()["Buckets"]
    with pytest.raises(ClientError, match="AccessDenied"):
        s3.list_objects_v2(Bucket=BUCKET)


def test_lifecycle_rules_touch_neither_data_nor_models_nor_bundles() -> None:
    """Lifecycle rules delete current objects under runs/ only."""
    rules = template("foundation")["Resources"]["Bucket"]["Properties"]["LifecycleConfiguration"]["Rules"]
    assert [rule.get("Prefix") for rule in rules if "ExpirationInDays" in rule] == ["runs/"]
    assert [rule for rule in rules if "NoncurrentVersionExpiration" in rule]
    assert [rule for rule in rules if "AbortIncompleteMultipartUpload" in rule]


def test_images_are_scanned_and_the_one_in_service_stays(cloud: Emulator) -> None:
    """Both repositories scan images and never replace or expire those of a commit, and Lambda may pull the API's."""
    ecr = cloud.client("ecr")
    for name, resource in (("pmip", "TrainingRepository"), ("pmip_api", "ApiRepository")):
        [repository] = ecr.describe_repositories(repositoryNames=[name])["repositories"]
        assert repository["imageScanningConfiguration"] == {"scanOnPush": True}
        properties = template("foundation")["Resources"][resource]["Properties"]
        assert "LifecyclePolicy" not in properties
        assert properties["ImageTagMutability"] == "IMMUTABLE_WITH_EXCLUSION"
        [moving] = properties["ImageTagMutabilityExclusionFilters"]
        assert moving["ImageTagMutabilityExclusionFilterValue"] == "latest"
    [pull] = json.loads(ecr.get_repository_policy(repositoryName="pmip_api")["policyText"])["Statement"]
    function = cloud.client("lambda").get_function(FunctionName="pmip-lambda")["Configuration"]
    assert pull["Condition"]["ArnLike"]["aws:SourceArn"] == function["FunctionArn"]


def test_the_job_runs_the_training_script(cloud: Emulator) -> None:
    """Batch accepts the job definition, whose command is the training script of the image."""
    definition, batch = camel(job_definition(cloud)), cloud.client("batch")
    definition["timeout"] = {"attemptDurationSeconds": int(definition["timeout"]["attemptDurationSeconds"])}
    batch.register_job_definition(**definition)  # boto3 checks each name and type
    [made] = batch.describe_job_definitions(jobDefinitionName="pmip-training")["jobDefinitions"]
    assert made["containerProperties"]["command"] == ["scripts/train.sh"]
    assert (ROOT / "scripts" / "train.sh").exists()
    assert 'ENTRYPOINT ["bash"]' in DOCKERFILE_TRAIN
    log = made["containerProperties"]["logConfiguration"]["options"]["awslogs-group"]
    assert [group for group in cloud.client("logs").describe_log_groups()["logGroups"] if group["logGroupName"] == log]


@pytest.mark.parametrize(
    ("end", "action"),
    [
        ({"OnStatusReason": "Your Spot Task was interrupted."}, "RETRY"),
        ({"OnStatusReason": "Host EC2 (instance i-1) terminated.", "OnExitCode": "137"}, "RETRY"),
        ({"OnReason": "CannotPullContainerError: pull image manifest has been retried 5 time(s)"}, "RETRY"),
        ({"OnStatusReason": "Essential container in task exited", "OnExitCode": "1"}, "EXIT"),
        ({"OnStatusReason": "ResourceInitializationError: unable to pull secrets or registry auth"}, "RETRY"),
        ({"OnStatusReason": "Timeout waiting for network interface provisioning to complete."}, "RETRY"),
        ({"OnReason": "OutOfMemoryError: Container killed due to memory usage", "OnExitCode": "137"}, "EXIT"),
    ],
)
def test_a_job_is_tried_again_for_others_faults_only(end: dict[str, str], action: str) -> None:
    """Batch repeats a job after a fault of AWS, but not after a failure of the job itself."""
    rules = template("training")["Resources"]["JobDefinition"]["Properties"]["RetryStrategy"]["EvaluateOnExit"]
    assert len(rules) <= 5  # the most that Batch accepts

    def fits(rule: dict[str, str]) -> bool:
        wanted = {name: text for name, text in rule.items() if name != "Action"}
        return all(name in end and fnmatchcase(end[name], text) for name, text in wanted.items())

    # The first rule that fits decides; without one, Batch retries.
    assert next((rule["Action"] for rule in rules if fits(rule)), "RETRY") == action


def test_the_schedule_submits_this_job(cloud: Emulator) -> None:
    """The schedule calls Batch's SubmitJob with the queue, the job definition and the role of the stack."""
    schedule = cloud.client("scheduler").get_schedule(Name="pmip-training")
    assert schedule["Target"]["Arn"] == "arn:aws:scheduler:::aws-sdk:batch:submitJob"
    call = json.loads(schedule["Target"]["Input"])
    parameters = botocore.session.get_session().get_service_model("batch").operation_model("SubmitJob").input_shape
    assert camel(call).keys() <= parameters.members.keys()
    assert set(parameters.required_members) <= camel(call).keys()
    queue = json.loads(cloud.outputs["training"]["JobQueueProperties"])["JobQueueName"]
    assert call["JobQueue"].endswith(f":job-queue/{queue}")
    assert call["JobDefinition"] == job_definition(cloud)["JobDefinitionName"]
    assert schedule["Target"]["DeadLetterConfig"]["Arn"].endswith(":pmip-training-unsent")
    role = cloud.role_name("training", "ScheduleRole")
    assert schedule["Target"]["RoleArn"] == f"arn:aws:iam::{ACCOUNT}:role/{role}"


def test_a_job_that_failed_or_cannot_start_is_told_by_mail(cloud: Emulator, elsewhere: Emulator) -> None:
    """AlarmEmail gets a mail about a failed job or a blocked queue; without AlarmEmail, no rule or alarm is created."""
    assert cloud.client("events").list_rules()["Rules"] == []
    assert cloud.client("cloudwatch").describe_alarms()["MetricAlarms"] == []
    queue = elsewhere.deploy("training", AlarmEmail="a@example.com")["JobQueue"]
    events, sns = elsewhere.client("events"), elsewhere.client("sns")
    rules = events.list_rules()["Rules"]
    targets = [target for rule in rules for target in events.list_targets_by_rule(Rule=rule["Name"])["Targets"]]
    [topic] = {target["Arn"] for target in targets}
    [mail] = sns.list_subscriptions_by_topic(TopicArn=topic)["Subscriptions"]
    assert (mail["Protocol"], mail["Endpoint"]) == ("email", "a@example.com")
    alarms = elsewhere.client("cloudwatch").describe_alarms()["MetricAlarms"]
    assert [alarm["AlarmActions"] for alarm in alarms] == [[topic]] * 2

    def told(kind: str, status: str, queue: str) -> bool:
        event = {"source": "aws.batch", "detail-type": kind, "id": "1", "account": ACCOUNT, "region": REGION}
        event |= {"time": "2026-01-01T00:00:00Z", "resources": [], "detail": {"status": status, "jobQueue": queue}}
        test = {"Event": json.dumps(event)}
        return any(events.test_event_pattern(EventPattern=rule["EventPattern"], **test)["Result"] for rule in rules)

    assert told("Batch Job State Change", "FAILED", queue)
    assert told("Batch Job Queue Blocked", "RUNNABLE", queue)
    assert not told("Batch Job State Change", "SUCCEEDED", queue)
    assert not told("Batch Job State Change", "FAILED", queue + "-another")


def test_days_without_a_published_model_are_an_alarm() -> None:
    """The alarm counts a run by a log line that is only a model id, and the absence of such lines sets it off."""
    resources = template("training")["Resources"]
    pattern = resources["PublishedModels"]["Properties"]["FilterPattern"].strip("%")
    assert re.search(pattern, new_model_id())
    assert not re.search(pattern, f"==> {new_model_id()} is published")
    [metric] = resources["PublishedModels"]["Properties"]["MetricTransformations"]
    alarm = resources["NoNewModelAlarm"]["Properties"]
    assert (alarm["Namespace"], alarm["MetricName"]) == (metric["MetricNamespace"], metric["MetricName"])
    assert alarm["TreatMissingData"] == "breaching"


def test_a_cluster_is_reached_by_its_address_and_security_group(elsewhere: Emulator) -> None:
    """The job gets the Dask scheduler's address, and may connect to the scheduler's port and to HTTPS only."""
    other, address = elsewhere.elsewhere(), "tcp://10.0.0.1:8786"
    other.deploy("foundation")
    with pytest.raises(ClientError, match="A DaskScheduler needs a DaskSecurityGroup"):
        other.deploy("training", DaskScheduler=address)
    outputs = other.deploy("training", DaskScheduler=address, DaskSecurityGroup="sg-0123abcd")
    container = json.loads(outputs["JobDefinitionProperties"])["ContainerProperties"]
    assert container["Command"] == ["scripts/train.sh", f"DASK_SCHEDULER={address}"]
    [group] = other.client("ec2").describe_security_groups(GroupIds=[outputs["SecurityGroup"]])["SecurityGroups"]
    assert {(rule["FromPort"], rule["ToPort"]) for rule in group["IpPermissionsEgress"]} == {(443, 443), (8786, 8786)}


def test_one_instance_is_the_default(cloud: Emulator) -> None:
    """An operator who sets nothing gets one instance without a load balancer, with API keys from the secret."""
    single = options(cloud)
    assert single["aws:elasticbeanstalk:environment", "EnvironmentType"] == "SingleInstance"
    assert single["aws:autoscaling:asg", "MaxSize"] == "1"
    assert single["aws:elasticbeanstalk:application", "Application Healthcheck URL"] == "/readiness"
    assert single["aws:elasticbeanstalk:application:environment", "TRUSTED_PROXIES"] == "1"
    assert single["aws:autoscaling:launchconfiguration", "DisableIMDSv1"] == "true"
    health = json.loads(single["aws:elasticbeanstalk:healthreporting:system", "ConfigDocument"])
    assert health["Rules"]["Environment"]["Application"] == {"ApplicationRequests4xx": {"Enabled": False}}
    keys = single["aws:elasticbeanstalk:application:environmentsecrets", "API_KEYS"]
    assert keys == cloud.outputs["foundation"]["ApiKeysArn"]
    optional = ("aws:elbv2", "aws:autoscaling:trigger", "aws:ec2:vpc")
    assert not [kind for kind, _name in single if kind.startswith(optional)]


def test_an_environment_begins_with_the_api_and_nothing_is_replaced_for_its_next_version(cloud: Emulator) -> None:
    """The environment starts with the given version, and its next version is deployed to the same instance."""
    single = options(cloud)
    assert json.loads(cloud.outputs["serving"]["ApiProperties"])["VersionLabel"] == "1"
    assert single["aws:autoscaling:updatepolicy:rollingupdate", "RollingUpdateEnabled"] == "false"
    assert ("aws:autoscaling:updatepolicy:rollingupdate", "RollingUpdateType") not in single
    assert single["aws:elasticbeanstalk:command", "DeploymentPolicy"] == "AllAtOnce"


def parameters_in(tree: object, stage: Json) -> set[str]:
    """Return the names of the parameters on which a value of a template or its conditions depend."""
    found: set[str] = set()
    for node in nodes(tree):
        found |= {str(node["Ref"])} if "Ref" in node else set()
        found |= set(re.findall(r"\$\{([^}]+)\}", str(node.get("Fn::Sub", ""))))
        for condition in [node["Fn::If"][0]] if "Fn::If" in node else listed(node.get("Condition", [])):
            found |= parameters_in(stage["Conditions"].get(condition), stage)
    return found & stage["Parameters"].keys()


@pytest.mark.parametrize("stage", STAGES)
def test_no_parameter_of_the_page_replaces_what_has_a_fixed_name(stage: str) -> None:
    """The page's parameters never replace a resource with a fixed name; its new copy would need the same name."""
    body = template(stage)
    page = (TEMPLATES / "README.md").read_text()
    calls = re.findall(rf"deploy_stack\.sh {stage}\b.*", page)
    changed = {name for call in calls for name in re.findall(r"(\w+)=", call)}
    changed |= {name for name, about in body["Parameters"].items() if "Default" not in about}
    for name, resource in body["Resources"].items():
        schema = PROVIDER_SCHEMA_MANAGER.get_resource_schema(REGION, resource["Type"]).schema
        paths = [path.split("/")[2:] for path in schema.get("createOnlyProperties", [])]
        values = {".".join(path): at(resource.get("Properties", {}), path) for path in paths}
        fixed = [key for key, value in values.items() if key.endswith("Name") and isinstance(value, str)]
        replacing = {key: parameters_in(value, body) & changed for key, value in values.items()}
        assert not fixed or not any(replacing.values()), f"{name} is named by {fixed}, but {replacing} replaces it"


def at(tree: Any, path: list[str]) -> Any:
    """Return the value at a path of a template, or None."""
    for key in path:
        tree = tree.get(key) if isinstance(tree, dict) else None
    return tree


def test_a_load_balancer_with_a_certificate_answers_https_only(elsewhere: Emulator) -> None:
    """A load balancer with a certificate listens for HTTPS only, updates in batches and adds instances under load."""
    balanced = options(elsewhere, elsewhere.deploy("serving", LoadBalanced="true", CertificateArn=CERTIFICATE))
    assert balanced["aws:elasticbeanstalk:environment", "EnvironmentType"] == "LoadBalanced"
    assert balanced["aws:elbv2:listener:default", "ListenerEnabled"] == "false"
    assert balanced["aws:elbv2:listener:443", "SSLCertificateArns"] == CERTIFICATE
    assert balanced["aws:elasticbeanstalk:environment:process:default", "HealthCheckPath"] == "/readiness"
    assert balanced["aws:elasticbeanstalk:application:environment", "TRUSTED_PROXIES"] == "2"
    assert balanced["aws:elasticbeanstalk:command", "DeploymentPolicy"] == "RollingWithAdditionalBatch"
    assert balanced["aws:autoscaling:asg", "MaxSize"] == "4"
    assert ("aws:autoscaling:trigger", "UpperThreshold") in balanced


def test_a_network_of_one_s_own_is_taken(elsewhere: Emulator) -> None:
    """Instances and load balancer use the operator's VPC and subnets; a VPC without subnets is refused."""
    network = {"VpcId": "vpc-1a", "Subnets": "subnet-1a,subnet-1b"}
    other = elsewhere.elsewhere()
    other.deploy("foundation")
    with pytest.raises(ClientError, match="A VpcId needs Subnets"):
        other.deploy("serving", VpcId="vpc-1a")
    own = options(other, other.deploy("serving", LoadBalanced="true", **network))
    assert own["aws:ec2:vpc", "VPCId"] == "vpc-1a"
    assert own["aws:ec2:vpc", "Subnets"] == own["aws:ec2:vpc", "ELBSubnets"] == "subnet-1a,subnet-1b"
    assert own["aws:ec2:vpc", "AssociatePublicIpAddress"] == "true"


def test_a_certificate_without_a_load_balancer_is_refused(cloud: Emulator) -> None:
    """A certificate without a load balancer is refused, because nothing would answer HTTPS."""
    with pytest.raises(ClientError, match="CertificateArn needs LoadBalanced=true"):
        cloud.elsewhere().deploy("serving", CertificateArn=CERTIFICATE)


def test_lambda_serves_the_api_image(cloud: Emulator) -> None:
    """Lambda runs the API image with the package's handler and the secret's keys, and has a URL of its own."""
    function, functions = template("lambda")["Resources"]["Function"]["Properties"], cloud.client("lambda")
    module, _, name = function["ImageConfig"]["Command"][0].rpartition(".")
    tree = ast.parse((ROOT / f"{module.replace('.', '/')}.py").read_text())
    assert name in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
    assert function["ImageConfig"]["EntryPoint"] == ["python", "-m", "awslambdaric"]
    assert f"WORKDIR {function['ImageConfig']['WorkingDirectory']}\n" in DOCKERFILE
    made = functions.get_function(FunctionName="pmip-lambda")
    assert made["Code"]["ImageUri"] == f"{REGISTRY}/pmip_api:1"
    secret = cloud.client("secretsmanager").get_secret_value(SecretId="pmip/api-keys")["SecretString"]
    assert made["Configuration"]["Environment"]["Variables"]["API_KEYS"] == secret
    assert functions.get_function_url_config(FunctionName="pmip-lambda")["AuthType"] == "NONE"
    statements = json.loads(functions.get_policy(FunctionName="pmip-lambda")["Policy"])["Statement"]
    assert all("FunctionUrl" in str(statement["Condition"]) for statement in statements)


def test_failed_calls_of_lambda_are_told_by_mail(elsewhere: Emulator) -> None:
    """An alarm about the Lambda function sends a mail to AlarmEmail."""
    elsewhere.deploy("lambda", AlarmEmail="a@example.com")
    [alarm] = [
        alarm
        for alarm in elsewhere.client("cloudwatch").describe_alarms()["MetricAlarms"]
        if alarm["Namespace"] == "AWS/Lambda"
    ]
    [mail] = elsewhere.client("sns").list_subscriptions_by_topic(TopicArn=alarm["AlarmActions"][0])["Subscriptions"]
    assert (mail["Protocol"], mail["Endpoint"]) == ("email", "a@example.com")
    assert alarm["Dimensions"] == [{"Name": "FunctionName", "Value": "pmip-lambda"}]


@pytest.mark.parametrize("stage", ["serving", "lambda"])
def test_keys_can_be_left_out(cloud: Emulator, stage: str) -> None:
    """With RequireApiKey=false the API gets no keys, and no secret is created that would cost money."""
    other = cloud.elsewhere()
    assert "ApiKeysArn" not in other.deploy("foundation", RequireApiKey="false")
    assert other.client("secretsmanager").list_secrets()["SecretList"] == []
    outputs = other.deploy(stage, RequireApiKey="false")
    given = outputs.get("ApiProperties") or str(other.client("lambda").get_function(FunctionName="pmip-lambda"))
    assert "'API_KEYS'" not in given
    assert '"API_KEYS"' not in given


def test_a_stage_without_the_one_before_is_not_made(cloud: Emulator) -> None:
    """The training stack cannot be created without the foundation, whose exports it imports."""
    with pytest.raises(WaiterError):
        cloud.elsewhere().deploy("training")


def test_deleting_the_foundation_keeps_the_bucket(cloud: Emulator) -> None:
    """Deleting the foundation keeps the bucket but no images, and the next foundation can use another bucket name."""
    other = cloud.elsewhere()
    kept = other.deploy("foundation")["BucketName"]
    stacks = other.client("cloudformation")
    stacks.delete_stack(StackName="pmip-foundation")
    stacks.get_waiter("stack_delete_complete").wait(
        StackName="pmip-foundation", WaiterConfig={"Delay": 1, "MaxAttempts": 30}
    )
    assert [bucket["Name"] for bucket in other.client("s3").list_buckets()["Buckets"]] == [kept]
    assert other.client("ecr").describe_repositories()["repositories"] == []
    assert other.deploy("foundation", BucketName="another-bucket")["BucketName"] == "another-bucket"
    assert template("foundation")["Resources"]["Bucket"]["UpdateReplacePolicy"] == "Retain"  # not emulated
