//! The words of a mount's options: flags, propagation, and what is the file system's own.
//!
//! Invariant: every word ends up somewhere. What is no flag goes to the file system, which refuses
//! what it does not know; a bind mount has no file system to ask, so there it is refused here.

use crate::api::Failure;
use rustix::mount::MountAttrFlags as Attr;

/// Which attributes to set and which to clear.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attributes {
    /// To be set.
    pub set: Attr,
    /// To be cleared before.
    pub clear: Attr,
}

impl Default for Attributes {
    fn default() -> Self {
        Self {
            set: Attr::empty(),
            clear: Attr::empty(),
        }
    }
}

impl Attributes {
    /// True when nothing changes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.set.is_empty() && self.clear.is_empty()
    }

    fn set(&mut self, flag: Attr) {
        self.set |= flag;
        self.clear -= flag;
    }

    fn clear(&mut self, flag: Attr) {
        self.set -= flag;
        self.clear |= flag;
    }

    /// The kernel wants the whole access-time field cleared before one of its values is set.
    fn access_time(&mut self, value: Attr) {
        self.set = (self.set - Attr::MOUNT_ATTR__ATIME) | value;
        self.clear |= Attr::MOUNT_ATTR__ATIME;
    }
}

/// What of a source is bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bind {
    /// The one mount.
    Single,
    /// With all mounts below it.
    Recursive,
}

/// How mounts below a mount spread. The numbers are the kernel's `MS_*`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Propagation {
    /// Nowhere.
    Private,
    /// From the host into the container.
    Slave,
    /// Both ways.
    Shared,
    /// Nowhere, and it cannot be bound again.
    Unbindable,
}

impl Propagation {
    /// The kernel's flag.
    #[must_use]
    pub fn flag(self) -> u64 {
        match self {
            Self::Private => libc::MS_PRIVATE,
            Self::Slave => libc::MS_SLAVE,
            Self::Shared => libc::MS_SHARED,
            Self::Unbindable => libc::MS_UNBINDABLE,
        }
    }
}

/// A propagation, and whether it is meant for the whole tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Spread {
    /// How.
    pub kind: Propagation,
    /// For all mounts of the tree.
    pub recursive: bool,
}

/// Reads `private`, `rslave` and so on.
#[must_use]
pub fn propagation(word: &str) -> Option<Spread> {
    let (recursive, name) = match word {
        "rprivate" | "rslave" | "rshared" | "runbindable" => (true, &word[1..]),
        _ => (false, word),
    };
    let kind = match name {
        "private" => Propagation::Private,
        "slave" => Propagation::Slave,
        "shared" => Propagation::Shared,
        "unbindable" => Propagation::Unbindable,
        _ => return None,
    };
    Some(Spread { kind, recursive })
}

/// A mount's options, sorted out.
#[derive(Debug, Default, PartialEq)]
pub struct Options<'a> {
    /// It is a bind mount.
    pub bind: Option<Bind>,
    /// What of it has its owners mapped.
    pub idmap: Option<Bind>,
    /// Attributes of the mount itself.
    pub top: Attributes,
    /// Attributes of the whole tree.
    pub tree: Attributes,
    /// Its propagation; absent: private.
    pub spread: Option<Spread>,
    /// It begins with the files of the image in its place.
    pub copies_up: bool,
    /// What is the file system's own: keys and values.
    pub data: Vec<(&'a str, Option<&'a str>)>,
}

impl<'a> Options<'a> {
    /// Sorts out the words, in order: a later word wins.
    ///
    /// # Errors
    /// A word that cannot be honoured.
    pub fn parse(words: impl Iterator<Item = &'a str>) -> Result<Self, Failure> {
        let mut options = Self::default();
        for word in words {
            options.take(word)?;
        }
        Ok(options)
    }

    fn take(&mut self, word: &'a str) -> Result<(), Failure> {
        match word {
            "" | "defaults" => {}
            "bind" => self.bind = Some(Bind::Single),
            "rbind" => self.bind = Some(Bind::Recursive),
            "idmap" => self.idmap = Some(Bind::Single),
            "ridmap" => self.idmap = Some(Bind::Recursive),
            "tmpcopyup" => self.copies_up = true,
            "remount" => return Err(unsupported(word)),
            _ => {
                if let Some(spread) = propagation(word) {
                    self.spread = Some(spread);
                } else if !self.flag(word) {
                    self.data.push(match word.split_once('=') {
                        Some((key, value)) => (key, Some(value)),
                        None => (word, None),
                    });
                }
            }
        }
        Ok(())
    }

