"""The versions of the model in a table: a row with plain values for each, and the lines of text of all."""

from collections.abc import Sequence

from pmip.model.artifact import Metadata

HEADINGS = ("model id", "data", "comments", "another video: accuracy, MCC", "held out: accuracy, MCC", "state")
Cell = str | int | float | None


def row(metadata: Metadata) -> dict[str, Cell]:
    """Return the cells of a version; None stands for what its metadata do not hold.

    A metadata.json that was written by hand may hold anything instead of numbers and metrics.
    """
    numbers = [file.get("rows") for file in metadata.training_files]
    counts = [number for number in numbers if isinstance(number, int)]
    comments = sum(counts) if counts and len(counts) == len(numbers) else None
    cells: dict[str, Cell] = {"model id": metadata.model_id, "training data": metadata.training_data_id}
    cells["comments"] = comments
    for protocol, title in (("leave_one_source_out", "another video"), ("held_out", "held out")):
        scores = metadata.metrics.get(protocol)
        for key, name in (("accuracy", "accuracy"), ("mcc", "MCC")):
            figure = scores.get(key) if isinstance(scores, dict) else None
            cells[f"{name}, {title}"] = float(figure) if isinstance(figure, int | float) else None
    return cells


def table(versions: Sequence[Metadata], retired: Sequence[Metadata], served: str | None = None) -> list[str]:
    """Return the lines of the table, newest version first, with the state of each; an API answered that it serves one.

    APIs try to load the newest version. Whether one has loaded it, only the API knows.
    """
    states = [(metadata, "older" if place else "newest") for place, metadata in enumerate(versions)]
    states += [(metadata, "retired") for metadata in retired]
    states = [
        (metadata, f"{state}, in service" if metadata.model_id == served else state) for metadata, state in states
    ]
    states.sort(key=lambda state: state[0].model_id, reverse=True)
    cells = [HEADINGS, *(_cells(*state) for state in states)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return ["  ".join(map(str.ljust, line, widths)).rstrip() for line in cells]


def _cells(metadata: Metadata, state: str) -> tuple[str, ...]:
    model_id, data, comments, *figures = map(_text, row(metadata).values())
    state += ", needs TRUST_PICKLES" if metadata.not_readable else ""
    return model_id, data, comments, " ".join(figures[:2]), " ".join(figures[2:]), state


def _text(cell: Cell) -> str:
    if isinstance(cell, float):
        return f"{cell:.3f}"
    if isinstance(cell, int):
        return f"{cell:,}"
    return cell or "-"
