"""The metadata of a model: how they are completed, written and read, and which ones are refused."""

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
    """The library versions of a model are those of Python, scikit-learn, numpy, scipy, joblib and pmip."""
    versions = library_versions()
    assert versions.keys() == {"python", "scikit-learn", "numpy", "scipy", "joblib", "pmip"}
    assert versions["scikit-learn"] == sklearn.__version__


def test_an_api_without_scikit_learn_tells_no_version_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """An API without scikit-learn, which reads models as data, reports no version but those of Python and pmip."""
    monkeypatch.setattr(sys, "path", [str(ROOT)])  # neither site-packages nor what is installed there
    assert library_versions().keys() <= {"python", "pmip"}


def test_packing_completes_the_lineage(model: Pipeline) -> None:
    """Packing a model adds its hash, library versions and golden answers, and leaves the rest as the run wrote it."""
    lineage = Metadata("20260101T000000Z", "prod", training_data_id="20260101", metrics={"mcc": 0.9})
    artifact = pack(model, lineage)
    assert artifact.metadata
    assert artifact.metadata.sha256 == artifact.sha256
    assert artifact.metadata.libraries == library_versions()
    assert [item["comment"] for item in artifact.metadata.golden] == [*GOLDEN_COMMENTS]
    assert replace(artifact.metadata, sha256=None, libraries={}, golden=[]) == lineage


def test_metadata_survive_as_json(artifact: Artifact) -> None:
    """Metadata written as JSON are read again unchanged, and a field of a later version is ignored."""
    assert artifact.metadata
    written = artifact.metadata.to_json()
    assert Metadata.from_json(written) == artifact.metadata
    assert Metadata.from_json(json.dumps(json.loads(written) | {"colour": "red"}).encode()) == artifact.metadata
    assert "Люблю".encode() in written


@pytest.mark.parametrize("number", [b"NaN", b"-Infinity", b"1e999", b"9" * 19])
def test_metadata_never_bring_numbers_that_json_has_not(number: bytes) -> None:
    """A metric that JSON readers cannot represent is read as null, so that `/model-info` stays valid JSON."""
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
    """A file that is no JSON object, has no model id, cannot be written again or is too large is refused."""
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
    """The message about malformed metadata names the field whose type, length or form is wrong."""
    content = json.dumps({"model_id": "20260101", name: value}).encode()
    with pytest.raises(ArtifactError, match=rf"metadata\.json cannot be read \(.*`\$\.{name}"):
        Metadata.from_json(content)


def test_metadata_that_no_api_would_read_are_not_written() -> None:
    """Metadata with more values than an API reads cannot be written, so that no run publishes a version in vain."""
    with pytest.raises(ArtifactError, match="more than 20,000 values"):
        Metadata("20260101", parameters={str(number): number for number in range(MAX_VALUES)}).to_json()


@given(
    st.binary() | st.dictionaries(st.sampled_from(["model_id", "golden"]), st.text()).map(json.dumps).map(str.encode)
)
def test_any_metadata_are_read_or_refused(content: bytes) -> None:
    """Any bytes are read as metadata or raise ArtifactError, and never another exception."""
    with suppress(ArtifactError):
        assert isinstance(Metadata.from_json(content), Metadata)


def test_metadata_become_known_under_another_name() -> None:
    """The id and the environment of the store replace those that the run wrote."""
    run = Metadata("20260101T000000Z", "staging", training_data_id="20260101")
    assert run.known_as("local", "dev") == Metadata("local", "dev", training_data_id="20260101")
