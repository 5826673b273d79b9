"""Tests of the table itself: figures that are known, and what it must say of them."""

import pathlib
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import printed  # noqa: E402
import rows  # noqa: E402
import table  # noqa: E402
from table import BEST, MILLISECONDS, RATE, Row  # noqa: E402

MS = 1_000_000
ASIDE = "the host"


def outcome(row: Row, peers: tuple[str, ...] = ("a", "b"), **recorded: list[list[float]]) -> table.Outcome:
    by_runtime = {name: {"Op": rounds} for name, rounds in recorded.items() if name != "aside"}
    by_runtime[ASIDE] = {"aside": recorded.get("aside", [])}
    return table.outcome(row, by_runtime, peers, ASIDE)


class Figures(unittest.TestCase):
    def test_the_median_and_the_95th_percentile_are_of_all_rounds(self):
        cell = table.cell(MILLISECONDS, [[MS * n for n in range(1, 51)], [MS * n for n in range(51, 101)]])
        self.assertEqual((cell.median, cell.p95, cell.samples), (50.5, 95, 100))

    def test_of_a_rate_the_95th_percentile_is_on_the_slow_side(self):
        cell = table.cell(RATE, [[MS] * 94 + [100 * MS] * 6])
        self.assertEqual((cell.median, cell.p95), (1000, 10))

    def test_of_a_few_the_95th_percentile_is_the_worst(self):
        self.assertEqual(table.p95([3, 1, 2], more_is_better=False), 3)

    def test_one_sample_is_itself(self):
        self.assertEqual(table.p95([7], more_is_better=False), 7)

    def test_nothing_measured_is_no_cell(self):
        self.assertIsNone(table.cell(MILLISECONDS, None))
        self.assertIsNone(table.cell(MILLISECONDS, [[], []]))


class Noise(unittest.TestCase):
    def test_of_one_round_it_is_not_known(self):
        cell = table.cell(MILLISECONDS, [[MS, 9 * MS]])
        self.assertIsNone(cell.spread)
        self.assertFalse(cell.noisy)

    def test_it_is_how_far_the_rounds_medians_are_apart(self):
        self.assertEqual(table.spread([10, 9, 12]), 0.3)

    def test_rounds_that_agree_are_quiet_however_wide_each_is(self):
        self.assertFalse(table.cell(MILLISECONDS, [[MS, 10 * MS, 90 * MS], [2 * MS, 11 * MS, 80 * MS]]).noisy)

    def test_rounds_that_do_not_agree_are_marked(self):
        row = Row("Op", "Op")
        loud = outcome(row, corten=[[10 * MS], [14 * MS]])
        self.assertTrue(loud.ours.noisy)
        self.assertEqual(printed.figure(loud.ours), "12.0 / 14.0 ~")


class Ratios(unittest.TestCase):
    def test_the_best_peer_is_the_quickest(self):
        one = outcome(Row("Op", "Op"), a=[[30 * MS]], b=[[20 * MS]], corten=[[4 * MS]])
        self.assertEqual((one.best, one.ratio(BEST), one.ratio("a")), ("b", 5, 7.5))

    def test_of_a_rate_it_is_the_one_with_most(self):
        one = outcome(Row("Op", "Op", unit=RATE), a=[[30 * MS]], b=[[20 * MS]], corten=[[4 * MS]])
        self.assertEqual(one.best, "b")
        self.assertAlmostEqual(one.ratio(BEST), 5)

    def test_who_is_not_there_is_not_compared_with(self):
        one = outcome(Row("Op", "Op", times={"b": 9, BEST: 2}), a=[[8 * MS]], corten=[[4 * MS]])
        self.assertIsNone(one.ratio("b"))
        self.assertEqual(one.missed(), [])

    def test_nothing_is_divided_by_nothing(self):
        self.assertIsNone(outcome(Row("Op", "Op"), a=[[MS]], corten=[[0]]).ratio(BEST))


