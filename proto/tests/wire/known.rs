//! What k8s-cri knows, and what it cannot know yet. Together they are the whole package: a message,
//! field or enum that is in neither list fails a test, and so does an entry that k8s-cri has caught up
//! with.

use prost::Message;
use prost_reflect::FieldDescriptor;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// One message on both sides.
pub struct Pair {
    /// Its name in the API.
    pub name: &'static str,
    /// Bytes through the type of `corten_proto` and back.
    pub ours: fn(&[u8]) -> Vec<u8>,
    /// Bytes as k8s-cri reads them, field by name.
    pub theirs_read: fn(&[u8]) -> Value,
    /// Fields by name, as k8s-cri writes them.
    pub theirs_written: fn(Value) -> Vec<u8>,
}

/// One message that k8s-cri lacks.
pub struct Newer {
    /// Its name in the API.
    pub name: &'static str,
    /// The cri-api release that brought it.
    pub since: &'static str,
    /// `name number type` of each field, by number: the only guard of these numbers.
    pub fields: &'static [&'static str],
    /// Bytes through the type of `corten_proto` and back.
    pub ours: fn(&[u8]) -> Vec<u8>,
}

/// One enum on both sides.
pub struct EnumPair {
    /// Its name in the API.
    pub name: &'static str,
    /// The number that k8s-cri gives to a value's name.
    pub theirs: fn(&str) -> Option<i32>,
}

fn through<T: Message + Default>(bytes: &[u8]) -> Vec<u8> {
    T::decode(bytes).unwrap().encode_to_vec()
}

fn read<T: Message + Default + Serialize>(bytes: &[u8]) -> Value {
    serde_json::to_value(T::decode(bytes).unwrap()).unwrap()
}

fn written<T: Message + DeserializeOwned>(named: Value) -> Vec<u8> {
    serde_json::from_value::<T>(named).unwrap().encode_to_vec()
}

/// The API's name of a type: its name in Rust where none is given.
macro_rules! name {
    ($type:ident) => {
        stringify!($type)
    };
    ($type:ident $name:literal) => {
        $name
    };
}

macro_rules! pairs {
    ($($type:ident $(= $name:literal)?)*) => {
        /// Every message that both sides know.
        pub const PAIRS: &[Pair] = &[$(Pair {
            name: name!($type $($name)?),
            ours: through::<corten_proto::runtime::v1::$type>,
            theirs_read: read::<k8s_cri::v1::$type>,
            theirs_written: written::<k8s_cri::v1::$type>,
        }),*];
    };
}

macro_rules! newer {
    ($($type:ident $since:literal [$($field:literal),*])*) => {
        /// Every message that k8s-cri lacks.
        pub const NEWER: &[Newer] = &[$(Newer {
            name: stringify!($type),
            since: $since,
            fields: &[$($field),*],
            ours: through::<corten_proto::runtime::v1::$type>,
        }),*];
    };
}

macro_rules! enums {
    ($($($path:ident)::+ = $name:literal)*) => {
        /// Every enum that both sides know.
        pub const ENUMS: &[EnumPair] = &[$(EnumPair {
            name: $name,
            theirs: |value| k8s_cri::v1::$($path)::+::from_str_name(value).map(|value| value as i32),
        }),*];
    };
}

