"""The page about AWS: what it names exists, its sums are right, and its commands that need no account work."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from emulator import REGION, STAGES, TEMPLATES, Emulator, template

PAGE = (TEMPLATES / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)
COMMANDS = "\n".join(BLOCKS)
PARAMETERS = {stage: template(stage)["Parameters"] for stage in STAGES}
RESOURCES = [resource for stage in STAGES for resource in template(stage)["Resources"].values()]


def test_it_tells_each_name_that_must_be_free() -> None:
    """The page lists each fixed name of the templates, because AWS creates a name once per account and region."""
    named = {
        value
        for resource in RESOURCES
        for key, value in resource.get("Properties", {}).items()
        if (key.endswith("Name") or (key, resource["Type"]) == ("Name", "AWS::SecretsManager::Secret"))
        if key != "MetricName" and isinstance(value, str)
    }
    assert {"pmip_api", "pmip/api-keys", "pmip-env"} <= named
    assert {name for name in named if f"`{name}`" not in PAGE.split("## Deploy everything")[0]} == set()


def test_its_stages_and_their_parameters_are_those_of_the_templates() -> None:
    """The page names every stage, and only parameters that the template of the stage has."""
    assert {path.stem for path in TEMPLATES.glob("*.yml")} == set(STAGES)
    calls = re.findall(r"deploy_stack\.sh (\w+)([^\n`]*)", PAGE)
    assert {stage for stage, _ in calls} == set(STAGES)
    for stage, rest in calls:
        assert set(re.findall(r"\b([A-Z]\w+)=", rest)) <= PARAMETERS[stage].keys(), rest
    in_words = set(re.findall(r"`([A-Z][a-z]\w+)=", PAGE))
    assert in_words <= set().union(*PARAMETERS.values())


def test_its_first_deployment_gives_all_that_has_no_default() -> None:
    """A newcomer's first call of each stage on the page sets every parameter without a default."""
    for stage in STAGES:
        needed = {name for name, about in PARAMETERS[stage].items() if "Default" not in about}
        [first, *_] = re.findall(rf"deploy_stack\.sh {stage}\b(.*)", COMMANDS)
        assert needed <= set(re.findall(r"(\w+)=", first))


def test_its_log_groups_are_those_of_the_stacks() -> None:
    """The page shows the log groups of the stacks and that of the Beanstalk environment."""
    groups = {
        resource["Properties"]["LogGroupName"] for resource in RESOURCES if resource["Type"] == "AWS::Logs::LogGroup"
    }
    assert set(re.findall(r"aws logs tail (\S+)", PAGE)) == groups
    environment = template("serving")["Resources"]["Api"]["Properties"]["EnvironmentName"]
    assert f"/aws/elasticbeanstalk/{environment}" in PAGE


def test_its_sums_are_right() -> None:
    """The reader of the page gets correct sums in the table of costs and in the sentences about it."""
    sums = re.findall(r"\| ([\d ×+/().]+) = (\d+\.\d\d) \|", PAGE)
    assert len(sums) >= 8
    for terms, result in sums:
        assert f"{eval(terms.replace('×', '*')):.2f}" == result, terms  # noqa: S307 - digits and operators only
    storage, images, training, watch, *function, key, instance, look, balanced = (float(result) for _, result in sums)
    common = storage + images + training + watch
    told = [round(100 * amount) for amount in (common + sum(function), key)]
    told += [round(common + instance + look), round(common + balanced)]
    sentence = r"So it costs (\d+) cents a month with Lambda, and (\d+) more with a key; "
    sentence += r"(\d+) dollars .*?, (\d+) load-balanced"
    assert told == [int(number) for number in re.findall(sentence, PAGE)[0]]
    assert f"cost 730 × 2 × 0.9 × 0.05 = {730 * 2 * 0.9 * 0.05:.2f} dollars" in PAGE


def test_its_commands_about_keys_and_the_bucket_work(cloud: Emulator, tmp_path: Path, aws_command: Path) -> None:
    """Only its owner can read the key's file, new keys are clean text, and the bucket is deleted with all versions."""
    account = cloud.elsewhere()
    bucket, s3 = account.deploy("foundation")["BucketName"], account.client("s3")
    environ = os.environ | {
        "AWS_ENDPOINT_URL": account.url,
        "AWS_ACCESS_KEY_ID": account.account,
        "AWS_SECRET_ACCESS_KEY": "any",
        "HOME": str(tmp_path),
        "PATH": f"{aws_command}:{Path(sys.executable).parent}:{os.environ['PATH']}",
        "AWS_DEFAULT_REGION": REGION,
        "BUCKET": bucket,
    }
    starts = ("# 6.", "{ aws secretsmanager", "aws secretsmanager", "python -c")
    ask, add_key, keep_key, delete_bucket = (next(block for block in BLOCKS if block.startswith(at)) for at in starts)

    def run(*blocks: str) -> str:
        deployed = "set -euo pipefail; curl() { :; }; bash() { :; }; api_image=any\n"
        words = ["bash", "-c", deployed + "".join(blocks)]
        shell = subprocess.run(words, env=environ, capture_output=True, text=True, timeout=300, check=False)
        assert shell.returncode == 0, shell.stderr
        return str(account.client("secretsmanager").get_secret_value(SecretId="pmip/api-keys")["SecretString"])

    first = run("Address=any\n", ask)
    key_file = tmp_path / ".pmip-api-key"
    assert key_file.stat().st_mode & 0o077 == 0
    assert key_file.read_text() == f"X-API-Key: {first.rpartition(',')[2]}\n"  # the emulator's key may have a comma
    assert re.fullmatch(re.escape(first) + ",[A-Za-z0-9]{40}", both := run(add_key))
    assert run(keep_key) == both.rpartition(",")[2]

    for body in (b"a version of the object", b"a newer one"):
        s3.put_object(Bucket=bucket, Key="training/20260101/a.csv", Body=body)
    s3.delete_object(Bucket=bucket, Key="training/20260101/a.csv")
    run(delete_bucket)
    assert s3.list_buckets()["Buckets"] == []


@pytest.mark.parametrize("step", ["deploy_stack.sh foundation", "push_api_image.sh", "submit_training_job.sh"])
def test_a_failure_ends_its_commands(step: str, tmp_path: Path) -> None:
    """If a command of the page's first deployment fails, the shell ends, and no later command runs."""
    shell, start = BLOCKS[:2]
    [options] = [line for line in shell.splitlines() if line.startswith("set ")]
    stand_ins = f"""
source() {{ :; }}; aws() {{ :; }}; eval() {{ BucketName=b TrainingRepositoryUri=t ApiRepositoryUri=a; }}
bash() {{ echo "$*" >>{tmp_path}/calls; case "$*" in *{step.replace(" ", "?")}*) return 1 ;; esac; }}
"""
    words = ["bash", "-c", f"{options}\n{stand_ins}\nALARM_EMAIL=a@example.com\n{start}"]
    assert subprocess.run(words, cwd=tmp_path, capture_output=True, timeout=60, check=False).returncode == 1
    assert step in (tmp_path / "calls").read_text().splitlines()[-1]
