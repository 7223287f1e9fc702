"""What callers get: the JSON of each type of answer."""

import json
from collections.abc import Sequence

from pmip.scorer import SPAM_THRESHOLD, Scorer

# The default answer is put together from these: `json` takes as long as scoring a short comment.
_NOT_SPAM, _SPAM = '{"class": 0}', '{"class": 1}'


def answer(scorer: Scorer, kind: str, comments: Sequence[str]) -> tuple[str, list[float]]:
    """Return the JSON of one type of answer, and the probabilities of spam behind it."""
    if kind == "explanation":
        explanations = scorer.explanations(comments)
        return _result(json.dumps(explanations)), [row["probability"][1] for row in explanations]
    if kind == "probability":
        pairs = scorer.probabilities(comments)
        return _result(json.dumps([{kind: pair} for pair in pairs])), [spam for _, spam in pairs]
    spam = scorer.answers.spam(comments)
    rows = ", ".join([_SPAM if probability > SPAM_THRESHOLD else _NOT_SPAM for probability in spam])
    return _result(f"[{rows}]"), spam


def _result(rows: str) -> str:
    return f'{{"result": {rows}}}\n'
