"""The metrics for Prometheus: what each of them counts, and which labels it has."""

import sys
from importlib.metadata import version
from pathlib import Path

import psutil
import pytest
from api import figures_in
from conftest import reloader_of
from flask.testing import FlaskClient

from pmip.config import Limits
from pmip.http.metrics import _dates
from pmip.http.swagger import EXAMPLE
from pmip.model.artifact import Artifact, Metadata
from pmip.routes import create_app
from pmip.store.objects import FolderStorage
from pmip.store.versions import ModelStore

MODEL = "20260101T000000Z"


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    return ModelStore(FolderStorage(tmp_path / "store"), "staging")


def client_of(store: ModelStore, folder: Path) -> FlaskClient:
    reloader = reloader_of(store, folder)
    reloader.step()
    return create_app(reloader, Limits(), git_revision="abc1234").test_client()


def figures(client: FlaskClient) -> dict[str, float]:
    answer = client.get("/metrics")
    assert (answer.status_code, answer.mimetype) == (200, "text/plain")
    return figures_in(answer.text)


def test_comments_are_counted_by_class_and_probability(store: ModelStore, tmp_path: Path, artifact: Artifact) -> None:
    """An operator sees the comments by class, and a histogram of spam probabilities by model, for all answer types."""
    store.publish(artifact)
    client = client_of(store, tmp_path)
    for kind in ("class", "probability", "explanation"):
        assert client.post(f"/predict?type={kind}", json={"comments": EXAMPLE}).status_code == 200
    found = figures(client)
    assert found['pmip_comments_total{class="1"}'] == found['pmip_comments_total{class="0"}'] == 3
    assert found[f'pmip_spam_probability_count{{model_id="{MODEL}"}}'] == 6
    assert found[f'pmip_spam_probability_bucket{{le="0.5",model_id="{MODEL}"}}'] == 3


def test_requests_are_counted_by_route_and_status(store: ModelStore, tmp_path: Path, artifact: Artifact) -> None:
    """An operator sees the requests by route and status; all paths without a route have the label "other"."""
    store.publish(artifact)
    client = client_of(store, tmp_path)
    client.post("/predict", json={"comments": EXAMPLE})
    client.post("/predict", data="text")
    for number in range(20):
        client.get(f"/{number}")
    found = figures(client)
    assert found['pmip_request_seconds_count{route="/predict",status="200"}'] == 1
    assert found['pmip_request_seconds_count{route="/predict",status="415"}'] == 1
    assert found['pmip_request_seconds_count{route="other",status="404"}'] == 20
    assert 0 < found['pmip_request_seconds_sum{route="/predict",status="200"}'] < 10


def test_the_code_the_memory_and_the_requests_in_hand_are_told(
    store: ModelStore, tmp_path: Path, artifact: Artifact
) -> None:
    """An operator sees the revision of the code, the memory of the process, and the number of requests in progress."""
    store.publish(artifact)
    client = client_of(store, tmp_path)
    for path in ("/predict", "/nothing", "/metrics"):
        client.get(path)
    found = figures(client)
    assert found["pmip_requests_in_flight"] == 1
    assert found[f'pmip_build_info{{revision="abc1234",version="{version("pmip")}"}}'] == 1
    if sys.platform == "linux":
        assert 2**20 < found["pmip_memory_bytes"] < psutil.Process().memory_info().rss


@pytest.mark.parametrize(
    ("model_id", "trained_at", "data", "times"),
    [
        ("20260101T000001Z", "2026-02-02T00:00:00+00:00", "20260101", (1767225601, 1767225600)),
        ("20260101", None, "sample", (1767225600, None)),
        ("local", "2026-01-01T01:00:00+01:00", None, (1767225600, None)),
        ("local", "yesterday", "20269999", (None, None)),
    ],
)
def test_the_ages_of_the_model_and_its_data_are_told(
    model_id: str, trained_at: str | None, data: str | None, times: tuple[int | None, int | None]
) -> None:
    """An operator sees when the model and its data were made; an id or date that is no time gives no metric."""
    found = {
        metric.name: metric.samples[0].value
        for metric in _dates(Metadata(model_id, trained_at=trained_at, training_data_id=data))
    }
    names = ("pmip_model_trained_timestamp_seconds", "pmip_training_data_timestamp_seconds")
    assert tuple(found.get(name) for name in names) == times


def test_the_model_and_the_looks_for_it_are_told(store: ModelStore, tmp_path: Path, artifact: Artifact) -> None:
    """An operator sees the served model, the last check, and failed checks and refused versions by reason."""
    empty = figures(client_of(store, tmp_path))
    assert not [name for name in empty if name.startswith("pmip_model_info")]
    assert empty["pmip_last_check_timestamp_seconds"] > 1.7e9
    assert "pmip_last_successful_check_timestamp_seconds" not in empty
    store.publish(artifact)
    store._storage.write("models/staging/20270101/model.pkl", b"text")
    told = figures(client_of(store, tmp_path / "other"))
    assert told[f'pmip_model_info{{model_id="{MODEL}"}}'] == 1
    assert told["pmip_last_successful_check_timestamp_seconds"] == told["pmip_last_check_timestamp_seconds"]
    for name, before, after in (
        ('pmip_check_errors_total{kind="no_version"}', 1, 0),
        ('pmip_load_failures_total{reason="unusable"}', 0, 1),
        ("pmip_model_is_newest", 0, 0),
    ):
        assert (empty[name], told[name]) == (before, after)
    store.retire("20270101")
    assert figures(client_of(store, tmp_path / "third"))["pmip_model_is_newest"] == 1
