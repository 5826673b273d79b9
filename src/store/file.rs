//! Records as files.

use super::{Loaded, Store, StoreError};
use crate::error::chain;
use crate::id::{ContainerId, SandboxId};
use crate::model::container::{Container, ContainerState};
use crate::model::sandbox::Sandbox;
use crate::model::sandbox::SandboxState;
use serde::{
    Serialize,
    de::{DeserializeOwned, IgnoredAny},
};
use std::collections::BTreeSet;
use std::fmt::Display;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use tracing::warn;

/// A sandbox's record, from the furthest it can be in its life.
const SANDBOX: [&str; 2] = ["sandbox.json", "creating.json"];
/// A container's.
const CONTAINER: [&str; 3] = ["container.json", "created.json", "creating.json"];
const TRASH: &str = "trash";
/// The rooms of objects. Each may be a file system of its own.
const ROOMS: [&str; 2] = ["sandboxes", "containers"];
/// What is thrown away in a room that is.
const TRASH_INSIDE: &str = ".trash";

/// Records below a root directory, and those of this boot alone below a state directory.
#[derive(Debug)]
pub struct FileStore {
    root: PathBuf,
    state: PathBuf,
    /// Makes names in the trash differ, also from those that an earlier daemon has left.
    removed: AtomicU64,
    trash: mpsc::Sender<PathBuf>,
}

impl FileStore {
    /// Below this root and this state, whose directories are made where they are absent. What an
    /// earlier life had thrown away and not yet deleted is deleted.
    ///
    /// # Errors
    /// Where the disk refuses.
    pub fn open(root: &Path, state: &Path) -> Result<Self, StoreError> {
        let rooms = ROOMS.into_iter().chain([TRASH]);
        let rooms = rooms.map(|name| root.join(name));
        for dir in rooms.chain([state.join(ROOMS[1])]) {
            fs::create_dir_all(&dir).map_err(|e| StoreError::io("create", &dir, e))?;
        }
        let trash = root.join(TRASH);
        let mut left = thrown_away(&trash)?;
        for room in ROOMS {
            left.extend(thrown_away(&root.join(room).join(TRASH_INSIDE))?);
        }
        let sender = deleter().map_err(|e| StoreError::io("start to delete in", &trash, e))?;
        for path in left {
            // The deleter ends with this store.
            let _ = sender.send(path);
        }
        Ok(Self {
            root: root.to_owned(),
            state: state.to_owned(),
            removed: AtomicU64::new(0),
            trash: sender,
        })
    }

    fn sandbox_dir(&self, id: &SandboxId) -> PathBuf {
        self.root.join("sandboxes").join(id.as_str())
    }

    /// A rename takes the directory out of sight at once; its end may take its time.
    fn discard(&self, dir: &Path, name: &str) -> Result<(), StoreError> {
        let number = self.removed.fetch_add(1, Ordering::Relaxed);
        let name = format!("{name}-{}-{number}", std::process::id());
        let failed = |e| StoreError::io("discard", dir, e);
        let mut target = self.root.join(TRASH).join(&name);
        let mut renamed = fs::rename(dir, &target);
        if renamed
            .as_ref()
            .is_err_and(|e| e.kind() == ErrorKind::CrossesDevices)
        {
            let inside = dir.with_file_name(TRASH_INSIDE);
            fs::create_dir_all(&inside).map_err(failed)?;
            target = inside.join(name);
            renamed = fs::rename(dir, &target);
        }
        match renamed {
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(()),
            other => other.map_err(failed)?,
        }
        let _ = self.trash.send(target);
        Ok(())
    }
}

/// What is in a trash directory, which may be absent.
fn thrown_away(trash: &Path) -> Result<Vec<PathBuf>, StoreError> {
    let failed = |e| StoreError::io("list", trash, e);
    let entries = match fs::read_dir(trash) {
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(failed)?,
    };
    let paths = entries.map(|entry| entry.map(|entry| entry.path()));
    paths.collect::<Result<_, _>>().map_err(failed)
}

/// How nice the deleter is: it gets a tenth of what others get who want the same processor.
const GIVING_WAY: i32 = 10;