pairs! {
    AttachRequest AttachResponse AuthConfig CdiDevice = "CDIDevice" Capability
    CheckpointContainerRequest CheckpointContainerResponse Container ContainerAttributes
    ContainerConfig ContainerEventResponse ContainerFilter ContainerMetadata ContainerMetrics
    ContainerResources ContainerStateValue ContainerStats ContainerStatsFilter
    ContainerStatsRequest ContainerStatsResponse ContainerStatus ContainerStatusRequest
    ContainerStatusResponse ContainerUser CpuUsage CreateContainerRequest
    CreateContainerResponse DnsConfig = "DNSConfig" Device ExecRequest ExecResponse
    ExecSyncRequest ExecSyncResponse FilesystemIdentifier FilesystemUsage GetEventsRequest
    HugepageLimit IdMapping = "IDMapping" Image ImageFilter ImageFsInfoRequest ImageFsInfoResponse
    ImageSpec ImageStatusRequest ImageStatusResponse Int64Value KeyValue LinuxContainerConfig
    LinuxContainerResources LinuxContainerSecurityContext LinuxContainerUser
    LinuxPodSandboxConfig LinuxPodSandboxStats LinuxPodSandboxStatus LinuxRuntimeConfiguration
    LinuxSandboxSecurityContext ListContainerStatsRequest ListContainerStatsResponse
    ListContainersRequest ListContainersResponse ListImagesRequest ListImagesResponse
    ListMetricDescriptorsRequest ListMetricDescriptorsResponse ListPodSandboxMetricsRequest
    ListPodSandboxMetricsResponse ListPodSandboxRequest ListPodSandboxResponse
    ListPodSandboxStatsRequest ListPodSandboxStatsResponse MemoryUsage Metric MetricDescriptor
    Mount Namespace NamespaceOption NetworkConfig NetworkInterfaceUsage NetworkUsage
    PodIp = "PodIP" PodSandbox PodSandboxAttributes PodSandboxConfig PodSandboxFilter
    PodSandboxMetadata PodSandboxMetrics PodSandboxNetworkStatus PodSandboxStateValue
    PodSandboxStats PodSandboxStatsFilter PodSandboxStatsRequest PodSandboxStatsResponse
    PodSandboxStatus PodSandboxStatusRequest PodSandboxStatusResponse PortForwardRequest
    PortForwardResponse PortMapping ProcessUsage PullImageRequest PullImageResponse
    RemoveContainerRequest RemoveContainerResponse RemoveImageRequest RemoveImageResponse
    RemovePodSandboxRequest RemovePodSandboxResponse ReopenContainerLogRequest
    ReopenContainerLogResponse RunPodSandboxRequest RunPodSandboxResponse RuntimeCondition
    RuntimeConfig RuntimeConfigRequest RuntimeConfigResponse RuntimeFeatures RuntimeHandler
    RuntimeHandlerFeatures RuntimeStatus SeLinuxOption = "SELinuxOption" SecurityProfile
    StartContainerRequest StartContainerResponse StatusRequest StatusResponse
    StopContainerRequest StopContainerResponse StopPodSandboxRequest StopPodSandboxResponse
    SwapUsage UInt64Value UpdateContainerResourcesRequest UpdateContainerResourcesResponse
    UpdateRuntimeConfigRequest UpdateRuntimeConfigResponse UserNamespace VersionRequest
    VersionResponse WindowsContainerConfig WindowsContainerResources
    WindowsContainerSecurityContext WindowsContainerStats WindowsCpuGroupAffinity
    WindowsCpuUsage WindowsFilesystemUsage WindowsMemoryUsage WindowsNamespaceOption
    WindowsNetworkInterfaceUsage WindowsNetworkUsage WindowsPodSandboxConfig
    WindowsPodSandboxStats WindowsProcessUsage WindowsSandboxSecurityContext
}

newer! {
    CheckpointPodRequest "0.37" [
        "pod_sandbox_id 1 string", "output_path 2 string", "container_ids 3 repeated string",
        "options 4 map<string, string>"
    ]
    CheckpointPodResponse "0.37" []
    IoUsage "0.33" ["timestamp 1 int64", "psi 2 runtime.v1.PsiStats"]
    PsiData "0.33" ["Total 1 uint64", "Avg10 2 double", "Avg60 3 double", "Avg300 4 double"]
    PsiStats "0.33" ["Full 1 runtime.v1.PsiData", "Some 2 runtime.v1.PsiData"]
    RestorePodRequest "0.37" [
        "checkpoint_path 1 string", "config 2 runtime.v1.PodSandboxConfig",
        "runtime_handler 3 string", "options 4 map<string, string>",
        "container_configs 5 repeated runtime.v1.ContainerConfig"
    ]
    RestorePodResponse "0.37" [
        "pod_sandbox_id 1 string", "restored_containers 2 repeated runtime.v1.RestoredContainer"
    ]
    RestoredContainer "0.37" ["name 1 string", "container_id 2 string"]
    StreamContainerStatsRequest "0.36" ["filter 1 runtime.v1.ContainerStatsFilter"]
    StreamContainerStatsResponse "0.36" ["container_stats 1 repeated runtime.v1.ContainerStats"]
    StreamContainersRequest "0.36" ["filter 1 runtime.v1.ContainerFilter"]
    StreamContainersResponse "0.36" ["containers 1 repeated runtime.v1.Container"]
    StreamImagesRequest "0.36" ["filter 1 runtime.v1.ImageFilter"]
    StreamImagesResponse "0.36" ["images 1 repeated runtime.v1.Image"]
    StreamPodSandboxMetricsRequest "0.36" []
    StreamPodSandboxMetricsResponse "0.36" [
        "pod_sandbox_metrics 1 repeated runtime.v1.PodSandboxMetrics"
    ]
    StreamPodSandboxStatsRequest "0.36" ["filter 1 runtime.v1.PodSandboxStatsFilter"]
    StreamPodSandboxStatsResponse "0.36" [
        "pod_sandbox_stats 1 repeated runtime.v1.PodSandboxStats"
    ]
    StreamPodSandboxesRequest "0.36" ["filter 1 runtime.v1.PodSandboxFilter"]
    StreamPodSandboxesResponse "0.36" ["pod_sandboxes 1 repeated runtime.v1.PodSandbox"]
    UpdatePodSandboxResourcesRequest "0.33" [
        "pod_sandbox_id 1 string", "overhead 2 runtime.v1.LinuxContainerResources",
        "resources 3 runtime.v1.LinuxContainerResources"
    ]
    UpdatePodSandboxResourcesResponse "0.33" []
}

