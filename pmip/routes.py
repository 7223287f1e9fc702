"""The HTTP front: the routes, who may ask them, and what each answers."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flask import Flask, Request, Response, current_app
from flask.sessions import NullSession, SessionInterface
from flask_restx import Resource
from werkzeug.exceptions import RequestEntityTooLarge, Unauthorized, UnsupportedMediaType
from werkzeug.middleware.proxy_fix import ProxyFix

from pmip.http import swagger
from pmip.http.answers import answer, model_info
from pmip.http.errors import answer_errors
from pmip.http.log import Asked, Write, asked, by_logging, log_requests
from pmip.http.metrics import CONTENT_TYPE, Metrics
from pmip.http.requests import ANSWER_TYPES, HEADER, ApiKeys, Limits, answer_type, comments_of
from pmip.http.swagger import DocumentedApi, error_model, ns, service_ns
from pmip.serving.reloader import Reloader

KEYED = ("/predict", "/model-info", "/metrics")
JSON = "application/json"
CLASS_ASKED = (b"", b"type=class")  # what most callers ask, known without parsing
NO_KEYS = ApiKeys()


class _NoSessions(SessionInterface):
    nothing = NullSession()

    def open_session(self, _app: Flask, _request: Request) -> NullSession:
        return self.nothing


@dataclass(frozen=True)
class Service:
    """What the routes need to answer."""

    reloader: Reloader
    limits: Limits
    environment: str
    api_keys: ApiKeys
    metrics: Metrics


def create_app(
    reloader: Reloader,
    limits: Limits,
    *,
    environment: str = "dev",
    trusted_proxies: int = 0,
    api_keys: ApiKeys = NO_KEYS,
    metrics_dir: Path | None = None,
    log_request: Write = by_logging,
) -> Flask:
    """Assemble the API around a reloader; nothing is loaded or connected here."""
    app = _App("pmip", static_folder=None)
    app.config.update(
        MAX_CONTENT_LENGTH=limits.max_body_bytes,
        RESTX_MASK_HEADER=None,
        RESTX_MASK_SWAGGER=False,
        SWAGGER_UI_DOC_EXPANSION="list",  # show the routes, not just their heading
    )
    metrics = Metrics(reloader, metrics_dir)
    app.extensions["pmip"] = Service(reloader, limits, environment, api_keys, metrics)
    log_requests(app, metrics, log_request)
    if api_keys:
        app.before_request(_require_key)
    api = DocumentedApi(
        app, title="pmip", version="1", description="Spam or not? Ask the newest model.", **_security(api_keys)
    )
    api.add_namespace(ns)
    api.add_namespace(service_ns)
    # flask-restx only documents the hot route: its dispatch would take as long as scoring a short comment.
    app.view_functions[Predict.endpoint] = Predict().post
    answer_errors(app)
    if trusted_proxies:
        n = trusted_proxies
        app.wsgi_app = ProxyFix(app.wsgi_app, x_for=n, x_proto=n, x_host=n, x_prefix=n)  # type: ignore[method-assign]
    return app


class _App(Flask):
    """Flask without what this API has none of, sessions and coroutines: it would look for them in each request."""

    session_interface = _NoSessions()

    def ensure_sync(self, func: Callable[..., Any]) -> Callable[..., Any]:
        """Return the function: it is no coroutine."""
        return func


@ns.route("/predict")
class Predict(Resource):
    """Scores comments."""

    @ns.doc(
        params={"type": {"in": "query", "enum": list(ANSWER_TYPES), "default": "class", "description": swagger.TYPE}}
    )
    @ns.expect(swagger.comments_model)
    @ns.response(200, "One answer a comment, in their order", swagger.predictions_model)
    @ns.response(400, "A wrong payload or type", error_model)
    @ns.response(401, "API keys are on, and none of them was sent", error_model)
    @ns.response(413, "A body that is too large", error_model)
    @ns.response(415, "Not JSON", error_model)
    @ns.response(503, "No model is loaded yet", error_model)
    def post(self) -> Response:
        """Tell for each comment whether it is spam."""
        service, this = _service(), asked()
        kind = "class" if this.query_string in CLASS_ASKED else answer_type(this.args.getlist("type"))
        comments = comments_of(_body(this, service.limits), service.limits)
        this.comments = len(comments)
        scorer = service.reloader.scorer
        body, spam = answer(scorer, kind, comments)
        this.model_id = scorer.model_id
        service.metrics.scored(scorer.model_id, spam)
        return Response(body, content_type=JSON)


@service_ns.route("/model-info")
class ModelInfo(Resource):
    """Tells which model answers."""

    @service_ns.response(401, "API keys are on, and none of them was sent", error_model)
    @service_ns.response(200, "Where the model comes from and how it is doing", swagger.info_model)
    def get(self) -> dict[str, Any]:
        """Tell which model answers, where it comes from and when it was last looked for a newer one."""
        service = _service()
        return {"result": model_info(service.reloader, service.environment)}


@service_ns.route("/healthcheck")
class Healthcheck(Resource):
    """Tells that the process lives."""

    @service_ns.doc(security=[])
    @service_ns.response(200, "The process answers", swagger.status_model)
    def get(self) -> dict[str, str]:
        """Answer, whether or not a model is loaded."""
        return {"status": "ok"}


@service_ns.route("/readiness")
class Readiness(Resource):
    """Tells that a model is loaded."""

    @service_ns.doc(security=[])
    @service_ns.response(200, "A model is loaded", swagger.status_model)
    @service_ns.response(503, "No model is loaded yet", error_model)
    def get(self) -> dict[str, str]:
        """Answer 200 once comments can be scored."""
        asked().model_id = _service().reloader.scorer.model_id
        return {"status": "ok"}


@service_ns.route("/metrics")
class Figures(Resource):
    """Tells Prometheus how the API is doing."""

    @service_ns.produces(["text/plain", "application/json"])  # figures, or an error
    @service_ns.response(200, "The figures of all workers, in the text format of Prometheus", swagger.figures_model)
    @service_ns.response(401, "API keys are on, and none of them was sent", error_model)
    def get(self) -> Response:
        """Tell the figures of all workers: requests, comments, probabilities of spam, and the model."""
        return Response(_service().metrics.text(), content_type=CONTENT_TYPE)


def _service() -> Service:
    service: Service = current_app.extensions["pmip"]
    return service


def _body(this: Asked, limits: Limits) -> bytes:
    """Read the body, without werkzeug's get_data: that alone is a fifteenth of a request's time."""
    environ, most = this.environ, limits.max_body_bytes
    if environ.get("CONTENT_TYPE") != JSON and not this.is_json:
        raise UnsupportedMediaType("send JSON with the header Content-Type: application/json")
    length = environ.get("CONTENT_LENGTH", "")
    size = int(length) if length.isdecimal() else 0
    in_chunks = not length and environ.get("wsgi.input_terminated")
    body: bytes = b"" if size > most else environ["wsgi.input"].read(most + 1 if in_chunks else size)
    if max(size, len(body)) > most:
        raise RequestEntityTooLarge
    return body


def _require_key() -> None:
    """Ask for a key wherever the model is asked or told of; what watches the process needs none."""
    this = asked()
    if this.route in KEYED and not _service().api_keys.allow(this.headers.get(HEADER)):
        raise Unauthorized(f"send one of the API keys in the header {HEADER}")


def _security(api_keys: ApiKeys) -> dict[str, Any]:
    """Declare the keys in the Swagger document, and so its Authorize button, only if they are asked for."""
    scheme = {HEADER: {"type": "apiKey", "in": "header", "name": HEADER}}
    return {"authorizations": scheme, "security": HEADER} if api_keys else {}
