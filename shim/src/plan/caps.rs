//! Capabilities: names to bits, clipped to what this process may hand on.

use crate::bundle::process::Capabilities;
use crate::bundle::text::Text;

/// The kernel's names in the order of their numbers, without `CAP_`.
const NAMES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

/// The five sets of a process, as bits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Caps {
    /// The most that any program executed can get.
    pub bounding: u64,
    /// What is in force.
    pub effective: u64,
    /// What may pass to a program with file capabilities.
    pub inheritable: u64,
    /// What could be put in force.
    pub permitted: u64,
    /// What passes to a program without file capabilities.
    pub ambient: u64,
}

/// Turns names into bits. What `available` lacks is left out with one warning: a nested node's
/// bounding set is smaller than what a privileged container asks for, and the container shall get
/// what there really is.
#[must_use]
pub fn plan(wanted: Option<&Capabilities<'_>>, available: u64, warnings: &mut Vec<String>) -> Caps {
    let Some(wanted) = wanted else {
        return Caps::default();
    };
    let mut missing = Vec::new();
    let mut bits = |names: &[Text<'_>]| {
        names
            .iter()
            .fold(0, |set, name| set | bit(name, available, &mut missing))
    };
    let bounding = bits(&wanted.bounding);
    let permitted = bits(&wanted.permitted);
    // The kernel refuses an inheritable capability that the bounding set lacks.
    let inheritable = bits(&wanted.inheritable) & bounding;
    let caps = Caps {
        bounding,
        permitted,
        inheritable,
        effective: bits(&wanted.effective) & permitted,
        ambient: bits(&wanted.ambient) & permitted & inheritable,
    };
    missing.sort_unstable();
    missing.dedup();
    if !missing.is_empty() {
        warnings.push(format!(
            "capabilities that this host lacks are left out: {}",
            missing.join(", ")
        ));
    }
    caps
}

fn bit(name: &str, available: u64, missing: &mut Vec<String>) -> u64 {
    let plain = name.strip_prefix("CAP_").unwrap_or(name);
    let bit = NAMES
        .iter()
        .position(|known| *known == plain)
        .map_or(0, |number| 1 << number);
    if bit & available == 0 {
        missing.push(name.to_owned());
    }
    bit & available
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHOWN: u64 = 1;
    const SYS_RESOURCE: u64 = 1 << 24;

    fn names(names: &[&'static str]) -> Vec<Text<'static>> {
        names.iter().map(|name| Text::from(*name)).collect()
    }

    #[test]
    fn what_the_host_lacks_is_left_out_and_told_once() {
        let all = names(&["CAP_CHOWN", "CAP_SYS_RESOURCE", "CAP_FROM_THE_FUTURE"]);
        let wanted = Capabilities {
            bounding: all.clone(),
            permitted: all.clone(),
            effective: all,
            ..Capabilities::default()
        };
        let mut warnings = Vec::new();
        let caps = plan(Some(&wanted), !SYS_RESOURCE, &mut warnings);
        assert_eq!(
            caps,
            Caps {
                bounding: CHOWN,
                permitted: CHOWN,
                effective: CHOWN,
                ..Caps::default()
            }
        );
        assert_eq!(warnings.len(), 1);
        assert!(
            warnings[0].contains("CAP_FROM_THE_FUTURE, CAP_SYS_RESOURCE"),
            "{warnings:?}"
        );
    }

    #[test]
    fn ambient_needs_permitted_and_inheritable() {
        let wanted = Capabilities {
            bounding: names(&["CAP_CHOWN", "CAP_KILL"]),
            permitted: names(&["CAP_CHOWN", "CAP_KILL"]),
            inheritable: names(&["CAP_CHOWN"]),
            ambient: names(&["CAP_CHOWN", "CAP_KILL"]),
            ..Capabilities::default()
        };
        assert_eq!(
            plan(Some(&wanted), u64::MAX, &mut Vec::new()).ambient,
            CHOWN
        );
    }

    #[test]
    fn none_asked_for_is_none_given() {
        assert_eq!(plan(None, u64::MAX, &mut Vec::new()), Caps::default());
    }
}
