"""Counts the visitors of each page: a web application on Flask, with threads.

Run it with ``flask --app flask_visits run``, or with ``gunicorn --preload --workers 4 --threads 8 flask_visits:app``.
"""

from __future__ import annotations

import os

from flask import Flask

from txvalkeycluster import ValkeyError, blocking

app = Flask(__name__)
# All threads share it.  It connects at the first command, so each worker of gunicorn has connections of its own.
client = blocking.BlockingClient(os.environ["VALKEY_URL"], encoding="utf-8", timeout=1.0)


@app.get("/<page>")
def visit(page: str) -> dict[str, object]:
    """Count one visit."""
    return {"page": page, "visits": client.incr(f"visits:{page}"), "process": os.getpid()}


@app.errorhandler(ValkeyError)
def unavailable(error: ValkeyError) -> tuple[dict[str, str], int]:
    """Answer while the cluster cannot be used."""
    return {"error": type(error).__name__}, 503
