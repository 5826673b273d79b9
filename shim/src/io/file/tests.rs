use super::*;
use std::fs;

fn at(path: &Path) -> LogFile {
    LogFile::at(path.to_owned())
}

fn text(path: &Path) -> String {
    fs::read_to_string(path).unwrap()
}

/// A log that is written to this file, whatever its path says.
fn over(file: &str) -> LogFile {
    let mut log = at(Path::new(file));
    let file = fs::OpenOptions::new().write(true).open(file).unwrap();
    log.file = Some(file.into());
    log
}

#[test]
fn batches_land_in_a_file_in_a_new_directory() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("pod/ctr/0.log");
    let mut log = at(&path);
    assert_eq!(log.write(b"one\n").bytes, 4);
    log.close(false);
    assert_eq!(log.write(b"two\nthree\n").bytes, 10);
    assert_eq!(text(&path), "one\ntwo\nthree\n");
    let mode = std::os::unix::fs::PermissionsExt::mode(&fs::metadata(&path).unwrap().permissions());
    assert_eq!(mode & 0o137, 0, "others may not read a log");
}

#[test]
fn an_opening_that_fails_goes_on_with_the_old_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("0.log");
    let mut log = at(&path);
    log.open().unwrap();
    let old = dir.path().join("old");
    fs::rename(&path, &old).unwrap();
    std::os::unix::fs::symlink("/dev/null", &path).unwrap();
    log.open().unwrap_err();
    log.write(b"on\n");
    assert_eq!(text(&old), "on\n");
}

#[test]
fn a_link_and_a_fifo_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let link = dir.path().join("link");
    std::os::unix::fs::symlink(dir.path().join("target"), &link).unwrap();
    assert_eq!(at(&link).open(), Err(Errno::LOOP));
    assert!(!dir.path().join("target").exists());
    let fifo = dir.path().join("fifo");
    rustix::fs::mknodat(CWD, &fifo, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    at(&fifo).open().unwrap_err();
}

#[test]
fn a_full_disk_drops_and_counts() {
    let written = over("/dev/full").write(b"one\ntwo\nthree\n");
    let full = Written {
        dropped: 3,
        errno: Errno::NOSPC.raw_os_error(),
        ..Written::default()
    };
    assert_eq!(written, full);
}

#[test]
fn an_io_error_is_counted_like_a_full_disk() {
    // It refuses writes at address 0 with EIO.
    let written = over("/proc/self/mem").write(b"one\ntwo\n");
    assert_eq!(written.dropped, 2);
    assert_eq!(written.errno, Errno::IO.raw_os_error());
}

#[test]
fn a_file_that_could_not_be_opened_is_tried_again() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("0.log");
    let mut log = at(&path);
    log.tried = Some((Instant::now(), Errno::NOSPC));
    let lost = log.write(b"lost\n");
    assert_eq!((lost.dropped, lost.errno), (1, Errno::NOSPC.raw_os_error()));
    log.tried = Some((Instant::now().checked_sub(AGAIN).unwrap(), Errno::NOSPC));
    log.write(b"kept\n");
    assert_eq!(text(&path), "kept\n");
}

#[test]
fn a_torn_line_is_ended_before_the_next_also_by_the_next_writer() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("0.log");
    fs::write(&path, "first\nsec").unwrap();
    let mut log = at(&path);
    log.close(true);
    assert!(!log.write(b"next\n").torn);
    assert_eq!(text(&path), "first\nsec\nnext\n");
}

#[test]
fn no_link_is_followed_below_the_directory_of_the_pod() {
    let dir = tempfile::tempdir().unwrap();
    let (node, pod) = (dir.path().join("node"), dir.path().join("pod"));
    fs::create_dir(&node).unwrap();
    fs::create_dir(dir.path().join("real")).unwrap();
    // The pod's own directory may be reached by one.
    std::os::unix::fs::symlink("real", &pod).unwrap();
    std::os::unix::fs::symlink(&node, pod.join("link")).unwrap();
    std::os::unix::fs::symlink(node.join("file"), pod.join("file")).unwrap();
    for wrong in [
        "link/0.log",
        "link/made/0.log",
        "file",
        "plain/../../node/0.log",
    ] {
        let path = pod.join(".").join(wrong);
        assert!(at(&path).open().is_err(), "{wrong}");
    }
    assert_eq!(fs::read_dir(&node).unwrap().count(), 0);
    let path = pod.join(".").join("container/deep/0.log");
    assert_eq!(at(&path).write(b"one\n").bytes, 4);
    assert_eq!(text(&pod.join("container/deep/0.log")), "one\n");
}
