//! Images that a verifier judges, at the pull and before a container uses them.

use super::*;
use crate::{
    engine::ImagePolicy,
    error::Sentinel,
    verifier::{Subject, fakes::Programs},
};

const REFUSED: Kind = Kind::Sentinel(Sentinel::SignatureValidationFailed);

fn judged(images: &Images) -> Arc<Programs> {
    let verifier = Arc::<Programs>::default();
    images.set_policy(ImagePolicy {
        verifier: Some(verifier.clone()),
        ..ImagePolicy::default()
    });
    verifier
}

#[tokio::test]
async fn a_refused_pull_brings_nothing() {
    let node = node();
    let pushed = push(&node.registry, "reg/app:1", &[layer("a", "one")]);
    judged(&node.images).refuse("docker.io/reg/app:1");
    let error = pull(&node.images, "reg/app:1").await.unwrap_err();
    assert_eq!(error.kind(), REFUSED);
    assert!(error.chain().contains("not signed"), "{}", error.chain());
    assert!(node.images.status("reg/app:1").unwrap().is_none());
    assert_eq!(node.registry.asked(&pushed.layers[0]), 0);
    // By another name it is another question.
    let digest = format!("reg/app@{}", pushed.digest);
    pull(&node.images, &digest).await.unwrap();
}

/// What was judged is not what somebody else may have.
#[tokio::test]
async fn each_name_of_an_image_is_judged_with_what_it_stands_for() {
    let node = node();
    let verifier = judged(&node.images);
    let pushed = push(&node.registry, "reg/app:1", &[layer("a", "one")]);
    let entry = json!({"digest": pushed.digest, "size": 1});
    let index = json!({"schemaVersion": 2, "manifests": [entry]}).to_string();
    let index_digest = Digest::of(index.as_bytes());
    let name = "other/many:1".parse().unwrap();
    node.registry
        .push_manifest(&name, index.clone().into_bytes());
    // The fake keeps manifests by name: the index's is in the other repository.
    let (one, nobody) = ("reg/app:1".parse().unwrap(), Credentials::default());
    let manifest = node.images.registry.resolve(&one, &nobody).await;
    let manifest = manifest.unwrap().bytes;
    let inner = "other/many:inner".parse().unwrap();
    node.registry.push_manifest(&inner, manifest.to_vec());
    pull(&node.images, "reg/app:1").await.unwrap();
    pull(&node.images, "other/many:1").await.unwrap();
    let at_pull = verifier.asked();
    let kinds: Vec<_> = at_pull
        .iter()
        .map(|subject| (subject.name.to_string(), subject.target.digest.clone()))
        .collect();
    let wanted = [
        ("docker.io/reg/app:1".to_owned(), pushed.digest.clone()),
        ("docker.io/other/many:1".to_owned(), index_digest),
    ];
    assert_eq!(kinds, wanted);
    assert!(
        at_pull[1]
            .target
            .media_type
            .ends_with("image.index.v1+json")
    );
    assert_eq!(at_pull[1].target.size, index.len() as u64);
    // The same questions at use, also after a restart.
    let again = open(&node.root, &node.registry, "boot");
    let verifier = judged(&again);
    let image = again.status("reg/app:1").unwrap().unwrap();
    for asked in ["reg/app:1", "other/many:1"] {
        again.verify_use(&image, asked).await.unwrap();
    }
    assert_eq!(verifier.asked(), at_pull);
    // By its id alone it is known by the first of its names.
    again
        .verify_use(&image, image.record.id.0.hex())
        .await
        .unwrap();
    assert_eq!(verifier.asked()[2], at_pull[1]);
    verifier.refuse("docker.io/other/many:1");
    let refused = again.verify_use(&image, "other/many:1").await.unwrap_err();
    assert_eq!(refused.kind(), REFUSED);
}

/// One image under two names of one repository, of which each stands for something else.
#[tokio::test]
async fn names_of_one_repository_are_judged_each_with_its_own_digest() {
    let node = node();
    let verifier = judged(&node.images);
    let pushed = push(&node.registry, "reg/app:1", &[layer("a", "one")]);
    for number in 0..4 {
        let entry = json!({"digest": pushed.digest, "size": number});
        let index = json!({"schemaVersion": 2, "manifests": [entry]}).to_string();
        let name: ImageRef = format!("reg/app:index-{number}").parse().unwrap();
        node.registry.push_manifest(&name, index.into_bytes());
        pull(&node.images, &name.to_string()).await.unwrap();
    }
    pull(&node.images, "reg/app:1").await.unwrap();
    let at_pull = verifier.asked();
    let again = open(&node.root, &node.registry, "boot");
    let verifier = judged(&again);
    let image = again.status("reg/app:1").unwrap().unwrap();
    for subject in &at_pull {
        let asked = subject.name.to_string();
        again.verify_use(&image, &asked).await.unwrap();
    }
    assert_eq!(verifier.asked(), at_pull);
}

#[tokio::test]
async fn an_image_without_names_or_targets_is_known_by_its_manifest() {
    let node = node();
    let pushed = push(&node.registry, "reg/app:1", &[layer("a", "one")]);
    pull(&node.images, "reg/app:1").await.unwrap();
    let verifier = judged(&node.images);
    let mut image = Image::clone(&node.images.status("reg/app:1").unwrap().unwrap());
    image.record.targets.clear();
    image.record.tags.clear();
    image.record.digests.clear();
    node.images.verify_use(&image, "").await.unwrap();
    let Subject { name, target } = verifier.asked().remove(0);
    assert_eq!(
        name.to_string(),
        format!("localhost/unnamed@{}", pushed.digest)
    );
    assert_eq!(target.digest, pushed.digest);
    assert!(target.media_type.ends_with("image.manifest.v1+json"));
}
