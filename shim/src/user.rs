//! Whom a process runs as: names and numbers looked up in the image's own `/etc/passwd` and
//! `/etc/group`, whose content is hostile.
//!
//! Invariant: a number is always a number (an account *named* `1000` cannot turn a checked user id
//! into root), and no id above 2³¹−1 is accepted, so that none wraps around to 0.

use crate::api::{Failure, FailureKind, User};
use crate::bundle::process;
use crate::root::Root;

/// How many bytes of each file are looked at.
const MOST: u64 = 1024 * 1024;
/// The largest id.
const MOST_ID: u32 = i32::MAX.unsigned_abs();
/// Which groups of the image count.
const POLICY: &str = "corten.dev/supplemental-groups-policy";

/// Whether the groups that the image lists a user in are added to those that were asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Groups {
    /// They are added.
    Merge,
    /// Only what was asked for counts.
    Strict,
}

/// Whether the home directory has to be looked up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Home {
    /// The process's environment names none.
    LookUp,
    /// The process's environment names it.
    Given,
}

/// A user, found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// The ids.
    pub user: User,
    /// The home directory.
    pub home: String,
}

/// Reads the policy from a bundle's annotations.
///
/// # Errors
/// A policy that is unknown.
pub fn policy(annotations: &crate::bundle::Annotations<'_>) -> Result<Groups, Failure> {
    match annotations.get(&POLICY.into()).map(|value| &**value) {
        None | Some("" | "Merge") => Ok(Groups::Merge),
        Some("Strict") => Ok(Groups::Strict),
        Some(other) => Err(Failure::invalid(
            "look up the user",
            format!("{POLICY}={other} is unknown"),
        )),
    }
}

/// Finds out whom a process runs as. The files are read only where they are needed: for a name,
/// or for the home directory of a number.
///
/// # Errors
/// [`FailureKind::User`]: the image has no such user or group, or an id is too large.
pub fn resolve(
    root: &Root,
    wanted: &process::User<'_>,
    groups: Groups,
    home: Home,
) -> Result<Account, Failure> {
    let read = |path| root.read(path, MOST).unwrap_or_default();
    match wanted.username.as_deref().filter(|name| !name.is_empty()) {
        Some(name) => named(
            name,
            wanted,
            groups,
            &read("/etc/passwd"),
            &read("/etc/group"),
        ),
        None => {
            let passwd = match home {
                Home::LookUp => read("/etc/passwd"),
                Home::Given => Vec::new(),
            };
            numbered(wanted, &passwd)
        }
    }
}

/// Whom a process runs as that is asked for by number; with the image's `/etc/passwd`, for the home directory.
///
/// # Errors
/// [`FailureKind::User`]: an id is too large.
pub fn numbered(wanted: &process::User<'_>, passwd: &[u8]) -> Result<Account, Failure> {
    let home = accounts(passwd)
        .find(|account| account.uid == wanted.uid)
        .map(|account| account.home);
    let user = User {
        uid: wanted.uid,
        gid: wanted.gid,
        groups: wanted.additional_gids.clone(),
    };
    for id in [user.uid, user.gid].iter().chain(&user.groups) {
        bounded(*id)?;
    }
    Ok(Account {
        user,
        home: home_of(home),
    })
}

/// Whom a process runs as that is asked for as `user[:group]`, by the image's `/etc/passwd` and `/etc/group`.
///
/// # Errors
/// As [`resolve`].
pub fn named(
    text: &str,
    wanted: &process::User<'_>,
    policy: Groups,
    passwd: &[u8],
    group: &[u8],
) -> Result<Account, Failure> {
    let (user_text, group_text) = match text.split_once(':') {
        Some((user, group)) => (user, Some(group).filter(|group| !group.is_empty())),
        None => (text, None),
    };
    let found = find_user(user_text, passwd)?;
    let gid = match group_text {
        Some(group_text) => find_group(group_text, group)?,
        None => found.gid,
    };
    let mut groups = vec![gid];
    if policy == Groups::Merge {
        groups.extend(memberships(found.name, group));
    }
    groups.extend(&wanted.additional_gids);
    for id in &groups {
        bounded(*id)?;
    }
    let mut seen = std::collections::BTreeSet::new();
    groups.retain(|gid| seen.insert(*gid));
    Ok(Account {
        user: User {
            uid: found.uid,
            gid,
            groups,
        },
        home: home_of(Some(found.home)),
    })
}