/// Deletes what it is sent on one thread of its own: a large writable layer must hold up nobody.
/// What a kill leaves is deleted at the next start.
fn deleter() -> std::io::Result<mpsc::Sender<PathBuf>> {
    let (sender, paths) = mpsc::channel::<PathBuf>();
    std::thread::Builder::new()
        .name("trash".to_owned())
        .spawn(move || {
            // Of this thread alone, as Linux has it. Where it is refused the deleting is only less polite.
            let _ = rustix::process::setpriority_process(None, GIVING_WAY);
            for path in paths {
                if let Err(error) = crate::trees::remove(&path) {
                    tracing::warn!(path = %path.display(), %error, "discarded files remain until the next start");
                }
            }
        })?;
    Ok(sender)
}

fn write_record<T: Serialize>(dir: &Path, name: &str, record: &T) -> Result<(), StoreError> {
    let path = dir.join(name);
    let text = serde_json::to_vec(record).map_err(|source| StoreError::Content {
        path: path.clone(),
        source,
    })?;
    let temporary = dir.join(format!(".{name}"));
    let write = || fs::write(&temporary, &text).and_then(|()| fs::rename(&temporary, &path));
    match write() {
        Err(e) if e.kind() == ErrorKind::NotFound => {
            fs::create_dir_all(dir).map_err(|e| StoreError::io("create", dir, e))?;
            write().map_err(|e| StoreError::io("write the record", &path, e))
        }
        other => other.map_err(|e| StoreError::io("write the record", &path, e)),
    }
}

fn sandbox_file(state: SandboxState) -> &'static str {
    match state {
        SandboxState::Ready | SandboxState::NotReady => SANDBOX[0],
        SandboxState::Creating => SANDBOX[1],
    }
}

fn container_file(state: &ContainerState) -> &'static str {
    match state {
        ContainerState::Running | ContainerState::Exited(_) => CONTAINER[0],
        ContainerState::Created => CONTAINER[1],
        ContainerState::Creating => CONTAINER[2],
    }
}

/// What a directory of objects holds.
struct Found<T, I> {
    records: Vec<T>,
    /// Those of which nothing but the name is left.
    torn: Vec<I>,
    /// Those whose record cannot be read now, or by this version.
    unread: Vec<I>,
}

/// Where the records of one kind of object are.
struct Room<'a> {
    /// Each directory has the object's own, by its id.
    dirs: &'a [PathBuf],
    /// The records' names, the furthest first.
    names: &'a [&'a str],
}

impl Room<'_> {
    /// Everything that has a name of an object. The trash has none, nor has what a file system of its
    /// own has at its top, such as lost+found.
    fn objects<I: FromStr + Ord>(&self) -> Result<BTreeSet<I>, StoreError> {
        let mut found = BTreeSet::new();
        for dir in self.dirs {
            let failed = |e| StoreError::io("list", dir, e);
            for entry in fs::read_dir(dir).map_err(failed)? {
                let name = entry.map_err(failed)?.file_name();
                found.extend(name.to_str().and_then(|name| name.parse().ok()));
            }
        }
        Ok(found)
    }

    fn read<T: DeserializeOwned, I: FromStr + Ord + Display>(
        &self,
        unreadable: &mut Vec<StoreError>,
    ) -> Result<Found<T, I>, StoreError> {
        let (mut records, mut torn, mut unread) = (Vec::new(), Vec::new(), Vec::new());
        for id in self.objects::<I>()? {
            let name = id.to_string();
            match self.read_furthest(&name) {
                Ok(record) => records.push(record),
                Err(error) if error.is_absent() => {
                    self.discard_unrecorded(&name, unreadable);
                }
                Err(error) if error.is_torn() => torn.push(id),
                Err(error) => {
                    unread.push(id);
                    unreadable.push(error);
                }
            }
        }
        Ok(Found {
            records,
            torn,
            unread,
        })
    }

    /// A directory without a record is of an object of which nothing was made: the record comes first.
    fn discard_unrecorded(&self, id: &str, unreadable: &mut Vec<StoreError>) {
        for object in self.dirs.iter().map(|dir| dir.join(id)) {
            if let Err(error) = crate::trees::remove(&object) {
                unreadable.push(StoreError::io("discard", &object, error));
            }
        }
    }

    /// The furthest record that is whole. What a power cut has torn is told and passed over: the one
    /// before it names all that was to be made, if not how far that came.
    fn read_furthest<T: DeserializeOwned>(&self, id: &str) -> Result<T, StoreError> {
        let in_each = |name| self.dirs.iter().map(move |dir| dir.join(id).join(name));
        let mut missing = None;
        for path in self.names.iter().flat_map(in_each) {
            match read_record(&path) {
                Err(error) if error.is_torn() => {
                    warn!(path = %path.display(), error = chain(&error), "a record is torn, as by a power cut");
                    // The first that is torn is told, else that there is none.
                    missing = missing.filter(StoreError::is_torn).or(Some(error));
                }
                Err(error) if error.is_absent() => {
                    missing.get_or_insert(error);
                }
                read => return read,
            }
        }
        Err(missing.unwrap_or_else(|| {
            let dir = self.dirs.first().map_or(Path::new(""), PathBuf::as_path);
            StoreError::io("read the record", dir, ErrorKind::NotFound.into())
        }))
    }
}

