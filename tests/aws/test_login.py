"""Credentials of `aws login`, which boto3 reads and renews by a call to a recorder."""

import base64
import json
from hashlib import sha256
from pathlib import Path

import boto3
import pytest
from aws_recorder import AwsRecorder
from awscrt.crypto import EC, ECExportFormat, ECType

SESSION = "arn:aws:iam::123456789012:user/somebody"


def test_credentials_of_aws_login_are_renewed(
    aws: AwsRecorder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """boto3 renews an expired session by its refresh token, and writes the new credentials to the cache."""
    key = base64.b64encode(EC.new_generate(ECType.P_256).export_key(ECExportFormat.SEC1)).decode()
    expired = {"accessKeyId": "old", "secretAccessKey": "old", "sessionToken": "old", "accountId": "123456789012"}
    token = {"clientId": "cli", "refreshToken": "first", "dpopKey": f"-----BEGIN EC PRIVATE KEY-----\n{key}\n"}
    cache = tmp_path / f"{sha256(SESSION.encode()).hexdigest()}.json"
    cache.write_text(json.dumps(token | {"accessToken": expired | {"expiresAt": "2020-01-01T00:00:00Z"}}))
    (tmp_path / "config").write_text(f"[default]\nlogin_session = {SESSION}\nregion = eu-west-1\n")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_LOGIN_CACHE_DIRECTORY", str(tmp_path))
    new = {"accessKeyId": "new", "secretAccessKey": "new", "sessionToken": "new"}
    renewed = {"accessToken": new, "tokenType": "aws_sigv4", "expiresIn": 900, "refreshToken": "second"}
    aws.answer("CreateOAuth2Token", renewed)
    credentials = boto3.Session().get_credentials()
    assert credentials
    assert credentials.get_frozen_credentials().access_key == "new"
    [asked] = aws.parameters("CreateOAuth2Token")
    assert asked == {"clientId": "cli", "refreshToken": "first", "grantType": "refresh_token"}
    assert json.loads(cache.read_text())["accessToken"]["accessKeyId"] == "new"
