//! The lists in parts (KEP-5825) hold what the lists in one hold, each item once.

use crate::node::{Node, in_a_node};
use crate::pods::{self, Pod, idle, with_label};
use corten_proto::runtime::v1::*;
use std::collections::BTreeSet;
use tonic::Streaming;

/// All messages of a list in parts: none is empty, and the last is followed by the end.
async fn whole<M, T>(mut parts: Streaming<M>, items: impl Fn(M) -> Vec<T>) -> Vec<T> {
    let mut all = Vec::new();
    while let Some(part) = parts.message().await.unwrap() {
        let some = items(part);
        assert!(!some.is_empty(), "an empty part");
        all.extend(some);
    }
    all
}

fn ids<T>(items: &[T], id: impl Fn(&T) -> &str) -> BTreeSet<String> {
    let all: BTreeSet<_> = items.iter().map(|item| id(item).to_owned()).collect();
    assert_eq!(all.len(), items.len(), "an item came twice");
    all
}

fn odd() -> [(String, String); 1] {
    [("parity".to_owned(), "odd".to_owned())]
}

/// Five pods, every second with a label; a container in each.
async fn five(node: &Node) -> Vec<(Pod, String)> {
    let mut all = Vec::new();
    for number in 0..5 {
        let name = format!("pod-{number}");
        let parity = if number % 2 == 1 { "odd" } else { "even" };
        let pod = node
            .run(with_label(pods::pod(&name), "parity", parity))
            .await;
        let mut container = idle("c");
        container.labels.insert("parity".into(), parity.into());
        let id = node.launch(&pod, container).await;
        all.push((pod, id));
    }
    all
}

#[test]
#[ignore = "needs root"]
fn root_lists_in_parts_hold_each_item_once() {
    in_a_node(async |node| {
        let five = five(node).await;
        let pods: BTreeSet<_> = five.iter().map(|(pod, _)| pod.id.clone()).collect();
        let containers: BTreeSet<_> = five.iter().map(|(_, id)| id.clone()).collect();
        let mut cri = node.cri.runtime();

        let all = cri.stream_pod_sandboxes(StreamPodSandboxesRequest::default());
        let all = whole(all.await.unwrap().into_inner(), |part| part.pod_sandboxes).await;
        assert_eq!(ids(&all, |pod| &pod.id), pods);
        assert_eq!(all, node.cri.pods().await);

        let all = cri.stream_containers(StreamContainersRequest::default());
        let all = whole(all.await.unwrap().into_inner(), |part| part.containers).await;
        assert_eq!(ids(&all, |container| &container.id), containers);
        assert_eq!(all, node.cri.containers().await);

        let all = cri.stream_container_stats(StreamContainerStatsRequest::default());
        let all = whole(all.await.unwrap().into_inner(), |part| part.container_stats).await;
        let id = |stats: &ContainerStats| stats.attributes.as_ref().unwrap().id.clone();
        assert_eq!(all.iter().map(id).collect::<BTreeSet<_>>(), containers);

        let all = cri.stream_pod_sandbox_stats(StreamPodSandboxStatsRequest::default());
        let all = whole(all.await.unwrap().into_inner(), |part| {
            part.pod_sandbox_stats
        })
        .await;
        let id = |stats: &PodSandboxStats| stats.attributes.as_ref().unwrap().id.clone();
        assert_eq!(all.iter().map(id).collect::<BTreeSet<_>>(), pods);

        let mut images = node.cri.images();
        let all = images.stream_images(StreamImagesRequest::default());
        let all = whole(all.await.unwrap().into_inner(), |part| part.images).await;
        let listed = images.list_images(ListImagesRequest::default());
        assert_eq!(all, listed.await.unwrap().into_inner().images);
        assert_eq!(all.len(), 1);
    });
}

#[test]
#[ignore = "needs root"]
fn root_lists_in_parts_are_narrowed_as_the_lists_are() {
    in_a_node(async |node| {
        let five = five(node).await;
        let mut cri = node.cri.runtime();
        let request = StreamPodSandboxesRequest {
            filter: Some(PodSandboxFilter {
                label_selector: odd().into(),
                ..Default::default()
            }),
        };
        let some = cri.stream_pod_sandboxes(request).await.unwrap();
        let some = whole(some.into_inner(), |part| part.pod_sandboxes).await;
        let expected = [1, 3].map(|number| five[number].0.id.clone());
        assert_eq!(ids(&some, |pod| &pod.id), expected.into());

        let request = StreamContainersRequest {
            filter: Some(ContainerFilter {
                pod_sandbox_id: five[3].0.id.clone(),
                label_selector: odd().into(),
                ..Default::default()
            }),
        };
        let some = cri.stream_containers(request).await.unwrap();
        let some = whole(some.into_inner(), |part| part.containers).await;
        assert_eq!(
            ids(&some, |container| &container.id),
            [five[3].1.clone()].into()
        );

        let request = StreamContainerStatsRequest {
            filter: Some(ContainerStatsFilter {
                pod_sandbox_id: five[2].0.id.clone(),
                label_selector: odd().into(),
                ..Default::default()
            }),
        };
        let none = cri.stream_container_stats(request).await.unwrap();
        let none = whole(none.into_inner(), |part| part.container_stats).await;
        assert!(none.is_empty(), "both filters count: {none:?}");
    });
}
