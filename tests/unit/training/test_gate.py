"""The gate judges a version by its own metadata, and allows each metric to miss its limit by a standard deviation."""

from typing import Any

import pytest

from pmip.errors import GateError
from pmip.model.artifact import Artifact, Metadata
from pmip.training import gate
from pmip.training.gate import Check

LIMITS = {"MIN_ACCURACY": 0.9, "MIN_MCC": 0.9, "MIN_SPAM_CAUGHT": 0.5, "MAX_MCC_DROP": 0.05, "MAX_FLIPPED": 0.1}
LIMITS |= {"MIN_COMPARED": 10, "MIN_DATA_SHARE": 0.5}
SPREAD = dict.fromkeys(("accuracy", "mcc", "spam_caught"), 0.01)
NOT_COMPARED = {"mcc_drop": None, "flipped": None, "spread": {"mcc_drop": None, "flipped": None}}
SAME = {"comments": 50, "data_share": 1.0, "sources_gone": [], "mcc_drop": 0.0, "flipped": 0.02}
SAME |= {"spread": {"mcc_drop": 0.01, "flipped": 0.01}}


def version(accuracy: float = 0.95, previous: dict[str, Any] | None = None, **limits: float) -> Metadata:
    held_out = {"accuracy": accuracy, "mcc": 0.95, "spam_caught": 0.95, "spread": SPREAD}
    metrics = {"held_out": held_out} | ({"previous": SAME | previous} if previous else {})
    return Metadata("20260101T000000Z", parameters=LIMITS | limits, metrics=metrics)


def decide(version: Metadata) -> gate.Passed:
    return gate.decide(gate.checks(version), Artifact(b"a model", version))


def test_a_version_within_its_limits_passes() -> None:
    """A version within its limits passes, and the result holds the very model and metadata that were judged."""
    judged = version(previous={"flipped": 0.0})
    assert decide(judged).artifact.metadata is judged
    assert decide(version()).artifact.model == b"a model"


def test_a_limit_is_missed_only_by_more_than_the_standard_deviation() -> None:
    """A check fails only if a metric misses its limit by more than its standard deviation."""
    outcomes = [gate.checks(version(accuracy))[0].outcome for accuracy in (0.9, 0.891, 0.889)]
    assert outcomes == ["passed", "passed, within its standard deviation", "FAILED"]
    assert Check("drop", None, 0.02, "MAX_DROP", at_least=False).outcome == "not measured"


def test_all_failures_are_told_together() -> None:
    """The error lists all failed checks together, each with its value, its limit and the parameter of the limit."""
    with pytest.raises(GateError) as failure:
        decide(version(0.85, previous={"flipped": 0.2}))
    assert str(failure.value).endswith(
        "accuracy on the held-out comments is 0.8500 ± 0.0100, at least 0.9 is required (MIN_ACCURACY); "
        "share of flipped answers is 0.2000 ± 0.0100, at most 0.1 is required (MAX_FLIPPED)"
    )


@pytest.mark.parametrize(
    ("previous", "parameter"),
    [
        ({"data_share": 0.4}, "MIN_DATA_SHARE"),
        ({"data_share": 0.9, "sources_gone": ["a"]}, "MIN_DATA_SHARE"),
        ({"comments": 9} | NOT_COMPARED, "MIN_COMPARED"),
    ],
)
def test_lost_data_and_a_missing_comparison_fail_unless_a_parameter_accepts_them(
    previous: dict[str, Any], parameter: str
) -> None:
    """Lost data or a missing comparison fails with the name of a parameter, which accepts it when it is 0."""
    with pytest.raises(GateError, match=parameter):
        decide(version(previous=previous))
    decide(version(previous=previous, **{parameter: 0}))


def test_a_gate_that_measured_nothing_lets_nothing_through() -> None:
    """A gate that has no check, or whose figure is missing or not a number, publishes nothing."""
    for checks in ([], [Check("accuracy", None, 0.9, "MIN_ACCURACY")], [Check("MCC", float("nan"), 0, "M")]):
        with pytest.raises(GateError, match="is not published"):
            gate.decide(checks, Artifact(b"a model", version()))
