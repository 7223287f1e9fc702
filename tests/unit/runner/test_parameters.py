"""A run's parameters have the types of the notebook's defaults, and values that make no sense are refused."""

import pytest
from conftest import ROOT

from pmip.errors import SettingsError
from pmip.runner.parameters import RANGES, notebook_parameters, parse_parameters, require_parameters
from pmip.runner.preflight import read_parameters

DEFAULTS = {"TRAINING_DATA_ID": "", "FOLDS": 3, "HELD_OUT_SHARE": 0.3, "SEED": 0, "VALUES": [1.0]}


def test_parameters_keep_the_type_of_their_default() -> None:
    """A parameter gets the type of its default: an id of digits stays text, and a blank value is the default."""
    assert parse_parameters(["SPAM_SHARE=.15"], {"SPAM_SHARE": None}) == {"SPAM_SHARE": 0.15}
    arguments = ["TRAINING_DATA_ID=20240101", "FOLDS=3", "HELD_OUT_SHARE=.5", "SEED=", "VALUES=[1, 2]"]
    assert parse_parameters(arguments, DEFAULTS) == {
        "TRAINING_DATA_ID": "20240101",
        "FOLDS": 3,
        "HELD_OUT_SHARE": 0.5,
        "VALUES": [1, 2],
    }


@pytest.mark.parametrize("argument", ["FLODS=3", "FOLDS", "FOLDS=three", "FOLDS=3.5", "VALUES=1"])
def test_a_mistyped_parameter_is_refused(argument: str) -> None:
    """A mistyped parameter is refused, because Papermill would only warn and train with the default."""
    with pytest.raises(SettingsError, match=r"FOLDS|VALUES"):
        parse_parameters([argument], DEFAULTS)


def test_the_defaults_of_the_notebook_are_allowed() -> None:
    """The notebook's defaults and valid ids are allowed, and only parameters of the notebook have a range."""
    defaults = read_parameters(ROOT / "notebooks" / "model-training.ipynb")
    require_parameters(defaults)
    require_parameters(defaults | {"MODEL_ID": "20240229T000000Z", "TRAINING_DATA_ID": "20240229"})
    assert defaults.keys() >= RANGES.keys()


@pytest.mark.parametrize(
    ("name", "value", "rule"),
    [
        ("FOLDS", 1, "a number from 2 to 20"),
        ("FOLDS", True, "a number from 2 to 20"),
        ("HELD_OUT_SHARE", 1.0, "a number from 0.05 to 0.9"),
        ("HELD_OUT_SHARE", float("nan"), "a number from 0.05 to 0.9"),
        ("EVALUATED_AT_MOST", 0, "a number from 100 to 10,000,000"),
        ("SPAM_SHARE", 0, "a number from 0.001 to 0.999"),
        ("MIN_MCC", 80, "a number from -1 to 1"),
        ("REPORT", "long", "full or short"),
        ("TRAINING_DATA_ID", "20240231", "a calendar day"),
        ("TRAINING_DATA_ID", "sample", "a calendar day"),
        ("TRAINING_DATA_ID", 20240101, "a calendar day"),
        ("MODEL_ID", "20240101", "a UTC time"),
        ("MODEL_ID", "20240101T250000Z", "a UTC time"),
    ],
)
def test_a_value_that_makes_no_sense_is_refused_by_name(name: str, value: object, rule: str) -> None:
    """A value out of its range is refused with its name and what is allowed, together with all other mistakes."""
    with pytest.raises(SettingsError) as failure:
        require_parameters({"MIN_ACCURACY": 2, name: value, "MY_OWN": -1})
    assert f"{name}={value}: must be {rule}" in str(failure.value)
    assert "MIN_ACCURACY=2: must be a number from 0 to 1" in str(failure.value)
    assert "MY_OWN" not in str(failure.value)


def test_parameters_are_what_json_keeps() -> None:
    """Upper-case constants that JSON can store are parameters of a run, but the model id is only checked."""
    names = {"FOLDS": 3, "GRID": [1.5, 2], "BASE": object(), "MODEL_ID": "", "lower": 1, "_I": ""}
    assert notebook_parameters(names) == {"FOLDS": 3, "GRID": [1.5, 2]}
    with pytest.raises(SettingsError, match="MODEL_ID=x: must be a UTC time"):
        notebook_parameters(names | {"MODEL_ID": "x"})
