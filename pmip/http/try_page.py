"""The page for people at /try: one comment, its probability of spam, and what each of its words does to it."""

import re
from base64 import b64encode
from hashlib import sha256
from pathlib import Path

from flask import Response, render_template_string

from pmip.config import Limits

PAGE = Path(__file__).with_name("try.html").read_text(encoding="utf-8")


def _hash_of(element: str) -> str:
    """Return the source of a content security policy that allows the page's own script or style, and no other."""
    [text] = re.findall(f"<{element}>(.*?)</{element}>", PAGE, re.DOTALL)
    return f"'sha256-{b64encode(sha256(text.encode()).digest()).decode()}'"


LIMITS = ("max_comments", "max_comment_chars", "max_total_chars")
POLICY = (
    f"default-src 'none'; script-src {_hash_of('script')}; style-src {_hash_of('style')}; connect-src 'self'; "
    "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


def try_page(limits: Limits) -> Response:
    """Return the page, which keeps its requests within these limits."""
    # The limits alone, by name: they may be an object that holds all settings, and so the API keys.
    page = render_template_string(PAGE, limits={name: getattr(limits, name) for name in LIMITS})
    headers = {"Content-Security-Policy": POLICY, "X-Frame-Options": "DENY"}
    return Response(page, mimetype="text/html", headers=headers)
