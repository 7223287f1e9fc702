"""The lineage of a model survives its way through JSON, whatever stands there."""

import json
import sys
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest
import sklearn
from conftest import ROOT
from hypothesis import given
from hypothesis import strategies as st
from sklearn.pipeline import Pipeline

from pmip.errors import ArtifactError
from pmip.model.artifact import (
    GOLDEN_COMMENTS,
    MAX_METADATA_BYTES,
    MAX_VALUES,
    Artifact,
    Metadata,
    library_versions,
    pack,
)


def test_library_versions_tell_what_a_pickle_depends_on() -> None:
    """Python, scikit-learn and what it computes with, and the package itself."""
    versions = library_versions()
    assert versions.keys() == {"python", "scikit-learn", "numpy", "scipy", "joblib", "pmip"}
    assert versions["scikit-learn"] == sklearn.__version__


def test_an_api_without_scikit_learn_tells_no_version_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """It reads models as data and needs none of these libraries."""
    monkeypatch.setattr(sys, "path", [str(ROOT)])  # neither site-packages nor what is installed there
    assert library_versions().keys() <= {"python", "pmip"}


def test_packing_completes_the_lineage(model: Pipeline) -> None:
    """Hash, library versions and golden answers come with the model; the rest stays as the run wrote it."""
    lineage = Metadata("20260101T000000Z", "prod", training_data_id="20260101", metrics={"mcc": 0.9})
    artifact = pack(model, lineage)
    assert artifact.metadata
    assert artifact.metadata.sha256 == artifact.sha256
    assert artifact.metadata.libraries == library_versions()
    assert [item["comment"] for item in artifact.metadata.golden] == [*GOLDEN_COMMENTS]
    assert replace(artifact.metadata, sha256=None, libraries={}, golden=[]) == lineage


def test_metadata_survive_as_json(artifact: Artifact) -> None:
    """What is written is read again, and a field of a later version is ignored."""
    assert artifact.metadata
    written = artifact.metadata.to_json()
    assert Metadata.from_json(written) == artifact.metadata
    assert Metadata.from_json(json.dumps(json.loads(written) | {"colour": "red"}).encode()) == artifact.metadata
    assert "Люблю".encode() in written


@pytest.mark.parametrize("number", [b"NaN", b"-Infinity", b"1e999", b"9" * 19])
def test_metadata_never_bring_numbers_that_json_has_not(number: bytes) -> None:
    """A metric that no JSON reader could represent is read as null: `/model-info` stays valid JSON."""
    metadata = Metadata.from_json(b'{"model_id": "20260101", "metrics": {"mcc": %s}}' % number)
    assert metadata.metrics == {"mcc": None}


SURROGATE = b'{"model_id": "20260101", "report": "\\ud800"}'
DEEP = b'{"model_id": "20260101", "metrics": {"a": ' + b"[" * 900 + b"]" * 900 + b"}}"
MANY = b'{"model_id": "20260101", "metrics": {"a": [' + b"[]," * MAX_VALUES + b"[]]}}"
LARGE = b'{"model_id": "20260101"}' + b" " * MAX_METADATA_BYTES


@pytest.mark.parametrize(
    "content", [b"", b"[]", b"null", b'"text"', b"{", b"\xff\xfe", b"{}", b"[" * 100_000, SURROGATE, DEEP, MANY, LARGE]
)
def test_malformed_metadata_are_refused(content: bytes) -> None:
    """A file that is no JSON object, has no model id, cannot be written again or has too many values is refused."""
    with pytest.raises(ArtifactError, match=r"metadata\.json cannot be read"):
        Metadata.from_json(content)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("model_id", 20260101),
        ("model_id", "../prod/20260101"),
        ("model_id", "20260101\n"),
        ("ENVIRONMENT", "elsewhere"),
        ("training_data_id", "\x1b[2J"),
        ("libraries", ["numpy"]),
        ("git_revision", "a" * 1001),
        ("golden", "text"),
        ("golden", [{"comment": "a", "probability": 2}]),
        ("golden", [{"comment": "a", "probability": 0.5}] * 21),
        ("sha256", "5"),
        ("metrics", None),
        ("held_out", {"a": "b"}),
    ],
)
def test_metadata_of_a_wrong_form_are_refused_by_name(name: str, value: Any) -> None:
    """The message names the field whose type, length or form is wrong, and does not quote its value."""
    content = json.dumps({"model_id": "20260101", name: value}).encode()
    with pytest.raises(ArtifactError, match=rf"metadata\.json cannot be read \(.*`\$\.{name}"):
        Metadata.from_json(content)


def test_metadata_that_no_api_would_read_are_not_written() -> None:
    """The training run ends with the reason, instead of publishing a version that every API refuses."""
    with pytest.raises(ArtifactError, match="more than 20,000 values"):
        Metadata("20260101", parameters={str(number): number for number in range(MAX_VALUES)}).to_json()


@given(
    st.binary() | st.dictionaries(st.sampled_from(["model_id", "golden"]), st.text()).map(json.dumps).map(str.encode)
)
def test_any_metadata_are_read_or_refused(content: bytes) -> None:
    """Nothing but ArtifactError comes out of a damaged file."""
    with suppress(ArtifactError):
        assert isinstance(Metadata.from_json(content), Metadata)


def test_metadata_become_known_under_another_name() -> None:
    """The id and the environment of the store count, not those that the run wrote."""
    run = Metadata("20260101T000000Z", "staging", training_data_id="20260101")
    assert run.known_as("local", "dev") == Metadata("local", "dev", training_data_id="20260101")
