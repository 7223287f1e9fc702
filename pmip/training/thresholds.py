"""What a threshold of the probability does: how much spam it catches, and how many good comments it blocks.

These figures do not depend on the share of spam; only the precision does.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pmip.model.scorer import SPAM_THRESHOLD
from pmip.training.spam_share import shifted

Rows = NDArray[np.intp]
Labels = NDArray[np.int64]
Probabilities = NDArray[np.float64]

# By the name of the metric: the share of good comments that may be blocked.
BLOCKED = {"spam_caught": 0.01, "spam_caught_at_5_percent": 0.05}


def threshold(y: Labels, probability: Probabilities, blocked: float) -> float:
    """Return the smallest threshold that blocks at most this share of the good comments."""
    good = np.sort(probability[y == 0])[::-1]
    return float(good[int(blocked * len(good))]) if len(good) else SPAM_THRESHOLD


def above_threshold(y: Labels, probability: Probabilities, parts: Sequence[Rows], blocked: float) -> NDArray[np.bool_]:
    """Return which comments would be blocked, where the threshold of each part is chosen on the other parts."""
    above = np.zeros(len(y), dtype=bool)
    for part in parts:
        others = np.setdiff1d(np.arange(len(y)), part)
        above[part] = probability[part] > threshold(y[others], probability[others], blocked)
    return above


def at_thresholds(y: Labels, probability: Probabilities, parts: Sequence[Rows]) -> pd.DataFrame:
    """Return the thresholds that block 1 % and 5 % of the good comments, and what they do on other comments."""
    rows = []
    for blocked in BLOCKED.values():
        above = above_threshold(y, probability, parts, blocked)
        caught, lost = above[y == 1].mean(), above[y == 0].mean()
        rows.append([f"{blocked:.0%}", f"{threshold(y, probability, blocked):.3f}", f"{caught:.1%}", f"{lost:.1%}"])
    return pd.DataFrame(rows, columns=["good comments to block", "threshold", "spam caught", "good comments blocked"])


def at_shares(y: Labels, probability: Probabilities, share: float | None) -> pd.DataFrame:
    """Return what the API's threshold does at several shares of spam, with this model and with one for each share."""
    trained = share or float(np.mean(y))
    rows = {}
    for other in sorted({0.02, 0.1, 0.5, round(trained, 4)}):
        of_both = [_at_share(y, scored, other) for scored in (probability, shifted(probability, trained, other))]
        rows[f"{other:.1%}".replace(".0%", "%")] = [*of_both[0], *of_both[1]]
    columns = pd.MultiIndex.from_product(
        [["this model", "a model for this share"], ["spam caught", "good comments blocked", "precision"]]
    )
    return pd.DataFrame.from_dict(rows, orient="index", columns=columns).rename_axis("share of spam")


def _at_share(y: Labels, probability: Probabilities, share: float) -> list[str]:
    decision = probability > SPAM_THRESHOLD
    caught, blocked = float(decision[y == 1].mean()), float(decision[y == 0].mean())
    flagged = share * caught + (1 - share) * blocked
    return [f"{caught:.1%}", f"{blocked:.1%}", f"{share * caught / flagged:.1%}" if flagged else "–"]
