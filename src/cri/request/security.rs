//! Namespaces, users and profiles.

use super::check::{absolute, known, refuse, required, text, texts, user_or_group};
use crate::error::{Error, Result};
use crate::model::container::{Capabilities, ContainerSecurity, UserSpec};
use crate::model::sandbox::{
    GroupsPolicy, IdMapping, NamespaceMode, NamespaceOptions, Profile, SandboxSecurity,
    SelinuxContext, UserNamespace,
};
use corten_proto::runtime::v1;
use v1::security_profile::ProfileType;

impl TryFrom<v1::LinuxSandboxSecurityContext> for SandboxSecurity {
    type Error = Error;

    fn try_from(asked: v1::LinuxSandboxSecurityContext) -> Result<Self> {
        let user = asked.run_as_user.map(|v| v.value);
        let group = asked.run_as_group.map(|v| v.value);
        needs_user(user.is_some(), group)?;
        #[expect(deprecated, reason = "older kubelets and crictl send this form")]
        let old_seccomp = asked.seccomp_profile_path;
        Ok(Self {
            namespaces: asked.namespace_options.unwrap_or_default().try_into()?,
            selinux: asked.selinux_options.map(selinux).transpose()?,
            run_as_user: optional_id(user, "run_as_user")?,
            run_as_group: optional_id(group, "run_as_group")?,
            readonly_rootfs: asked.readonly_rootfs,
            supplemental_groups: groups(asked.supplemental_groups)?,
            groups_policy: policy(asked.supplemental_groups_policy)?,
            privileged: asked.privileged,
            seccomp: seccomp(asked.seccomp, &old_seccomp)?,
            apparmor: asked.apparmor.as_ref().map(apparmor).transpose()?,
        })
    }
}

impl TryFrom<v1::LinuxContainerSecurityContext> for ContainerSecurity {
    type Error = Error;

    fn try_from(asked: v1::LinuxContainerSecurityContext) -> Result<Self> {
        let group = asked.run_as_group.map(|v| v.value);
        let user = user(asked.run_as_user, asked.run_as_username)?;
        needs_user(user != UserSpec::Image, group)?;
        #[expect(deprecated, reason = "older kubelets and crictl send these forms")]
        let (old_seccomp, old_apparmor) = (asked.seccomp_profile_path, asked.apparmor_profile);
        Ok(Self {
            capabilities: asked.capabilities.unwrap_or_default().try_into()?,
            privileged: asked.privileged,
            namespaces: asked.namespace_options.unwrap_or_default().try_into()?,
            selinux: asked.selinux_options.map(selinux).transpose()?,
            user,
            run_as_group: optional_id(group, "run_as_group")?,
            readonly_rootfs: asked.readonly_rootfs,
            supplemental_groups: groups(asked.supplemental_groups)?,
            groups_policy: policy(asked.supplemental_groups_policy)?,
            no_new_privs: asked.no_new_privs,
            masked_paths: paths(asked.masked_paths, "masked_paths")?,
            readonly_paths: paths(asked.readonly_paths, "readonly_paths")?,
            seccomp: seccomp(asked.seccomp, &old_seccomp)?,
            apparmor: match &asked.apparmor {
                Some(profile) => Some(apparmor(profile)?),
                None => old_apparmor_profile(&old_apparmor)?,
            },
        })
    }
}

impl TryFrom<v1::NamespaceOption> for NamespaceOptions {
    type Error = Error;

    fn try_from(asked: v1::NamespaceOption) -> Result<Self> {
        let pid = mode(asked.pid, "namespace_options.pid")?;
        if pid == NamespaceMode::Target && asked.target_id.is_empty() {
            return Err(refuse(
                "namespace_options.target_id",
                "must be given with TARGET",
            ));
        }
        let user = asked.userns_options.as_ref();
        let options = Self {
            network: pod_or_node(asked.network, "namespace_options.network")?,
            pid,
            ipc: pod_or_node(asked.ipc, "namespace_options.ipc")?,
            target_id: asked.target_id,
            user: user.map_or(Ok(None), user_namespace)?,
        };
        owns_what_it_mounts(&options)?;
        Ok(options)
    }
}

impl TryFrom<v1::Capability> for Capabilities {
    type Error = Error;

