//! A layer may write through a symbolic link of a lower layer (`lib/x` where `lib` leads to
//! `usr/lib`) without mentioning the directory. Unpacked alone it has a directory in the link's
//! place, which would hide the link; here its content moves to where the link leads.

use std::{
    os::fd::OwnedFd,
    path::{Component, Path, PathBuf},
};

use rustix::{
    fs::{self, AtFlags, Mode, OFlags, RenameFlags},
    io::Errno,
};

use super::{
    complete::{beneath_plainly, file_name},
    lower::{Found, Lower},
};

/// Links on the way to one path, as many as the kernel follows.
const MOST_LINKS: usize = 40;

/// What moving left.
#[derive(Debug, Default)]
pub(super) struct Relocated {
    /// The directories that the layer does not mention, where they are now, parents first.
    pub implied: Vec<PathBuf>,
    moves: Vec<(PathBuf, PathBuf)>,
}

impl Relocated {
    /// Where what was unpacked as `path` is now.
    pub fn now_at(&self, path: &Path) -> PathBuf {
        moved(&self.moves, path)
    }
}

/// Moves what stands in the place of links of lower layers.
pub(super) fn relocate(
    layer: &OwnedFd,
    lower: &Lower,
    implied: &[PathBuf],
) -> Result<Relocated, Errno> {
    let mut result = Relocated::default();
    for path in implied {
        let path = result.now_at(path);
        let Some(to) = destination(lower, &path)? else {
            result.implied.push(path);
            continue;
        };
        make_all(layer, &to, &mut result.implied)?;
        let (from, into) = (beneath_plainly(layer, &path)?, beneath_plainly(layer, &to)?);
        merge(&from, &into)?;
        let parent = beneath_plainly(layer, path.parent().unwrap_or(Path::new("")))?;
        fs::unlinkat(&parent, file_name(&path), AtFlags::REMOVEDIR)?;
        result.moves.push((path, to));
    }
    result.implied.sort();
    result.implied.dedup();
    Ok(result)
}

/// The path after the moves so far.
fn moved(moves: &[(PathBuf, PathBuf)], path: &Path) -> PathBuf {
    let below =
        |(from, to): &(PathBuf, PathBuf)| path.strip_prefix(from).ok().map(|rest| to.join(rest));
    moves
        .iter()
        .find_map(below)
        .unwrap_or_else(|| path.to_owned())
}

/// Where a link in the place of `path` leads, if there is one and it leads to a directory.
fn destination(lower: &Lower, path: &Path) -> Result<Option<PathBuf>, Errno> {
    let to = resolve(lower, path)?;
    let leads = to != path
        && !to.starts_with(path)
        && matches!(lower.find(&to)?, Some(Found::Directory(_)));
    Ok(leads.then_some(to))
}

/// The path with the links of the lower layers followed beneath the root.
pub(super) fn resolve(lower: &Lower, path: &Path) -> Result<PathBuf, Errno> {
    let mut done = PathBuf::new();
    let mut left: Vec<PathBuf> = parts(path);
    let mut links = 0;
    while let Some(part) = left.pop() {
        if part.as_os_str() == ".." {
            done.pop();
            continue;
        }
        let next = done.join(&part);
        match link_at(lower, &next)? {
            None => done = next,
            Some(_) if links == MOST_LINKS => return Err(Errno::LOOP),
            Some(target) => {
                links += 1;
                if target.is_absolute() {
                    done = PathBuf::new();
                }
                left.extend(parts(&target));
            }
        }
    }
    Ok(done)
}

/// The components, the last one first.
fn parts(path: &Path) -> Vec<PathBuf> {
    let parts = path
        .components()
        .rev()
        .filter(|part| matches!(part, Component::Normal(_) | Component::ParentDir));
    parts.map(|part| PathBuf::from(part.as_os_str())).collect()
}

/// The target of the symbolic link that the lower layers show at `path`.
fn link_at(lower: &Lower, path: &Path) -> Result<Option<PathBuf>, Errno> {
    let Some(Found::Other(holder, _)) = lower.find(path)? else {
        return Ok(None);
    };
    match fs::readlinkat(&holder, file_name(path), Vec::new()) {
        Ok(target) => Ok(Some(super::complete::to_path(target.as_bytes()))),
        Err(Errno::INVAL) => Ok(None),
        Err(errno) => Err(errno),
    }
}

/// Makes the directories of a path in the layer and notes those that were not there.
fn make_all(layer: &OwnedFd, path: &Path, made: &mut Vec<PathBuf>) -> Result<(), Errno> {
    let mut done = PathBuf::new();
    for part in path.components() {
        let parent = beneath_plainly(layer, &done)?;
        done.push(part);
        match fs::mkdirat(&parent, file_name(&done), Mode::from_raw_mode(0o755)) {
            Ok(()) => made.push(done.clone()),
            Err(Errno::EXIST) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

/// Moves what is in `from` to `into`; directories of both become one.
fn merge(from: &OwnedFd, into: &OwnedFd) -> Result<(), Errno> {
    for entry in fs::Dir::read_from(from)? {
        let entry = entry?;
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        match fs::renameat_with(from, name, into, name, RenameFlags::NOREPLACE) {
            Err(Errno::EXIST) => {}
            done => {
                done?;
                continue;
            }
        }
        let open = |at: &OwnedFd| fs::openat(at, name, directory_flags(), Mode::empty());
        match (open(from), open(into)) {
            (Ok(one), Ok(other)) => {
                merge(&one, &other)?;
                fs::unlinkat(from, name, AtFlags::REMOVEDIR)?;
            }
            // Two names for one place in one layer: the one that was written through the link.
            _ => fs::renameat(from, name, into, name)?,
        }
    }
    Ok(())
}

fn directory_flags() -> OFlags {
    OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW
}
