"""Who may ask, once API keys are set."""

from collections.abc import Iterable
from hashlib import sha256
from hmac import compare_digest

HEADER = "X-API-Key"


class ApiKeys:
    """The keys that callers may show; without any, everybody may ask."""

    def __init__(self, keys: Iterable[str] = ()) -> None:
        self._digests = [_digest(key) for key in keys]

    def __bool__(self) -> bool:
        return bool(self._digests)

    def allow(self, shown: str | None) -> bool:
        """Tell whether a caller who shows this key may ask.

        All keys are compared, by digests of one length and in constant time: how long it takes tells nothing.
        """
        digest = _digest(shown or "")
        matches = [compare_digest(digest, known) for known in self._digests]
        return not matches or any(matches)


def _digest(key: str) -> bytes:
    return sha256(key.encode("utf-8", "surrogatepass")).digest()
