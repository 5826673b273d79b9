//! Which namespaces a container gets: new ones, joined ones, the host's.

use crate::api::Failure;
use crate::bundle::{Namespace, NamespaceKind};
use crate::sys::clone::flags;

/// The namespaces of a container. A kind that is named nowhere is the host's.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Namespaces<'a> {
    /// What `clone3` makes new.
    pub new: u64,
    /// The init takes a new cgroup namespace once it is in its cgroup, which becomes its root.
    pub new_cgroup: bool,
    /// The stage takes a new time namespace, whose clocks are set before the init is born into it.
    pub new_time: bool,
    /// Joined before the clone, so that it owns what the clone makes.
    pub user: Option<User<'a>>,
    /// Joined before the clone: a PID namespace holds only those born into it.
    pub pid: Option<&'a str>,
    /// Joined by the init itself.
    pub joined: Vec<(NamespaceKind, &'a str)>,
}

/// Where a container's user namespace comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum User<'a> {
    /// It is its own.
    New,
    /// It is at a path.
    Joined(&'a str),
}

impl Namespaces<'_> {
    /// True where the container has a namespace of this kind that is not the host's.
    #[must_use]
    pub fn has(&self, kind: NamespaceKind) -> bool {
        let joined = self.joined.iter().any(|(joined, _)| *joined == kind);
        let new = clone_flag(kind).is_some_and(|flag| self.new & flag != 0);
        joined
            || new
            || (kind == NamespaceKind::User && self.user.is_some())
            || (kind == NamespaceKind::Pid && self.pid.is_some())
            || (kind == NamespaceKind::Cgroup && self.new_cgroup)
            || (kind == NamespaceKind::Time && self.new_time)
    }
}

/// Sorts out the list of a spec.
///
/// # Errors
/// A kind that is named twice or cannot be honoured, or no mount namespace.
pub fn plan<'a>(wanted: &'a [Namespace<'a>]) -> Result<Namespaces<'a>, Failure> {
    let mut planned = Namespaces::default();
    for namespace in wanted {
        if planned.has(namespace.kind) {
            return Err(invalid(format!(
                "the {} namespace is named twice",
                name(namespace.kind)
            )));
        }
        let path = namespace.path.as_deref().filter(|path| !path.is_empty());
        planned.add(namespace.kind, path)?;
    }
    if planned.new & flags::NEWNS == 0 {
        return Err(invalid(
            "a container needs a mount namespace of its own".to_owned(),
        ));
    }
    Ok(planned)
}

impl<'a> Namespaces<'a> {
    fn add(&mut self, kind: NamespaceKind, path: Option<&'a str>) -> Result<(), Failure> {
        use NamespaceKind as Kind;
        match (kind, path) {
            (Kind::Mount, Some(_)) => {
                let why = "a mount namespace that is joined is not supported";
                return Err(invalid(why.to_owned()));
            }
            (Kind::Time, None) => self.new_time = true,
            (Kind::Cgroup, None) => self.new_cgroup = true,
            (Kind::User, None) => self.user = Some(User::New),
            (Kind::User, Some(path)) => self.user = Some(User::Joined(path)),
            (Kind::Pid, Some(path)) => self.pid = Some(path),
            (_, Some(path)) => self.joined.push((kind, path)),
            (_, None) => self.new |= clone_flag(kind).unwrap_or(0),
        }
        Ok(())
    }
}

fn clone_flag(kind: NamespaceKind) -> Option<u64> {
    match kind {
        NamespaceKind::Pid => Some(flags::NEWPID),
        NamespaceKind::Network => Some(flags::NEWNET),
        NamespaceKind::Mount => Some(flags::NEWNS),
        NamespaceKind::Ipc => Some(flags::NEWIPC),
        NamespaceKind::Uts => Some(flags::NEWUTS),
        NamespaceKind::User | NamespaceKind::Cgroup | NamespaceKind::Time => None,
    }
}

/// The kind's name, for messages.
#[must_use]
pub fn name(kind: NamespaceKind) -> &'static str {
    match kind {
        NamespaceKind::Pid => "pid",
        NamespaceKind::Network => "network",
        NamespaceKind::Mount => "mount",
        NamespaceKind::Ipc => "ipc",
        NamespaceKind::Uts => "uts",
        NamespaceKind::User => "user",
        NamespaceKind::Cgroup => "cgroup",
        NamespaceKind::Time => "time",
    }
}

fn invalid(cause: String) -> Failure {
    Failure::invalid("plan the namespaces", cause)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn namespace(kind: NamespaceKind, path: Option<&'static str>) -> Namespace<'static> {
        Namespace {
            kind,
            path: path.map(Into::into),
        }
    }

    #[test]
    fn new_joined_and_absent_are_told_apart() {
        let wanted = [
            namespace(NamespaceKind::Mount, None),
            namespace(NamespaceKind::Pid, Some("/proc/7/ns/pid")),
            namespace(NamespaceKind::Network, Some("/run/netns/x")),
            namespace(NamespaceKind::Cgroup, None),
            namespace(NamespaceKind::User, Some("/run/user")),
        ];
        let planned = plan(&wanted).unwrap();
        assert_eq!(planned.new, flags::NEWNS);
        assert_eq!(planned.pid, Some("/proc/7/ns/pid"));
        assert_eq!(planned.user, Some(User::Joined("/run/user")));
        assert!(planned.has(NamespaceKind::User));
        assert_eq!(planned.joined, [(NamespaceKind::Network, "/run/netns/x")]);
        assert!(planned.has(NamespaceKind::Cgroup) && planned.has(NamespaceKind::Pid));
        assert!(!planned.has(NamespaceKind::Uts));
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let mount = || namespace(NamespaceKind::Mount, None);
        for wanted in [
            vec![],
            vec![mount(), mount()],
            vec![
                mount(),
                namespace(NamespaceKind::Time, None),
                namespace(NamespaceKind::Time, Some("/x")),
            ],
            vec![
                mount(),
                namespace(NamespaceKind::User, None),
                namespace(NamespaceKind::User, Some("/x")),
            ],
            vec![namespace(NamespaceKind::Mount, Some("/x"))],
        ] {
            assert!(plan(&wanted).is_err(), "{wanted:?}");
        }
    }
}
