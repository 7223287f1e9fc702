"""What the Swagger page says of the routes: the forms of requests and answers, and their examples."""

from typing import Any

from flask_restx import Namespace, apidoc, fields

from pmip.http.errors import QuietApi

EXAMPLE = ["Check it out this free stuff", "I take issue with your characterization"]
ANSWER = [{"class": 1}, {"class": 0}]
TYPE = (
    "what to tell of each comment: its `class` (1 is spam, 0 is not), the `probability` of 0 and of 1, "
    "or as `explanation` what each word adds to the log-odds of spam"
)
# A telephone would show the page as wide as a desk, and Swagger UI break each path into pieces of two letters.
FOR_TELEPHONES = """<head>
    <meta name="viewport" content="width=device-width, initial-scale=1">
    <style>
      @media (max-width: 640px) {
        .swagger-ui .opblock .opblock-summary-control { flex-wrap: wrap; position: relative; padding-right: 20px; }
        .swagger-ui .opblock .opblock-summary-path { max-width: calc(100% - 100px); flex-shrink: 0; font-size: 14px; }
        .swagger-ui .opblock .opblock-summary-description { flex: 1 0 100%; padding: 6px 4px 2px; }
        .swagger-ui .opblock .opblock-summary .arrow { position: absolute; right: 0; top: 8px; }
        .swagger-ui .opblock .opblock-section-header { flex-wrap: wrap; padding: 8px 10px; }
        .swagger-ui .parameters thead { display: none; }
        .swagger-ui .parameters :is(tbody, tr, td) { display: block; max-width: none; }
      }
    </style>"""

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

    def render_doc(self) -> str:
        """Return the page."""
        html: str = apidoc.ui_for(self)
        return html.replace("<head>", FOR_TELEPHONES, 1)
