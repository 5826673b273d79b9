//! Walking and deleting trees that a container made, and that may be as deep and as wide as it
//! liked: `while :; do mkdir a; cd a; done`.
//!
//! Invariants: nothing recurses, at most [`MOST_OPEN`] descriptors are open at once, no path is
//! longer than one name, and no symbolic link is followed.

use std::{
    ffi::{CStr, CString},
    io,
    os::fd::{BorrowedFd, OwnedFd},
    path::Path,
};

use rustix::{
    fs::{self, AtFlags, CWD, Dir, FileType, Mode, OFlags, RenameFlags, Stat},
    io::Errno,
};

/// Directories that are open at once.
const MOST_OPEN: usize = 64;

/// Deletes what is at `path`, whatever it is. What is not there is deleted.
///
/// # Errors
/// What the kernel refuses; what was deleted until then is gone.
pub fn remove(path: &Path) -> io::Result<()> {
    let name = path.as_os_str().as_encoded_bytes();
    match remove_at(CWD, &CString::new(name)?, |_| {}) {
        Err(Errno::NOENT) => Ok(()),
        removed => Ok(removed?),
    }
}

/// Deletes what has this name in `parent`; tells `removed` of all that goes, itself included.
///
/// # Errors
/// As [`remove`], and `NOENT` where it is not there.
pub fn remove_at(
    parent: BorrowedFd<'_>,
    name: &CStr,
    mut removed: impl FnMut(&Stat),
) -> Result<(), Errno> {
    let stat = fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)?;
    removed(&stat);
    if !is_directory(&stat) {
        return fs::unlinkat(parent, name, AtFlags::empty());
    }
    let mut removal = Removal {
        parent,
        levels: vec![Level::open(parent, name)?],
        lifted: 0,
    };
    removal.run(&mut removed)
}

/// A deletion under way.
struct Removal<'a> {
    parent: BorrowedFd<'a>,
    /// From the root of the tree down, each in the one before.
    levels: Vec<Level>,
    /// Subdirectories that were too deep, and now are in the root of the tree.
    lifted: u64,
}

/// A directory that is being emptied.
struct Level {
    name: CString,
    dir: Dir,
    /// Since its list was begun, something of it went or came.
    changed: bool,
}

impl Level {
    fn open(parent: BorrowedFd<'_>, name: &CStr) -> Result<Self, Errno> {
        Ok(Self {
            name: name.to_owned(),
            dir: Dir::new(open(parent, name)?)?,
            changed: false,
        })
    }
}

impl Removal<'_> {
    fn run(&mut self, removed: &mut impl FnMut(&Stat)) -> Result<(), Errno> {
        while let Some(level) = self.levels.last_mut() {
            match next_name(&mut level.dir)? {
                Some((name, _)) => self.take(&name, removed)?,
                None => self.leave()?,
            }
        }
        Ok(())
    }

    /// Deletes one name of the deepest level, or goes into it.
    fn take(&mut self, name: &CStr, removed: &mut impl FnMut(&Stat)) -> Result<(), Errno> {
        let depth = self.levels.len();
        let Some(level) = self.levels.last_mut() else {
            return Ok(());
        };
        level.changed = true;
        let stat = fs::statat(level.dir.fd()?, name, AtFlags::SYMLINK_NOFOLLOW)?;
        if !is_directory(&stat) {
            removed(&stat);
            return fs::unlinkat(level.dir.fd()?, name, AtFlags::empty());
        }
        if depth == MOST_OPEN {
            return self.lift(name);
        }
        removed(&stat);
        let next = Level::open(level.dir.fd()?, name)?;
        self.levels.push(next);
        Ok(())
    }

    /// Moves a directory of the deepest level to the root of the tree, which is listed again.
    fn lift(&mut self, name: &CStr) -> Result<(), Errno> {
        let (Some(root), Some(deepest)) = (self.levels.first(), self.levels.last()) else {
            return Ok(());
        };
        let (root, from) = (root.dir.fd()?, deepest.dir.fd()?);
        loop {
            self.lifted += 1;
            let to = format!(".lifted-{}", self.lifted);
            match fs::renameat_with(from, name, root, to, RenameFlags::NOREPLACE) {
                Err(Errno::EXIST) => {}
                renamed => {
                    renamed?;
                    break;
                }
            }
        }
        self.levels[0].changed = true;
        Ok(())
    }

    /// The deepest level is empty, or a list of it missed something.
    fn leave(&mut self) -> Result<(), Errno> {
        let Some(mut level) = self.levels.pop() else {
            return Ok(());
        };
        let parent = match self.levels.last() {
            Some(parent) => parent.dir.fd()?,
            None => self.parent,
        };
        match fs::unlinkat(parent, &level.name, AtFlags::REMOVEDIR) {
            Err(Errno::NOTEMPTY) if level.changed => {
                level.changed = false;
                level.dir.rewind();
                self.levels.push(level);
                Ok(())
            }
            removed => removed,
        }
    }
}

