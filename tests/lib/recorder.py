"""Runs unittest cases and records each as it ends."""

import traceback
import unittest

from results import record


class Recorder(unittest.TestResult):
    def addSuccess(self, test):
        self._tell("pass", test)

    def addFailure(self, test, err):
        traceback.print_exception(*err)
        self._tell("fail", test, str(err[1]))

    def addError(self, test, err):
        self.addFailure(test, err)

    def addSubTest(self, test, subtest, err):
        if err is not None:
            self.addFailure(subtest, err)

    def addSkip(self, test, reason):
        self._tell("skip", test, reason)

    def _tell(self, status: str, test, reason: str = "") -> None:
        # "module.Class.test_name", with "(key='value')" of a subtest, or "setUpClass (module.Class)".
        name = test.id().partition(".")[2].replace("_", " ")
        name = name if "(" in name else name.rstrip(")")
        print(status, name, reason, flush=True)
        record(status, name, " ".join(reason.split())[:300])


def chosen(case: type[unittest.TestCase], only: str) -> list[unittest.TestCase]:
    """The tests of one class whose names hold `only`."""
    return [test for test in unittest.defaultTestLoader.loadTestsFromTestCase(case) if only in test.id()]


def run_cases(case: type[unittest.TestCase], only: str = "") -> None:
    """Runs the tests of one class whose names hold `only`, with its class-wide set-up."""
    unittest.TestSuite(chosen(case, only)).run(Recorder())
