"""What the Swagger page says of the routes: the forms of requests and answers, and their examples."""

import secrets
from pathlib import Path
from typing import Any

from flask import Response, render_template_string
from flask_restx import Namespace, fields

from pmip.http.errors import QuietApi
from pmip.http.requests import ANSWER_TYPES, MAX_TOP, TOP

EXAMPLE = ["Check it out this free stuff", "I take issue with your characterization"]
ANSWER = [{"class": 1}, {"class": 0}]
TYPE = (
    "what to tell of each comment: its `class` (1 is spam, 0 is not), the `probability` of 0 and of 1, "
    "or as `explanation` what each word adds to the log-odds of spam"
)
PAGE = Path(__file__).with_name("swagger.html").read_text(encoding="utf-8")
# The page runs its own scripts, asks its own API, and is shown by itself alone.
POLICY = (
    "default-src 'none'; script-src 'self' 'nonce-{nonce}'; style-src 'self' 'nonce-{nonce}'; img-src 'self' data:; "
    "font-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)

QUESTION = {
    "type": {"in": "query", "enum": list(ANSWER_TYPES), "default": "class", "description": TYPE},
    "top": {
        "in": "query",
        "type": "integer",
        "minimum": 0,
        "maximum": MAX_TOP,
        "default": TOP,
        "description": "how many contributions an `explanation` lists, the largest first; of no effect otherwise",
    },
}
ABOUT = "Spam or not? Ask the newest model."

ns = Namespace("comments", path="/", description="Is a comment spam (1) or not (0)?")
service_ns = Namespace("service", path="/", description="Which model answers, and how is the API doing?")

comments_model = ns.model("Comments", {"comments": fields.List(fields.String, required=True, example=EXAMPLE)})
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
        "intercept": fields.Float(description="the log-odds before any feature is seen"),
        "contributions": fields.List(fields.Nested(contribution_model), description="largest first"),
        "remainder": fields.Float(description="the sum of the contributions that are not listed"),
    },
)
predictions_model = ns.model(
    "Predictions", {"result": fields.List(fields.Nested(prediction_model), required=True, example=ANSWER)}
)
info_model = ns.model("ModelInfo", {"result": fields.Raw(required=True, description="lineage, metrics and state")})
status_model = ns.model("Status", {"status": fields.String(required=True, example="ok")})
figures_model = fields.String
error_model = ns.model("Error", {"message": fields.String(required=True, description="what is wrong, and the mend")})


class DocumentedApi(QuietApi):
    """The API with its Swagger page: right behind any path prefix, and fit for a telephone."""

    @property
    def __schema__(self) -> dict[str, Any]:
        """The document, with the prefix of the request in hand: flask-restx would keep the first one's."""
        document: dict[str, Any] = super().__schema__
        return document | {"basePath": self.base_path.rstrip("/") or "/"}

    def render_doc(self) -> Response:
        """Return the page; flask-restx's own has no language, and no script that a policy could name."""
        nonce = secrets.token_urlsafe(16)
        page = render_template_string(PAGE, title=self.title, document=self.specs_url, nonce=nonce)
        headers = {"Content-Security-Policy": POLICY.format(nonce=nonce), "X-Frame-Options": "DENY"}
        return Response(page, mimetype="text/html", headers=headers)