/// Tells `seen` of all that is below the directory at `path`, which others may be writing to: what
/// disappears meanwhile is passed over. Where a directory so deep that those above it had to be
/// closed is moved or deleted meanwhile, the walk ends there.
///
/// # Errors
/// `NOENT` where the directory is not there, `NOTDIR` where it is none, and what the kernel
/// refuses.
pub fn visit(path: &Path, mut seen: impl FnMut(&Stat)) -> io::Result<()> {
    let mut places = vec![Place::new(fs::open(path, flags(), Mode::empty())?)?];
    while let Some(place) = places.last_mut() {
        let Some(name) = place.next()? else {
            leave(&mut places)?;
            continue;
        };
        let Some((stat, below)) = place.look(&name)? else {
            continue;
        };
        seen(&stat);
        if let Some(below) = below {
            enter(&mut places, below);
        }
    }
    Ok(())
}

/// A directory that a walk is in, or above.
struct Place {
    /// Device and inode.
    identity: (u64, u64),
    /// Closed where it is far above.
    dir: Option<Dir>,
    /// How far its list was read.
    offset: i64,
}

impl Place {
    fn new(fd: OwnedFd) -> Result<Self, Errno> {
        let dir = Dir::new(fd)?;
        Ok(Self {
            identity: identity(&dir.stat()?),
            dir: Some(dir),
            offset: 0,
        })
    }

    fn next(&mut self) -> Result<Option<CString>, Errno> {
        let Some(dir) = &mut self.dir else {
            return Ok(None);
        };
        let Some((name, offset)) = next_name(dir)? else {
            return Ok(None);
        };
        self.offset = offset;
        Ok(Some(name))
    }

    /// What this name is, and where it is a directory, that too; `None` where it is gone.
    fn look(&self, name: &CStr) -> Result<Option<(Stat, Option<Self>)>, Errno> {
        let Some(dir) = &self.dir else {
            return Ok(None);
        };
        let stat = match fs::statat(dir.fd()?, name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => return Ok(None),
            stat => stat?,
        };
        if !is_directory(&stat) {
            return Ok(Some((stat, None)));
        }
        match open(dir.fd()?, name) {
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(Some((stat, None))),
            below => Ok(Some((stat, Some(Self::new(below?)?)))),
        }
    }
}

/// Goes down, and closes what has become far.
fn enter(places: &mut Vec<Place>, below: Place) {
    places.push(below);
    if let Some(far) = places.len().checked_sub(MOST_OPEN) {
        places[far].dir = None;
    }
}

/// Goes up, and opens the directory again where it was closed: through `..`, if that still is it.
fn leave(places: &mut Vec<Place>) -> Result<(), Errno> {
    let left = places.pop().and_then(|place| place.dir);
    let (Some(left), Some(place)) = (left, places.last_mut()) else {
        return Ok(());
    };
    if place.dir.is_some() {
        return Ok(());
    }
    let mut dir = match open(left.fd()?, c"..") {
        Err(Errno::NOENT) => {
            places.clear();
            return Ok(());
        }
        above => Dir::new(above?)?,
    };
    if identity(&dir.stat()?) == place.identity {
        dir.seek(place.offset)?;
        place.dir = Some(dir);
    } else {
        places.clear();
    }
    Ok(())
}

/// The next name of a list, and where the list goes on after it.
fn next_name(dir: &mut Dir) -> Result<Option<(CString, i64)>, Errno> {
    loop {
        let Some(entry) = dir.read() else {
            return Ok(None);
        };
        let entry = entry?;
        if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
            return Ok(Some((entry.file_name().to_owned(), entry.offset())));
        }
    }
}

