"""The OpenAPI 3 document, made from the Swagger 2 document that flask-restx writes.

It follows https://swagger.io/docs/specification/v3_0/about/ for what this API uses: JSON bodies, query arguments, API
keys, `x-nullable`. The version is 3.0 because more client generators read it than 3.1.
"""

from typing import Any

OPENAPI = "3.0.3"
JSON = "application/json"
KEPT = ("info", "tags", "security")  # the same in both versions
OF_A_PARAMETER = ("name", "in", "required", "description")  # its other fields are those of its schema

Document = dict[str, Any]


def openapi_of(swagger: Document) -> Document:
    """Return the OpenAPI 3 document with the operations, answers and keys of a Swagger 2 document."""
    moved = _moved(swagger)
    components = {"schemas": moved["definitions"], "securitySchemes": moved.get("securityDefinitions")}
    return {
        "openapi": OPENAPI,
        **{name: moved[name] for name in KEPT if name in moved},
        "servers": [{"url": moved["basePath"]}],
        "paths": {
            path: {method: _operation(operation, moved["produces"]) for method, operation in methods.items()}
            for path, methods in moved["paths"].items()
        },
        "components": {name: value for name, value in components.items() if value},
    }


def _moved(value: Any) -> Any:
    """Return a part of the document with the new places of schemas and the new name of `x-nullable`."""
    if isinstance(value, dict):
        return {name.replace("x-nullable", "nullable"): _moved(part) for name, part in value.items()}
    if isinstance(value, list):
        return [_moved(part) for part in value]
    return value.replace("#/definitions/", "#/components/schemas/") if isinstance(value, str) else value


def _operation(operation: Document, produces: list[str]) -> Document:
    result = {name: value for name, value in operation.items() if name not in ("parameters", "produces", "consumes")}
    produces = operation.get("produces", produces)
    result["responses"] = {code: _response(answer, produces) for code, answer in operation["responses"].items()}
    for parameter in operation.get("parameters", []):
        if parameter["in"] == "body":
            result["requestBody"] = {"required": True, "content": {JSON: {"schema": parameter["schema"]}}}
        else:
            result.setdefault("parameters", []).append(_parameter(parameter))
    return result


def _parameter(parameter: Document) -> Document:
    schema = {name: value for name, value in parameter.items() if name not in OF_A_PARAMETER}
    return {name: parameter[name] for name in OF_A_PARAMETER if name in parameter} | {"schema": schema}


def _response(response: Document, produces: list[str]) -> Document:
    """Return an answer with its one media type: objects are sent as JSON, and a text as the operation says."""
    schema = response["schema"]
    media = JSON if "$ref" in schema else produces[0]
    content = {"schema": schema}
    if "examples" in response:
        content["example"] = response["examples"][media]
    return {"description": response["description"], "content": {media: content}}
