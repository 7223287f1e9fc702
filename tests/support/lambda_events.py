"""Events as API Gateway and function URLs send them, in both payload formats.

https://docs.aws.amazon.com/apigateway/latest/developerguide/http-api-develop-integrations-lambda.html
"""

import base64
import json
from typing import Any
from urllib.parse import parse_qs

Event = dict[str, Any]
HEADERS = {
    "Accept": "*/*",
    "Content-Type": "application/json",
    "Host": "a1b2c3d4e5.execute-api.eu-west-1.amazonaws.com",
    "User-Agent": "curl/8.5.0",
    "X-Amzn-Trace-Id": "Root=1-69000000-0123456789abcdef01234567",
    "X-Forwarded-For": "192.0.2.7",
    "X-Forwarded-Port": "443",
    "X-Forwarded-Proto": "https",
}
ACCOUNT = {"accountId": "123456789012", "apiId": "a1b2c3d4e5", "domainName": HEADERS["Host"]}
CALLER = {"sourceIp": "192.0.2.7", "userAgent": "curl/8.5.0"}


def _body(payload: object, *, encoded: bool) -> Event:
    text = None if payload is None else payload if isinstance(payload, str) else json.dumps(payload)
    if encoded and text is not None:
        return {"body": base64.b64encode(text.encode()).decode(), "isBase64Encoded": True}
    return {"body": text, "isBase64Encoded": False}


def v1(
    path: str, payload: object = None, query: str = "", *, stage: str = "prod", encoded: bool = False, **headers: str
) -> Event:
    """Return an event of a REST API: its path has no stage, and each header occurs twice."""
    sent, asked = HEADERS | headers, parse_qs(query)
    return {
        "version": "1.0",
        "resource": "/{proxy+}",
        "path": path,
        "httpMethod": "GET" if payload is None else "POST",
        "headers": sent,
        "multiValueHeaders": {name: [value] for name, value in sent.items()},
        "queryStringParameters": {name: values[-1] for name, values in asked.items()} or None,
        "multiValueQueryStringParameters": asked or None,
        "pathParameters": {"proxy": path.removeprefix("/")},
        "stageVariables": None,
        "requestContext": ACCOUNT
        | {
            "httpMethod": "GET" if payload is None else "POST",
            "identity": CALLER,
            "path": f"/{stage}{path}",
            "protocol": "HTTP/1.1",
            "requestId": "c0ffee00-0000-4000-8000-000000000001",
            "resourcePath": "/{proxy+}",
            "stage": stage,
        },
        **_body(payload, encoded=encoded),
    }


def v2(
    path: str,
    payload: object = None,
    query: str = "",
    *,
    stage: str = "$default",
    encoded: bool = False,
    **headers: str,
) -> Event:
    """Return an event of an HTTP API or a function URL: its path begins with the stage, unless that is `$default`."""
    method, raw = "GET" if payload is None else "POST", path if stage == "$default" else f"/{stage}{path}"
    return {
        "version": "2.0",
        "routeKey": "$default",
        "rawPath": raw,
        "rawQueryString": query,
        "headers": {name.lower(): value for name, value in (HEADERS | headers).items()},
        "requestContext": ACCOUNT
        | {
            "http": CALLER | {"method": method, "path": raw, "protocol": "HTTP/1.1"},
            "requestId": "JKJaXmPLvHcESHA=",
            "routeKey": "$default",
            "stage": stage,
            "timeEpoch": 1767225600000,
        },
        **_body(payload, encoded=encoded),
    }
