"""What the routes are built from: checks of requests, errors, Swagger, the log, the metrics.

In: a caller's request. Out: checked comments, or an error that tells how to mend the request.
"""

import sys

# flask-restx imports jsonschema, and that imports a grammar of web addresses where Jupyter has brought one, which takes
# a second to build and checks what no route has: https://github.com/python-jsonschema/jsonschema (_format.py).
sys.modules.setdefault("rfc3987_syntax", None)  # type: ignore[arg-type]
