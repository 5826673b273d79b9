"""Tests of the judgement itself: what is not on the list must pass, what is on it must do what it says."""

import pathlib
import sys
import tempfile
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import expectations  # noqa: E402
from report import Spec  # noqa: E402

LIST = "# a comment\nfail: a spec\n  it is not there\n  yet\n\nskip: another spec\n  not here\n"


def listed(text: str = LIST) -> dict:
    with tempfile.NamedTemporaryFile("w", suffix=".list") as file:
        file.write(text)
        file.flush()
        return expectations.read(pathlib.Path(file.name))


def statuses(*specs: Spec) -> list[str]:
    return [status for status, _, _ in expectations.judge(specs, listed())]


class Judgement(unittest.TestCase):
    AS_LISTED = (Spec("a spec", "fail", "boom"), Spec("another spec", "skip", ""))

    def test_a_reason_is_joined_over_its_lines(self):
        self.assertEqual(listed()["a spec"].reason, "it is not there yet")

    def test_an_entry_without_a_reason_is_refused(self):
        with self.assertRaises(SystemExit):
            listed("fail: a spec\n")

    def test_what_the_list_says_counts_as_skipped(self):
        self.assertEqual(statuses(*self.AS_LISTED), ["skip", "skip"])

    def test_a_spec_that_is_not_listed_must_pass(self):
        for state, status in (("pass", "pass"), ("fail", "fail"), ("skip", "fail")):
            self.assertEqual(statuses(Spec("new", state, ""), *self.AS_LISTED)[0], status)

    def test_a_listed_spec_that_passes_breaks_the_run(self):
        self.assertEqual(statuses(Spec("a spec", "pass", ""), self.AS_LISTED[1]), ["fail", "skip"])

    def test_a_listed_failure_that_is_skipped_breaks_the_run(self):
        self.assertEqual(statuses(Spec("a spec", "skip", ""), self.AS_LISTED[1]), ["fail", "skip"])

    def test_a_listed_spec_that_does_not_exist_breaks_the_run(self):
        self.assertEqual(statuses(self.AS_LISTED[0]), ["skip", "fail"])


if __name__ == "__main__":
    unittest.main()
