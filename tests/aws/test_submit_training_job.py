"""The script that submits and follows a training job by the real aws command, which talks to a recorder."""

import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest
from api import wait_for
from aws_recorder import SECRET_KEY, AwsRecorder, Refusal
from conftest import ROOT
from shell import run

SCRIPT = "submit_training_job.sh"
MODEL_ID = "20300101T000000Z"


def job(status: str, stream: str = "", why: str = "", **container: Any) -> dict[str, Any]:
    described = {"jobId": "job-1", "jobName": "pmip-training", "status": status}
    why = why or ("why" if status == "FAILED" else "")
    described |= {"statusReason": why} if why else {}
    return {"jobs": [described | {"container": ({"logStreamName": stream} if stream else {}) | container}]}


def lines(token: str, *messages: str) -> dict[str, Any]:
    return {"nextForwardToken": token, "events": [{"timestamp": 1, "message": message} for message in messages]}


def runnable(aws: AwsRecorder) -> None:
    aws.answer("SubmitJob", {"jobName": "pmip-training", "jobId": "job-1"})
    states = [job("RUNNABLE"), job("RUNNING", "log/1"), job("RUNNING", "log/1"), job("SUCCEEDED", "log/1", exitCode=0)]
    aws.answer("DescribeJobs", *states)
    no_line_yet = Refusal("ResourceNotFoundException", "The specified log stream does not exist.")
    pages = [lines("a", "step 1", "step\t2"), lines("b", MODEL_ID), lines("c", "a last word"), lines("c")]
    aws.answer("GetLogEvents", no_line_yet, *pages)


def test_a_job_is_submitted_and_followed_to_its_model(aws: AwsRecorder) -> None:
    """The caller sees the job's states and each line of its log once, and stdout holds only the model id."""
    runnable(aws)
    outcome = run(SCRIPT, "SEED=1", 'TITLE=a "b", c')
    assert (outcome.returncode, outcome.stdout) == (0, f"{MODEL_ID}\n"), outcome.stderr
    shown = [
        "==> job job-1",
        "==> RUNNABLE",
        "==> RUNNING",
        "step 1",
        "step\t2",
        "==> SUCCEEDED",
        MODEL_ID,
        "a last word",
    ]
    assert outcome.stderr.splitlines() == shown
    names = dict.fromkeys(("jobName", "jobQueue", "jobDefinition"), "pmip-training")
    command = ["scripts/train.sh", "SEED=1", 'TITLE=a "b", c']
    assert aws.parameters("SubmitJob") == [names | {"containerOverrides": {"command": command}}]
    assert aws.parameters("DescribeJobs") == [{"jobs": ["job-1"]}] * 4
    asked = {"logGroupName": "/pmip/training", "logStreamName": "log/1", "startFromHead": True}
    tokens = [{}, {}, {"nextToken": "a"}, {"nextToken": "b"}, {"nextToken": "c"}]
    assert aws.parameters("GetLogEvents") == [asked | token for token in tokens]


def test_without_parameters_the_definitions_own_command_runs(aws: AwsRecorder) -> None:
    """Without parameters, the job runs the command of its definition, as the scheduled job does."""
    runnable(aws)
    aws.answer("DescribeJobs", job("SUCCEEDED"))
    assert run(SCRIPT).returncode == 0
    assert "containerOverrides" not in aws.parameters("SubmitJob")[0]
    assert "GetLogEvents" not in aws.operations


@pytest.mark.parametrize(
    ("container", "status", "told"),
    [
        ({"exitCode": 3}, 3, "the job failed: why"),
        ({"reason": "CannotPullContainerError"}, 1, "the job failed: why (CannotPullContainerError)"),
        ({"exitCode": 0}, 1, "the job failed: why"),
    ],
)
def test_a_job_that_fails_ends_the_script_as_it_ended(
    container: dict[str, Any], status: int, told: str, aws: AwsRecorder
) -> None:
    """If a job fails, the script prints the reason and no model id, and exits with the container's code or 1."""
    runnable(aws)
    aws.answer("DescribeJobs", job("FAILED", "log/1", **container))
    aws.answer("GetLogEvents", lines("a", MODEL_ID, "the gate is shut"), lines("a"))
    outcome = run(SCRIPT)
    assert (outcome.returncode, outcome.stdout) == (status, "")
    assert outcome.stderr.endswith(f"the gate is shut\nsubmit_training_job.sh: {told}\n")


