//! The exit record: what a container's end was, on disk before anyone is told.
//!
//! Invariant: a reader finds a whole record or none: it is written beside its place and renamed.
//! It is not synced, since a new boot makes it moot.

use crate::api::{ExitReason, ExitRecord};
use crate::reaper::End;
use std::io;
use std::path::Path;

/// What is known of a container when it has ended.
#[derive(Debug)]
pub struct Ended<'a> {
    /// The process id that its init had.
    pub pid: i32,
    /// How the init ended.
    pub end: End,
    /// Processes of its cgroup that were killed for memory, where the last was just before the end.
    pub memory_kills: u64,
    /// Why its program could not be executed, where that is so.
    pub start_failure: Option<&'a str>,
    /// As in [`ExitRecord`].
    pub started_at: i64,
    /// As in [`ExitRecord`].
    pub finished_at: i64,
}

/// The record of an end.
#[must_use]
pub fn of(ended: &Ended<'_>) -> ExitRecord {
    let (code, signal, reason, message) = verdict(ended);
    ExitRecord {
        pid: ended.pid,
        code,
        signal,
        reason,
        message,
        started_at: ended.started_at,
        finished_at: ended.finished_at,
    }
}

/// Writes a record as JSON.
///
/// # Errors
/// What the file system says; the record's place then holds what it held before.
pub fn save(record: &ExitRecord, path: &Path) -> io::Result<()> {
    crate::failpoint!("shim_exit/reaped");
    let beside = path.with_extension("new");
    std::fs::write(&beside, serde_json::to_vec(record)?)?;
    std::fs::rename(&beside, path)?;
    crate::failpoint!("shim_exit/recorded");
    Ok(())
}

fn verdict(ended: &Ended<'_>) -> (i32, Option<i32>, ExitReason, String) {
    let End { code, signal } = ended.end;
    if let Some(why) = ended.start_failure {
        return (128, None, ExitReason::StartError, why.to_owned());
    }
    // A kill for memory is a SIGKILL; an init that passes on its child's end exits with 137.
    if ended.memory_kills > 0 && code == 137 {
        let kills = ended.memory_kills;
        let message = format!("killed for memory: {kills} of its processes reached the limit");
        return (code, signal, ExitReason::OomKilled, message);
    }
    match (code, signal) {
        (0, None) => (0, None, ExitReason::Completed, String::new()),
        _ => (code, signal, ExitReason::Error, String::new()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ended(code: i32, signal: Option<i32>) -> Ended<'static> {
        Ended {
            pid: 7,
            end: End { code, signal },
            memory_kills: 0,
            start_failure: None,
            started_at: 1,
            finished_at: 2,
        }
    }

    #[test]
    fn the_reason_follows_the_end() {
        assert_eq!(of(&ended(0, None)).reason, ExitReason::Completed);
        assert_eq!(of(&ended(3, None)).reason, ExitReason::Error);
        let killed = of(&ended(137, Some(9)));
        assert_eq!((killed.code, killed.signal), (137, Some(9)));
        assert_eq!(killed.reason, ExitReason::Error);
    }

    #[test]
    fn killed_for_memory_needs_both_the_counter_and_the_kill() {
        let moved = |code, signal| {
            of(&Ended {
                memory_kills: 1,
                ..ended(code, signal)
            })
            .reason
        };
        assert_eq!(moved(137, Some(9)), ExitReason::OomKilled);
        assert_eq!(moved(137, None), ExitReason::OomKilled);
        assert_eq!(moved(143, Some(15)), ExitReason::Error);
        assert_eq!(moved(0, None), ExitReason::Completed);
    }

    #[test]
    fn a_program_that_could_not_be_executed_is_128() {
        let failed = Ended {
            start_failure: Some("no such file"),
            ..ended(1, None)
        };
        let record = of(&failed);
        assert_eq!((record.code, record.reason), (128, ExitReason::StartError));
        assert_eq!(record.message, "no such file");
    }

    #[test]
    fn what_is_saved_is_the_record_and_nothing_else_stays() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("exit.json");
        let record = of(&ended(137, Some(9)));
        save(&of(&ended(0, None)), &path).unwrap();
        save(&record, &path).unwrap();
        let text = std::fs::read(&path).unwrap();
        assert_eq!(serde_json::from_slice::<ExitRecord>(&text).unwrap(), record);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
        save(&record, &dir.path().join("no/exit.json")).unwrap_err();
    }
}
