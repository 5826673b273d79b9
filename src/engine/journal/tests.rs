//! Who hears what, and what becomes of those who do not listen.

use super::*;
use crate::store::fakes::a_sandbox;

const SECOND: i64 = 1_000_000_000;

fn journal() -> Journal {
    Journal::new(EventMetrics::default(), 0)
}

/// What a change does: it is entered where somebody may want it.
fn enter(journal: &Journal, subject: u64, now: i64) -> i64 {
    let mut page = journal.open();
    if !page.is_wanted(now) {
        return 0;
    }
    let at = page.time(now);
    page.enter(Entry {
        kind: EventKind::Created,
        subject: subject.to_string(),
        at,
        sandbox: Arc::new(a_sandbox("a")),
        containers: None,
    });
    at
}

/// All that there is for this one just now.
fn heard(journal: &Journal, follower: Follower) -> Vec<String> {
    let next = || match journal.next(follower) {
        Next::Entry(entry) => Some(entry.subject),
        Next::Wait | Next::Closed => None,
        Next::Behind => Some("behind".to_owned()),
    };
    std::iter::from_fn(next).collect()
}

fn numbers(of: std::ops::Range<u64>) -> Vec<String> {
    of.map(|number| number.to_string()).collect()
}

fn kept(journal: &Journal) -> usize {
    journal.locked().kept.len()
}

const ALL: u64 = MOST as u64;

#[test]
fn who_follows_hears_all_in_order_and_nothing_is_kept() {
    let journal = journal();
    let (one, _) = journal.follow(0);
    let (other, _) = journal.follow(0);
    for number in 0..5 {
        enter(&journal, number, 1);
    }
    assert_eq!(heard(&journal, one), numbers(0..5));
    assert_eq!(kept(&journal), 5, "the other has not heard it");
    assert_eq!(heard(&journal, other), numbers(0..5));
    assert_eq!(kept(&journal), 0);
    enter(&journal, 5, 1);
    assert_eq!(heard(&journal, one), numbers(5..6));
}

#[test]
fn times_grow_although_the_clock_does_not() {
    let journal = journal();
    let times: Vec<i64> = [7, 7, 3, 9]
        .iter()
        .map(|now| enter(&journal, 0, *now))
        .collect();
    assert_eq!(times, [7, 8, 9, 10]);
}

#[test]
fn who_comes_again_hears_what_happened_meanwhile_and_a_second_one_only_what_is_new() {
    let journal = journal();
    enter(&journal, 0, 1);
    let (first, _) = journal.follow(2);
    assert_eq!(heard(&journal, first), numbers(0..1), "from before it came");
    journal.leave(first, 2);
    enter(&journal, 1, 2);
    enter(&journal, 2, 3);
    let (again, _) = journal.follow(4);
    let (second, _) = journal.follow(4);
    assert_eq!(heard(&journal, again), numbers(1..3));
    assert_eq!(heard(&journal, second), numbers(0..0));
}

#[test]
fn who_left_before_it_heard_all_leaves_the_rest_to_who_comes() {
    let journal = journal();
    let (first, _) = journal.follow(0);
    enter(&journal, 0, 1);
    enter(&journal, 1, 1);
    assert!(matches!(journal.next(first), Next::Entry(entry) if entry.subject == "0"));
    journal.leave(first, 2);
    let (again, _) = journal.follow(2);
    assert_eq!(heard(&journal, again), numbers(1..2));
}

#[test]
fn what_is_older_than_five_minutes_is_not_told_again() {
    let journal = journal();
    enter(&journal, 0, SECOND);
    enter(&journal, 1, 100 * SECOND);
    let (late, _) = journal.follow(302 * SECOND);
    assert_eq!(heard(&journal, late), numbers(1..2));
}

#[test]
fn nothing_is_kept_where_nobody_has_followed_for_five_minutes() {
    let journal = journal();
    enter(&journal, 0, 299 * SECOND);
    assert_eq!(kept(&journal), 1);
    enter(&journal, 1, 300 * SECOND);
    assert_eq!(kept(&journal), 0, "nor what was kept before");
    let (first, _) = journal.follow(400 * SECOND);
    assert!(heard(&journal, first).is_empty());
    enter(&journal, 2, 1000 * SECOND);
    assert_eq!(heard(&journal, first), ["2"]);
    journal.leave(first, 1000 * SECOND);
    enter(&journal, 3, 1299 * SECOND);
    enter(&journal, 4, 1300 * SECOND);
    assert_eq!(kept(&journal), 0);
}

#[test]
fn who_is_slow_but_not_too_slow_hears_all_however_old() {
    let journal = journal();
    let (slow, _) = journal.follow(0);
    enter(&journal, 0, SECOND);
    enter(&journal, 1, 1000 * SECOND);
    let (new, _) = journal.follow(2000 * SECOND);
    assert_eq!(heard(&journal, slow), numbers(0..2));
    assert!(heard(&journal, new).is_empty());
}

#[test]
fn who_does_not_listen_is_let_go_though_it_never_asks_and_holds_up_nobody() {
    let journal = journal();
    let (slow, _) = journal.follow(0);
    let (quick, _) = journal.follow(0);
    for number in 0..ALL {
        enter(&journal, number, 1);
        assert_eq!(heard(&journal, quick), numbers(number..number + 1));
    }
    assert_eq!(kept(&journal), MOST, "all of it for the slow one");
    enter(&journal, ALL, 1);
    assert_eq!(
        kept(&journal),
        1,
        "it is let go, and nothing is kept for it"
    );
    assert_eq!(heard(&journal, quick), numbers(ALL..ALL + 1));
    assert_eq!(kept(&journal), 0);
    assert!(matches!(journal.next(slow), Next::Behind));
    assert!(matches!(journal.next(slow), Next::Closed));
    journal.leave(slow, 1);
    enter(&journal, 7, 1);
    assert_eq!(heard(&journal, quick), ["7"]);
}

#[test]
fn who_was_let_go_and_comes_again_hears_the_latest() {
    let journal = journal();
    let (slow, _) = journal.follow(0);
    for number in 0..=ALL {
        enter(&journal, number, 1000 * SECOND);
    }
    assert!(matches!(journal.next(slow), Next::Behind));
    journal.leave(slow, 1000 * SECOND);
    let (again, _) = journal.follow(1001 * SECOND);
    assert_eq!(heard(&journal, again), numbers(1..ALL + 1));
}

#[test]
fn no_more_is_kept_for_who_may_come_than_for_who_is_slow() {
    let journal = journal();
    for number in 0..ALL + 10 {
        enter(&journal, number, 1);
    }
    assert_eq!(kept(&journal), MOST);
    let (first, _) = journal.follow(2);
    assert_eq!(heard(&journal, first), numbers(10..ALL + 10));
}

#[test]
fn at_the_end_the_rest_is_told_first() {
    let journal = journal();
    let (one, grown) = journal.follow(0);
    enter(&journal, 0, 1);
    journal.close();
    assert!(grown.has_changed().unwrap());
    assert!(matches!(journal.next(one), Next::Entry(_)));
    assert!(matches!(journal.next(one), Next::Closed));
}
