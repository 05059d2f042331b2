"""A guest book in memory: says hello, counts, logs, and can be made to work hard."""

import logging
import os

from flask import Flask, request
from markupsafe import escape

app = Flask(__name__)
logging.basicConfig(level=logging.INFO, format="%(message)s")
entries = []


@app.get("/")
def home():
    logging.info("home was read, %d entries", len(entries))
    name = os.environ.get("BOOK", "Guest book")
    return f"<h1>{escape(name)}</h1><p>{len(entries)} entries, release {os.environ.get('BERTH_RELEASE', '?')}.</p>"


@app.post("/entries")
def write():
    text = request.form.get("text", "").strip()
    if not text:
        return "Write something first.\n", 400
    entries.append(text)
    logging.info("entry %d was written", len(entries))
    return f"{len(entries)}\n", 201


@app.get("/work")
def work():
    """About a tenth of a second of CPU time."""
    return f"{sum(i * i for i in range(1_000_000))}\n"


@app.get("/health")
def health():
    return "ok\n"
