"""The contents of the Swagger page: schemas of requests and answers, and examples."""

import gzip
import json
import secrets
from functools import cache
from pathlib import Path
from typing import Any

from flask import Response, render_template_string
from flask_restx import Namespace, fields

from pmip.config import Limits
from pmip.http.answers import ANSWER_TYPES
from pmip.http.errors import QuietApi
from pmip.http.keys import HEADER
from pmip.http.log import current_request
from pmip.http.openapi import openapi_of
from pmip.http.requests import MAX_LISTED, MAX_TOP, TOP

EXAMPLE = ["Check it out this free stuff", "I take issue with your characterization"]
ANSWER = [{"class": 1}, {"class": 0}]
ANSWERS = """Return for each comment whether it is spam.

The answer has one item for each comment, in the same order. For one comment, by type:

""" + "".join(
    f"- `{name}`, {of.about}: `{json.dumps({'result': [of.example]})}`\n" for name, of in ANSWER_TYPES.items()
)
ERRORS = {  # an example message for each status
    "400": "'comments' must be a list of at least one text",
    "401": "send one of the API keys in the header X-API-Key or as Authorization: Bearer",
    "413": "the body is larger than 4194304 bytes (MAX_BODY_BYTES); send fewer comments",
    "415": "send JSON with the header Content-Type: application/json",
    "503": "not ready: no model is loaded yet; see /model-info and the log for the reason",
}
PAGE = Path(__file__).with_name("swagger.html").read_text(encoding="utf-8")
# The page may only run its own scripts and call its own API, and no other page may embed it.
POLICY = (
    "default-src 'none'; script-src 'self' 'nonce-{nonce}'; style-src 'self' 'nonce-{nonce}'; img-src 'self' data:; "
    "font-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)

QUESTION = {
    "type": {
        "in": "query",
        "enum": list(ANSWER_TYPES),
        "default": "class",
        "description": "what to return for each comment",
    },
    "top": {
        "in": "query",
        "type": "integer",
        "minimum": 0,
        "maximum": MAX_TOP,
        "default": TOP,
        "description": "how many contributions an `explanation` lists, largest first; other types ignore it",
    },
}
ns = Namespace("comments", path="/", description="Is a comment spam (1) or not (0)?")
service_ns = Namespace("service", path="/", description="Which model answers, and is the API healthy?")


class Nullable(fields.String):  # type: ignore[misc]
    """A text or null."""

    def schema(self) -> dict[str, Any]:
        """Return the schema with the extension that client generators understand."""
        return {**super().schema(), "x-nullable": True}


comments_model = ns.model(
    "Comments", {"comments": fields.List(fields.String, required=True, min_items=1, example=EXAMPLE)}, strict=True
)
contribution_model = ns.model(
    "Contribution",
    {
        "feature": fields.String(required=True, description="a word, two words, quoted characters, or a property"),
        "contribution": fields.Float(required=True, description="what it adds to the log-odds of spam"),
    },
)
prediction_model = ns.model(
    "Prediction",
    {
        "class": fields.Integer(description="1 is spam, 0 is not", min=0, max=1),
        "probability": fields.List(fields.Float, description="of the classes 0 and 1", min_items=2, max_items=2),
        "intercept": fields.Float(description="the log-odds of a comment without any feature"),
        "contributions": fields.List(fields.Nested(contribution_model), description="largest first"),
        "remainder": fields.Float(description="the sum of the contributions that are not listed"),
    },
)
predictions_model = ns.model(
    "Predictions", {"result": fields.List(fields.Nested(prediction_model), required=True, example=ANSWER)}
)
file_model = ns.model(
    "TrainingFile",
    {
        "name": fields.String,
        "sha256": fields.String,
        "rows": fields.Integer(description="how many comments it holds"),
    },
)
lineage_model = ns.model(
    "Lineage",
    {
        "model_id": Nullable(required=True, description="the version that answers; null while there is none"),
        "ENVIRONMENT": fields.String(required=True, description="where it is served"),
        "training_data_id": Nullable(description="the day that names the training data"),
        "training_files": fields.List(fields.Nested(file_model)),
        "sources": fields.Raw(description="how many comments each source, such as a video, has; the largest 200"),
        "trained_at": Nullable(description="when the run began; all times are ISO 8601, UTC"),
        "parameters": fields.Raw(description="of the notebook"),
        "metrics": fields.Raw(description="what was measured at training, by kind of evaluation"),
        "git_revision": Nullable(description="the commit of the code"),
        "libraries": fields.Raw(description="the versions of Python and of the libraries that the model depends on"),
        "sha256": Nullable(description="of model.pkl"),
        "report": Nullable(description="the key of the report of the training run"),
        "batch_job_id": Nullable(description="of the AWS Batch job that trained it"),
        "verified": fields.Boolean(description="whether its metadata and its golden answers are correct"),
        "scorer": fields.String(description="look-ups, or the model itself", enum=["lookups", "estimator"]),
        "not_readable": fields.String(description="why the model can only be run; blank if it is read as data"),
        "loaded_at": fields.String,
        "version": fields.String(required=True, description="of pmip", example="0.1.0"),
        "last_check_at": Nullable(required=True, description="when a newer version was last looked for"),
        "last_error": Nullable(required=True, description="why this process does not serve the newest version"),
    },
)
info_model = ns.model("ModelInfo", {"result": fields.Nested(lineage_model, required=True)})
status_model = ns.model("Status", {"status": fields.String(required=True, example="ok")})
metrics_model = fields.String
error_model = ns.model("Error", {"message": fields.String(required=True, description="what is wrong, and the remedy")})


def about(limits: Limits) -> str:
    """Return the description of the API, with the limits of a request."""
    return f"""Classify comments as spam or not, with the newest model.

One request may have at most

- {limits.max_comments} comments, and {limits.max_comment_chars} characters in one of them,
- {limits.max_total_chars} characters in all comments together; {limits.max_explained_chars} for explanations,
- {MAX_LISTED} contributions in all explanations: the number of comments times `top`,
- {limits.max_body_bytes} bytes of JSON in UTF-8.

Send an API key, if one is required, in the header `{HEADER}` or as `Authorization: Bearer`.
"""


class DocumentedApi(QuietApi):
    """The API with its own Swagger page, which also works behind a path prefix and on a telephone."""

    @property
    def __schema__(self) -> dict[str, Any]:
        """The document with the path prefix of the current request; flask-restx would keep that of the first one."""
        document: dict[str, Any] = super().__schema__
        for operations in document["paths"].values():
            for operation in filter(lambda value: isinstance(value, dict), operations.values()):
                for status, response in operation["responses"].items():
                    if status in ERRORS:
                        response["examples"] = {"application/json": {"message": ERRORS[status]}}
        return document | {"basePath": self.base_path.rstrip("/") or "/"}

    def openapi(self) -> dict[str, Any]:
        """Return the same document as OpenAPI 3."""
        return openapi_of(self.__schema__)

    def compress(self, response: Response) -> Response:
        """Compress the scripts and styles of the page, which are 1.8 MB, once for each of them."""
        this = current_request()
        if this.endpoint == "restx_doc.static":
            response.headers["Vary"] = "Accept-Encoding"
            if response.status_code == 200 and this.method == "GET" and this.accept_encodings["gzip"]:
                response.direct_passthrough = False
                response.set_data(_gzipped(response.get_data()))
                response.headers["Content-Encoding"] = "gzip"
        return response

    def render_doc(self) -> Response:
        """Return our page: that of flask-restx declares no language, and its inline scripts have no nonce."""
        nonce = secrets.token_urlsafe(16)
        page = render_template_string(PAGE, title=self.title, document=self.specs_url, nonce=nonce)
        headers = {"Content-Security-Policy": POLICY.format(nonce=nonce), "X-Frame-Options": "DENY"}
        return Response(page, mimetype="text/html", headers=headers)


@cache
def _gzipped(content: bytes) -> bytes:
    return gzip.compress(content)