def test_a_job_that_waits_says_for_what(aws: AwsRecorder) -> None:
    """While a job waits, the caller sees Batch's reason each time it changes."""
    runnable(aws)
    reasons = ("CAPACITY:X - full", "CAPACITY:X - full", "MISCONFIGURATION:Y - too large")
    aws.answer("DescribeJobs", *(job("RUNNABLE", why=why) for why in reasons), job("SUCCEEDED"))
    told = run(SCRIPT).stderr.splitlines()
    states = ("RUNNABLE: CAPACITY:X - full", "RUNNABLE: MISCONFIGURATION:Y - too large")
    assert told == [f"==> {line}" for line in ("job job-1", *states, "SUCCEEDED", "its log has no model id")]


def test_each_attempt_has_its_own_log(aws: AwsRecorder) -> None:
    """The caller sees the whole log of the first attempt, then that of the second one."""
    runnable(aws)
    aws.answer("DescribeJobs", job("RUNNING", "log/1"), job("RUNNING", "log/2"), job("SUCCEEDED", "log/2"))
    first = [lines("a", "one"), lines("b", "one ends"), lines("b")]
    aws.answer("GetLogEvents", *first, lines("c", "two"), lines("c"))
    outcome = run(SCRIPT)
    assert outcome.returncode == 0
    shown = [line for line in outcome.stderr.splitlines() if not line.startswith("==>")]
    assert shown == ["one", "one ends", "two"]
    streams = [call["logStreamName"] for call in aws.parameters("GetLogEvents")]
    assert streams == ["log/1"] * 3 + ["log/2"] * 3


def test_a_log_that_may_not_be_read_is_told_once(aws: AwsRecorder) -> None:
    """A caller who may not read the log sees one refusal, and the script follows the job without a model id."""
    runnable(aws)
    aws.refuse("GetLogEvents")
    outcome = run(SCRIPT)
    assert (outcome.returncode, outcome.stdout) == (0, "")
    assert outcome.stderr.endswith("==> its log has no model id\n")
    assert outcome.stderr.count("you may not GetLogEvents") == 1


@pytest.mark.parametrize(
    ("operation", "told"),
    [
        ("SubmitJob", "no job was submitted; the message of aws is above"),
        (
            "DescribeJobs",
            "the state of job job-1 could not be read, but the job continues; the message of aws is above",
        ),
    ],
)
def test_a_call_that_may_not_be_made_is_told(operation: str, told: str, aws: AwsRecorder) -> None:
    """If AWS refuses a call, the caller sees AWS's message and whether a job was submitted."""
    runnable(aws)
    aws.refuse(operation)
    outcome = run(SCRIPT)
    assert (outcome.returncode, outcome.stdout) == (1, "")
    assert f"you may not {operation}" in outcome.stderr
    assert outcome.stderr.endswith(f"submit_training_job.sh: {told}\n")
    assert SECRET_KEY not in outcome.stderr


def test_a_job_that_batch_forgot_is_told(aws: AwsRecorder) -> None:
    """If Batch no longer knows the job, the script says so and ends."""
    runnable(aws)
    aws.answer("DescribeJobs", {"jobs": []})
    assert run(SCRIPT).stderr.endswith("Batch no longer knows job job-1\n")


@pytest.mark.parametrize("words", [["SEED"], ["--seed", "1"], ["=1"], ["SEED=1", "2"]], ids=" ".join)
def test_a_wrong_call_submits_nothing(words: list[str], aws: AwsRecorder) -> None:
    """An argument that is not NAME=VALUE ends with exit 2 before any request to AWS."""
    outcome = run(SCRIPT, *words)
    assert (outcome.returncode, outcome.stdout, aws.calls) == (2, "", [])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_leaves_the_job_alone(number: signal.Signals, aws: AwsRecorder, tmp_path: Path) -> None:
    """After Ctrl-C or SIGTERM, the script says that the job continues and how to end it, and leaves no files."""
    runnable(aws)
    aws.answer("DescribeJobs", job("RUNNING"))
    words = ["bash", str(ROOT / "scripts" / SCRIPT)]
    environ = os.environ | {"TMPDIR": str(tmp_path)}
    with subprocess.Popen(words, env=environ, stderr=subprocess.PIPE, text=True, start_new_session=True) as script:
        wait_for(lambda: "DescribeJobs" in aws.operations, 30)
        os.killpg(script.pid, number)
        _, told = script.communicate(timeout=30)
    assert script.returncode == 130
    ends = "the job continues; to end it: aws batch terminate-job --job-id job-1 --reason unwanted\n"
    assert told.endswith(ends), told
    assert "TerminateJob" not in aws.operations
    assert list(tmp_path.iterdir()) == []
