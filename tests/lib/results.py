"""What a tier says about its tests, as tests/run reads it: see results.sh, of which this is the Python side."""

import os


def record(status: str, name: str, reason: str = "") -> None:
    """Adds one test's line to $CORTEN_RESULTS. `status`: pass, fail or skip."""
    fields = [" ".join(field.split()) for field in (status, name, reason)]
    line = "\t".join(fields) + "\n"
    path = os.environ.get("CORTEN_RESULTS")
    if path is None:
        print(line, end="", flush=True)
        return
    with open(path, "a", encoding="utf-8") as results:
        results.write(line)
