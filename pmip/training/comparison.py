"""Comparison with earlier versions: on comments that neither model was trained on, and of their data and parameters.

The training set of a published model holds nearly all comments. But each run stores the probabilities of the comments
that it held out, by the hash of their texts; those that two runs held out are in neither training set.
"""

from collections.abc import Iterable, Mapping
from contextlib import suppress
from hashlib import blake2b
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.metrics import matthews_corrcoef

from pmip.errors import ArtifactError, ModelNotFoundError
from pmip.model.artifact import Metadata
from pmip.model.scorer import SPAM_THRESHOLD
from pmip.store.versions import LocalModel, ModelStore
from pmip.training.evaluation import resamples, summarise
from pmip.training.spam_share import comment_weights
from pmip.training.table import row

SHOWN = 10  # versions in the report
MOST_STORED = 5_000  # probabilities
MOST_SOURCES, LONGEST_NAME = 200, 100
ALL = 0.95  # with more of the earlier comments in the data, sources that are missing were only renamed
ROUNDS = 100

Store = ModelStore | LocalModel
Probabilities = NDArray[np.float64]


def hash_of(comment: str) -> str:
    """Return the key of a comment's probability in the metadata; it does not reveal the text."""
    return blake2b(comment.encode(errors="replace"), digest_size=8).hexdigest()


def by_hash(comments: Iterable[str], probability: Iterable[float]) -> dict[str, float]:
    """Return the probabilities of held-out comments for the metadata; at most those of the 5,000 smallest hashes."""
    stored = {hash_of(comment): round(float(value), 6) for comment, value in zip(comments, probability, strict=True)}
    return dict(sorted(stored.items())[:MOST_STORED])


def look_up(comments: Iterable[str], stored: Mapping[str, Any]) -> Probabilities:
    """Return for each comment the probability that an earlier run stored, or NaN."""
    return np.array([stored.get(hash_of(comment), np.nan) for comment in comments], dtype=float)


def by_source(sources: pd.Series) -> dict[str, int]:
    """Return the number of comments of each source for the metadata, of at most the 200 largest sources."""
    return {str(name)[:LONGEST_NAME]: int(count) for name, count in sources.value_counts()[:MOST_SOURCES].items()}


def before(store: Store, training_data_id: str) -> list[Metadata]:
    """Return the metadata of the versions before this run, newest first, without unreadable ones.

    In dev, a model of the project's sample is no predecessor of a model of other data.
    """
    if isinstance(store, ModelStore):
        return store.recent(SHOWN)
    with suppress(ModelNotFoundError, ArtifactError):
        metadata = store.fetch().metadata
        if metadata and (metadata.training_data_id != "sample" or training_data_id == "sample"):
            return [metadata]
    return []


def compare(
    version: Metadata, comments: pd.DataFrame, test: pd.DataFrame, least: int, share: float | None
) -> dict[str, Any]:
    """Return how a model and its data differ from an earlier version, for the gate and the metadata.

    `test` are the comments that this run held out, with their `probability`. With fewer than `least` comments that
    both runs held out, the models are not compared.
    """
    test = test.assign(then=look_up(test["CONTENT"], version.held_out)).dropna(subset="then")
    result = {"model_id": version.model_id, **_data_against(version, comments), "comments": len(test)}
    y, now, then = (test[name].to_numpy() for name in ("CLASS", "probability", "then"))
    if len(test) < least or len(np.unique(y)) < 2:
        return result | {"mcc_drop": None, "flipped": None, "spread": {"mcc_drop": None, "flipped": None}}

    def differences(rows: Any) -> tuple[float, float]:
        before, after = (_mcc(y[rows], scored[rows], share) for scored in (then, now))
        return before - after, float(flipped(now[rows], then[rows]).mean())

    drop, flips = differences(np.arange(len(y)))
    draws = np.array([differences(rows) for rows in resamples(test["group"].to_numpy(), ROUNDS, 0)])
    spread = dict(zip(("mcc_drop", "flipped"), draws.std(axis=0).round(6).tolist(), strict=True))
    models = {"this_model": summarise(y, now, share=share), "previous": summarise(y, then, share=share)}
    return result | {"mcc_drop": round(drop, 6), "flipped": round(flips, 6), "spread": spread} | models


def _mcc(y: NDArray[Any], probability: Probabilities, share: float | None) -> float:
    return float(matthews_corrcoef(y, probability > SPAM_THRESHOLD, sample_weight=comment_weights(y, share)))


def _data_against(version: Metadata, comments: pd.DataFrame) -> dict[str, Any]:
    """Return the share of an earlier version's comments that are still in the data, and its sources that are not."""
    hashes = set(map(hash_of, comments["CONTENT"]))
    rows = [file.get("rows") for file in version.training_files if isinstance(file, dict)]
    counts = [number for number in rows if isinstance(number, int) and number > 0]
    shares = [min(1.0, len(comments) / sum(counts))] if counts else []
    shares += [len(hashes & version.held_out.keys()) / len(version.held_out)] if version.held_out else []
    share = min(shares, default=None)
    names = set(by_source(comments["source"]))
    gone = [] if share is None or share >= ALL else [name for name in version.sources if name not in names]
    return {"data_share": share if share is None else round(share, 6), "sources_gone": sorted(gone)}


def flipped(one: Probabilities, other: Probabilities) -> NDArray[np.bool_]:
    """Return on which rows two models answer with different classes."""
    differs: NDArray[np.bool_] = (one > SPAM_THRESHOLD) != (other > SPAM_THRESHOLD)
    return differs


def sentences(result: Mapping[str, Any] | None) -> list[str]:
    """Return what a person has to know about a comparison before the gate decides."""
    if result is None:
        return ["There is no previous model to compare with."]
    said = []
    if result["data_share"] is not None and result["data_share"] < ALL:
        said.append(f"The data hold {result['data_share']:.0%} of the comments of the previous model.")
    if result["sources_gone"]:
        said.append(f"They have no comment of {len(result['sources_gone'])} of its sources.")
    if result["mcc_drop"] is None:
        common = f"This run and that of the previous model, {result['model_id']}, both held out {result['comments']}"
        said.append(f"{common} comments: too few to compare the two models.")
    return said


def versions(metadata: Iterable[Metadata]) -> pd.DataFrame:
    """Return a row for each version: its id, its data, and its metrics on another video and on held-out comments."""
    return pd.DataFrame(map(row, metadata)).astype({"comments": "Int64"})  # which may be missing


def changes(earlier: Metadata, now: Metadata) -> pd.DataFrame:
    """Return a row with both values for each difference in parameters, data and code from an earlier version."""
    then, current = lineage(earlier), lineage(now)
    names = [name for name in {**then, **current} if then.get(name) != current.get(name)]
    columns = {earlier.model_id: [then.get(name, "–") for name in names]}
    return pd.DataFrame(columns | {now.model_id: [current.get(name, "–") for name in names]}, index=names)


def lineage(metadata: Metadata) -> dict[str, str]:
    """Return the data, the code and the parameters of a version as texts, by name."""
    texts = {"training data": str(metadata.training_data_id), "git revision": str(metadata.git_revision)}
    for file in metadata.training_files:
        texts[f"{file.get('name')}"] = f"{file.get('rows')} comments, sha-256 {str(file.get('sha256'))[:12]}…"
    texts |= {name: str(value) for name, value in metadata.parameters.items()}
    return texts | {name: f"version {version}" for name, version in metadata.libraries.items()}
