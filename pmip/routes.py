"""The routes of the API: who may call each of them, and what each answers."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

from flask import Flask, Response, current_app
from flask_restx import Resource
from werkzeug.datastructures import WWWAuthenticate
from werkzeug.exceptions import Unauthorized
from werkzeug.middleware.proxy_fix import ProxyFix

from pmip.config import Limits
from pmip.errors import ModelNotReadyError
from pmip.http import swagger
from pmip.http.answers import answer
from pmip.http.errors import answer_errors
from pmip.http.keys import HEADER, ApiKeys
from pmip.http.log import current_request, log_requests
from pmip.http.metrics import CONTENT_TYPE, Metrics
from pmip.http.requests import Question, body_of, comments_of, drain, question_in
from pmip.http.swagger import DocumentedApi, error_model, ns, service_ns
from pmip.http.try_page import try_page
from pmip.serving.reloader import Reloader

KEYED = ("/predict", "/model-info", "/metrics")
VERSION = version("pmip")
NO_KEYS = ApiKeys()


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
    url_prefix: str = "",
    trusted_proxies: int = 0,
    cors_origins: Iterable[str] = (),
    api_keys: ApiKeys = NO_KEYS,
    metrics_dir: Path | None = None,
    git_revision: str | None = None,
) -> Flask:
    """Build the API around a reloader, without loading a model or opening a connection."""
    app = Flask("pmip", static_folder=None)
    app.config.update(RESTX_MASK_HEADER=None, RESTX_MASK_SWAGGER=False)
    metrics = Metrics(reloader, metrics_dir, git_revision)
    app.extensions["pmip"] = Service(reloader, limits, environment, api_keys, metrics)
    log_requests(app, metrics)
    app.after_request(drain)
    app.after_request(_tell_browsers)
    if api_keys:
        app.before_request(_require_key)
    api = DocumentedApi(
        app,
        title="pmip: spam or not?",
        version=VERSION,
        description=swagger.about(limits),
        license="MIT",
        license_url="https://opensource.org/license/mit",
        **_security(api_keys),
    )
    _add_routes(app, api, limits)
    app.after_request(api.compress)
    answer_errors(app)
    if cors_origins:
        _let_in(app, cors_origins)
    app.wsgi_app = _below(url_prefix, app.wsgi_app)  # type: ignore[method-assign]
    if trusted_proxies:
        app.wsgi_app = _behind(trusted_proxies, app.wsgi_app)  # type: ignore[method-assign]
    return app


def _add_routes(app: Flask, api: DocumentedApi, limits: Limits) -> None:
    """Add the routes that the document describes, then the pages that it does not."""
    api.add_namespace(ns)
    api.add_namespace(service_ns)
    app.add_url_rule("/openapi.json", view_func=api.openapi)
    app.add_url_rule("/try", "try_page", partial(try_page, limits))


@ns.route("/predict")
class Predict(Resource):
    """Scores comments."""

    @ns.doc(params=swagger.QUESTION, description=swagger.ANSWERS)
    @ns.expect(swagger.comments_model)
    @ns.response(200, "One answer for each comment, in the same order", swagger.predictions_model)
    @ns.response(400, "A wrong payload or query", error_model)
    @ns.response(401, "An API key is required, and no accepted key was sent", error_model)
    @ns.response(413, "The body is too large, or the comments have too many characters", error_model)
    @ns.response(415, "The body is not JSON, or is compressed", error_model)
    @ns.response(503, "No model is loaded yet", error_model)
    def post(self) -> Response:
        """Return for each comment whether it is spam."""
        service, this = _service(), current_request()
        question = question_in(this.args) if this.query_string else Question()  # reading no arguments takes 3 %
        comments = comments_of(body_of(this, service.limits), service.limits, *question)
        this.comments = len(comments)
        scorer = service.reloader.scorer
        body, spam = answer(question.answer_type, scorer, comments, question.top)
        this.model_id = scorer.model_id
        service.metrics.scored(scorer.model_id, spam)
        return Response(body, mimetype="application/json")


@service_ns.route("/model-info")
class ModelInfo(Resource):
    """Describes the model in service."""

    @service_ns.response(401, "An API key is required, and no accepted key was sent", error_model)
    @service_ns.response(200, "The model, its training and its state", swagger.info_model)
    def get(self) -> dict[str, Any]:
        """Return which model answers, how it was trained, and when the API last checked for a newer one."""
        service = _service()
        state = {"last_check_at": service.reloader.last_check_at, "last_error": service.reloader.last_error}
        try:
            scorer = service.reloader.scorer
        except ModelNotReadyError:
            return {"result": {"model_id": None, "ENVIRONMENT": service.environment, "version": VERSION} | state}
        return {"result": scorer.description | {"version": VERSION} | state}


@service_ns.route("/healthcheck")
class Healthcheck(Resource):
    """Answers as long as the process works."""

    @service_ns.doc(security=[])
    @service_ns.response(200, "The process answers", swagger.status_model)
    def get(self) -> dict[str, str]:
        """Return 200 whether or not a model is loaded."""
        return {"status": "ok"}


@service_ns.route("/readiness")
class Readiness(Resource):
    """Reports whether a model is loaded."""

    @service_ns.doc(security=[])
    @service_ns.response(200, "A model is loaded", swagger.status_model)
    @service_ns.response(503, "No model is loaded yet", error_model)
    def get(self) -> dict[str, str]:
        """Return 200 once comments can be scored, and 503 before."""
        current_request().model_id = _service().reloader.scorer.model_id
        return {"status": "ok"}


@service_ns.route("/metrics")
class MetricsText(Resource):
    """Gives Prometheus the metrics of the API."""

    @service_ns.doc(id="get_metrics")
    @service_ns.produces(["text/plain", "application/json"])  # metrics, or an error
    @service_ns.response(200, "The metrics of all workers, in the text format of Prometheus", swagger.metrics_model)
    @service_ns.response(401, "An API key is required, and no accepted key was sent", error_model)
    def get(self) -> Response:
        """Return the metrics of all workers: requests, comments, probabilities of spam, and the model."""
        return Response(_service().metrics.text(), content_type=CONTENT_TYPE)


def _service() -> Service:
    service: Service = current_app.extensions["pmip"]
    return service


def _require_key() -> None:
    """Require an API key for the routes that use or describe the model; the health checks need none."""
    this = current_request()
    # A browser sends OPTIONS, without a key, to learn whether it may call.
    if this.route in KEYED and this.method != "OPTIONS" and not _service().api_keys.allow(this):
        message = f"send one of the API keys in the header {HEADER} or as Authorization: Bearer"
        raise Unauthorized(message, www_authenticate=WWWAuthenticate("bearer", {"realm": "pmip"}))


def _tell_browsers(response: Response) -> Response:
    """Forbid caching, because answers change with the model, and forbid guessing another content type."""
    this = current_request()
    if this.method in ("GET", "HEAD"):
        response.headers["X-Content-Type-Options"] = "nosniff"
        if this.endpoint != "restx_doc.static":
            response.headers["Cache-Control"] = "no-store"
    return response


def _let_in(app: Flask, origins: Iterable[str]) -> None:
    """Allow pages of other origins to call the API and to read the headers of its answers."""
    from flask_cors import CORS  # imported only if the setting is used

    CORS(app, origins=list(origins), expose_headers=["X-Request-Id", "X-Model-Id", "Retry-After"], max_age=600)


def _below(prefix: str, app: Callable[..., Any]) -> Callable[..., Any]:
    """Serve an app below a path prefix, whether or not the proxy in front removes the prefix."""

    def below(environ: dict[str, Any], start_response: Any) -> Any:
        path = environ.get("PATH_INFO", "")
        if f"{path}/".startswith(f"{prefix}/"):
            environ["PATH_INFO"] = path.removeprefix(prefix) or "/"
        environ["SCRIPT_NAME"] = prefix
        return app(environ, start_response)

    return below if prefix else app


def _behind(proxies: int, app: Callable[..., Any]) -> Callable[..., Any]:
    """Take the caller's address, scheme and host from the headers of so many trusted proxies."""
    fixed = ProxyFix(app, x_for=proxies, x_proto=proxies, x_host=proxies)

    def behind(environ: dict[str, Any], start_response: Any) -> Any:
        for name in ("HTTP_X_FORWARDED_FOR", "HTTP_X_FORWARDED_PROTO", "HTTP_X_FORWARDED_HOST"):
            if name in environ:  # a caller's quote would join his text and the proxy's
                environ[name] = environ[name].replace('"', "")
        return fixed(environ, start_response)

    return behind


def _security(api_keys: ApiKeys) -> dict[str, Any]:
    """Declare the API keys in the Swagger document, which shows the Authorize button, only if they are required."""
    scheme = {HEADER: {"type": "apiKey", "in": "header", "name": HEADER}}
    return {"authorizations": scheme, "security": HEADER} if api_keys else {}
