"""The page about AWS: what it names exists, its sums are right, and the commands that need no account run."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT, SAMPLE
from emulator import REGION, REGISTRY, STAGES, TEMPLATES, Emulator, template

from pmip.__main__ import main

PAGE = (TEMPLATES / "README.md").read_text(encoding="utf-8")
COMMANDS = "\n".join(re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL))
AWS_SCRIPTS = {f"scripts/{name}.sh" for name in ("deploy_stack", "delete_stack", "deploy_api", "submit_training_job")}
PARAMETERS = {stage: template(stage)["Parameters"].keys() for stage in STAGES}


def test_its_scripts_are_there() -> None:
    """Each script that it tells to run; those for AWS alone are there together, or not yet."""
    named = set(re.findall(r"bash (scripts/\w+\.sh)", PAGE))
    assert len(named) > 5
    assert {name for name in named if not (ROOT / name).exists()} in (set(), AWS_SCRIPTS)


def test_its_stages_and_their_parameters_are_those_of_the_templates() -> None:
    """A parameter that CloudFormation does not know would end the deployment."""
    assert {path.stem for path in TEMPLATES.glob("*.yml")} == set(STAGES)
    calls = re.findall(r"deploy_stack\.sh (\w+)([^\n`]*)", PAGE)
    assert {stage for stage, _ in calls} == set(STAGES)
    for stage, rest in calls:
        assert set(re.findall(r"\b([A-Z]\w+)=", rest)) <= PARAMETERS[stage], rest
    in_words = set(re.findall(r"`([A-Z][a-z]\w+)=", PAGE))
    assert in_words <= set().union(*PARAMETERS.values())


def test_its_first_deployment_gives_all_that_has_no_default() -> None:
    """A newcomer is not asked for what the page does not tell."""
    for stage in STAGES:
        needed = {name for name, about in template(stage).get("Parameters", {}).items() if "Default" not in about}
        [first, *_] = re.findall(rf"deploy_stack\.sh {stage}\b(.*)", COMMANDS)
        assert needed <= set(re.findall(r"(\w+)=", first))


def test_its_variables_are_outputs_or_set_before() -> None:
    """The outputs of the foundation become variables by their names."""
    set_here = set(re.findall(r"(?:^|\s|export )(\w+)=", COMMANDS)) | {
        "ADDRESS",
        "HOME",
        "stage",
    }  # 5 prints the address
    used = set(re.findall(r"\$\{?(\w+)", COMMANDS))
    assert used - set_here <= template("foundation")["Outputs"].keys()


def test_its_log_groups_are_those_of_the_stacks() -> None:
    """Beanstalk's are named by its environment."""
    groups = {
        resource["Properties"]["LogGroupName"]
        for stage in STAGES
        for resource in template(stage)["Resources"].values()
        if resource["Type"] == "AWS::Logs::LogGroup"
    }
    assert set(re.findall(r"aws logs tail (\S+)", PAGE)) == groups
    environment = template("serving")["Resources"]["Api"]["Properties"]["EnvironmentName"]
    assert f"/aws/elasticbeanstalk/{environment}" in PAGE


def test_its_commands_of_the_package_are_known(capsys: pytest.CaptureFixture[str]) -> None:
    """Each python -m pmip COMMAND."""
    named = set(re.findall(r"python -m pmip (\w+)", PAGE))
    assert named
    for command in named:
        with pytest.raises(SystemExit, match="0"):
            main([command, "--help"])
    capsys.readouterr()


def test_its_sums_are_right() -> None:
    """Each line of the table of costs adds up, and so does the sentence below."""
    sums = re.findall(r"\| ([\d ×+/().]+) = (\d+\.\d\d) \|", PAGE)
    assert len(sums) >= 8
    for terms, result in sums:
        assert f"{eval(terms.replace('×', '*')):.2f}" == result, terms  # noqa: S307 - digits and operators only
    storage, images, key, training, instance, look, balanced, function = (float(result) for _, result in sums)
    common = storage + images + key + training
    told = [round(common + rest) for rest in (function, instance + look, balanced)]
    assert told == [int(number) for number in re.findall(r"about (\d+) dollar.*?, (\d+) with.*?, (\d+) load", PAGE)[0]]


