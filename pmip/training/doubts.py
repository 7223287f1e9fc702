"""Warns of what can be read as a table but is hardly meant so, with lines and numbers and no comment."""

import csv
import logging
import re
from collections.abc import Callable
from contextlib import suppress

from pmip.training.tables import Row, Table

SHOWN = 5
# A character of two to four bytes in UTF-8, each of which was read as a character of Windows-1252 or Latin-1. Of those
# with two bytes, only the letters of Latin, Greek, Cyrillic, Hebrew and Arabic, so that a quote after É is none.
BYTE = "[\x80-\xbf€‚ƒ„…†‡ˆ‰Š‹ŒŽ‘’“”•–—˜™š›œžŸ]"
DOUBLE_ENCODED = re.compile(f"[ÂÃÄÅÎÏÐÑ×ØÙÚÛ]{BYTE}|[à-ï]{BYTE}{{2}}|[ð-ô]{BYTE}{{3}}")

log = logging.getLogger(__name__)


class Doubts:
    """What can be read but is hardly meant: rows inside a row, and texts in a wrong encoding."""

    def __init__(self, table: Table, has_label: Callable[[list[str]], bool]) -> None:
        self._table, self._has_label = table, has_label
        self._double_encoded: list[int] = []
        self._swallowing: list[tuple[int, int, int]] = []

    def look(self, row: Row, text: str) -> None:
        """Note the text of a row if it is doubtful."""
        if not text.isascii() and DOUBLE_ENCODED.search(text):
            self._double_encoded.append(row.line)
        if row.last > row.line and (rows := sum(map(self._looks_like_a_row, text.splitlines()))) > 1:
            self._swallowing.append((row.line, row.last, rows))

    def _looks_like_a_row(self, line: str) -> bool:
        with suppress(csv.Error, StopIteration):
            cells = next(csv.reader([line], delimiter=self._table.delimiter))
            return len(cells) == len(self._table.header) and self._has_label(cells)
        return False

    def warn(self) -> None:
        """Log a warning for each kind of doubt, with lines and numbers."""
        for line, last, rows in self._swallowing[:SHOWN]:
            text = "%s, lines %s to %s: one comment that holds %s rows; is there a quote that does not belong there?"
            log.warning(text, self._table.origin, line, last, rows)
        if lines := self._double_encoded:
            text = "%s: %s comments look as if UTF-8 had been read in another encoding, the first in line %s; %s"
            log.warning(text, self._table.origin, f"{len(lines):,}", lines[0], "save the file as UTF-8 from its source")
