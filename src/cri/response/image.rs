//! Images.

use super::stats::value;
use crate::engine::ImageFsInfo;
use crate::model::image::{Image, ImageUser};
use corten_proto::runtime::v1;

impl From<&Image> for v1::Image {
    fn from(image: &Image) -> Self {
        let names = |set: &std::collections::BTreeSet<crate::id::ImageRef>| {
            set.iter().map(ToString::to_string).collect()
        };
        let (uid, username) = match image.config.user() {
            ImageUser::Unset => (None, String::new()),
            ImageUser::Uid(value) => (Some(v1::Int64Value { value }), String::new()),
            ImageUser::Name(name) => (None, name),
        };
        Self {
            id: image.record.id.to_string(),
            repo_tags: names(&image.record.tags),
            repo_digests: names(&image.record.digests),
            size: image.size,
            uid,
            username,
            spec: None,
            pinned: image.pinned,
        }
    }
}

impl From<&ImageFsInfo> for v1::FilesystemUsage {
    fn from(usage: &ImageFsInfo) -> Self {
        Self {
            timestamp: usage.timestamp,
            fs_id: Some(v1::FilesystemIdentifier {
                mountpoint: usage.mountpoint.display().to_string(),
            }),
            used_bytes: value(usage.used_bytes),
            inodes_used: value(usage.inodes_used),
        }
    }
}