    fn flag(&mut self, word: &str) -> bool {
        if apply(&mut self.top, word) {
            return true;
        }
        // `rro` and its kin mean the whole tree. None of the plain words begins with an `r` that
        // could be read as such a prefix.
        word.strip_prefix('r')
            .is_some_and(|plain| apply(&mut self.tree, plain))
    }
}

fn apply(attributes: &mut Attributes, word: &str) -> bool {
    match word {
        "ro" => attributes.set(Attr::MOUNT_ATTR_RDONLY),
        "rw" => attributes.clear(Attr::MOUNT_ATTR_RDONLY),
        "nosuid" => attributes.set(Attr::MOUNT_ATTR_NOSUID),
        "suid" => attributes.clear(Attr::MOUNT_ATTR_NOSUID),
        "nodev" => attributes.set(Attr::MOUNT_ATTR_NODEV),
        "dev" => attributes.clear(Attr::MOUNT_ATTR_NODEV),
        "noexec" => attributes.set(Attr::MOUNT_ATTR_NOEXEC),
        "exec" => attributes.clear(Attr::MOUNT_ATTR_NOEXEC),
        "nosymfollow" => attributes.set(Attr::MOUNT_ATTR_NOSYMFOLLOW),
        "symfollow" => attributes.clear(Attr::MOUNT_ATTR_NOSYMFOLLOW),
        "nodiratime" => attributes.set(Attr::MOUNT_ATTR_NODIRATIME),
        "diratime" => attributes.clear(Attr::MOUNT_ATTR_NODIRATIME),
        "noatime" => attributes.access_time(Attr::MOUNT_ATTR_NOATIME),
        "strictatime" => attributes.access_time(Attr::MOUNT_ATTR_STRICTATIME),
        // The kernel's default is relatime, and the opposite of a value is the default.
        "relatime" | "norelatime" | "atime" | "nostrictatime" => {
            attributes.access_time(Attr::MOUNT_ATTR_RELATIME);
        }
        _ => return false,
    }
    true
}

fn unsupported(word: &str) -> Failure {
    Failure::invalid(
        "plan the mounts",
        format!("the mount option {word} is not supported"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed<'a>(words: &[&'a str]) -> Options<'a> {
        Options::parse(words.iter().copied()).unwrap()
    }

    #[test]
    fn flags_propagation_and_data_are_told_apart() {
        let options = parsed(&["nosuid", "mode=755", "rslave", "ro", "newinstance"]);
        assert_eq!(
            options.top.set,
            Attr::MOUNT_ATTR_NOSUID | Attr::MOUNT_ATTR_RDONLY
        );
        assert_eq!(
            options.spread,
            Some(Spread {
                kind: Propagation::Slave,
                recursive: true
            })
        );
        assert_eq!(options.data, [("mode", Some("755")), ("newinstance", None)]);
    }

    #[test]
    fn a_later_word_wins() {
        let options = parsed(&["ro", "rw", "nodev", "dev", "nodev"]);
        assert_eq!(options.top.set, Attr::MOUNT_ATTR_NODEV);
        assert_eq!(options.top.clear, Attr::MOUNT_ATTR_RDONLY);
    }

    #[test]
    fn an_r_in_front_means_the_tree() {
        let options = parsed(&["rbind", "rro", "rnosuid", "relatime", "rrelatime"]);
        assert_eq!(
            options.tree.set,
            Attr::MOUNT_ATTR_RDONLY | Attr::MOUNT_ATTR_NOSUID
        );
        assert_eq!(options.bind, Some(Bind::Recursive));
        assert!(options.data.is_empty(), "{:?}", options.data);
    }

    #[test]
    fn access_times_clear_the_whole_field() {
        let options = parsed(&["noatime", "strictatime"]);
        assert_eq!(options.top.set, Attr::MOUNT_ATTR_STRICTATIME);
        assert_eq!(options.top.clear, Attr::MOUNT_ATTR__ATIME);
    }

    #[test]
    fn what_cannot_be_honoured_is_named() {
        let failure = Options::parse(["remount"].into_iter()).unwrap_err();
        assert!(failure.chain[0].contains("remount"));
    }

    #[test]
    fn mapped_owners_are_of_the_top_or_of_the_tree() {
        assert_eq!(parsed(&["rbind", "idmap"]).idmap, Some(Bind::Single));
        assert_eq!(parsed(&["rbind", "ridmap"]).idmap, Some(Bind::Recursive));
        assert_eq!(parsed(&["rbind"]).idmap, None);
    }
}
