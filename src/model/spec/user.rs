//! Who a container's first process is.
//!
//! Names, and the groups that an image's `/etc/group` gives a user, can only be looked up inside
//! the image's root file system, which the shim does. Where that is needed, `user.username` holds
//! what to look up in the form of an image's `User` field (`name`, `uid`, `uid:gid`,
//! `name:group`); what is known as a number already is in `uid` and `gid` as well.

use super::SpecInputs;
use crate::error::{Error, Result};
use crate::model::container::UserSpec;
use crate::model::sandbox::GroupsPolicy;
use oci_spec::runtime::User;

/// The highest id: the one after it means "no change" to the kernel.
const MAX_ID: u32 = u32::MAX - 1;

pub fn user(inputs: &SpecInputs<'_>) -> Result<User> {
    let security = &inputs.config.security;
    let group = security
        .run_as_group
        .map(|gid| id("run_as_group", gid))
        .transpose()?;
    let who = match &security.user {
        UserSpec::Image if group.is_some() => return Err(group_without_user()),
        UserSpec::Image => Wanted::parse(&inputs.image.user)?,
        UserSpec::Uid(uid) => Wanted::of(Name::Id(id("run_as_user", *uid)?), group),
        UserSpec::Name(name) => Wanted::of(Name::parse(name)?, group),
    };
    let mut user = User::default();
    user.set_uid(who.user.number().unwrap_or(0))
        .set_gid(who.group.as_ref().and_then(Name::number).unwrap_or(0))
        .set_additional_gids(supplemental(&security.supplemental_groups)?)
        .set_username(who.to_look_up(security.groups_policy));
    Ok(user)
}

fn group_without_user() -> Error {
    Error::invalid("security_context.run_as_group needs run_as_user or run_as_username beside it")
}

fn supplemental(groups: &[i64]) -> Result<Option<Vec<u32>>> {
    let groups = groups
        .iter()
        .map(|gid| id("supplemental_groups", *gid))
        .collect::<Result<Vec<u32>>>()?;
    Ok(Some(groups).filter(|groups| !groups.is_empty()))
}

fn id(field: &str, value: i64) -> Result<u32> {
    u32::try_from(value)
        .ok()
        .filter(|id| *id <= MAX_ID)
        .ok_or_else(|| {
            Error::invalid(format!(
                "security_context.{field} {value} is not between 0 and {MAX_ID}"
            ))
        })
}

/// A user or a group, by number or by name.
enum Name {
    Id(u32),
    Text(String),
}

impl Name {
    /// Digits are a number and nothing else: one that is too large is refused, for as a name it
    /// could be found in an image's `/etc/passwd` and mean root (CVE-2024-40635).
    fn parse(text: &str) -> Result<Self> {
        let bad = |why: &str| Error::invalid(format!("user {text:?} {why}"));
        if text.is_empty() || text.contains([':', '\0', '\n']) {
            return Err(bad("is no name"));
        }
        if !text.bytes().all(|b| b.is_ascii_digit()) {
            return Ok(Self::Text(text.to_owned()));
        }
        match text.parse() {
            Ok(number) if number <= MAX_ID => Ok(Self::Id(number)),
            _ => Err(bad("is too large")),
        }
    }

    fn number(&self) -> Option<u32> {
        match self {
            Self::Id(number) => Some(*number),
            Self::Text(_) => None,
        }
    }
}

impl std::fmt::Display for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Id(number) => number.fmt(f),
            Self::Text(name) => name.fmt(f),
        }
    }
}

struct Wanted {
    user: Name,
    group: Option<Name>,
}

impl Wanted {
    fn of(user: Name, group: Option<u32>) -> Self {
        Self {
            user,
            group: group.map(Name::Id),
        }
    }

    /// An image's `User`; without one, root.
    fn parse(text: &str) -> Result<Self> {
        let (user, group) = match text.split_once(':') {
            Some((user, group)) => (user, Some(group)),
            None => (text, None),
        };
        let user = match user {
            "" => Name::Id(0),
            user => Name::parse(user)?,
        };
        let group = group.filter(|group| !group.is_empty());
        Ok(Self {
            user,
            group: group.map(Name::parse).transpose()?,
        })
    }

    /// `None` where all is known: both are numbers, and the image's groups do not count.
    fn to_look_up(&self, policy: GroupsPolicy) -> Option<String> {
        let known = self.user.number().is_some()
            && self.group.as_ref().is_some_and(|g| g.number().is_some());
        if known && policy == GroupsPolicy::Strict {
            return None;
        }
        Some(match &self.group {
            Some(group) => format!("{}:{group}", self.user),
            None => self.user.to_string(),
        })
    }
}
