//! `process` of a runtime spec: what is executed, and as whom.

use super::object::object;
use super::text::Text;
use serde::Deserialize;

object! {
    /// A process of a container: its first one, or one of an exec.
    pub struct Process<'a> {
        /// Its stdio is a terminal of the container's own devpts.
        pub terminal: bool = "terminal",
        /// The terminal's size.
        pub console_size: Option<ConsoleSize> = "consoleSize",
        /// Whom it runs as.
        pub user: User<'a> = "user",
        /// The program and its arguments.
        pub args: Vec<Text<'a>> = "args",
        /// `NAME=value` each.
        pub env: Vec<Text<'a>> = "env",
        /// The working directory, absolute.
        pub cwd: Option<Text<'a>> = "cwd",
        /// The five capability sets; absent: none.
        pub capabilities: Option<Capabilities<'a>> = "capabilities",
        /// Resource limits.
        pub rlimits: Vec<Rlimit<'a>> = "rlimits",
        /// Never gains privileges by executing a file.
        pub no_new_privileges: bool = "noNewPrivileges",
        /// The AppArmor profile to be entered.
        pub apparmor_profile: Option<Text<'a>> = "apparmorProfile",
        /// How readily the kernel kills it for memory, -1000 to 1000.
        pub oom_score_adj: Option<i32> = "oomScoreAdj",
        /// The SELinux context to be entered.
        pub selinux_label: Option<Text<'a>> = "selinuxLabel",
        /// Its turn at disks.
        pub io_priority: Option<IoPriority<'a>> = "ioPriority",
        /// Its turn at CPUs.
        pub scheduler: Option<Scheduler<'a>> = "scheduler",
        /// The CPUs of a process that joins the container; not of its first one.
        pub exec_cpu_affinity: Option<CpuAffinity<'a>> = "execCPUAffinity",
    }
}

object! {
    /// The priority of a process's reads and writes.
    pub struct IoPriority<'a> {
        /// `IOPRIO_CLASS_…`.
        pub class: Text<'a> = "class",
        /// 0, the highest, to 7.
        pub priority: u16 = "priority",
    }
}

object! {
    /// How the kernel schedules a process, as `sched_setattr` takes it.
    pub struct Scheduler<'a> {
        /// `SCHED_…`.
        pub policy: Text<'a> = "policy",
        /// -20 to 19.
        pub nice: i32 = "nice",
        /// Of the real-time policies.
        pub priority: u32 = "priority",
        /// `SCHED_FLAG_…`.
        pub flags: Vec<Text<'a>> = "flags",
        /// Nanoseconds, of the deadline policy.
        pub runtime: u64 = "runtime",
        /// As above.
        pub deadline: u64 = "deadline",
        /// As above.
        pub period: u64 = "period",
    }
}

object! {
    /// Lists of CPUs, such as `0-2,7`.
    pub struct CpuAffinity<'a> {
        /// Before the process enters the container's cgroup.
        pub initial: Option<Text<'a>> = "initial",
        /// When it is in there.
        pub last: Option<Text<'a>> = "final",
    }
}

/// The size of a terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub struct ConsoleSize {
    /// Rows.
    pub height: u16,
    /// Columns.
    pub width: u16,
}

object! {
    /// Whom a process runs as.
    pub struct User<'a> {
        /// The user id, unless `username` says it.
        pub uid: u32 = "uid",
        /// The primary group id, unless `username` says it.
        pub gid: u32 = "gid",
        /// The file mode creation mask; absent: 022.
        pub umask: Option<u32> = "umask",
        /// Supplementary groups.
        pub additional_gids: Vec<u32> = "additionalGids",
        /// `user[:group]`, names or numbers, to be looked up inside the image.
        pub username: Option<Text<'a>> = "username",
    }
}

object! {
    /// Capability names, `CAP_…`.
    pub struct Capabilities<'a> {
        /// The most that any program executed can get.
        pub bounding: Vec<Text<'a>> = "bounding",
        /// What is in force.
        pub effective: Vec<Text<'a>> = "effective",
        /// What may pass to a program with file capabilities.
        pub inheritable: Vec<Text<'a>> = "inheritable",
        /// What could be put in force.
        pub permitted: Vec<Text<'a>> = "permitted",
        /// What passes to a program without file capabilities.
        pub ambient: Vec<Text<'a>> = "ambient",
    }
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
