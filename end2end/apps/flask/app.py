"""A guest book in memory: says hello, counts, logs, and can be made to work hard."""

import os
import sys

from flask import Flask, request

app = Flask(__name__)
entries = []


@app.get("/")
def home():
    print(f"home was read, {len(entries)} entries", flush=True)
    return f"<h1>Guest book</h1><p>{len(entries)} entries, release {os.environ.get('BERTH_RELEASE', '?')}.</p>"


@app.post("/entries")
def write():
    text = request.form.get("text", "").strip()
    if not text:
        return "Write something first.\n", 400
    entries.append(text)
    print(f"entry {len(entries)} was written", file=sys.stderr, flush=True)
    return f"{len(entries)}\n", 201


@app.get("/work")
def work():
    """About a tenth of a second of CPU time."""
    return f"{sum(i * i for i in range(1_000_000))}\n"


@app.get("/health")
def health():
    return "ok\n"
