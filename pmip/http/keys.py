"""The accepted API keys: those of API_KEYS, and those of a file that is read again while the API runs."""

import logging
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from hashlib import sha256
from hmac import compare_digest
from pathlib import Path

from flask import Request

from pmip.config import keys_in
from pmip.errors import SettingsError

HEADER = "X-API-Key"
LOOK_SECONDS = 5

log = logging.getLogger(__name__)


class ApiKeys:
    """The accepted API keys; if there are neither keys nor a file, no key is required."""

    def __init__(self, keys: Iterable[str] = (), file: Path | None = None) -> None:
        """Accept these keys and those of a file; raise `SettingsError` if the file cannot be read or holds no key."""
        self._keys = tuple(keys)
        self._file = file
        self._problem: str | None = None
        self._digests = self._read()

    def __bool__(self) -> bool:
        return bool(self._digests)

    def start(self) -> None:
        """Start a thread that reads the file again every few seconds; without a file there is nothing to do."""
        if self._file:
            threading.Thread(target=self._run, name="keys", daemon=True).start()

    def look(self) -> None:
        """Read the file again. While it cannot be read or holds no key, the keys of before stay accepted."""
        try:
            digests, problem = self._read(), None
        except SettingsError as error:
            digests, problem = self._digests, str(error)
            if problem != self._problem:
                log.error("%s; the keys that were read before stay accepted", problem)
        if digests != self._digests:
            log.info("the API keys have changed")
        self._digests, self._problem = digests, problem

    def allow(self, request: Request) -> bool:
        """Return whether a request has an accepted key in `X-API-Key` or as `Authorization: Bearer`.

        All keys are compared in constant time and by digests of one length, so timing reveals nothing about them.
        """
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        shown = request.headers.get(HEADER) or (token.strip() if scheme.lower() == "bearer" else "")
        digest = _digest(shown.encode("latin-1"))  # WSGI decodes the bytes of a header as Latin-1
        matches = [compare_digest(digest, known) for known in self._digests]
        return not matches or any(matches)

    def _read(self) -> list[bytes]:
        keys = [*self._keys, *(_keys_of(self._file) if self._file else ())]
        return [_digest(form) for key in keys for form in _as_sent(key)]

    def _run(self) -> None:
        while True:
            time.sleep(LOOK_SECONDS)
            self.look()


def _keys_of(file: Path) -> tuple[str, ...]:
    """Return the keys of a file; a line that begins with # is a comment and must not become a key."""
    try:
        lines = file.read_text("utf-8-sig", "surrogateescape").splitlines()
        return keys_in("\n".join(line for line in lines if not line.startswith("#")))
    except OSError as error:
        raise SettingsError(f"API_KEYS_FILE={str(file)!r}: cannot be read ({error.strerror})") from None
    except ValueError as error:
        raise SettingsError(f"API_KEYS_FILE={str(file)!r}: {error}") from None


def _as_sent(key: str) -> Iterator[bytes]:
    """Yield the bytes of a key in a header: curl sends UTF-8, and browsers send Latin-1 if it has all the letters."""
    yield key.encode("utf-8", "surrogateescape")
    with suppress(UnicodeEncodeError):
        yield key.encode("latin-1")


def _digest(key: bytes) -> bytes:
    return sha256(key).digest()
