//! Mounts of a spec: which trees the stage clones on the host's side, and what the init makes.

use super::options::{Attributes, Bind, Options, Propagation, Spread};
use crate::api::{Failure, IdMaps};
use crate::bundle::Mount;
use crate::cgroup::Version;
use rustix::mount::MountAttrFlags as Attr;

/// A tree of the host that the stage clones; its index is its name.
#[derive(Debug, PartialEq)]
pub struct Tree<'a> {
    /// The path on the host.
    pub path: &'a str,
    /// What of it.
    pub bind: Bind,
    /// Attributes of its top.
    pub top: Attributes,
    /// Attributes of all of it.
    pub all: Attributes,
    /// Its owners are mapped.
    pub idmap: Option<Idmap>,
}

/// How far below its top the owners of a tree are mapped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// The top alone.
    Top,
    /// All of it.
    Tree,
    /// All of it; where something below cannot be mapped, the top alone.
    Widest,
}

/// How the owners of a tree are mapped.
#[derive(Debug, PartialEq)]
pub struct Idmap {
    /// How far.
    pub reach: Reach,
    /// By what; `None`: as the container's user namespace does.
    pub ids: Option<IdMaps>,
}

/// Where a mount comes from.
#[derive(Debug, PartialEq)]
pub enum Source<'a> {
    /// A cloned tree of the host, by its index.
    Tree(usize),
    /// A new instance of a file system.
    FileSystem(FileSystem<'a>),
    /// The container's view of the cgroup hierarchies.
    Cgroup(CgroupView),
}

/// Which hierarchies a container sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CgroupView {
    /// V2: the unified one, where there is one. V1: those that this host has its controllers in.
    pub version: Version,
    /// Attributes of each mount of it.
    pub attributes: Attr,
}

/// A file system to be made inside the container's namespaces.
#[derive(Debug, PartialEq)]
pub struct FileSystem<'a> {
    /// Its type.
    pub kind: &'a str,
    /// The word that mountinfo shows.
    pub source: &'a str,
    /// Its own options.
    pub data: Vec<(&'a str, Option<&'a str>)>,
    /// Attributes of the mount.
    pub attributes: Attr,
    /// It begins with the files of the image in its place.
    pub copies_up: bool,
}

impl FileSystem<'_> {
    /// What it consists of is nothing that the host has a path for, as an overlay's layers or a disk.
    #[must_use]
    pub fn stands_alone(&self) -> bool {
        matches!(self.kind, "proc" | "sysfs" | "tmpfs" | "mqueue" | "devpts")
    }
}

/// One mount of a container.
#[derive(Debug, PartialEq)]
pub struct MountStep<'a> {
    /// Where, inside the container.
    pub destination: &'a str,
    /// What.
    pub source: Source<'a>,
    /// How it spreads, set after it was attached.
    pub spread: Spread,
}

/// Plans one mount; a tree that it needs is added to `trees`.
///
/// # Errors
/// [`crate::api::FailureKind::Invalid`].
pub fn plan<'a>(
    mount: &'a Mount<'a>,
    label: Option<&'a str>,
    trees: &mut Vec<Tree<'a>>,
) -> Result<MountStep<'a>, Failure> {
    let destination = &*mount.destination;
    let options = Options::parse(mount.options.iter().map(|word| &**word))
        .map_err(|failure| failure.because(format!("the mount at {destination}")))?;
    let spread = options.spread.unwrap_or(Spread {
        kind: Propagation::Private,
        recursive: true,
    });
    let kind = mount.kind.as_deref().unwrap_or("none");
    let source = match kind {
        _ if options.bind.is_some() || kind == "bind" => tree(mount, &options, trees)?,
        _ if has_ids(mount, &options) => {
            return Err(invalid(
                mount,
                "only a bind mount can have its owners mapped",
            ));
        }
        _ if options.copies_up && kind != "tmpfs" => {
            return Err(invalid(mount, "only a tmpfs can have files copied up"));
        }
        "cgroup" | "cgroup2" => Source::Cgroup(CgroupView {
            version: match kind {
                "cgroup" => Version::V1,
                _ => Version::V2,
            },
            attributes: options.top.set | options.tree.set,
        }),
        _ => Source::FileSystem(file_system(mount, kind, label, options)),
    };
    if destination.is_empty() || is_root(destination) {
        return Err(invalid(
            mount,
            "the root file system cannot be mounted over",
        ));
    }
    Ok(MountStep {
        destination,
        source,
        spread,
    })
}

fn is_root(path: &str) -> bool {
    path.split('/').all(|part| matches!(part, "" | "." | ".."))
}

fn tree<'a>(
    mount: &'a Mount<'a>,
    options: &Options<'_>,
    trees: &mut Vec<Tree<'a>>,
) -> Result<Source<'a>, Failure> {
    let path = mount.source.as_deref().unwrap_or("");
    if !path.starts_with('/') {
        return Err(invalid(
            mount,
            "the source of a bind mount is an absolute path",
        ));
    }
    if let Some((key, _)) = options.data.first() {
        return Err(invalid(mount, &format!("a bind mount has no option {key}")));
    }
    let bind = options.bind.unwrap_or(Bind::Recursive);
    trees.push(Tree {
        path,
        bind,
        top: options.top,
        all: options.tree,
        idmap: idmap(mount, options.idmap, bind)?,
    });
    Ok(Source::Tree(trees.len() - 1))
}

