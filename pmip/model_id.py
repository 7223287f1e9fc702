"""Names of versions: the UTC time of a run, or a plain day for a model that was uploaded by hand. They sort as text."""

import re
from datetime import UTC, datetime, timedelta

RUN_ID = "%Y%m%dT%H%M%SZ"


def new_model_id() -> str:
    """Return the model id of a run that starts now."""
    return datetime.now(UTC).strftime(RUN_ID)


def next_model_id(model_id: str) -> str:
    """Return the id one second after a run's id; a plain day is followed by the run that starts now."""
    if "T" not in model_id:
        return new_model_id()
    return (datetime.strptime(model_id, RUN_ID) + timedelta(seconds=1)).strftime(RUN_ID)


def is_model_id(text: str) -> bool:
    """Tell whether a text is the UTC time of a run, or the plain day of a model that was uploaded by hand."""
    for pattern, layout in (("[0-9]{8}T[0-9]{6}Z", RUN_ID), ("[0-9]{8}", "%Y%m%d")):
        if re.fullmatch(pattern, text):
            try:
                return bool(datetime.strptime(text, layout))
            except ValueError:
                return False
    return False
