//! Container logs: their form, and that a moved one is followed by a new one.

use crate::cri::Cri;
use crate::node::in_a_node;
use crate::pods::{self, gated, log_path, shell};
use crate::wait::{until, until_true};
use std::fs;

/// One line of a log.
#[derive(Debug, PartialEq, Eq)]
pub struct Line {
    /// When, as RFC 3339.
    pub time: String,
    /// `stdout` or `stderr`.
    pub stream: String,
    /// It ends a line; else it is a part of a long one.
    pub whole: bool,
    /// What the container wrote.
    pub text: String,
}

/// Reads a log; anything that is not in the CRI's form is a panic. A line that is just being
/// written is left out.
pub fn read(path: &str) -> Vec<Line> {
    let text = fs::read_to_string(path).unwrap_or_else(|e| panic!("{path}: {e}"));
    let ended = text.rfind('\n').map_or("", |end| &text[..end]);
    ended.lines().map(line).collect()
}

fn line(text: &str) -> Line {
    let mut fields = text.splitn(4, ' ').map(str::to_owned);
    let mut field = || {
        fields
            .next()
            .unwrap_or_else(|| panic!("no line of a log: {text:?}"))
    };
    let (time, stream, tag, text) = (field(), field(), field(), field());
    assert!(is_rfc3339_nano(&time), "{time:?}");
    assert!(["F", "P"].contains(&tag.as_str()), "{tag:?}");
    Line {
        time,
        stream,
        whole: tag == "F",
        text,
    }
}

/// `2026-01-31T23:59:59.123456789Z`, or with an offset for the `Z`.
fn is_rfc3339_nano(time: &str) -> bool {
    let shape: String = time
        .chars()
        .map(|c| if c.is_ascii_digit() { '0' } else { c })
        .collect();
    let Some(fraction) = shape.strip_prefix("0000-00-00T00:00:00.") else {
        return false;
    };
    let zone = fraction.trim_start_matches('0');
    fraction.len() - zone.len() == 9 && ["Z", "+00:00", "-00:00"].contains(&zone)
}

/// The numbers in a log, which must be one a line.
pub fn numbers(path: &str) -> Vec<u64> {
    let number = |line: Line| {
        line.text
            .parse()
            .unwrap_or_else(|_| panic!("{path}: {line:?}"))
    };
    read(path).into_iter().map(number).collect()
}

/// Panics unless the numbers are 1, 2, 3 and so on, without a gap and without one twice.
pub fn assert_gapless(path: &str, numbers: &[u64]) {
    for (expected, number) in (1..).zip(numbers) {
        assert_eq!(*number, expected, "{path}: a gap or a line twice");
    }
}

/// Writes the numbers from 1, one every 10 ms, without a process for each; ends when there is a
/// file `/gate/end`, with the code that is in it, or on SIGTERM with 0.
pub const COUNT: &str = "trap 'exit 0' TERM; mkfifo /tmp/clock; exec 9<>/tmp/clock; i=0; \
    while [ ! -e /gate/end ]; do i=$((i+1)); echo $i; read -t 0.01 -u 9 tick; done; \
    read code </gate/end; exit $code";

async fn ended_log(cri: &Cri, id: &str) -> Vec<Line> {
    let status = cri.ended(id).await;
    read(&status.log_path)
}

#[test]
#[ignore = "needs root: run by tests/run root"]
fn root_the_log_has_both_streams_in_the_cri_form() {
    in_a_node(async |node| {
        let pod = node.run(pods::pod("pod")).await;
        let script = "echo out; echo err >&2; printf 'no end'";
        let id = node.launch(&pod, shell("c", script)).await;
        let lines = ended_log(&node.cri, &id).await;
        let texts = |stream: &str| -> Vec<_> {
            let of_stream = lines.iter().filter(|line| line.stream == stream);
            of_stream
                .map(|line| (line.text.as_str(), line.whole))
                .collect()
        };
        assert_eq!(texts("stderr"), [("err", true)]);
        let [first, last] = texts("stdout")[..] else {
            panic!("{lines:?}")
        };
        assert_eq!(first, ("out", true));
        assert_eq!(last.0, "no end");
    });
}

#[test]
#[ignore = "needs root: run by tests/run root"]
fn root_a_long_line_is_kept_in_parts_of_16_kib() {
    in_a_node(async |node| {
        let pod = node.run(pods::pod("pod")).await;
        let script = "head -c 40000 /dev/zero | tr '\\0' x; echo; echo short";
        let id = node.launch(&pod, shell("c", script)).await;
        let lines = ended_log(&node.cri, &id).await;
        let shape: Vec<_> = lines
            .iter()
            .map(|line| (line.text.len(), line.whole))
            .collect();
        assert_eq!(
            shape,
            [(16_384, false), (16_384, false), (7_232, true), (5, true)]
        );
    });
}

#[test]
#[ignore = "needs root: run by tests/run root"]
fn root_a_moved_log_is_followed_by_a_new_one_without_a_gap() {
    in_a_node(async |node| {
        let pod = node.run(pods::pod("pod")).await;
        let gate = node.gate("c");
        let id = node.launch(&pod, gated(shell("c", COUNT), &gate)).await;
        let path = log_path(&pod.config, "c");
        until_true("ten lines", 10, async || numbers(&path).len() > 10).await;
        let moved = format!("{path}.1");
        fs::rename(&path, &moved).unwrap();
        node.cri.reopen_log(&id).await.unwrap();
        assert!(
            fs::exists(&path).unwrap(),
            "the new log is there when the call returns"
        );
        let old = numbers(&moved);
        until_true("ten lines in the new log", 10, async || {
            numbers(&path).len() > 10
        })
        .await;
        assert_eq!(numbers(&moved), old, "the old log does not grow");
        node.cri.stop(&id, 10).await.unwrap();
        assert_gapless(&path, &[old, numbers(&path)].concat());
        let refusal = node.cri.reopen_log(&id).await.unwrap_err();
        assert_eq!(refusal.code(), tonic::Code::FailedPrecondition, "{refusal}");
    });
}

#[test]
#[ignore = "needs root: run by tests/run root"]
fn root_without_a_log_path_output_is_read_and_dropped() {
    in_a_node(async |node| {
        let pod = node.run(pods::pod("pod")).await;
        let mut container = shell("c", "head -c 1000000 /dev/zero | tr '\\0' '\\n'; exit 4");
        container.log_path.clear();
        let id = node.launch(&pod, container).await;
        let status = node.cri.ended(&id).await;
        assert_eq!((status.exit_code, status.log_path.as_str()), (4, ""));
    });
}

#[test]
#[ignore = "needs root: run by tests/run root"]
fn root_a_log_stands_while_the_container_lives() {
    in_a_node(async |node| {
        let pod = node.run(pods::pod("pod")).await;
        let id = node
            .launch(&pod, shell("c", "echo here; exec tail -f /dev/null"))
            .await;
        let path = node.cri.status(&id).await.unwrap().log_path;
        assert_eq!(path, log_path(&pod.config, "c"));
        let line = until("a line", 10, async || read(&path).pop()).await;
        assert_eq!(
            (line.text.as_str(), line.stream.as_str()),
            ("here", "stdout")
        );
    });
}
