"""What callers get: the JSON of each type of answer, and what is told of the model."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from pmip.errors import ModelNotReadyError
from pmip.model.scorer import SPAM_THRESHOLD, Scorer
from pmip.serving.reloader import Reloader

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


def model_info(reloader: Reloader, environment: str) -> dict[str, Any]:
    """Return the lineage of the model in service, and how the search for a newer one goes."""
    state = {"last_check_at": reloader.last_check_at, "last_error": reloader.last_error}
    try:
        scorer = reloader.scorer
    except ModelNotReadyError:
        return {"model_id": None, "ENVIRONMENT": environment, **state}
    lineage = asdict(scorer.metadata)
    del lineage["golden"], lineage["held_out"]
    return lineage | {"verified": scorer.verified, "scorer": scorer.kind, "loaded_at": scorer.loaded_at} | state


def _result(rows: str) -> str:
    return f'{{"result": {rows}}}\n'
