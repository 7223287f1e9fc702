"""What the routes are built from: checks of requests, API keys, errors, Swagger, the log, the metrics.

In: a caller's request. Out: checked comments, or an error that says how to correct the request.
"""

import sys

# flask-restx imports jsonschema, which imports rfc3987_syntax if Jupyter has installed it. Building that grammar of web
# addresses takes a second, and no route uses it: https://github.com/python-jsonschema/jsonschema (_format.py).
sys.modules.setdefault("rfc3987_syntax", None)  # type: ignore[arg-type]
