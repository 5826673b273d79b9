//! A seccomp profile as files on nodes have it, and what it comes to for one container.
//!
//! The form is the OCI section with three additions that the field shares: `archMap` (which
//! architectures belong to which native one), and rules that hold only with or without certain
//! capabilities, architectures or kernels (`includes`, `excludes`).

use crate::error::{Error, Result};
use oci_spec::runtime::{
    Arch, LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArg, LinuxSeccompFilterFlag, LinuxSyscall,
};
use serde::{Deserialize, Deserializer};
use std::collections::BTreeSet;

/// A profile that is not yet resolved.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SeccompProfile {
    default_action: LinuxSeccompAction,
    default_errno_ret: Option<u32>,
    #[serde(default, deserialize_with = "null_is_absent")]
    architectures: Vec<Arch>,
    #[serde(default, deserialize_with = "null_is_absent")]
    arch_map: Vec<ArchMapping>,
    #[serde(default, deserialize_with = "null_is_absent")]
    flags: Vec<LinuxSeccompFilterFlag>,
    listener_path: Option<std::path::PathBuf>,
    listener_metadata: Option<String>,
    #[serde(default, deserialize_with = "null_is_absent")]
    syscalls: Vec<Rule>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ArchMapping {
    architecture: Arch,
    #[serde(default, deserialize_with = "null_is_absent")]
    sub_architectures: Vec<Arch>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Rule {
    #[serde(default, deserialize_with = "null_is_absent")]
    names: Vec<String>,
    #[serde(default, deserialize_with = "null_is_absent")]
    name: String,
    action: LinuxSeccompAction,
    errno_ret: Option<u32>,
    #[serde(default, deserialize_with = "null_is_absent")]
    args: Vec<LinuxSeccompArg>,
    #[serde(default, deserialize_with = "null_is_absent")]
    includes: Condition,
    #[serde(default, deserialize_with = "null_is_absent")]
    excludes: Condition,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Condition {
    #[serde(default, deserialize_with = "null_is_absent")]
    caps: Vec<String>,
    #[serde(default, deserialize_with = "null_is_absent")]
    arches: Vec<String>,
    #[serde(default, deserialize_with = "null_is_absent")]
    min_kernel: String,
}

/// Profiles written by Go programs say `null` where they mean nothing.
fn null_is_absent<'de, T, D>(input: D) -> std::result::Result<T, D::Error>
where
    T: Deserialize<'de> + Default,
    D: Deserializer<'de>,
{
    Ok(Option::deserialize(input)?.unwrap_or_default())
}

/// What the conditions of rules are held against.
#[derive(Debug, Clone, Copy)]
pub struct Situation<'a> {
    /// The container's capabilities, as `CAP_CHOWN`.
    pub capabilities: &'a BTreeSet<String>,
    /// The machine in Go's words.
    pub architecture: &'a str,
    /// The kernel's release.
    pub kernel: &'a str,
}

impl SeccompProfile {
    /// The rules that hold in this situation.
    ///
    /// # Errors
    /// `InvalidArgument` for a profile that asks a listener and names none.
    pub fn resolve(&self, situation: &Situation<'_>) -> Result<LinuxSeccomp> {
        let notifies = |rule: &Rule| rule.action == LinuxSeccompAction::ScmpActNotify;
        if self.listener_path.is_none() && self.syscalls.iter().any(notifies) {
            return Err(Error::invalid(
                "seccomp profile: SCMP_ACT_NOTIFY needs a listenerPath",
            ));
        }
        let rules = self.syscalls.iter().filter(|rule| rule.holds(situation));
        let mut section = LinuxSeccomp::default();
        section
            .set_default_action(self.default_action)
            .set_default_errno_ret(self.default_errno_ret)
            .set_architectures(self.architectures_for(situation.architecture))
            .set_listener_path(self.listener_path.clone())
            .set_listener_metadata(self.listener_metadata.clone())
            .set_flags(Some(self.flags.clone()).filter(|flags| !flags.is_empty()))
            .set_syscalls(Some(rules.map(Rule::to_oci).collect()));
        Ok(section)
    }

    /// Those named outright, or the machine's own with what else runs on it; `None`: the native
    /// one alone.
    fn architectures_for(&self, machine: &str) -> Option<Vec<Arch>> {
        if !self.architectures.is_empty() {
            return Some(self.architectures.clone());
        }
        let native = native(machine)?;
        let mapping = self.arch_map.iter().find(|m| m.architecture == native)?;
        let others = mapping.sub_architectures.iter().copied();
        Some(std::iter::once(native).chain(others).collect())
    }
}

fn native(machine: &str) -> Option<Arch> {
    match machine {
        "amd64" => Some(Arch::ScmpArchX86_64),
        "arm64" => Some(Arch::ScmpArchAarch64),
        "386" => Some(Arch::ScmpArchX86),
        "arm" => Some(Arch::ScmpArchArm),
        "riscv64" => Some(Arch::ScmpArchRiscv64),
        "ppc64le" => Some(Arch::ScmpArchPpc64le),
        "s390x" => Some(Arch::ScmpArchS390x),
        "loong64" => Some(Arch::ScmpArchLoongarch64),
        _ => None,
    }
}

impl Rule {
    /// All that is included must be there, and nothing that is excluded.
    fn holds(&self, situation: &Situation<'_>) -> bool {
        self.includes.all_of(situation) && !self.excludes.any_of(situation)
    }

    fn to_oci(&self) -> LinuxSyscall {
        let mut names = self.names.clone();
        if !self.name.is_empty() {
            names.push(self.name.clone());
        }
        let mut syscall = LinuxSyscall::default();
        syscall
            .set_names(names)
            .set_action(self.action)
            .set_errno_ret(self.errno_ret)
            .set_args(Some(self.args.clone()).filter(|args| !args.is_empty()));
        syscall
    }
}

impl Condition {
    fn all_of(&self, situation: &Situation<'_>) -> bool {
        let has = |cap: &String| situation.capabilities.contains(cap);
        let here = |arch: &String| arch == situation.architecture;
        self.caps.iter().all(has)
            && (self.arches.is_empty() || self.arches.iter().any(here))
            && self.kernel_is_new_enough(situation).unwrap_or(true)
    }

    fn any_of(&self, situation: &Situation<'_>) -> bool {
        let has = |cap: &String| situation.capabilities.contains(cap);
        let here = |arch: &String| arch == situation.architecture;
        self.caps.iter().any(has)
            || self.arches.iter().any(here)
            || self.kernel_is_new_enough(situation).unwrap_or(false)
    }

    fn kernel_is_new_enough(&self, situation: &Situation<'_>) -> Option<bool> {
        let newer = || version(situation.kernel) >= version(&self.min_kernel);
        (!self.min_kernel.is_empty()).then(newer)
    }
}

/// The two first numbers of a release.
fn version(release: &str) -> (u32, u32) {
    let mut numbers = release
        .split(|c: char| !c.is_ascii_digit())
        .map(|word| word.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}