    fn try_from(asked: v1::Capability) -> Result<Self> {
        Ok(Self {
            add: capabilities(asked.add_capabilities)?,
            drop: capabilities(asked.drop_capabilities)?,
            add_ambient: capabilities(asked.add_ambient_capabilities)?,
        })
    }
}

/// Names without `CAP_`, in capitals.
fn capabilities(names: Vec<String>) -> Result<Vec<String>> {
    let one = |name: String| {
        let capital = name.to_ascii_uppercase();
        let bare = capital.strip_prefix("CAP_").unwrap_or(&capital);
        let plain = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_';
        match !bare.is_empty() && bare.chars().all(plain) {
            true => Ok(bare.to_owned()),
            false => Err(refuse(
                "capabilities",
                format!("{name:?} is no capability's name"),
            )),
        }
    };
    names.into_iter().map(one).collect()
}

fn mode(number: i32, field: &str) -> Result<NamespaceMode> {
    Ok(match known(number, field)? {
        v1::NamespaceMode::Pod => NamespaceMode::Pod,
        v1::NamespaceMode::Container => NamespaceMode::Container,
        v1::NamespaceMode::Node => NamespaceMode::Node,
        v1::NamespaceMode::Target => NamespaceMode::Target,
    })
}

fn pod_or_node(number: i32, field: &str) -> Result<NamespaceMode> {
    match mode(number, field)? {
        mode @ (NamespaceMode::Pod | NamespaceMode::Node) => Ok(mode),
        NamespaceMode::Container | NamespaceMode::Target => {
            Err(refuse(field, "must be POD or NODE"))
        }
    }
}

/// In a user namespace of its own a pod has no way to a /proc or a /dev/mqueue of the node's
/// namespaces: only their owner may mount them.
fn owns_what_it_mounts(options: &NamespaceOptions) -> Result<()> {
    let why = "must not be NODE in a pod with a user namespace of its own (userns_options)";
    match (&options.user, options.pid, options.ipc) {
        (Some(_), NamespaceMode::Node, _) => Err(refuse("namespace_options.pid", why)),
        (Some(_), _, NamespaceMode::Node) => Err(refuse("namespace_options.ipc", why)),
        _ => Ok(()),
    }
}

/// One range for users and one for groups, both with id 0: the kubelet's own rule.
fn user_namespace(asked: &v1::UserNamespace) -> Result<Option<UserNamespace>> {
    let field = "namespace_options.userns_options";
    match mode(asked.mode, field)? {
        NamespaceMode::Node if asked.uids.is_empty() && asked.gids.is_empty() => Ok(None),
        NamespaceMode::Node => Err(refuse(field, "the node's user namespace has no mappings")),
        NamespaceMode::Pod => Ok(Some(UserNamespace {
            uids: vec![only_mapping(
                &asked.uids,
                "namespace_options.userns_options.uids",
            )?],
            gids: vec![only_mapping(
                &asked.gids,
                "namespace_options.userns_options.gids",
            )?],
        })),
        NamespaceMode::Container | NamespaceMode::Target => {
            Err(refuse(field, "mode must be POD or NODE"))
        }
    }
}

fn only_mapping(mappings: &[v1::IdMapping], field: &str) -> Result<IdMapping> {
    let [mapping] = mappings else {
        return Err(refuse(
            field,
            format!("must be one mapping, not {}", mappings.len()),
        ));
    };
    let mapping = id_mapping(mapping, field)?;
    match (mapping.container_id, mapping.host_id) {
        (0, 0) => Err(refuse(
            field,
            "must not reach the node's root: host_id is 0",
        )),
        (0, _) => Ok(mapping),
        _ => Err(refuse(field, "must map id 0")),
    }
}

/// A range of ids that does not run over the end.
///
/// # Errors
/// `InvalidArgument` where it does, or is empty.
pub fn id_mapping(asked: &v1::IdMapping, field: &str) -> Result<IdMapping> {
    let fits = |first: u32| first.checked_add(asked.length).is_some();
    if asked.length == 0 || !fits(asked.host_id) || !fits(asked.container_id) {
        return Err(refuse(field, format!("{} ids do not fit", asked.length)));
    }
    Ok(IdMapping {
        container_id: asked.container_id,
        host_id: asked.host_id,
        length: asked.length,
    })
}

