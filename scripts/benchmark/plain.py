"""A Flask-RESTX route as a tutorial writes it: scikit-learn's predict, on a model that each worker loads."""

import os

import joblib
from flask import Flask
from flask_restx import Api, Resource

app = Flask(__name__)
api = Api(app)
model = joblib.load(os.environ["PLAIN_MODEL"])


@api.route("/predict")
class Predict(Resource):
    """Scores comments."""

    def post(self) -> dict[str, list[dict[str, int]]]:
        """Return the class of each comment."""
        return {"result": [{"class": int(label)} for label in model.predict(api.payload["comments"])]}
