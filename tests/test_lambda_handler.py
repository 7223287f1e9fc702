"""The Lambda handler: the same app, which looks for a newer model when a call comes in."""

import json
import os
import subprocess
import sys

from conftest import ROOT

from pmip.artifact import Artifact
from pmip.model_store import ModelStore
from pmip.storage import S3Storage

EVENT = {
    "version": "2.0",
    "rawPath": "/predict",
    "rawQueryString": "type=class",
    "headers": {"content-type": "application/json", "host": "example.com"},
    "requestContext": {"http": {"method": "POST", "path": "/predict", "protocol": "HTTP/1.1", "sourceIp": "192.0.2.1"}},
    "body": json.dumps({"comments": ["Check it out this free stuff"]}),
    "isBase64Encoded": False,
}
PROGRAM = """
import json, sys
from pmip.lambda_handler import handler
answer = handler(json.load(sys.stdin), None)
print(json.dumps([answer["statusCode"], answer["headers"], json.loads(answer["body"])]))
"""


def test_a_call_fetches_the_newest_model_and_answers(bucket: S3Storage, artifact: Artifact) -> None:
    """The first call of a cold process loads the model and is answered by it."""
    ModelStore(bucket, "staging").publish(artifact)
    run = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        cwd=ROOT,
        env=os.environ | {"ENVIRONMENT": "staging", "BUCKET": bucket.bucket},
        input=json.dumps(EVENT),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    status, headers, body = json.loads(run.stdout)
    assert (status, body) == (200, {"result": [{"class": 1}]})
    assert headers["x-model-id"] == "20260101T000000Z"
