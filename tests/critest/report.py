"""Reads ginkgo's JSON report."""

import dataclasses
import json
import pathlib

STATES = {"passed": "pass", "skipped": "skip", "pending": "skip"}


@dataclasses.dataclass(frozen=True)
class Spec:
    """One spec: its full text, what became of it (pass, fail or skip), and why if it did not pass."""

    text: str
    state: str
    message: str


def read(path: pathlib.Path) -> list[Spec]:
    """Every spec of the report; set-up and tear-down that failed count as specs, since no spec tells of them."""
    reports = [one for suite in json.loads(path.read_text()) for one in suite["SpecReports"] or []]
    return [_spec(one) for one in reports if one["LeafNodeType"] == "It" or one["State"] not in STATES]


def _spec(report: dict) -> Spec:
    text = " ".join([*(report["ContainerHierarchyTexts"] or []), report["LeafNodeText"] or report["LeafNodeType"]])
    message = (report.get("Failure") or {}).get("Message", "")
    return Spec(" ".join(text.split()), STATES.get(report["State"], "fail"), " ".join(message.split())[:300])