fn open(parent: BorrowedFd<'_>, name: &CStr) -> Result<OwnedFd, Errno> {
    fs::openat(parent, name, flags(), Mode::empty())
}

fn flags() -> OFlags {
    OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW
}

/// Whether this is of a directory.
#[must_use]
pub fn is_directory(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::Directory
}

fn identity(stat: &Stat) -> (u64, u64) {
    (stat.st_dev, stat.st_ino)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{os::fd::AsFd, thread};
    use tempfile::TempDir;

    const DEEP: usize = 20_000;
    const SMALL_STACK: usize = 256 * 1024;

    /// `d/d/d/…`, with a file in each.
    fn deep(root: &Path, depth: usize) {
        let mut at = fs::open(root, flags(), Mode::empty()).unwrap();
        for _ in 0..depth {
            let file = OFlags::WRONLY | OFlags::CREATE | OFlags::CLOEXEC;
            fs::openat(&at, "file", file, Mode::RUSR).unwrap();
            fs::mkdirat(&at, "d", Mode::RWXU).unwrap();
            at = fs::openat(&at, "d", flags(), Mode::empty()).unwrap();
        }
    }

    fn on_a_small_stack<T: Send + 'static>(run: impl FnOnce() -> T + Send + 'static) -> T {
        let thread = thread::Builder::new().stack_size(SMALL_STACK);
        thread.spawn(run).unwrap().join().unwrap()
    }

    /// Where making many directories is quick.
    fn in_memory() -> TempDir {
        TempDir::new_in("/dev/shm").unwrap()
    }

    #[test]
    fn a_tree_of_any_depth_is_walked_and_deleted() {
        let root = in_memory();
        let tree = root.path().join("tree");
        std::fs::create_dir(&tree).unwrap();
        deep(&tree, DEEP);
        let (walked, removed) = (tree.clone(), tree.clone());
        let seen = on_a_small_stack(move || {
            let mut seen = 0;
            visit(&walked, |_| seen += 1).unwrap();
            seen
        });
        assert_eq!(seen, 2 * DEEP);
        on_a_small_stack(move || remove(&removed).unwrap());
        assert!(!tree.exists());
    }

    #[test]
    fn each_inode_is_told_once_also_from_a_tree_that_is_lifted() {
        let root = TempDir::new().unwrap();
        let tree = root.path().join("tree");
        for branch in ["a", "b", ".lifted-1"] {
            let branch = tree.join(branch);
            std::fs::create_dir_all(&branch).unwrap();
            deep(&branch, 3 * MOST_OPEN);
        }
        let mut seen = 0;
        visit(&tree, |_| seen += 1).unwrap();
        assert_eq!(seen, 3 * (1 + 6 * MOST_OPEN));
        let parent = fs::open(root.path(), flags(), Mode::empty()).unwrap();
        let mut removed = 0;
        remove_at(parent.as_fd(), c"tree", |_| removed += 1).unwrap();
        assert_eq!(removed, 1 + seen);
    }

    #[test]
    fn a_wide_tree_is_walked_whole_when_its_list_is_taken_up_again() {
        let root = in_memory();
        let branches = 100;
        for branch in 0..branches {
            let branch = root.path().join(branch.to_string());
            std::fs::create_dir(&branch).unwrap();
            deep(&branch, MOST_OPEN + 1);
        }
        let mut seen = 0;
        visit(root.path(), |_| seen += 1).unwrap();
        assert_eq!(seen, branches * (1 + 2 * (MOST_OPEN + 1)));
    }

    #[test]
    fn links_are_deleted_and_not_followed() {
        let root = TempDir::new().unwrap();
        let (tree, kept) = (root.path().join("tree"), root.path().join("kept"));
        std::fs::create_dir_all(tree.join("sub")).unwrap();
        std::fs::create_dir(&kept).unwrap();
        std::fs::write(kept.join("file"), "x").unwrap();
        std::os::unix::fs::symlink(&kept, tree.join("sub/link")).unwrap();
        std::os::unix::fs::symlink(&kept, root.path().join("link")).unwrap();
        remove(&tree).unwrap();
        remove(&root.path().join("link")).unwrap();
        remove(&tree).unwrap();
        assert!(kept.join("file").exists() && !tree.exists());
    }
}