def test_each_bash_line_can_be_read() -> None:
    """Its commands are bash."""
    subprocess.run(["bash", "-n"], input=COMMANDS, text=True, check=True, timeout=30)


# Stands in for what has no emulator: images, Batch, Beanstalk. All else of the page is run as it stands.
ELSEWHERE = f"""
set -euo pipefail
source() {{ :; }}
curl() {{ :; }}
aws() {{ if [ "$1" = elasticbeanstalk ]; then echo newest; else command aws "$@"; fi; }}
bash() {{
  case "$*" in
    *seed_*) command bash "$@" ;;
    *push_*) echo "{REGISTRY}/pmip_api:1" ;;
    *install.sh* | *build_* | *training* | *serving* | *submit_* | *deploy_api*) ;;
    *) command bash "$@" ;;
  esac
}}
"""


@pytest.mark.skipif(not (ROOT / "scripts" / "deploy_stack.sh").exists(), reason="the scripts for AWS are not there yet")
def test_its_commands_run_on_the_emulator(cloud: Emulator, tmp_path: Path) -> None:
    """From nothing to running, the keys anew, and nothing left."""
    account = cloud.elsewhere()
    environ = os.environ | {
        "AWS_ENDPOINT_URL": account.url,
        "AWS_ACCESS_KEY_ID": account.account,
        "AWS_SECRET_ACCESS_KEY": "any",
        "HOME": str(tmp_path),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }
    start, _daily, rotate, *delete = re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)

    def run(*blocks: str) -> None:
        text = ELSEWHERE + "".join(blocks).replace("eu-west-1", REGION)
        shell = subprocess.run(
            ["bash", "-c", text], cwd=ROOT, env=environ, capture_output=True, text=True, timeout=300, check=False
        )
        assert shell.returncode == 0, shell.stderr

    run(start)
    bucket = f"pmip-{account.account}-{REGION}"
    assert account.client("s3").list_objects_v2(Bucket=bucket, Prefix="training/")["KeyCount"] == len(SAMPLE)
    key_file = tmp_path / ".pmip-api-key"
    assert key_file.stat().st_mode & 0o077 == 0
    secrets = account.client("secretsmanager")
    first = secrets.get_secret_value(SecretId="pmip/api-keys")["SecretString"]
    assert key_file.read_text() == f"X-API-Key: {first.rpartition(',')[2]}\n"  # the emulator's key may have a comma

    run(f"export AWS_DEFAULT_REGION={REGION} api_image=any\n", rotate)
    assert re.fullmatch("[A-Za-z0-9]{40}", secrets.get_secret_value(SecretId="pmip/api-keys")["SecretString"])
    function = account.client("lambda").get_function(FunctionName="pmip-lambda")["Configuration"]
    assert function["Environment"]["Variables"]["API_KEYS_VERSION"] == "3"  # AWS reads the secret again then

    run(f"export AWS_DEFAULT_REGION={REGION} BUCKET={bucket}\n", *delete)
    assert account.client("s3").list_buckets()["Buckets"] == []
    assert account.client("cloudformation").list_stacks(StackStatusFilter=["CREATE_COMPLETE"])["StackSummaries"] == []


def test_its_last_command_leaves_nothing(cloud: Emulator) -> None:
    """A bucket with older versions of objects and with deleted ones is emptied and deleted."""
    other = cloud.elsewhere()
    other.deploy("foundation", BucketName="to-be-deleted")
    s3 = other.client("s3")
    for content in (b"old", b"new"):
        s3.put_object(Bucket="to-be-deleted", Key="training/20260101/a.csv", Body=content)
    s3.delete_object(Bucket="to-be-deleted", Key="training/20260101/a.csv")
    [command] = [line for line in COMMANDS.splitlines() if line.startswith("python -c")]
    keys = {"AWS_ACCESS_KEY_ID": other.account, "AWS_SECRET_ACCESS_KEY": "any", "AWS_DEFAULT_REGION": "us-east-1"}
    environ = {"AWS_ENDPOINT_URL": other.url, "BUCKET": "to-be-deleted", "NO_PROXY": "127.0.0.1"} | keys
    subprocess.run(["bash", "-c", command.replace("python", sys.executable, 1)], env=environ, check=True, timeout=60)
    assert s3.list_buckets()["Buckets"] == []
