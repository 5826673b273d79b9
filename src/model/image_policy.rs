//! What the node's owner lets the layers of images hold.

/// Rules for unpacking layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnpackPolicy {
    /// A layer may unpack to this many times its blob.
    pub ratio: u64,
    /// What any layer may unpack to, in bytes.
    pub free: u64,
    /// What becomes of device nodes.
    pub devices: DeviceNodes,
}

/// What becomes of a layer's device nodes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum DeviceNodes {
    /// They are made. What a container may do with them is for its device cgroup to say.
    #[default]
    Allow,
    /// An image with one is refused.
    Refuse,
}

impl Default for UnpackPolicy {
    fn default() -> Self {
        Self {
            ratio: 200,
            free: 1 << 30,
            devices: DeviceNodes::default(),
        }
    }
}

impl UnpackPolicy {
    /// The bytes that a layer with a blob of this size may unpack to.
    #[must_use]
    pub fn limit(&self, blob: u64) -> u64 {
        blob.saturating_mul(self.ratio).max(self.free)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_layers_have_room_and_large_ones_a_ratio() {
        let policy = UnpackPolicy {
            ratio: 3,
            ..UnpackPolicy::default()
        };
        assert_eq!(policy.limit(7), 1 << 30);
        assert_eq!(policy.limit(1 << 30), 3 << 30);
        assert_eq!(policy.limit(u64::MAX), u64::MAX);
    }
}
