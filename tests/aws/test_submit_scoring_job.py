"""The script that submits and follows a scoring job by the real aws command, which talks to a recorder."""

import os
from pathlib import Path

import pytest
from aws_recorder import AwsRecorder
from shell import command, run

SCRIPT = "submit_scoring_job.sh"
FILES = ("s3://data/scoring/x.csv", "s3://data/scored/x.csv")


def described(*states: str) -> list[dict[str, object]]:
    return [{"jobs": [{"jobId": "job-1", "status": state, "statusReason": "why"}]} for state in states]


@pytest.fixture
def queue(aws: AwsRecorder) -> AwsRecorder:
    aws.answer("SubmitJob", {"jobName": "pmip-scoring", "jobId": "job-1"})
    aws.answer("DescribeJobs", *described("RUNNABLE", "RUNNING", "SUCCEEDED"))
    return aws


def test_a_file_is_scored_by_a_plain_job(queue: AwsRecorder) -> None:
    """The caller sees the job's states, and stdout holds only the address of the results."""
    outcome = run(SCRIPT, *FILES)
    assert (outcome.returncode, outcome.stdout) == (0, f"{FILES[1]}\n"), outcome.stderr
    shown = ["job job-1 scores 1 files", "RUNNABLE", "RUNNING", "SUCCEEDED"]
    assert outcome.stderr.splitlines() == [f"==> {line}" for line in shown]
    words = ["-c", 'exec python -m pmip score "$@"', "score", FILES[0], "--output", FILES[1]]
    names = {"jobName": "pmip-scoring", "jobQueue": "pmip-training", "jobDefinition": "pmip-training"}
    assert queue.parameters("SubmitJob") == [names | {"containerOverrides": {"command": words}}]


@pytest.mark.parametrize("count", [1, 3])
def test_a_folder_is_scored_by_one_child_a_file(queue: AwsRecorder, count: int, tmp_path: Path) -> None:
    """Each file of a folder gets its own child job; a single file is a plain job, since an array needs two children."""
    command(tmp_path, "python", f'case $1 in -) echo {count} ;; *) exec {os.environ["PYTHON"]} "$@" ;; esac')
    python = str(tmp_path / "python")
    outcome = run(SCRIPT, "s3://data/scoring/new/", "s3://data/scored/new/", PYTHON=python)
    assert outcome.returncode == 0, outcome.stderr
    [sent] = queue.parameters("SubmitJob")
    assert sent.get("arrayProperties") == ({"size": count} if count > 1 else None)


def test_a_job_that_fails_ends_the_script_with_the_reason(queue: AwsRecorder) -> None:
    """If the job fails, the caller gets exit 1, the reason and the log group, and no address on stdout."""
    queue.answer("DescribeJobs", *described("FAILED"))
    outcome = run(SCRIPT, *FILES)
    assert (outcome.returncode, outcome.stdout) == (1, "")
    assert outcome.stderr.endswith("the job failed: why; its log is in /pmip/training\n")


@pytest.mark.parametrize(
    "words",
    [[], FILES[:1], ["x.csv", FILES[1]], [FILES[0], "s3://data/training/x.csv"], ["s3://data/scoring/new/", FILES[1]]],
)
def test_a_wrong_call_submits_nothing(words: list[str], aws: AwsRecorder) -> None:
    """A call without two matching addresses under scoring/ and scored/ ends with exit 2 before any request to AWS."""
    outcome = run(SCRIPT, *words)
    assert (outcome.returncode, outcome.stdout, aws.calls) == (2, "", [])