fn read_record<T: DeserializeOwned>(path: &Path) -> Result<T, StoreError> {
    let text = fs::read(path).map_err(|e| StoreError::io("read the record", path, e))?;
    let path = path.to_owned();
    // What is whole and of another shape is another version's, whatever the parser calls it.
    if let Err(source) = serde_json::from_slice::<IgnoredAny>(&text) {
        return Err(StoreError::Torn { path, source });
    }
    serde_json::from_slice(&text).map_err(|source| StoreError::Content { path, source })
}

impl Store for FileStore {
    fn save_sandbox(&self, sandbox: &Sandbox) -> Result<(), StoreError> {
        let name = sandbox_file(sandbox.state);
        write_record(&self.sandbox_dir(&sandbox.id), name, sandbox)
    }

    fn save_container(&self, container: &Container) -> Result<(), StoreError> {
        let name = container_file(&container.state);
        let dir = match container.state {
            ContainerState::Creating | ContainerState::Created => self.bundle_dir(&container.id),
            ContainerState::Running | ContainerState::Exited(_) => {
                self.container_dir(&container.id)
            }
        };
        write_record(&dir, name, container)
    }

    fn remove_sandbox(&self, id: &SandboxId) -> Result<(), StoreError> {
        self.discard(&self.sandbox_dir(id), id.as_str())
    }

    fn remove_container(&self, id: &ContainerId) -> Result<(), StoreError> {
        // Before the record that lasts: where a kill comes between, it is asked for again.
        let bundle = self.bundle_dir(id);
        crate::trees::remove(&bundle).map_err(|e| StoreError::io("discard", &bundle, e))?;
        self.discard(&self.container_dir(id), id.as_str())
    }

    fn load(&self) -> Result<Loaded, StoreError> {
        let mut unreadable = Vec::new();
        let sandboxes = Room {
            dirs: &[self.root.join(ROOMS[0])],
            names: &SANDBOX,
        };
        let sandboxes = sandboxes.read(&mut unreadable)?;
        let containers = Room {
            // An earlier version has left all of them below the root: what is of this boot is newer.
            dirs: &[self.state.join(ROOMS[1]), self.containers_dir()],
            names: &CONTAINER,
        };
        let containers = containers.read(&mut unreadable)?;
        Ok(Loaded {
            sandboxes: sandboxes.records,
            containers: containers.records,
            torn_sandboxes: sandboxes.torn,
            torn_containers: containers.torn,
            unread_sandboxes: sandboxes.unread,
            unreadable,
        })
    }

    fn containers_dir(&self) -> PathBuf {
        self.root.join("containers")
    }

    fn container_dir(&self, id: &ContainerId) -> PathBuf {
        self.containers_dir().join(id.as_str())
    }