/// By its own ids where it has any; else by the container's, where a word asks for that. Ids
/// without a word are for as much of what is bound as can be mapped.
fn idmap(mount: &Mount<'_>, word: Option<Bind>, bind: Bind) -> Result<Option<Idmap>, Failure> {
    let own = IdMaps {
        uids: mount.uid_mappings.clone(),
        gids: mount.gid_mappings.clone(),
    };
    let asked = word.map(|word| match word {
        Bind::Single => Reach::Top,
        Bind::Recursive => Reach::Tree,
    });
    if own == IdMaps::default() {
        return Ok(asked.map(|reach| Idmap { reach, ids: None }));
    }
    let widest = match bind {
        Bind::Single => Reach::Top,
        Bind::Recursive => Reach::Widest,
    };
    own.check()
        .map_err(|failure| failure.because(format!("the mount at {}", &*mount.destination)))?;
    Ok(Some(Idmap {
        reach: asked.unwrap_or(widest),
        ids: Some(own),
    }))
}

fn has_ids(mount: &Mount<'_>, options: &Options<'_>) -> bool {
    options.idmap.is_some() || !mount.uid_mappings.is_empty() || !mount.gid_mappings.is_empty()
}

fn file_system<'a>(
    mount: &'a Mount<'a>,
    kind: &'a str,
    label: Option<&'a str>,
    options: Options<'a>,
) -> FileSystem<'a> {
    let mut data = options.data;
    if let Some(label) = label.filter(|_| matches!(kind, "tmpfs" | "devpts" | "mqueue")) {
        data.push(("context", Some(label)));
    }
    FileSystem {
        kind,
        source: mount.source.as_deref().unwrap_or(kind),
        data,
        attributes: options.top.set | options.tree.set,
        copies_up: options.copies_up,
    }
}

fn invalid(mount: &Mount<'_>, cause: &str) -> Failure {
    Failure::invalid(
        "plan the mounts",
        format!("the mount at {}: {cause}", &*mount.destination),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::IdMap;
    use crate::bundle::text::Text;

    fn mount(
        destination: &'static str,
        kind: &'static str,
        source: &'static str,
        options: &[&'static str],
    ) -> Mount<'static> {
        Mount {
            destination: destination.into(),
            kind: Some(kind.into()),
            source: Some(source.into()),
            options: options.iter().map(|word| Text::from(*word)).collect(),
            ..Mount::default()
        }
    }

    #[test]
    fn a_bind_is_a_tree_of_the_host() {
        let volume = mount("/data", "bind", "/srv/data", &["rbind", "ro", "rslave"]);
        let mut trees = Vec::new();
        let step = plan(&volume, None, &mut trees).unwrap();
        assert_eq!(step.source, Source::Tree(0));
        assert_eq!(step.spread.kind, Propagation::Slave);
        assert_eq!(trees[0].path, "/srv/data");
        assert_eq!(trees[0].bind, Bind::Recursive);
        assert_eq!(trees[0].top.set, Attr::MOUNT_ATTR_RDONLY);
        assert!(trees[0].all.is_empty());
        assert_eq!(trees[0].idmap, None);
    }

    #[test]
    fn a_binds_own_ids_map_as_much_as_is_bound_and_a_word_says_otherwise() {
        let ids = IdMap {
            inside: 0,
            outside: 1000,
            length: 10,
        };
        let planned = |options: &[&'static str], uids: &[IdMap]| {
            let mut volume = mount("/data", "bind", "/srv", options);
            volume.uid_mappings = uids.to_vec();
            volume.gid_mappings = uids.to_vec();
            let mut trees = Vec::new();
            plan(&volume, None, &mut trees).map(|_| trees[0].idmap.take())
        };
        let own = planned(&["rbind"], &[ids]).unwrap().unwrap();
        assert_eq!(own.reach, Reach::Widest);
        assert_eq!(own.ids.unwrap().uid(1), Some(1001));
        let own = planned(&["rbind", "idmap"], &[ids]).unwrap().unwrap();
        assert_eq!(own.reach, Reach::Top);
        let containers = planned(&["bind", "ridmap"], &[]).unwrap().unwrap();
        assert_eq!((containers.reach, containers.ids), (Reach::Tree, None));
        assert!(planned(&["bind"], &[IdMap { length: 0, ..ids }]).is_err());
        let mut tmpfs = mount("/t", "tmpfs", "tmpfs", &[]);
        tmpfs.gid_mappings.push(ids);
        assert!(plan(&tmpfs, None, &mut Vec::new()).is_err());
    }

    #[test]
    fn a_file_system_keeps_its_own_options() {
        let dev = mount(
            "/dev",
            "tmpfs",
            "tmpfs",
            &["nosuid", "mode=755", "size=65536k"],
        );
        let step = plan(&dev, Some("label"), &mut Vec::new()).unwrap();
        let Source::FileSystem(made) = step.source else {
            panic!("{step:?}")
        };
        assert_eq!(
            made.data,
            [
                ("mode", Some("755")),
                ("size", Some("65536k")),
                ("context", Some("label"))
            ]
        );
        assert_eq!(made.attributes, Attr::MOUNT_ATTR_NOSUID);
        assert_eq!(step.spread.kind, Propagation::Private);
    }

    #[test]
    fn what_cannot_be_mounted_is_refused() {
        for bad in [
            mount("/", "tmpfs", "tmpfs", &[]),
            mount("/../.", "tmpfs", "tmpfs", &[]),
            mount("/x", "bind", "relative", &[]),
            mount("/x", "bind", "/y", &["mode=755"]),
        ] {
            assert!(plan(&bad, None, &mut Vec::new()).is_err(), "{bad:?}");
        }
    }
}
