"""The versions of the model in a table: a row with plain values for each, and the lines of text of all."""

from collections.abc import Sequence

from pmip.model.artifact import Metadata

HEADINGS = ("model id", "data", "comments", "new video: accuracy, MCC", "held out: accuracy, MCC", "state")
Cell = str | int | float | None


def row(metadata: Metadata) -> dict[str, Cell]:
    """Return what a table tells of a version; None stands for what its metadata do not hold.

    A metadata.json that was written by hand may hold anything instead of files and metrics.
    """
    files = [file.get("rows") if isinstance(file, dict) else None for file in metadata.training_files]
    counts = [number for number in files if isinstance(number, int)]
    comments = sum(counts) if counts and len(counts) == len(files) else None
    found: dict[str, Cell] = {"model id": metadata.model_id, "training data": metadata.training_data_id}
    found["comments"] = comments
    for protocol, title in (("leave_one_source_out", "a new video"), ("held_out", "held out")):
        scores = metadata.metrics.get(protocol)
        for key, name in (("accuracy", "accuracy"), ("mcc", "MCC")):
            figure = scores.get(key) if isinstance(scores, dict) else None
            found[f"{name}, {title}"] = float(figure) if isinstance(figure, int | float) else None
    return found


def table(versions: Sequence[Metadata], retired: Sequence[Metadata]) -> list[str]:
    """Return the lines of the table, newest version first; APIs serve the newest version that is not retired."""
    states = [(metadata, "older" if place else "in service") for place, metadata in enumerate(versions)]
    states += [(metadata, "retired") for metadata in retired]
    states.sort(key=lambda state: state[0].model_id, reverse=True)
    cells = [HEADINGS, *(_cells(*state) for state in states)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return ["  ".join(map(str.ljust, line, widths)).rstrip() for line in cells]


def _cells(metadata: Metadata, state: str) -> tuple[str, ...]:
    model_id, data, comments, *figures = map(_text, row(metadata).values())
    state += ", needs TRUST_PICKLES" if metadata.not_readable else ""
    return model_id, data, comments, " ".join(figures[:2]), " ".join(figures[2:]), state


def _text(cell: Cell) -> str:
    """Return a value without control characters, which could move the cursor of a terminal."""
    if isinstance(cell, float):
        return f"{cell:.3f}"
    if isinstance(cell, int):
        return f"{cell:,}"
    return "".join(sign if sign.isprintable() else "?" for sign in cell or "-")
