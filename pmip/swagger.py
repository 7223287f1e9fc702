"""What the Swagger page says of the routes: the forms of requests and answers, and their examples."""

from flask_restx import Namespace, fields

EXAMPLE = ["Check it out this free stuff", "I take issue with your characterization"]

ns = Namespace("comments", path="/", description="Is a comment spam (1) or not (0)?")

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
predictions_model = ns.model("Predictions", {"result": fields.List(fields.Nested(prediction_model), required=True)})
info_model = ns.model("ModelInfo", {"result": fields.Raw(required=True, description="lineage, metrics and state")})
status_model = ns.model("Status", {"status": fields.String(required=True, example="ok")})
error_model = ns.model("Error", {"message": fields.String(required=True, description="what is wrong, and the mend")})
