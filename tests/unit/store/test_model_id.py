"""Which names are versions, and how they follow each other."""

import pytest

from pmip.store.versions import is_model_id, new_model_id, next_model_id


@pytest.mark.parametrize("text", ["20190101", "20260228T235959Z", "20240229", "20260101T000000Z"])
def test_real_days_and_times_are_model_ids(text: str) -> None:
    """A run's UTC time and a plain day are model ids."""
    assert is_model_id(text)


@pytest.mark.parametrize(
    "text",
    ["latest", "20261340", "20260230", "20260101T240000Z", "20260101T0000Z", "2026010", "", "٢٠٢٦٠١٠١", "20260101\n"],
)
def test_nothing_else_is_a_model_id(text: str) -> None:
    """Other names and impossible dates are no model ids."""
    assert not is_model_id(text)


def test_a_new_id_is_a_model_id_and_the_next_is_larger() -> None:
    """Ids sort as text: a later run is larger, and a plain day sorts before that day's runs."""
    now = new_model_id()
    assert is_model_id(now)
    assert now < next_model_id(now)
    assert next_model_id("20251231T235959Z") == "20260101T000000Z"
    assert is_model_id(next_model_id("20190101"))
    assert "20190101" < "20190101T000000Z"
