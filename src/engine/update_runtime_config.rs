//! UpdateRuntimeConfig: the kubelet tells the node's pod CIDR, and where an administrator gave a
//! template and no network is configured yet, it becomes the node's conflist.
//!
//! Invariant: a configuration that is there is never touched: a network add-on may have made it.

use super::{Engine, blocking};
use crate::error::{Context, Error, Kind, Result};
use std::path::{Path, PathBuf};

/// The word of a template that becomes the first CIDR; peers call it so too.
const CIDR: &str = "{{.PodCIDR}}";

/// The name of the conflist that is written.
const CONFLIST: &str = "10-corten.conflist";

/// A conflist that waits for the pod CIDR.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfTemplate {
    /// The template.
    pub template: PathBuf,
    /// The directory of conflists.
    pub conf_dir: PathBuf,
}

impl Engine {
    /// Takes the node's pod CIDRs, joined by commas; empty means that there are none.
    ///
    /// # Errors
    /// Where the template cannot be read, or has words that are not known, or the conflist cannot
    /// be written.
    pub async fn update_runtime_config(&self, pod_cidr: &str) -> Result<()> {
        let first = pod_cidr.split(',').next().unwrap_or_default().to_owned();
        match self.node.conf_template.clone() {
            Some(template) if !first.is_empty() => blocking(move || template.write(&first)).await,
            _ => Ok(()),
        }
    }
}

impl ConfTemplate {
    fn write(&self, cidr: &str) -> Result<()> {
        let failed = || format!("write a conflist into {}", self.conf_dir.display());
        std::fs::create_dir_all(&self.conf_dir).context(Kind::Internal, failed)?;
        if has_configuration(&self.conf_dir).context(Kind::Internal, failed)? {
            return Ok(());
        }
        let conflist = self.fill(cidr)?;
        let new = self.conf_dir.join(".corten.new");
        std::fs::write(&new, conflist).context(Kind::Internal, failed)?;
        let path = self.conf_dir.join(CONFLIST);
        std::fs::rename(&new, &path).context(Kind::Internal, failed)?;
        tracing::info!(path = %path.display(), cidr, "wrote the pod network's configuration");
        Ok(())
    }

    fn fill(&self, cidr: &str) -> Result<String> {
        let file = self.template.display();
        let text = std::fs::read_to_string(&self.template)
            .context(Kind::Internal, || format!("read cni.conf_template {file}"))?;
        let filled = text.replace(CIDR, cidr);
        match filled.contains("{{") {
            true => Err(Error::internal(format!(
                "cni.conf_template {file} has a word in {{{{ }}}} that is not {CIDR}"
            ))),
            false => Ok(filled),
        }
    }
}

fn has_configuration(directory: &Path) -> std::io::Result<bool> {
    let is_one = |path: &Path| {
        let extension = path.extension().and_then(|e| e.to_str());
        matches!(extension, Some("conflist" | "conf" | "json"))
    };
    for entry in std::fs::read_dir(directory)? {
        if is_one(&entry?.path()) {
            return Ok(true);
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn template(text: &str) -> (tempfile::TempDir, ConfTemplate) {
        let dir = tempfile::tempdir().unwrap();
        let conf = ConfTemplate {
            template: dir.path().join("in"),
            conf_dir: dir.path().join("net.d"),
        };
        fs::write(&conf.template, text).unwrap();
        (dir, conf)
    }

    #[test]
    fn the_cidr_takes_its_place() {
        let (_dir, conf) = template(r#"{"subnet": "{{.PodCIDR}}"}"#);
        conf.write("10.1.0.0/24").unwrap();
        let written = fs::read_to_string(conf.conf_dir.join(CONFLIST)).unwrap();
        assert_eq!(written, r#"{"subnet": "10.1.0.0/24"}"#);
    }

    #[test]
    fn what_is_there_stays() {
        let (_dir, conf) = template("{{.PodCIDR}}");
        fs::create_dir(&conf.conf_dir).unwrap();
        fs::write(conf.conf_dir.join("05-calico.conflist"), "{}").unwrap();
        conf.write("10.1.0.0/24").unwrap();
        assert!(!conf.conf_dir.join(CONFLIST).exists());
    }

    #[test]
    fn an_unknown_word_is_told() {
        let (_dir, conf) = template("{{range .Routes}}");
        let error = conf.write("10.1.0.0/24").unwrap_err();
        assert!(error.to_string().contains("{{.PodCIDR}}"), "{error}");
        assert!(!conf.conf_dir.join(CONFLIST).exists());
    }
}
