"""A change of pmip.text as notebooks/README.md tells it: train with the new code first, then deploy the API."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from api import answers, at_bucket, is_ready, last_error, running_api, served, wait_for
from conftest import ROOT

from pmip.store.objects import S3Storage

# What the notebook ends with: a model that names a function of pmip.text, its golden answers, its place in the bucket.
TRAIN = """import sys
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline
from pmip import text
from pmip.model.artifact import Metadata, pack
from pmip.store.objects import S3Storage
from pmip.store.versions import ModelStore
features, classifier = TfidfVectorizer(analyzer=text.token_ngrams), LogisticRegression(C=50)
pipeline = Pipeline([("features", features), ("classifier", classifier)])
pipeline.fit(["check out my channel", "subscribe now", "nice song", "i love this"], [1, 1, 0, 0])
bucket, model_id = sys.argv[1:]
ModelStore(S3Storage(bucket), "staging").publish(pack(pipeline, Metadata(model_id, "staging")))
"""
# After this edit, "check", which loses its vowel, is another token than before.
EDIT = """

_before = token_ngrams


def token_ngrams(comment):
    return ["new " + token if "chck" in token else token for token in _before(comment)]
"""


def train(root: Path, bucket: S3Storage, model_id: str) -> None:
    subprocess.run([sys.executable, "-c", TRAIN, bucket.bucket, model_id], cwd=root, env=os.environ, check=True)


def test_train_first_then_deploy(bucket: S3Storage, tmp_path: Path) -> None:
    """At every moment each API answers, with a model of its own code, and each says what it refuses and why."""
    old, new = tmp_path / "old", tmp_path / "new"
    for root in (old, new):
        shutil.copytree(ROOT / "pmip", root / "pmip")
    module = new / "pmip" / "text.py"
    module.write_text(module.read_text() + EDIT)
    first, second = "20260101T000000Z", "20260102T000000Z"
    train(old, bucket, first)
    before, early, after = ({"MODEL_CACHE_DIR": str(tmp_path / name)} for name in ("before", "early", "after"))

    with running_api(tmp_path, root=old, **at_bucket(bucket), **before) as (port, _):
        # Deployed too early, an API with the new text has no model, and says plainly what to do.
        with running_api(tmp_path, root=new, until=answers, **at_bucket(bucket), **early) as (too_early, _):
            wait_for(lambda: "pmip.text" in str(last_error(too_early)), 60)
            assert not is_ready(too_early)
            said = str(last_error(too_early))
            assert first in said
            assert "train with this code" in said
            assert said in (tmp_path / f"api-{too_early}.log").read_text()
            # The training of the new code ends both: the new API takes the version, the old one keeps its own.
            train(new, bucket, second)
            wait_for(lambda: is_ready(too_early), 60)
            assert served(too_early) == second
        wait_for(lambda: {second, "pmip.text"} <= set(re.findall(r"[\w.]+", str(last_error(port)))), 60)
        assert {served(port) for _ in range(20)} == {first}

        # In the right order, the new API finds its model there when it starts.
        with running_api(tmp_path, root=new, **at_bucket(bucket), **after) as (deployed, _):
            assert {served(deployed) for _ in range(20)} == {second}
            assert last_error(deployed) is None
            assert served(port) == first
