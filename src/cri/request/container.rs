//! A container's configuration.

use super::check::{below, name, optional_absolute, refuse, required, text, texts};
use super::signal;
use crate::error::{Error, Result};
use crate::model::container::{ContainerConfig, ContainerMetadata};
use corten_proto::runtime::v1;

impl TryFrom<v1::ContainerConfig> for ContainerConfig {
    type Error = Error;

    fn try_from(asked: v1::ContainerConfig) -> Result<Self> {
        let linux = asked.linux.unwrap_or_default();
        let image = required(asked.image, "config.image")?;
        Ok(Self {
            metadata: required(asked.metadata, "config.metadata")?.try_into()?,
            image: required(
                Some(image.image).filter(|name| !name.is_empty()),
                "config.image.image",
            )?,
            user_specified_image: image.user_specified_image,
            image_annotations: image.annotations.into_iter().collect(),
            image_handler: image.runtime_handler,
            command: texts(asked.command, "config.command")?,
            args: texts(asked.args, "config.args")?,
            working_dir: optional_absolute(asked.working_dir, "config.working_dir")?,
            envs: asked.envs.into_iter().map(env).collect::<Result<_>>()?,
            mounts: each(asked.mounts)?,
            devices: each(asked.devices)?,
            cdi_devices: asked.cdi_devices.into_iter().map(|d| d.name).collect(),
            labels: asked.labels.into_iter().collect(),
            annotations: asked.annotations.into_iter().collect(),
            log_path: below(asked.log_path, "config.log_path")?,
            stdin: asked.stdin,
            stdin_once: asked.stdin_once,
            tty: asked.tty,
            resources: linux.resources.unwrap_or_default().try_into()?,
            security: linux.security_context.unwrap_or_default().try_into()?,
            stop_signal: signal::number(asked.stop_signal, "config.stop_signal")?,
        })
    }
}

impl TryFrom<v1::ContainerMetadata> for ContainerMetadata {
    type Error = Error;

    fn try_from(asked: v1::ContainerMetadata) -> Result<Self> {
        Ok(Self {
            name: name(asked.name, "config.metadata.name")?,
            attempt: asked.attempt,
        })
    }
}

fn each<T, U: TryFrom<T, Error = Error>>(list: Vec<T>) -> Result<Vec<U>> {
    list.into_iter().map(TryInto::try_into).collect()
}

/// A variable. The runtime's specification is JSON, so a value that is not UTF-8 has no way in.
fn env(variable: v1::KeyValue) -> Result<(String, String)> {
    let field = "config.envs";
    if variable.key.is_empty() || variable.key.contains(['=', '\0']) {
        return Err(refuse(
            field,
            format!("{:?} is no variable's name", variable.key),
        ));
    }
    let value = String::from_utf8(variable.value)
        .map_err(|_| refuse(field, format!("the value of {} is not UTF-8", variable.key)))?;
    Ok((variable.key, text(value, field)?))
}
