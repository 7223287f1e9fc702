"""The comparison with an earlier version uses comments that both held out, and reports what was lost or changed."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from pmip.model.artifact import Artifact, Metadata
from pmip.store.objects import FolderStorage
from pmip.store.versions import LocalModel, ModelStore
from pmip.training import comparison


def test_the_versions_before_are_those_with_metadata(artifact: Artifact, tmp_path: Path) -> None:
    """A run on new data is compared with the version before, unless that is missing, damaged or of the sample."""
    local = LocalModel(tmp_path)
    assert comparison.before(local, "20260101") == []
    assert artifact.metadata
    local.save(replace(artifact, metadata=replace(artifact.metadata, training_data_id="sample")))
    assert comparison.before(local, "20260101") == []
    local.save(artifact)
    assert comparison.before(local, "20260101") == [artifact.metadata]
    (tmp_path / "metadata.json").write_text("{")
    assert comparison.before(local, "20260101") == []
    store = ModelStore(FolderStorage(tmp_path / "bucket"), "staging")
    store.publish(artifact)
    [found] = comparison.before(store, "20260101")
    assert found.model_id == artifact.metadata.model_id


EARLIER = Metadata(
    "20250101T000000Z",
    training_data_id="20250101",
    training_files=[{"name": "a.csv", "sha256": "1" * 64, "rows": 10}],
    parameters={"FOLDS": 3, "C": 5},
    metrics={"held_out": {"accuracy": 0.9, "mcc": 0.8}},
)


def test_figures_of_versions_stand_in_a_line_each() -> None:
    """The table has one line for each version, and a metric that a version lacks is missing in its line."""
    table = comparison.versions([EARLIER, Metadata("20240101")])
    assert table["accuracy, held out"].tolist()[0] == 0.9
    assert table[["accuracy, another video", "MCC, another video"]].isna().all().all()
    assert table["comments"].tolist() == [10, pd.NA]


def test_what_changed_is_told_with_both_values() -> None:
    """The report lists changed parameters and files with both values, and leaves out what is unchanged."""
    files = [*EARLIER.training_files, {"name": "b.csv", "sha256": "2" * 64, "rows": 5}]
    now = replace(
        EARLIER, model_id="20260101T000000Z", training_files=files, parameters={"FOLDS": 3, "C": 10, "SEED": 1}
    )
    changed = comparison.changes(EARLIER, now)
    assert changed.index.tolist() == ["C", "b.csv", "SEED"]
    assert changed.loc["C"].tolist() == ["5", "10"]
    assert changed.loc["SEED"].tolist() == ["–", "1"]
    assert comparison.changes(EARLIER, EARLIER).empty


COMMENTS = pd.DataFrame({"CONTENT": [f"comment {number}" for number in range(40)], "source": ["a", "b"] * 20})
COMMENTS = COMMENTS.assign(CLASS=np.arange(40) % 2, group=np.arange(40), probability=np.arange(40) % 2 * 0.8 + 0.1)
STORED = comparison.by_hash(COMMENTS["CONTENT"], COMMENTS["probability"])
FILES = [{"name": "a.csv", "rows": 40}]
PREVIOUS = Metadata("20250101T000000Z", training_files=FILES, sources={"a": 20, "b": 20}, held_out=STORED)


def compared(now: pd.DataFrame, **changed: Any) -> dict[str, Any]:
    return comparison.compare(replace(PREVIOUS, **changed), now, now[:20], 10, None)


def test_the_same_model_on_the_same_data_did_not_change() -> None:
    """For the same model and data, all comments are still there, no answer flips and no sentence is written."""
    result = compared(COMMENTS)
    assert (result["data_share"], result["sources_gone"], result["comments"]) == (1.0, [], 20)
    assert (result["mcc_drop"], result["flipped"], result["spread"]["flipped"]) == (0.0, 0.0, 0.0)
    assert comparison.sentences(result) == []


def test_another_model_is_compared_by_its_answers() -> None:
    """Another model is compared by its flipped answers and by its drop in MCC, with a standard deviation."""
    result = compared(COMMENTS.assign(probability=COMMENTS["probability"].where(np.arange(40) > 3, 0.9)))
    assert (result["flipped"], result["mcc_drop"] > 0, result["spread"]["mcc_drop"] > 0) == (0.1, True, True)
    assert result["previous"]["mcc"] == 1.0


@pytest.mark.parametrize(
    ("now", "share", "gone"),
    [
        (COMMENTS[COMMENTS["source"] == "a"], 0.5, ["b"]),
        (COMMENTS.assign(CONTENT="new " + COMMENTS["CONTENT"], source="c"), 0.0, ["a", "b"]),
        (COMMENTS.assign(source="renamed"), 1.0, []),
    ],
)
def test_lost_comments_and_sources_are_told(now: pd.DataFrame, share: float, gone: list[str]) -> None:
    """The report names lost sources and the share of comments that is left; a renamed source is not lost."""
    result = compared(now)
    assert (result["data_share"], result["sources_gone"]) == (share, gone)
    assert any("of the comments of the previous model" in line for line in comparison.sentences(result)) == bool(gone)


def test_too_few_common_comments_are_not_compared() -> None:
    """Without enough common comments, or without a previous model, a sentence says that nothing is compared."""
    result = compared(COMMENTS, held_out=dict([*STORED.items()][:3]))
    assert result["mcc_drop"] is None
    assert "20250101T000000Z, both held out" in comparison.sentences(result)[-1]
    assert comparison.sentences(None) == ["There is no previous model to compare with."]


def test_what_is_stored_is_bounded_and_found_by_the_text() -> None:
    """A version stores a bounded number of probabilities, those of the smallest hashes, which are looked up by text."""
    kept = comparison.by_hash(["one\ud800", "two"], [0.25, 0.123456789])
    assert np.array_equal(comparison.look_up(["two", "three"], kept), [0.123457, np.nan], equal_nan=True)
    texts = [f"comment {number}" for number in range(3 * comparison.MOST_STORED)]
    kept = comparison.by_hash(texts, np.zeros(len(texts)))
    assert len(kept) == comparison.MOST_STORED
    assert max(kept) < min({comparison.hash_of(text) for text in texts} - kept.keys())
    assert len(comparison.by_source(pd.Series(texts))) == comparison.MOST_SOURCES
