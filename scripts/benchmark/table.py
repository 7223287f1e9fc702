"""The two halves of the table: what each load came to, and what each start did, as medians of the rounds."""

from collections.abc import Callable, Iterable, Sequence
from statistics import median

from measuring import Load, Start

LOADS = ("comments", "clients", "server", "requests/s", "to no-op", "to plain", "p50 ms", "p99 ms", "CPU µs")
STARTS = ("server", "ready s, cold", "ready s, from cache", "memory MB")


def loads_table(loads: Sequence[Load]) -> str:
    """Write a row for each load of each server; a ratio is taken within a round, so that they have to be in order."""
    keys = dict.fromkeys((load.comments, load.clients, load.server) for load in loads)
    return _table(LOADS, [_row(loads, *key) for key in keys])


def starts_table(starts: Sequence[Start]) -> str:
    """Write a row for each server."""
    return _table(STARTS, [_start_row(starts, server) for server in dict.fromkeys(start.server for start in starts)])


def _row(loads: Sequence[Load], comments: int, clients: int, server: str) -> list[str]:
    def figures(server: str, figure: Callable[[Load], float]) -> list[float]:
        same = (comments, clients, server)
        return [figure(load) for load in loads if (load.comments, load.clients, load.server) == same]

    rates = figures(server, lambda load: load.per_second)

    def to(other: str) -> str:
        others = figures(other, lambda load: load.per_second)
        return f"{median(ours / theirs for ours, theirs in zip(rates, others, strict=True)):.2f}"

    p50, p99 = median(figures(server, lambda load: load.p50)), median(figures(server, lambda load: load.p99))
    cpu = median(figures(server, lambda load: load.cpu))
    named = [str(comments), str(clients), server]
    return [*named, f"{median(rates):.0f}", to("no-op"), to("plain"), f"{p50:.2f}", f"{p99:.2f}", f"{cpu:.0f}"]


def _start_row(starts: Iterable[Start], server: str) -> list[str]:
    own = [start for start in starts if start.server == server]
    memory = [start.memory for start in own if start.memory is not None]
    cold, warm = median(start.cold_seconds for start in own), median(start.warm_seconds for start in own)
    return [server, f"{cold:.2f}", f"{warm:.2f}", f"{median(memory):.0f}" if memory else "not told here"]


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Write Markdown that reads well as plain text too."""
    widths = [max(len(row[column]) for row in (header, *rows)) for column in range(len(header))]
    lines = [[cell.ljust(width) for cell, width in zip(row, widths, strict=True)] for row in (header, *rows)]
    lines.insert(1, ["-" * width for width in widths])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
