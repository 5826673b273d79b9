//! Edits, made to a configuration.

use super::{ContainerEdits, DeviceNode, Hook, IntelRdt, Mount, NetDevice};
use oci_spec::runtime::{
    Hook as OciHook, Hooks, Linux, LinuxDevice, LinuxDeviceCgroup, LinuxDeviceType, LinuxIntelRdt,
    LinuxNetDevice, Mount as OciMount, Process, Spec,
};
use std::path::Path;

/// Permission bits of a node for which the file names none.
const OPEN: u32 = 0o666;

/// Makes the edits to a configuration. Numbers of devices must be there ([`DeviceNode::is_whole`]).
pub fn apply(edits: &ContainerEdits, spec: &mut Spec) {
    let process = spec.process_mut().get_or_insert_default();
    for variable in &edits.env {
        set_env(process, variable);
    }
    join(process, &edits.additional_gids);
    let user = (process.user().uid(), process.user().gid());
    let linux = spec.linux_mut().get_or_insert_default();
    for node in &edits.device_nodes {
        set_device(linux, node, user);
    }
    for device in &edits.net_devices {
        set_net_device(linux, device);
    }
    if let Some(rdt) = &edits.intel_rdt {
        linux.set_intel_rdt(Some(class(rdt)));
    }
    let mounts = spec.mounts_mut().get_or_insert_default();
    for mount in &edits.mounts {
        set_mount(mounts, mount);
    }
    for hook in &edits.hooks {
        add_hook(spec.hooks_mut().get_or_insert_default(), hook);
    }
}

fn set_env(process: &mut Process, variable: &str) {
    let env = process.env_mut().get_or_insert_default();
    let name = |text: &str| text.split('=').next().map(str::to_owned);
    let old = env.iter().position(|old| name(old) == name(variable));
    match old {
        Some(place) => variable.clone_into(&mut env[place]),
        None => env.push(variable.to_owned()),
    }
}

/// `user`: the container's, and its group.
fn set_device(linux: &mut Linux, node: &DeviceNode, user: (u32, u32)) {
    let kind = match node.kind.as_deref() {
        Some("b") => LinuxDeviceType::B,
        Some("p") => LinuxDeviceType::P,
        Some("u") => LinuxDeviceType::U,
        _ => LinuxDeviceType::C,
    };
    let (major, minor) = (node.major.unwrap_or(0), node.minor.unwrap_or(0));
    let mut device = LinuxDevice::default();
    device
        .set_path(node.path.clone().into())
        .set_typ(kind)
        .set_major(major)
        .set_minor(minor)
        .set_file_mode(Some(node.file_mode.unwrap_or(OPEN) & 0o7777))
        .set_uid(Some(node.uid.unwrap_or(user.0)))
        .set_gid(Some(node.gid.unwrap_or(user.1)));
    let devices = linux.devices_mut().get_or_insert_default();
    devices.retain(|old| old.path() != device.path());
    devices.push(device);
    if matches!(kind, LinuxDeviceType::B | LinuxDeviceType::C) {
        let access = node.permissions.as_deref().unwrap_or("rwm");
        allow(linux, (kind, major, minor), access);
    }
}

fn allow(linux: &mut Linux, (kind, major, minor): (LinuxDeviceType, i64, i64), access: &str) {
    let mut rule = LinuxDeviceCgroup::default();
    rule.set_allow(true)
        .set_typ(Some(kind))
        .set_major(Some(major))
        .set_minor(Some(minor))
        .set_access(Some(access.to_owned()));
    let resources = linux.resources_mut().get_or_insert_default();
    resources.devices_mut().get_or_insert_default().push(rule);
}

fn set_net_device(linux: &mut Linux, device: &NetDevice) {
    let mut inside = LinuxNetDevice::default();
    inside.set_name(Some(device.name.clone()));
    let all = linux.net_devices_mut().get_or_insert_default();
    all.insert(device.host_interface_name.clone(), inside);
}

fn class(rdt: &IntelRdt) -> LinuxIntelRdt {
    let mut class = LinuxIntelRdt::default();
    // The last version of the runtime specification has one switch for what were two.
    let old = rdt.enable_cmt.or(rdt.enable_mbm);
    class
        .set_clos_id(rdt.clos_id.clone())
        .set_l3_cache_schema(rdt.l3_cache_schema.clone())
        .set_mem_bw_schema(rdt.mem_bw_schema.clone())
        .set_schemata(rdt.schemata.clone())
        .set_enable_monitoring(rdt.enable_monitoring.or(old));
    class
}

/// Group 0 is none that is given by a device.
fn join(process: &mut Process, groups: &[u32]) {
    for &group in groups.iter().filter(|&&group| group != 0) {
        let all = process.user_mut().additional_gids_mut();
        let all = all.get_or_insert_default();
        if !all.contains(&group) {
            all.push(group);
        }
    }
}

/// Before what lies below it, which it would hide.
fn set_mount(mounts: &mut Vec<OciMount>, mount: &Mount) {
    let path = Path::new(&mount.container_path);
    mounts.retain(|old| old.destination() != path);
    let below = mounts
        .iter()
        .position(|old| old.destination().starts_with(path));
    let mut made = OciMount::default();
    let is_bind = |option: &String| option == "bind" || option == "rbind";
    let kind = match &mount.kind {
        Some(kind) => Some(kind.clone()),
        None => mount.options.iter().any(is_bind).then(|| "bind".to_owned()),
    };
    made.set_destination(path.to_owned())
        .set_source(Some(mount.host_path.clone().into()))
        .set_typ(kind)
        .set_options(Some(mount.options.clone()));
    mounts.insert(below.unwrap_or(mounts.len()), made);
}

/// Whether it is a point at which hooks run.
pub(super) fn is_moment(name: &str) -> bool {
    at(&mut Hooks::default(), name).is_some()
}

/// The hooks of a point of the container's life; `None`: it is none.
fn at<'a>(hooks: &'a mut Hooks, name: &str) -> Option<&'a mut Option<Vec<OciHook>>> {
    Some(match name {
        "prestart" => hooks.prestart_mut(),
        "createRuntime" => hooks.create_runtime_mut(),
        "createContainer" => hooks.create_container_mut(),
        "startContainer" => hooks.start_container_mut(),
        "poststart" => hooks.poststart_mut(),
        "poststop" => hooks.poststop_mut(),
        _ => return None,
    })
}

fn add_hook(hooks: &mut Hooks, hook: &Hook) {
    let mut made = OciHook::default();
    made.set_path(hook.path.clone().into())
        .set_args(hook.args.clone())
        .set_env(hook.env.clone())
        .set_timeout(hook.timeout);
    // A file with any other was refused.
    if let Some(list) = at(hooks, &hook.hook_name) {
        list.get_or_insert_default().push(made);
    }
}
