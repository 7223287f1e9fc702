"""The OpenAPI 3 document: it describes the same API as the Swagger 2 document."""

from typing import Any

import pytest

from pmip.http.openapi import openapi_of

ERROR = {"description": "wrong", "schema": {"$ref": "#/definitions/Error"}, "examples": {"application/json": {"m": 1}}}
TEXT = {"description": "right", "schema": {"type": "string"}}
BODY = {"in": "body", "name": "payload", "required": True, "schema": {"$ref": "#/definitions/Error"}}
QUERY = {"in": "query", "name": "top", "description": "how many", "type": "integer", "maximum": 9}
SWAGGER: dict[str, Any] = {
    "swagger": "2.0",
    "basePath": "/pre",
    "info": {"title": "an API", "version": "1"},
    "produces": ["application/json"],
    "consumes": ["application/json"],
    "responses": {"ParseError": {"description": "of flask-restx alone"}},
    "paths": {
        "/a": {"post": {"operationId": "post_a", "parameters": [BODY, QUERY], "responses": {"400": ERROR}}},
        "/b": {"get": {"security": [], "produces": ["text/plain"], "responses": {"200": TEXT, "401": ERROR}}},
    },
    "definitions": {"Error": {"properties": {"m": {"type": "string", "x-nullable": True}}}},
}
ERROR_3 = {
    "description": "wrong",
    "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}, "example": {"m": 1}}},
}
KEYS = {"key": {"type": "apiKey", "in": "header", "name": "key"}}


def test_each_operation_keeps_its_question_and_its_answers() -> None:
    """The OpenAPI document has each body, parameter and answer of the Swagger document in the form of OpenAPI 3."""
    assert openapi_of(SWAGGER) == {
        "openapi": "3.0.3",
        "info": SWAGGER["info"],
        "servers": [{"url": "/pre"}],
        "paths": {
            "/a": {
                "post": {
                    "operationId": "post_a",
                    "requestBody": {
                        "required": True,
                        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}},
                    },
                    "parameters": [
                        {
                            "in": "query",
                            "name": "top",
                            "description": "how many",
                            "schema": {"type": "integer", "maximum": 9},
                        }
                    ],
                    "responses": {"400": ERROR_3},
                }
            },
            "/b": {
                "get": {
                    "security": [],
                    "responses": {
                        "200": {"description": "right", "content": {"text/plain": {"schema": {"type": "string"}}}},
                        "401": ERROR_3,
                    },
                }
            },
        },
        "components": {"schemas": {"Error": {"properties": {"m": {"type": "string", "nullable": True}}}}},
    }


@pytest.mark.parametrize("security", [[{"key": []}], []])
def test_keys_are_declared_as_in_swagger(security: list[Any]) -> None:
    """The OpenAPI document declares the API keys, and requires them where the Swagger document does."""
    document = openapi_of(SWAGGER | {"securityDefinitions": KEYS, "security": security})
    assert (document["components"]["securitySchemes"], document["security"]) == (KEYS, security)
