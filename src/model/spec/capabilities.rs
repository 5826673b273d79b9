//! Which capabilities a container has: the field's default set, what is added and dropped, and
//! never more than this process's own bounding set holds.

use crate::error::{Error, Result};
use crate::model::container::ContainerSecurity;
use crate::model::host::HostFacts;
use oci_spec::runtime::{Capabilities, Capability, LinuxCapabilities};
use std::collections::BTreeSet;

/// By their numbers (capability.h of the kernel).
const BY_NUMBER: [Capability; 41] = [
    Capability::Chown,
    Capability::DacOverride,
    Capability::DacReadSearch,
    Capability::Fowner,
    Capability::Fsetid,
    Capability::Kill,
    Capability::Setgid,
    Capability::Setuid,
    Capability::Setpcap,
    Capability::LinuxImmutable,
    Capability::NetBindService,
    Capability::NetBroadcast,
    Capability::NetAdmin,
    Capability::NetRaw,
    Capability::IpcLock,
    Capability::IpcOwner,
    Capability::SysModule,
    Capability::SysRawio,
    Capability::SysChroot,
    Capability::SysPtrace,
    Capability::SysPacct,
    Capability::SysAdmin,
    Capability::SysBoot,
    Capability::SysNice,
    Capability::SysResource,
    Capability::SysTime,
    Capability::SysTtyConfig,
    Capability::Mknod,
    Capability::Lease,
    Capability::AuditWrite,
    Capability::AuditControl,
    Capability::Setfcap,
    Capability::MacOverride,
    Capability::MacAdmin,
    Capability::Syslog,
    Capability::WakeAlarm,
    Capability::BlockSuspend,
    Capability::AuditRead,
    Capability::Perfmon,
    Capability::Bpf,
    Capability::CheckpointRestore,
];

/// What a container has that asks for nothing: the 14 that images have come to rely on.
const DEFAULT: [Capability; 14] = [
    Capability::AuditWrite,
    Capability::Chown,
    Capability::DacOverride,
    Capability::Fowner,
    Capability::Fsetid,
    Capability::Kill,
    Capability::Mknod,
    Capability::NetBindService,
    Capability::NetRaw,
    Capability::Setfcap,
    Capability::Setgid,
    Capability::Setpcap,
    Capability::Setuid,
    Capability::SysChroot,
];

/// Capabilities by number: a set with an order.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Mask(u64);

impl Mask {
    fn of(capabilities: &[Capability]) -> Self {
        let bit = |c: &Capability| BY_NUMBER.iter().position(|known| known == c);
        Self(
            capabilities
                .iter()
                .filter_map(bit)
                .fold(0, |mask, number| mask | 1 << number),
        )
    }

    fn members(self) -> impl Iterator<Item = Capability> {
        let set = move |number: &usize| self.0 & (1 << number) != 0;
        (0..BY_NUMBER.len())
            .filter(set)
            .map(|number| BY_NUMBER[number])
    }
}

/// The capabilities that a container gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Granted {
    all: Mask,
    ambient: Mask,
}

impl Granted {
    /// Their names as profiles write them, such as `CAP_CHOWN`.
    #[must_use]
    pub fn names(&self) -> BTreeSet<String> {
        self.all
            .members()
            .map(|capability| format!("CAP_{capability}"))
            .collect()
    }

    /// The five sets. Nothing is inheritable but what is ambient: an inheritable capability would
    /// come back with a file's inheritable bits (CVE-2022-24769).
    #[must_use]
    pub fn to_oci(&self) -> LinuxCapabilities {
        let set = |mask: Mask| Some(mask.members().collect::<Capabilities>());
        let mut sets = LinuxCapabilities::default();
        sets.set_bounding(set(self.all))
            .set_effective(set(self.all))
            .set_permitted(set(self.all))
            .set_inheritable(set(self.ambient))
            .set_ambient(set(self.ambient));
        sets
    }
}

/// What a container with this security context gets on this node. `ALL` is applied first, then
/// single additions, then single drops.
///
/// # Errors
/// `InvalidArgument` for a name that is no capability.
pub fn granted(security: &ContainerSecurity, host: &HostFacts) -> Result<Granted> {
    let bounds = Mask(host.capability_bounds);
    if security.privileged {
        return Ok(Granted {
            all: bounds,
            ambient: Mask::default(),
        });
    }
    let wanted = &security.capabilities;
    let add = Change::parse("add_capabilities", &wanted.add)?;
    let drop = Change::parse("drop_capabilities", &wanted.drop)?;
    let ambient = Change::parse("add_ambient_capabilities", &wanted.add_ambient)?;
    let base = match (drop.every, add.every) {
        (true, _) => Mask::default(),
        (false, true) => bounds,
        (false, false) => Mask::of(&DEFAULT),
    };
    let ambient = Mask((ambient.within(bounds).0) & !drop.named.0);
    let all = (base.0 | add.named.0) & !drop.named.0 | ambient.0;
    Ok(Granted {
        all: Mask(all & bounds.0),
        ambient: Mask(ambient.0 & bounds.0),
    })
}

/// A list of names, taken apart.
struct Change {
    every: bool,
    named: Mask,
}

impl Change {
    fn parse(field: &str, names: &[String]) -> Result<Self> {
        let mut change = Self {
            every: false,
            named: Mask::default(),
        };
        for name in names {
            match name.to_ascii_uppercase().as_str() {
                "ALL" => change.every = true,
                upper => change.named.0 |= parse(field, upper)?.0,
            }
        }
        Ok(change)
    }

    fn within(&self, bounds: Mask) -> Mask {
        match self.every {
            true => bounds,
            false => self.named,
        }
    }
}

fn parse(field: &str, name: &str) -> Result<Mask> {
    let short = name.strip_prefix("CAP_").unwrap_or(name);
    let capability = short.parse::<Capability>().map_err(|_| {
        Error::invalid(format!(
            "security_context.capabilities.{field}: {name:?} is no capability"
        ))
    })?;
    Ok(Mask::of(&[capability]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_those_of_the_kernel() {
        for (number, name) in [
            (0, "CHOWN"),
            (12, "NET_ADMIN"),
            (21, "SYS_ADMIN"),
            (40, "CHECKPOINT_RESTORE"),
        ] {
            assert_eq!(BY_NUMBER[number].to_string(), name);
        }
        assert_eq!(Mask::of(&BY_NUMBER).0, (1 << 41) - 1, "each of them once");
    }
}
