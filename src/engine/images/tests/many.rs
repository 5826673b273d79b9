//! A node with many images.

use super::*;
use std::time::Instant;

/// A list of this many, in the best of several tries.
fn listing(images: usize) -> Duration {
    let node = node();
    for number in 0..images {
        let digest = Digest::of(number.to_string().as_bytes());
        let name = format!("reg/app:{number}").parse().unwrap();
        node.images.write().show(Image {
            record: ImageRecord {
                id: ImageId(digest.clone()),
                tags: [name].into(),
                digests: [format!("reg/app@{digest}").parse().unwrap()].into(),
                manifest: digest.clone(),
                layers: vec![ChainId(digest)],
                targets: vec![],
                tagged: std::collections::BTreeMap::new(),
                removed: false,
            },
            config: ImageConfig::default(),
            artifact: None,
            size: 1,
            pinned: false,
        });
    }
    let tries = (0..20).map(|_| {
        let begin = Instant::now();
        assert_eq!(node.images.list(None).unwrap().len(), images);
        begin.elapsed()
    });
    tries.min().unwrap_or_default()
}

#[test]
fn a_list_of_a_thousand_takes_ten_times_as_long_as_one_of_a_hundred() {
    let (hundred, thousand) = (listing(100), listing(1000));
    eprintln!("100 images: {hundred:?}, 1,000: {thousand:?}");
    assert!(thousand < 40 * hundred, "{thousand:?} against {hundred:?}");
}