fn home_of(home: Option<&[u8]>) -> String {
    match home.and_then(|home| std::str::from_utf8(home).ok()) {
        Some(home) if home.starts_with('/') && !home.contains('\0') => home.to_owned(),
        _ => "/".to_owned(),
    }
}

/// One line of `/etc/passwd`.
#[derive(Debug, Clone, Copy)]
struct Entry<'a> {
    name: &'a [u8],
    uid: u32,
    gid: u32,
    home: &'a [u8],
}

fn find_user<'a>(text: &str, passwd: &'a [u8]) -> Result<Entry<'a>, Failure> {
    let Some(uid) = number(text)? else {
        let found = accounts(passwd).find(|account| account.name == text.as_bytes());
        return found
            .ok_or_else(|| unknown(format!("the image has no user {text} in /etc/passwd")));
    };
    let found = accounts(passwd).find(|account| account.uid == uid);
    Ok(found.unwrap_or(Entry {
        name: b"",
        uid,
        gid: 0,
        home: b"/",
    }))
}

fn find_group(text: &str, group: &[u8]) -> Result<u32, Failure> {
    if let Some(gid) = number(text)? {
        return Ok(gid);
    }
    let mut lines = fields(group);
    let found = lines.find_map(|line| {
        (line.first() == Some(&text.as_bytes()))
            .then(|| id(line.get(2)?))
            .flatten()
    });
    found.ok_or_else(|| unknown(format!("the image has no group {text} in /etc/group")))
}

fn memberships(name: &[u8], group: &[u8]) -> Vec<u32> {
    if name.is_empty() {
        return Vec::new();
    }
    let is_member = |line: &Vec<&[u8]>| {
        line.get(3).is_some_and(|members| {
            members
                .split(|byte| *byte == b',')
                .any(|member| member == name)
        })
    };
    fields(group)
        .filter(is_member)
        .filter_map(|line| id(line.get(2)?))
        .collect()
}

/// Lines that are no account are passed over: nobody promised that the file is well made.
fn accounts(passwd: &[u8]) -> impl Iterator<Item = Entry<'_>> {
    fields(passwd).filter_map(|line| {
        Some(Entry {
            name: line.first()?,
            uid: id(line.get(2)?)?,
            gid: id(line.get(3)?)?,
            home: line.get(5)?,
        })
    })
}

fn fields(text: &[u8]) -> impl Iterator<Item = Vec<&[u8]>> {
    let lines = text.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
    lines
        .filter(|line| !line.is_empty() && line[0] != b'#')
        .map(|line| line.split(|byte| *byte == b':').collect())
}

fn id(text: &[u8]) -> Option<u32> {
    let digits = text.trim_ascii();
    let id = std::str::from_utf8(digits).ok()?.parse().ok()?;
    (id <= MOST_ID).then_some(id)
}

/// A word of digits is a number, or too large to be one.
fn number(text: &str) -> Result<Option<u32>, Failure> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Ok(None);
    }
    let too_large = || unknown(format!("the id {text} is above {MOST_ID}"));
    bounded(text.parse().map_err(|_| too_large())?).map(Some)
}

fn bounded(id: u32) -> Result<u32, Failure> {
    if id > MOST_ID {
        return Err(unknown(format!("the id {id} is above {MOST_ID}")));
    }
    Ok(id)
}