    fn bundle_dir(&self, id: &ContainerId) -> PathBuf {
        self.state.join(ROOMS[1]).join(id.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::fakes::{a_container, a_sandbox};

    fn open(root: &tempfile::TempDir) -> FileStore {
        FileStore::open(root.path(), &root.path().join("state")).unwrap()
    }

    #[test]
    fn what_was_saved_is_loaded_and_what_was_removed_is_not() {
        let root = tempfile::tempdir().unwrap();
        let store = open(&root);
        let (kept, removed) = (a_sandbox("kept"), a_sandbox("removed"));
        store.save_sandbox(&kept).unwrap();
        store.save_sandbox(&removed).unwrap();
        store.remove_sandbox(&removed.id).unwrap();
        store.remove_sandbox(&removed.id).unwrap();
        let loaded = open(&root).load().unwrap();
        assert_eq!(loaded.sandboxes, vec![kept]);
        assert!(loaded.unreadable.is_empty());
    }

    /// What a boot leaves: nothing of the state.
    fn reboot(root: &tempfile::TempDir) -> FileStore {
        fs::remove_dir_all(root.path().join("state")).unwrap();
        open(root)
    }

    #[test]
    fn a_container_that_never_ran_is_of_this_boot_and_one_that_ran_lasts() {
        let root = tempfile::tempdir().unwrap();
        let store = open(&root);
        let making = a_container(ContainerState::Creating);
        let [mut made, mut running] = [making.clone(), making.clone()];
        (made.id, running.id) = (ContainerId::random(), ContainerId::random());
        for container in [&making, &made, &running] {
            store.save_container(container).unwrap();
            fs::create_dir_all(store.container_dir(&container.id).join("upper/deep")).unwrap();
        }
        made.state = ContainerState::Created;
        running.state = ContainerState::Running;
        store.save_container(&made).unwrap();
        store.save_container(&running).unwrap();
        let found = store.load().unwrap().containers;
        assert_eq!(found.len(), 3);
        assert!(
            [&making, &made, &running]
                .iter()
                .all(|one| found.contains(one))
        );
        let store = reboot(&root);
        let loaded = store.load().unwrap();
        assert_eq!(loaded.containers, std::slice::from_ref(&running));
        assert!(loaded.unreadable.is_empty() && loaded.torn_containers.is_empty());
        assert!(!store.container_dir(&making.id).exists());
        assert!(!store.container_dir(&made.id).exists());
        assert!(store.container_dir(&running.id).exists());
    }

    #[test]
    fn before_the_torn_record_of_a_container_its_intent_counts() {
        let root = tempfile::tempdir().unwrap();
        let store = open(&root);
        let container = a_container(ContainerState::Creating);
        store.save_container(&container).unwrap();
        let dir = store.container_dir(&container.id);
        fs::create_dir(&dir).unwrap();
        fs::write(dir.join("container.json"), "").unwrap();
        assert_eq!(
            store.load().unwrap().containers,
            std::slice::from_ref(&container)
        );
        let loaded = reboot(&root).load().unwrap();
        assert_eq!(loaded.torn_containers, [container.id]);
    }

    #[test]
    fn of_a_removed_container_nothing_is_left() {
        let root = tempfile::tempdir().unwrap();
        let store = open(&root);
        let mut container = a_container(ContainerState::Creating);
        store.save_container(&container).unwrap();
        container.state = ContainerState::Created;
        store.save_container(&container).unwrap();
        store.remove_container(&container.id).unwrap();
        store.remove_container(&container.id).unwrap();
        assert!(!store.container_dir(&container.id).exists());
        assert!(!store.bundle_dir(&container.id).exists());
        assert!(store.load().unwrap().containers.is_empty());
    }

    #[test]
    fn the_furthest_state_counts() {
        let root = tempfile::tempdir().unwrap();
        let store = open(&root);
        let mut sandbox = a_sandbox("one");
        let states = [
            SandboxState::Creating,
            SandboxState::Ready,
            SandboxState::NotReady,
        ];
        for state in states {
            sandbox.state = state;
            store.save_sandbox(&sandbox).unwrap();
            assert_eq!(store.load().unwrap().sandboxes, [sandbox.clone()]);
        }
    }

    #[test]
    fn what_is_no_object_is_left_alone() {
        let root = tempfile::tempdir().unwrap();
        let store = open(&root);
        let found = root.path().join("containers/lost+found");
        fs::create_dir(&found).unwrap();
        assert!(store.load().unwrap().unreadable.is_empty());
        assert!(found.is_dir());
        let thrown = root.path().join("containers/.trash/half deleted");
        fs::create_dir_all(&thrown).unwrap();
        let _store = open(&root);
        while thrown.exists() {
            std::thread::yield_now();
        }
    }

    #[test]
    fn a_directory_without_a_record_is_discarded() {
        let root = tempfile::tempdir().unwrap();
        let store = open(&root);
        let sandbox = a_sandbox("half made");
        let dir = store.sandbox_dir(&sandbox.id);
        fs::create_dir(&dir).unwrap();
        fs::write(dir.join(".creating.json"), "{").unwrap();
        let loaded = store.load().unwrap();
        assert!(loaded.sandboxes.is_empty());
        assert!(loaded.unreadable.is_empty(), "{:?}", loaded.unreadable);
        assert!(!dir.exists());
    }

    /// What a power cut leaves of a file: nothing of it, a part, or blocks that were never written.
    const TORN: [&[u8]; 3] = [b"", b"{\"id\":\"", &[0; 512]];

    #[test]
    fn before_a_torn_record_the_intent_counts() {
        for torn in TORN {
            let root = tempfile::tempdir().unwrap();
            let store = open(&root);
            let mut sandbox = a_sandbox("one");
            sandbox.state = SandboxState::Creating;
            store.save_sandbox(&sandbox).unwrap();
            fs::write(store.sandbox_dir(&sandbox.id).join(SANDBOX[0]), torn).unwrap();
            let loaded = store.load().unwrap();
            assert_eq!(loaded.sandboxes, [sandbox]);
            assert!(loaded.unreadable.is_empty() && loaded.torn_sandboxes.is_empty());
        }
    }

    #[test]
    fn of_an_object_without_a_whole_record_the_name_is_told() {
        for torn in TORN {
            let root = tempfile::tempdir().unwrap();
            let store = open(&root);
            let (good, sandbox) = (a_sandbox("good"), a_sandbox("torn"));
            let container = ContainerId::random();
            store.save_sandbox(&good).unwrap();
            for dir in [
                store.sandbox_dir(&sandbox.id),
                store.container_dir(&container),
            ] {
                fs::create_dir(&dir).unwrap();
                fs::write(dir.join("creating.json"), torn).unwrap();
            }
            let loaded = store.load().unwrap();
            assert_eq!(loaded.sandboxes, [good]);
            assert_eq!(loaded.torn_sandboxes, [sandbox.id]);
            assert_eq!(loaded.torn_containers, [container]);
            assert!(loaded.unreadable.is_empty());
        }
    }

    #[test]
    fn a_whole_record_of_another_version_is_told_and_hides_no_other() {
        let root = tempfile::tempdir().unwrap();
        let store = open(&root);
        let (good, bad) = (a_sandbox("good"), a_sandbox("bad"));
        store.save_sandbox(&good).unwrap();
        store.save_sandbox(&bad).unwrap();
        let path = store.sandbox_dir(&bad.id).join(SANDBOX[0]);
        let mut grown: serde_json::Value =
            serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        // The parser takes a pair that has grown for bad syntax.
        grown["namespaces"]["holder"] = serde_json::json!([1, 2, 3]);
        for text in ["{}".to_owned(), grown.to_string()] {
            fs::write(&path, text).unwrap();
            let loaded = store.load().unwrap();
            assert_eq!(loaded.sandboxes, std::slice::from_ref(&good));
            assert_eq!(loaded.torn_sandboxes, []);
            assert_eq!(loaded.unread_sandboxes, std::slice::from_ref(&bad.id));
            let [error] = &loaded.unreadable[..] else {
                panic!("{:?}", loaded.unreadable)
            };
            assert!(error.to_string().contains(bad.id.as_str()), "{error}");
        }
    }
}
