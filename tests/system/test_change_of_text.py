"""A change of pmip.text follows notebooks/README.md: train with the new code first, then deploy the API."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from api import answers, at_bucket, is_ready, last_error, running_api, served, wait_for
from conftest import ROOT

from pmip.store.objects import S3Storage

# The end of the notebook: publish a model that names a function of pmip.text, with its golden answers.
TRAIN = """import sys
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import FeatureUnion, Pipeline
from pmip import text
from pmip.model.artifact import Metadata, pack
from pmip.store.objects import S3Storage
from pmip.store.versions import ModelStore
from pmip.steps import CommentFeatures
parts = [("words", TfidfVectorizer(analyzer=text.token_ngrams)), ("comment", CommentFeatures())]
pipeline = Pipeline([("features", FeatureUnion(parts)), ("classifier", LogisticRegression(C=50))])
pipeline.fit(["check out my channel", "subscribe now", "nice song", "i love this"], [1, 1, 0, 0])
bucket, model_id = sys.argv[1:]
ModelStore(S3Storage(bucket), "staging").publish(pack(pipeline, Metadata(model_id, "staging")))
"""
# The first edit changes the token of "check", which is "chck" without its vowel; the second adds a feature.
OTHER_TOKENS = """

_before = token_ngrams


def token_ngrams(comment):
    return ["new " + token if "chck" in token else token for token in _before(comment)]
"""
FOURTH_FEATURE = """

COMMENT_FEATURES += ("share of capitals",)
_before = comment_features


def comment_features(comment):
    return [*_before(comment), sum(map(str.isupper, comment)) / (len(comment) or 1)]
"""
THREE = "has address, has youtube address, log length"
FOUR = f"{THREE}, share of capitals"
# The errors of the old code's API about the new version, and of the new code's API about the old version.
CHANGES = {
    OTHER_TOKENS: ["the answer to golden comment"] * 2,
    FOURTH_FEATURE: [
        f"was trained with the comment features {trained}; this pmip.text computes {here}: deploy the API with the code"
        for trained, here in ((FOUR, THREE), (THREE, FOUR))
    ],
}


def train(root: Path, bucket: S3Storage, model_id: str) -> None:
    subprocess.run([sys.executable, "-c", TRAIN, bucket.bucket, model_id], cwd=root, env=os.environ, check=True)


@pytest.mark.parametrize(("edit", "reasons"), CHANGES.items(), ids=["other tokens", "a fourth feature"])
def test_train_first_then_deploy(edit: str, reasons: list[str], bucket: S3Storage, tmp_path: Path) -> None:
    """Each API serves only a model of its own code, and reports why it refuses the model of the other code."""
    old, new = tmp_path / "old", tmp_path / "new"
    for root in (old, new):
        shutil.copytree(ROOT / "pmip", root / "pmip")
    module = new / "pmip" / "text.py"
    module.write_text(module.read_text() + edit)
    first, second = "20260101T000000Z", "20260102T000000Z"
    train(old, bucket, first)
    before, early, after = ({"MODEL_CACHE_DIR": str(tmp_path / name)} for name in ("before", "early", "after"))

    with running_api(tmp_path, root=old, **at_bucket(bucket), **before) as (port, _):
        # An API with the new code that is deployed too early has no model, and its error says what to do.
        with running_api(tmp_path, root=new, until=answers, **at_bucket(bucket), **early) as (too_early, _):
            wait_for(lambda: "pmip.text" in str(last_error(too_early)), 60)
            assert not is_ready(too_early)
            said = str(last_error(too_early))
            assert first in said
            assert "train with this code" in said
            assert reasons[1] in said
            assert said in (tmp_path / f"api-{too_early}.log").read_text()
            # After training with the new code, the new API serves the new version; the old one keeps its own.
            train(new, bucket, second)
            wait_for(lambda: is_ready(too_early), 60)
            assert served(too_early) == second
        wait_for(lambda: f"model {second}: " in str(last_error(port)), 60)
        assert reasons[0] in str(last_error(port))
        assert {served(port) for _ in range(20)} == {first}

        # Deployed after the training, the new API serves its model as soon as it starts.
        with running_api(tmp_path, root=new, **at_bucket(bucket), **after) as (deployed, _):
            assert {served(deployed) for _ in range(20)} == {second}
            assert last_error(deployed) is None
            assert served(port) == first