fn unknown(cause: String) -> Failure {
    Failure {
        kind: FailureKind::User,
        step: "look up the user".to_owned(),
        errno: 0,
        chain: vec![cause],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &[u8] = b"root:x:0:0:root:/root:/bin/sh\n# nobody:x:1:1::/:\n\xff\xfe:bad\nwww-data:x:33:33:www:/var/www:/sbin\n1000:x:0:0::/root:\nuser:x:1000:100::/home/user:\nhuge:x:4294967296:0::/:\nwrap:x:4294967295:0::/:\n";
    const GROUP: &[u8] =
        b"root:x:0:\nextra:x:50000:user,www-data\nweb:x:1004:\nusers:x:100:user\nbad:x:zzz:user\n";

    fn look_up(name: &str, additional: &[u32], policy: Groups) -> Result<Account, Failure> {
        let wanted = process::User {
            additional_gids: additional.to_vec(),
            ..process::User::default()
        };
        named(name, &wanted, policy, PASSWD, GROUP)
    }

    #[test]
    fn names_numbers_and_groups_are_found() {
        for (text, uid, gid, home) in [
            ("www-data", 33, 33, "/var/www"),
            ("www-data:web", 33, 1004, "/var/www"),
            ("www-data:7", 33, 7, "/var/www"),
            ("33", 33, 33, "/var/www"),
            ("1002", 1002, 0, "/"),
            ("1003:1004", 1003, 1004, "/"),
        ] {
            let found = look_up(text, &[], Groups::Strict).unwrap();
            assert_eq!(
                (found.user.uid, found.user.gid, &*found.home),
                (uid, gid, home),
                "{text}"
            );
        }
    }

    #[test]
    fn an_account_named_like_a_number_is_not_that_number() {
        let found = look_up("1000", &[], Groups::Strict).unwrap();
        assert_eq!((found.user.uid, found.user.gid), (1000, 100));
    }

    #[test]
    fn the_policy_decides_about_the_images_groups() {
        let merged = look_up("1000", &[1234, 100], Groups::Merge).unwrap();
        assert_eq!(merged.user.groups, [100, 50000, 1234]);
        let strict = look_up("1000", &[1234], Groups::Strict).unwrap();
        assert_eq!(strict.user.groups, [100, 1234]);
    }

    #[test]
    fn who_is_not_there_or_too_large_is_refused() {
        for text in [
            "ghost",
            "www-data:ghosts",
            "huge",
            "wrap",
            "4294967296",
            "4294967295",
            "2147483648",
            "0:2147483648",
            "",
        ] {
            let failure = look_up(text, &[], Groups::Merge).unwrap_err();
            assert_eq!(failure.kind, FailureKind::User, "{text}");
        }
        assert!(look_up("root", &[u32::MAX], Groups::Merge).is_err());
        let wanted = process::User {
            uid: u32::MAX,
            ..process::User::default()
        };
        assert!(numbered(&wanted, b"").is_err());
    }

    #[test]
    fn only_blanks_of_ascii_are_around_a_number() {
        let gid = |line: &str| accounts(line.as_bytes()).next().map(|account| account.gid);
        assert_eq!(gid("user:x: 5 :\t+6\t::/:"), Some(6));
        assert_eq!(gid("user:x:5:6\u{b}::/:"), None);
        assert_eq!(gid("user:x:5:\u{a0}6::/:"), None);
    }

    #[test]
    fn a_hostile_file_is_read_past() {
        let long = [
            b"a:".repeat(10_000),
            b"\n:::::::\n\0\0\nuser:x:5:6::relative:\n".to_vec(),
        ]
        .concat();
        let found = named(
            "user",
            &process::User::default(),
            Groups::Merge,
            &long,
            &[0xff; 100],
        )
        .unwrap();
        assert_eq!((found.user.uid, found.user.gid, &*found.home), (5, 6, "/"));
    }
}
