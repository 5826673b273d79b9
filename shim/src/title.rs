//! What others read as the arguments of this process, in `ps` and `/proc/PID/cmdline`: corrected once a
//! process that was started ahead of its request knows what it is for.
//!
//! They are written where they lie, in this process's own memory, by way of its `mem` file: what has
//! been read of them is a copy, and the place keeps its length.

use crate::api::{ANY, SPARE};
use crate::stat;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::OnceLock;

/// The arguments as they were, and where they lie.
static KNOWN: OnceLock<(Vec<u8>, u64)> = OnceLock::new();

/// Looks for them now, while nobody waits: for who has to change them later, in this process or in one
/// that it forks.
pub fn look_ahead() {
    if let Ok(found) = look() {
        let _ = KNOWN.set(found);
    }
}

fn look() -> io::Result<(Vec<u8>, u64)> {
    Ok((fs::read("/proc/self/cmdline")?, stat::arguments()?))
}

/// Shows this id, and its beginning, where something stands for them.
///
/// # Errors
/// What the files say.
pub fn name(id: &str) -> io::Result<()> {
    let (mut line, place) = match KNOWN.get() {
        Some(known) => known.clone(),
        None => look()?,
    };
    put(&mut line, id.as_bytes());
    write(&line, place)
}

/// Shows no longer that this is a spare.
///
/// # Errors
/// What the files say.
pub fn take_up() -> io::Result<()> {
    rewrite(unmark)
}

fn unmark(line: &mut [u8]) {
    words(line)
        .filter(|word| *word == SPARE.as_bytes())
        .for_each(|word| word.fill(0));
}

/// Shows again that this is a spare, where it was said before, at the end.
///
/// # Errors
/// What the files say.
pub fn put_back() -> io::Result<()> {
    rewrite(mark)
}

fn mark(line: &mut [u8]) {
    let place = line.len().checked_sub(SPARE.len() + 1);
    if let Some((&mut 0, word)) = place.and_then(|at| line[at..].split_last_mut())
        && word.iter().all(|byte| *byte == 0)
    {
        word.copy_from_slice(SPARE.as_bytes());
    }
}

fn rewrite(change: impl FnOnce(&mut [u8])) -> io::Result<()> {
    let mut line = fs::read("/proc/self/cmdline")?;
    let before = line.clone();
    change(&mut line);
    if line == before {
        return Ok(());
    }
    write(&line, stat::arguments()?)
}

fn write(line: &[u8], place: u64) -> io::Result<()> {
    let memory = File::options().write(true).open("/proc/self/mem")?;
    memory.write_all_at(line, place)
}

fn words(line: &mut [u8]) -> impl Iterator<Item = &mut [u8]> {
    line.split_mut(|&byte| byte == 0)
}

/// At the end of a word as many zeros as an id has digits, or half as many, stand for it.
fn put(line: &mut [u8], id: &[u8]) {
    for word in words(line) {
        let zeros = word.iter().rev().take_while(|&&byte| byte == b'0').count();
        if (zeros == ANY.len() || zeros == ANY.len() / 2) && zeros <= id.len() {
            let start = word.len() - zeros;
            word[start..].copy_from_slice(&id[..zeros]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spare_that_is_one_again_says_so_and_nothing_else_does() {
        let spare = format!("shim\0dial\0{SPARE}\0").into_bytes();
        let mut shown = spare.clone();
        unmark(&mut shown);
        assert_eq!(shown, b"shim\0dial\0\0\0\0\0\0\0\0\0");
        mark(&mut shown);
        assert_eq!(shown, spare);
        for other in [
            &b"shim\0dial\0"[..],
            b"\0",
            b"",
            b"shim\0dial\0-a\0\0\0\0\0\0",
        ] {
            let mut shown = other.to_vec();
            mark(&mut shown);
            assert_eq!(shown, other);
        }
    }

    #[test]
    fn an_id_takes_the_place_of_what_stands_for_it() {
        let line = |id: &str| {
            format!(
                "shim\0run\0--id\0{id}\0--socket\0/run/{}\0--n\01000\0",
                &id[..32]
            )
        };
        let id = "a1".repeat(32);
        let mut shown = line(ANY).into_bytes();
        put(&mut shown, id.as_bytes());
        assert_eq!(String::from_utf8(shown).unwrap(), line(&id));
    }
}
