"""The versions of the model as a table of text."""

from collections.abc import Sequence

from pmip.model.artifact import Metadata

HEADINGS = ("model id", "data", "comments", "new video: accuracy, MCC", "held out: accuracy, MCC", "state")
UNKNOWN = "-"


def table(versions: Sequence[Metadata], retired: Sequence[Metadata]) -> list[str]:
    """Return the lines of the table, newest version first; APIs serve the newest version that is not retired."""
    states = {metadata.model_id: "older" for metadata in versions}
    states |= {metadata.model_id: "in service" for metadata in versions[:1]}
    rows = [(metadata, states[metadata.model_id]) for metadata in versions]
    rows += [(metadata, "retired") for metadata in retired]
    rows.sort(key=lambda row: row[0].model_id, reverse=True)
    cells = [HEADINGS, *(_cells(metadata, state) for metadata, state in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return ["  ".join(map(str.ljust, row, widths)).rstrip() for row in cells]


def _cells(metadata: Metadata, state: str) -> tuple[str, ...]:
    return (
        metadata.model_id,
        _printable(metadata.training_data_id or UNKNOWN),
        _comments(metadata),
        _figures(metadata, "leave_one_source_out"),
        _figures(metadata, "held_out"),
        state,
    )


def _comments(metadata: Metadata) -> str:
    rows = [file.get("rows") if isinstance(file, dict) else None for file in metadata.training_files]
    counted = [number for number in rows if isinstance(number, int)]
    return f"{sum(counted):,}" if counted and len(counted) == len(rows) else UNKNOWN


def _figures(metadata: Metadata, protocol: str) -> str:
    """Return accuracy and MCC; a metadata.json written by hand may hold anything instead."""
    scores = metadata.metrics.get(protocol)
    figures = [scores.get(name) if isinstance(scores, dict) else None for name in ("accuracy", "mcc")]
    return " ".join(f"{figure:.3f}" if isinstance(figure, int | float) else UNKNOWN for figure in figures)


def _printable(text: str) -> str:
    """Return a text without control characters, which could move the cursor of a terminal."""
    return "".join(sign if sign.isprintable() else "?" for sign in text)