fn selinux(asked: v1::SeLinuxOption) -> Result<SelinuxContext> {
    let field = "selinux_options";
    Ok(SelinuxContext {
        user: text(asked.user, field)?,
        role: text(asked.role, field)?,
        kind: text(asked.r#type, field)?,
        level: text(asked.level, field)?,
    })
}

fn user(uid: Option<v1::Int64Value>, name: String) -> Result<UserSpec> {
    match (uid, name.is_empty()) {
        (Some(_), false) => Err(refuse("run_as_username", "excludes run_as_user")),
        (Some(uid), true) => Ok(UserSpec::Uid(user_or_group(uid.value, "run_as_user")?)),
        (None, false) => Ok(UserSpec::Name(text(name, "run_as_username")?)),
        (None, true) => Ok(UserSpec::Image),
    }
}

/// A group alone would combine with whatever user the image has.
fn needs_user(has_user: bool, group: Option<i64>) -> Result<()> {
    match (has_user, group) {
        (false, Some(_)) => Err(refuse("run_as_group", "must come with a user")),
        _ => Ok(()),
    }
}

fn optional_id(id: Option<i64>, field: &str) -> Result<Option<i64>> {
    id.map(|id| user_or_group(id, field)).transpose()
}

fn groups(ids: Vec<i64>) -> Result<Vec<i64>> {
    ids.into_iter()
        .map(|id| user_or_group(id, "supplemental_groups"))
        .collect()
}

fn policy(number: i32) -> Result<GroupsPolicy> {
    Ok(match known(number, "supplemental_groups_policy")? {
        v1::SupplementalGroupsPolicy::Merge => GroupsPolicy::Merge,
        v1::SupplementalGroupsPolicy::Strict => GroupsPolicy::Strict,
    })
}

fn paths(paths: Vec<String>, field: &str) -> Result<Vec<String>> {
    let paths = texts(paths, field)?;
    paths
        .into_iter()
        .map(|path| absolute(path, field))
        .collect()
}

/// The profile of the new field, or else of the old one. Neither is unconfined.
fn seccomp(new: Option<v1::SecurityProfile>, old: &str) -> Result<Profile> {
    match new {
        Some(profile) => match known(profile.profile_type, "seccomp.profile_type")? {
            ProfileType::RuntimeDefault => Ok(Profile::RuntimeDefault),
            ProfileType::Unconfined => Ok(Profile::Unconfined),
            ProfileType::Localhost => {
                localhost_file(profile.localhost_ref, "seccomp.localhost_ref")
            }
        },
        None => old_seccomp_profile(old),
    }
}

fn localhost_file(path: String, field: &str) -> Result<Profile> {
    absolute(path, field).map(Profile::Localhost)
}

fn old_seccomp_profile(old: &str) -> Result<Profile> {
    let field = "seccomp_profile_path";
    match (old, old.strip_prefix("localhost/")) {
        ("" | "unconfined", _) => Ok(Profile::Unconfined),
        ("runtime/default" | "docker/default", _) => Ok(Profile::RuntimeDefault),
        (_, Some(path)) => localhost_file(path.to_owned(), field),
        (_, None) => Err(refuse(field, format!("{old:?} is no profile"))),
    }
}

fn apparmor(profile: &v1::SecurityProfile) -> Result<Profile> {
    match known(profile.profile_type, "apparmor.profile_type")? {
        ProfileType::RuntimeDefault => Ok(Profile::RuntimeDefault),
        ProfileType::Unconfined => Ok(Profile::Unconfined),
        ProfileType::Localhost => loaded_profile(&profile.localhost_ref, "apparmor.localhost_ref"),
    }
}

/// A loaded profile's name; some callers keep the prefix of the old form.
fn loaded_profile(name: &str, field: &str) -> Result<Profile> {
    let bare = name.strip_prefix("localhost/").unwrap_or(name);
    let bare = text(bare.to_owned(), field)?;
    required((!bare.is_empty()).then_some(bare), field).map(Profile::Localhost)
}

fn old_apparmor_profile(old: &str) -> Result<Option<Profile>> {
    let field = "apparmor_profile";
    match (old, old.strip_prefix("localhost/")) {
        ("", _) => Ok(None),
        ("runtime/default", _) => Ok(Some(Profile::RuntimeDefault)),
        ("unconfined", _) => Ok(Some(Profile::Unconfined)),
        (_, Some(name)) => loaded_profile(name, field).map(Some),
        (_, None) => Err(refuse(field, format!("{old:?} is no profile"))),
    }
}