enums! {
    CgroupDriver = "CgroupDriver"
    ContainerEventType = "ContainerEventType"
    ContainerState = "ContainerState"
    MetricType = "MetricType"
    MountPropagation = "MountPropagation"
    NamespaceMode = "NamespaceMode"
    PodSandboxState = "PodSandboxState"
    Protocol = "Protocol"
    SupplementalGroupsPolicy = "SupplementalGroupsPolicy"
    security_profile::ProfileType = "SecurityProfile.ProfileType"
}

/// Enums that k8s-cri lacks, with the release that brought them and how many values they have,
/// numbered from 0 without a gap.
pub const NEWER_ENUMS: &[(&str, &str, usize)] = &[("Signal", "0.33", 66)];

/// Fields that k8s-cri lacks in messages that it has: message, `name number type`, release.
pub const NEWER_FIELDS: &[(&str, &str, &str)] = &[
    (
        "ContainerConfig",
        "stop_signal 18 runtime.v1.Signal",
        "0.33",
    ),
    ("ContainerStats", "io 6 runtime.v1.IoUsage", "0.33"),
    (
        "ContainerStatus",
        "stop_signal 19 runtime.v1.Signal",
        "0.33",
    ),
    ("CpuUsage", "psi 4 runtime.v1.PsiStats", "0.33"),
    ("ImageSpec", "image_ref 20 string", "0.36"),
    ("LinuxPodSandboxStats", "io 6 runtime.v1.IoUsage", "0.33"),
    ("MemoryUsage", "psi 8 runtime.v1.PsiStats", "0.33"),
    ("Mount", "image_sub_path 10 string", "0.33"),
    ("Mount", "mount_options 11 repeated string", "0.37"),
    ("RuntimeFeatures", "mount_options 3 bool", "0.37"),
    (
        "RuntimeFeatures",
        "user_namespaces_host_network 2 bool",
        "0.36",
    ),
];

/// Calls that k8s-cri lacks, with the release that brought them.
pub const NEWER_CALLS: &[(&str, &str)] = &[
    ("CheckpointPod", "0.37"),
    ("RestorePod", "0.37"),
    ("StreamContainerStats", "0.36"),
    ("StreamContainers", "0.36"),
    ("StreamImages", "0.36"),
    ("StreamPodSandboxMetrics", "0.36"),
    ("StreamPodSandboxStats", "0.36"),
    ("StreamPodSandboxes", "0.36"),
    ("UpdatePodSandboxResources", "0.33"),
];

/// A field that changed its type: `string` up to 0.36, `bytes` since. The same on the wire for text.
const TEXT_ONCE: (&str, &str) = ("KeyValue", "value");

/// `name number type`, as in the tables above.
pub fn fact(field: &FieldDescriptor) -> String {
    let (name, number) = (field.name(), field.number());
    match field.kind() {
        prost_reflect::Kind::Message(entry) if field.is_map() => {
            let (key, value) = (entry.map_entry_key_field(), entry.map_entry_value_field());
            format!("{name} {number} map<{:?}, {:?}>", key.kind(), value.kind())
        }
        kind if field.is_list() => format!("{name} {number} repeated {kind:?}"),
        kind => format!("{name} {number} {kind:?}"),
    }
}

/// Whether k8s-cri lacks the field.
pub fn is_newer(field: &FieldDescriptor) -> bool {
    let (message, fact) = (field.parent_message().name().to_owned(), fact(field));
    NEWER_FIELDS
        .iter()
        .any(|(of, newer, _)| *of == message && *newer == fact)
}

/// Whether the field is `bytes` here and `string` in k8s-cri.
pub fn is_text_once(field: &FieldDescriptor) -> bool {
    TEXT_ONCE == (field.parent_message().name(), field.name())
}
