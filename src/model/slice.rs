//! Names of systemd's slices, and where their cgroups are (systemd.slice(5)).
//!
//! A slice's name says where it is: each `-` is a step down, so `kubepods-burstable.slice` is in
//! `kubepods.slice`. Whoever puts something into a slice has to know its path, and nobody needs to
//! ask systemd for it.

/// Where systemd puts what names no slice, and so do CRI-O and runc.
pub const DEFAULT: &str = "system.slice";

/// The root of all slices, which is the root of the tree.
const ROOT: &str = "-.slice";

/// The longest name that systemd takes for a unit.
const LONGEST: usize = 255;

/// The path of a slice's cgroup below systemd's own root, without a slash at its end; `None` for what
/// is no slice's name. That of the root slice is empty.
#[must_use]
pub fn path(slice: &str) -> Option<String> {
    if slice == ROOT {
        return Some(String::new());
    }
    let name = slice.strip_suffix(".slice")?;
    let sound = |part: &str| !part.is_empty() && part.bytes().all(is_allowed);
    if slice.len() > LONGEST || !name.split('-').all(sound) {
        return None;
    }
    let ends = name.match_indices('-').map(|(at, _)| at);
    let above = ends.chain([name.len()]).filter_map(|end| name.get(..end));
    Some(above.map(|part| format!("/{part}.slice")).collect())
}

/// The slice that a `cgroup_parent` names: by its name alone, after a single slash (as crictl's suite
/// does), or by its whole path (as the kubelet does). `None` for what names none.
#[must_use]
pub fn named_by(parent: &str) -> Option<&str> {
    let (before, name) = parent.rsplit_once('/').unwrap_or(("", parent));
    let path = path(name)?;
    (before.is_empty() || parent == path).then_some(name)
}

/// What a unit's name may be made of, but for the dash.
fn is_allowed(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b":_.\\".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_dash_is_a_step_down() {
        assert_eq!(path("system.slice").unwrap(), "/system.slice");
        assert_eq!(
            path("kubepods-besteffort-pod0a_1b.slice").unwrap(),
            "/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod0a_1b.slice"
        );
        assert_eq!(path("-.slice").unwrap(), "");
        assert_eq!(path("a.b.slice").unwrap(), "/a.b.slice");
        assert_eq!(path(r"a\x2db.slice").unwrap(), r"/a\x2db.slice");
    }

    #[test]
    fn a_parent_is_a_name_or_its_whole_path() {
        let whole = "/kubepods.slice/kubepods-besteffort.slice";
        assert_eq!(named_by(whole), Some("kubepods-besteffort.slice"));
        assert_eq!(named_by("a-b.slice"), Some("a-b.slice"));
        assert_eq!(named_by("/test.slice"), Some("test.slice"));
        for bad in [
            "",
            "/kubepods/poda",
            "/elsewhere/kubepods-besteffort.slice",
            "/a.slice/b",
            "a.slice/a-b.slice",
        ] {
            assert_eq!(named_by(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn what_is_no_slice_has_no_path() {
        let long = format!("{}.slice", "a".repeat(250));
        for bad in [
            "",
            "kubepods",
            ".slice",
            "/kubepods/poda",
            "/kubepods.slice",
            "a/b.slice",
            "-a.slice",
            "a-.slice",
            "a--b.slice",
            "a.scope",
            "a b.slice",
            "ä.slice",
            "..",
            "a@b.slice",
            &long,
        ] {
            assert_eq!(path(bad), None, "{bad:?} was taken");
        }
    }
}