class Goals(unittest.TestCase):
    def test_a_limit_is_reached_at_itself_and_not_above(self):
        row = Row("Op", "Op", limit=5)
        self.assertEqual(printed.reached(outcome(row, corten=[[5 * MS]])), "yes")
        self.assertEqual(printed.reached(outcome(row, corten=[[5.1 * MS]])), "no: ≤ 5.00 ms")

    def test_of_a_rate_at_least_so_much_is_wanted(self):
        row = Row("Op", "Op", unit=RATE, limit=100)
        self.assertEqual(outcome(row, corten=[[10 * MS]]).missed(), [])
        self.assertEqual(outcome(row, corten=[[11 * MS]]).missed(), ["≥ 100 /s"])

    def test_a_limit_over_what_the_plugins_take_moves_with_them(self):
        row = Row("Op", "Op", limit=8, over="aside")
        self.assertEqual(outcome(row, corten=[[47 * MS]], aside=[[40 * MS]]).missed(), [])
        self.assertEqual(outcome(row, corten=[[49 * MS]], aside=[[40 * MS]]).missed(), ["≤ 48.0 ms"])

    def test_without_the_plugins_there_is_no_limit_to_miss(self):
        one = outcome(Row("Op", "Op", limit=8, over="aside"), corten=[[99 * MS]])
        self.assertEqual((one.limit, one.missed()), (None, []))

    def test_each_peer_has_a_goal_of_its_own(self):
        row = Row("Op", "Op", times={"a": 30, "b": 4})
        one = outcome(row, a=[[90 * MS]], b=[[21 * MS]], corten=[[5 * MS]])
        self.assertEqual(one.missed(), ["30× a"])

    def test_what_was_not_measured_has_not_missed(self):
        one = outcome(Row("Op", "Op", limit=5), a=[[MS]])
        self.assertEqual((one.missed(), printed.reached(one)), ([], "–"))


class Printing(unittest.TestCase):
    ROW = Row("A call", "Op", limit=5, times={BEST: 6}, floor="aside")

    def test_a_line_has_everything(self):
        one = outcome(self.ROW, a=[[30 * MS, 30 * MS]], corten=[[4 * MS, 4 * MS]], aside=[[2 * MS]])
        self.assertEqual(printed.line(one, ("a", "b")), [
            "A call, ms", "30.0 / 30.0", "–", "4.00 / 4.00", "7.50×", "≤ 5.00, 6×", "yes", "2.00 (2.00×)"])

    def test_our_other_programs_stand_in_our_column(self):
        row = Row("A call", "Op", ours="other")
        self.assertEqual(outcome(row, other=[[3 * MS]], corten=[[9 * MS]]).ours.median, 3)

    def test_columns_stand_under_each_other(self):
        text = printed.as_text([outcome(self.ROW, a=[[30 * MS]], corten=[[4 * MS]])], ("a",))
        head, line = text.splitlines()
        self.assertEqual(head.index("Corten") + len("Corten"), line.index("4.00") + len("4.00"))

    def test_markdown_has_a_rule_and_as_many_cells_in_each_line(self):
        text = printed.as_markdown([outcome(self.ROW, a=[[30 * MS]], corten=[[4 * MS]])], ("a",))
        lines = text.splitlines()
        self.assertEqual({line.count("|") for line in lines}, {8})
        self.assertTrue(lines[1].startswith("| --- | ---: |"))

    def test_figures_have_three_digits(self):
        self.assertEqual([table.shown(value) for value in (0, 0.1234, 1.5, 54.84, 1234.5)],
                         ["0", "0.123", "1.50", "54.8", "1234"])

    def test_json_says_what_the_table_says(self):
        one = printed.as_object(outcome(self.ROW, a=[[30 * MS]], corten=[[6 * MS]]))
        self.assertEqual((one["better"], one["best"], one["missed"]), (5, "a", ["≤ 5.00 ms", "6× the best"]))
        self.assertEqual(one["runtimes"]["corten"]["median"], 6)


class Rows(unittest.TestCase):
    def test_each_has_a_title_of_its_own(self):
        for sizes in (rows.FULL, rows.QUICK):
            titles = [row.title for of_group in rows.rows(sizes).values() for row in of_group]
            self.assertEqual(len(titles), len(set(titles)), [one for one in titles if titles.count(one) > 1])

    def test_one_with_a_limit_or_a_ratio_has_a_goal(self):
        with_goals = [outcome(row).has_goal for row in (Row("Op", "Op", limit=1), Row("Op", "Op", times={BEST: 2}))]
        self.assertEqual((with_goals, outcome(Row("Op", "Op")).has_goal), ([True, True], False))

    def test_windows_are_of_pods_that_are_made(self):
        for sizes in (rows.FULL, rows.QUICK):
            for which, part in rows.windows(sizes).items():
                self.assertEqual(len(range(*part.indices(sizes.growth))), sizes.window, which)


if __name__ == "__main__":
    unittest.main()
