"""The commands of the project's own READMEs, so that what is written and what is tried cannot differ."""

import pathlib
import re

CHECKOUT = pathlib.Path(__file__).resolve().parents[2]
FENCE = re.compile(r"^```\n(.*?)^```$", re.MULTILINE | re.DOTALL)
COMMENT = re.compile(r"\s+# .*$")


def commands(document: str, marked: str) -> list[str]:
    """The lines of the one block of this file that has this command in it, in their order and without comments."""
    text = (CHECKOUT / document).read_text()
    (block,) = [found[1] for found in FENCE.finditer(text) if marked in found[1]]
    return [COMMENT.sub("", line) for line in block.splitlines()]
