use super::*;
use crate::io::Stream;
use std::fs;

fn contents(path: &Path) -> Vec<String> {
    let text = fs::read_to_string(path).unwrap();
    text.lines()
        .map(|line| line[stamp::LENGTH + 1..].to_owned())
        .collect()
}

fn said(log: &mut Log, data: &[u8]) {
    log.append(&mut Lines::new(Stream::Stdout), data);
}

/// A log whose disk is full, whatever the disk of the test is.
fn full() -> Log {
    let mut log = Log::open(None).unwrap();
    log.path = Some(PathBuf::from("/dev/full"));
    let full = fs::OpenOptions::new()
        .write(true)
        .open("/dev/full")
        .unwrap();
    log.file = Some(full.into());
    log
}

#[test]
fn entries_of_both_streams_land_in_one_file_in_a_new_directory() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("pod/ctr/0.log");
    let mut log = Log::open(Some(path.clone())).unwrap();
    let mut out = Lines::new(Stream::Stdout);
    let mut err = Lines::new(Stream::Stderr);
    log.append(&mut out, b"one\ntw");
    log.append(&mut err, b"oops\n");
    log.append(&mut out, b"o\nend");
    log.finish(&mut out);
    assert_eq!(
        contents(&path),
        [
            "stdout F one",
            "stderr F oops",
            "stdout F two",
            "stdout P end"
        ]
    );
    let mode = std::os::unix::fs::PermissionsExt::mode(&fs::metadata(&path).unwrap().permissions());
    assert_eq!(mode & 0o137, 0, "others may not read a log");
    assert_eq!(log.counts().bytes, fs::metadata(&path).unwrap().len());
}

#[test]
fn reopening_makes_the_new_file_and_leaves_the_old() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("0.log");
    let mut log = Log::open(Some(path.clone())).unwrap();
    said(&mut log, b"before\n");
    fs::rename(&path, dir.path().join("0.log.old")).unwrap();
    log.reopen().unwrap();
    assert!(path.exists());
    said(&mut log, b"after\n");
    assert_eq!(contents(&path), ["stdout F after"]);
    assert_eq!(contents(&dir.path().join("0.log.old")), ["stdout F before"]);
}

#[test]
fn a_reopening_that_fails_goes_on_with_the_old_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("0.log");
    let mut log = Log::open(Some(path.clone())).unwrap();
    let old = dir.path().join("old");
    fs::rename(&path, &old).unwrap();
    std::os::unix::fs::symlink("/dev/null", &path).unwrap();
    log.reopen().unwrap_err();
    said(&mut log, b"on\n");
    assert_eq!(contents(&old), ["stdout F on"]);
}

#[test]
fn a_link_and_a_fifo_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let link = dir.path().join("link");
    std::os::unix::fs::symlink(dir.path().join("target"), &link).unwrap();
    let refused = Log::open(Some(link)).unwrap_err();
    assert_eq!(refused.errno, Errno::LOOP.raw_os_error());
    assert!(!dir.path().join("target").exists());
    let fifo = dir.path().join("fifo");
    rustix::fs::mknodat(CWD, &fifo, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    Log::open(Some(fifo)).unwrap_err();
}

#[test]
fn a_full_disk_drops_and_counts() {
    let mut log = full();
    said(&mut log, b"one\ntwo\nthree\n");
    let counts = log.counts();
    assert_eq!((counts.dropped, counts.bytes), (3, 0));
    assert_eq!(counts.errno, Errno::NOSPC.raw_os_error());
}

#[test]
fn a_disk_that_has_room_again_is_written_again() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("0.log");
    let mut log = full();
    said(&mut log, b"lost\n");
    log.file = Some(fs::File::create(&path).unwrap().into());
    said(&mut log, b"kept\n");
    assert_eq!(contents(&path), ["stdout F kept"]);
    assert_eq!(log.counts().dropped, 1);
}

#[test]
fn a_file_that_could_not_be_opened_is_tried_again() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("0.log");
    let mut log = Log::open(None).unwrap();
    log.path = Some(path.clone());
    log.counts.errno = Errno::NOSPC.raw_os_error();
    log.tried = Some(Instant::now());
    said(&mut log, b"lost\n");
    assert_eq!(log.counts().dropped, 1);
    log.tried = Instant::now().checked_sub(AGAIN);
    said(&mut log, b"kept\n");
    assert_eq!(contents(&path), ["stdout F kept"]);
}

#[test]
fn an_io_error_is_counted_like_a_full_disk() {
    // /proc/self/mem refuses writes at address 0 with EIO.
    let mut log = full();
    let broken = fs::OpenOptions::new()
        .write(true)
        .open("/proc/self/mem")
        .unwrap();
    log.file = Some(broken.into());
    said(&mut log, b"one\ntwo\n");
    assert_eq!(log.counts().dropped, 2);
    assert_eq!(log.counts().errno, Errno::IO.raw_os_error());
}

#[test]
fn a_torn_line_is_ended_before_the_next() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("0.log");
    let mut log = Log::open(Some(path.clone())).unwrap();
    // The disk took the first line and half of the second.
    let batch = b"first\nsecond\nthird\n";
    rustix::io::write(log.file.as_ref().unwrap(), &batch[..9]).unwrap();
    log.lose(batch, 9, Errno::NOSPC);
    assert_eq!(log.counts().dropped, 2);
    said(&mut log, b"next\n");
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.starts_with("first\nsec\n"), "{text}");
    assert!(text.ends_with(" stdout F next\n"), "{text}");
}

#[test]
fn without_a_path_all_is_dropped_in_silence() {
    let mut log = Log::open(None).unwrap();
    said(&mut log, b"anything\n");
    assert_eq!(log.counts(), Counts::default());
}
