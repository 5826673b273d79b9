//! Whatever an image's `/etc/passwd` and `/etc/group` say: whom a process runs as is what a slow and plain reading of
//! them says, no id wraps around, a number stays that number, and the home directory is a path.
//!
//! An input is a line with whom to be (`user[:group]`, or nothing and a number of the request's), a line with the groups
//! of the request (`strict` among them: none of the image's), and the two files, between them a line `%`.
#![no_main]

use corten_shim::api::User;
use corten_shim::bundle::process;
use corten_shim::user::{Account, Groups, named, numbered};
use libfuzzer_sys::fuzz_target;

const MOST: u64 = (1 << 31) - 1;

fuzz_target!(|input: &[u8]| {
    let mut lines = input.splitn(3, |byte| *byte == b'\n');
    let (Some(who), Some(groups), Some(files)) = (lines.next(), lines.next(), lines.next()) else {
        return;
    };
    let (Ok(who), Ok(groups)) = (std::str::from_utf8(who), std::str::from_utf8(groups)) else {
        return;
    };
    let (passwd, group) = halves(files);
    let strict = groups.split(' ').any(|word| word == "strict");
    let more: Vec<u32> = groups
        .split(' ')
        .filter_map(|word| word.parse().ok())
        .collect();
    let wanted = process::User {
        uid: more.first().copied().unwrap_or(0),
        gid: more.last().copied().unwrap_or(0),
        additional_gids: more.clone(),
        ..process::User::default()
    };
    let policy = if strict {
        Groups::Strict
    } else {
        Groups::Merge
    };
    let found = named(who, &wanted, policy, passwd, group).ok();
    if let Some(found) = &found {
        is_sound(found);
    }
    assert_eq!(found, oracle(who, &more, strict, passwd, group), "{who:?}");
    if let Ok(found) = numbered(&wanted, passwd) {
        is_sound(&found);
        let as_asked = User {
            uid: wanted.uid,
            gid: wanted.gid,
            groups: more,
        };
        assert_eq!(found.user, as_asked);
    }
});

fn halves(files: &[u8]) -> (&[u8], &[u8]) {
    match files.windows(3).position(|three| three == b"\n%\n") {
        Some(at) => (&files[..at], &files[at + 3..]),
        None => (files, b""),
    }
}

fn is_sound(found: &Account) {
    let user = &found.user;
    for id in [user.uid, user.gid].iter().chain(&user.groups) {
        assert!(u64::from(*id) <= MOST);
    }
    assert!(found.home.starts_with('/') && !found.home.contains('\0'));
}

/// The plain reading: every line of a file as its columns, nothing borrowed, nothing left out early.
fn oracle(who: &str, more: &[u32], strict: bool, passwd: &[u8], group: &[u8]) -> Option<Account> {
    let (user, as_group) = match who.find(':') {
        Some(at) => (&who[..at], &who[at + 1..]),
        None => (who, ""),
    };
    let accounts: Vec<_> = table(passwd)
        .into_iter()
        .filter(|row| row.len() >= 6)
        .collect();
    let known = |row: &&Vec<Vec<u8>>| read(&row[2]).is_some() && read(&row[3]).is_some();
    let mut accounts = accounts.iter().filter(known);
    let (name, uid, own_group, home) = match asked_number(user) {
        Asked::TooLarge => return None,
        Asked::Number(uid) => match accounts.find(|row| read(&row[2]) == Some(uid)) {
            Some(row) => (row[0].clone(), uid, read(&row[3])?, row[5].clone()),
            None => (Vec::new(), uid, 0, b"/".to_vec()),
        },
        Asked::Name => {
            let row = accounts.find(|row| row[0] == user.as_bytes())?;
            (
                row[0].clone(),
                read(&row[2])?,
                read(&row[3])?,
                row[5].clone(),
            )
        }
    };
    let groups_of_image = table(group);
    let gid = match asked_number(as_group) {
        _ if as_group.is_empty() => own_group,
        Asked::TooLarge => return None,
        Asked::Number(gid) => gid,
        Asked::Name => groups_of_image
            .iter()
            .filter(|row| row.len() >= 3 && row[0] == as_group.as_bytes())
            .find_map(|row| read(&row[2]))?,
    };
    let mut groups = vec![gid];
    for row in groups_of_image.iter().filter(|row| row.len() >= 4) {
        let lists_it = row[3]
            .split(|byte| *byte == b',')
            .any(|member| member == name);
        if !strict && !name.is_empty() && lists_it {
            groups.extend(read(&row[2]));
        }
    }
    groups.extend(more);
    if groups.iter().any(|id| u64::from(*id) > MOST) {
        return None;
    }
    let mut once = Vec::new();
    for id in groups {
        if !once.contains(&id) {
            once.push(id);
        }
    }
    let home = String::from_utf8(home).unwrap_or_default();
    let usable = home.starts_with('/') && !home.contains('\0');
    Some(Account {
        user: User {
            uid,
            gid,
            groups: once,
        },
        home: if usable { home } else { "/".to_owned() },
    })
}

fn table(file: &[u8]) -> Vec<Vec<Vec<u8>>> {
    let mut rows = Vec::new();
    for line in file.split(|byte| *byte == b'\n') {
        let line = line.trim_ascii();
        if line.first().is_some_and(|first| *first != b'#') {
            rows.push(
                line.split(|byte| *byte == b':')
                    .map(<[u8]>::to_vec)
                    .collect(),
            );
        }
    }
    rows
}

/// A number of a file: digits, perhaps with spaces around and a plus, as the C libraries take it.
fn read(text: &[u8]) -> Option<u32> {
    let text = text.trim_ascii();
    let digits = text.strip_prefix(b"+").unwrap_or(text);
    match value(digits)? {
        value if value <= MOST => u32::try_from(value).ok(),
        _ => None,
    }
}

enum Asked {
    Name,
    Number(u32),
    TooLarge,
}

fn asked_number(text: &str) -> Asked {
    match value(text.as_bytes()) {
        None => Asked::Name,
        Some(value) if value <= MOST => Asked::Number(u32::try_from(value).expect("it fits")),
        Some(_) => Asked::TooLarge,
    }
}

/// `None` for what has another character than digits, or none; what is far too large stays that.
fn value(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let add = |sum: u64, digit: &u8| (sum * 10 + u64::from(digit - b'0')).min(1 << 40);
    Some(digits.iter().fold(0, add))
}
