//! `process` of a runtime spec: what is executed, and as whom.

use super::text::Text;
use serde::Deserialize;
use serde::de::IgnoredAny;

/// A process of a container: its first one, or one of an exec.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Process<'a> {
    /// Its stdio is a terminal of the container's own devpts.
    pub terminal: bool,
    /// The terminal's size.
    pub console_size: Option<ConsoleSize>,
    /// Whom it runs as.
    #[serde(borrow)]
    pub user: User<'a>,
    /// The program and its arguments.
    #[serde(borrow)]
    pub args: Vec<Text<'a>>,
    /// `NAME=value` each.
    #[serde(borrow)]
    pub env: Vec<Text<'a>>,
    /// The working directory, absolute.
    #[serde(borrow)]
    pub cwd: Option<Text<'a>>,
    /// The five capability sets; absent: none.
    #[serde(borrow)]
    pub capabilities: Option<Capabilities<'a>>,
    /// Resource limits.
    #[serde(borrow)]
    pub rlimits: Vec<Rlimit<'a>>,
    /// Never gains privileges by executing a file.
    pub no_new_privileges: bool,
    /// The AppArmor profile to be entered.
    #[serde(borrow)]
    pub apparmor_profile: Option<Text<'a>>,
    /// How readily the kernel kills it for memory, -1000 to 1000.
    pub oom_score_adj: Option<i32>,
    /// The SELinux context to be entered.
    #[serde(borrow)]
    pub selinux_label: Option<Text<'a>>,
    /// Refused: not supported yet.
    pub io_priority: Option<IgnoredAny>,
    /// Refused: not supported yet.
    pub scheduler: Option<IgnoredAny>,
    /// Refused: not supported yet.
    #[serde(rename = "execCPUAffinity")]
    pub exec_cpu_affinity: Option<IgnoredAny>,
}

/// The size of a terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub struct ConsoleSize {
    /// Rows.
    pub height: u16,
    /// Columns.
    pub width: u16,
}

/// Whom a process runs as.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct User<'a> {
    /// The user id, unless `username` says it.
    pub uid: u32,
    /// The primary group id, unless `username` says it.
    pub gid: u32,
    /// The file mode creation mask; absent: 022.
    pub umask: Option<u32>,
    /// Supplementary groups.
    pub additional_gids: Vec<u32>,
    /// `user[:group]`, names or numbers, to be looked up inside the image.
    #[serde(borrow)]
    pub username: Option<Text<'a>>,
}

/// Capability names, `CAP_…`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Capabilities<'a> {
    /// The most that any program executed can get.
    #[serde(borrow)]
    pub bounding: Vec<Text<'a>>,
    /// What is in force.
    #[serde(borrow)]
    pub effective: Vec<Text<'a>>,
    /// What may pass to a program with file capabilities.
    #[serde(borrow)]
    pub inheritable: Vec<Text<'a>>,
    /// What could be put in force.
    #[serde(borrow)]
    pub permitted: Vec<Text<'a>>,
    /// What passes to a program without file capabilities.
    #[serde(borrow)]
    pub ambient: Vec<Text<'a>>,
}

/// One resource limit.
#[derive(Debug, Deserialize)]
pub struct Rlimit<'a> {
    /// `RLIMIT_…`.
    #[serde(borrow, rename = "type")]
    pub kind: Text<'a>,
    /// What is in force.
    pub soft: u64,
    /// The most that the process can set itself.
    pub hard: u64,
}
