//! The CRI's messages held against k8s-cri, which others generated from the API's own file: each
//! message that both know is filled with random values and goes from one to the other and back. What
//! k8s-cri lacks is listed in `known`, with the release that brought it, and checked by that list.
//!
//! Built with `--features wire`, which needs protoc: k8s-cri is compiled with it.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod calls;
mod known;
mod named;
mod random;

use std::collections::BTreeSet;

use corten_proto::FILE_DESCRIPTOR_SET;
use prost_reflect::prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage, EnumDescriptor, MessageDescriptor};

use known::{ENUMS, NEWER, NEWER_ENUMS, NEWER_FIELDS, PAIRS, Pair};
use named::{named, without_newer};
use random::Filler;

const PACKAGE: &str = "runtime.v1";

/// How many random messages of each type are sent, beside those with every field set.
const ROUNDS: u64 = 24;

fn pool() -> DescriptorPool {
    DescriptorPool::decode(FILE_DESCRIPTOR_SET).unwrap()
}

fn message(pool: &DescriptorPool, name: &str) -> MessageDescriptor {
    pool.get_message_by_name(&format!("{PACKAGE}.{name}"))
        .unwrap()
}

/// All messages of the package but the entries of maps.
fn messages(pool: &DescriptorPool) -> impl Iterator<Item = MessageDescriptor> {
    pool.all_messages()
        .filter(|message| message.package_name() == PACKAGE && !message.is_map_entry())
}

fn enums(pool: &DescriptorPool) -> impl Iterator<Item = EnumDescriptor> {
    pool.all_enums()
        .filter(|values| values.package_name() == PACKAGE)
}

/// The name without its package.
fn short(full_name: &str) -> String {
    full_name.strip_prefix("runtime.v1.").unwrap().to_owned()
}

/// Random values of a message: some with every field, the others with gaps.
fn samples(descriptor: &MessageDescriptor) -> Vec<DynamicMessage> {
    let every = (0..4).map(Filler::every);
    let some = (0..ROUNDS).map(Filler::some);
    every
        .chain(some)
        .map(|mut filler| filler.message(descriptor.clone()))
        .collect()
}

fn decoded(descriptor: &MessageDescriptor, bytes: &[u8]) -> DynamicMessage {
    DynamicMessage::decode(descriptor.clone(), bytes).unwrap()
}

#[test]
fn every_message_goes_to_them_by_name() {
    let pool = pool();
    for Pair {
        name,
        ours,
        theirs_read,
        ..
    } in PAIRS
    {
        for sample in samples(&message(&pool, name)) {
            let sent = ours(&sample.encode_to_vec());
            assert_eq!(theirs_read(&sent), named(&sample), "{name}");
        }
    }
}

#[test]
fn every_message_comes_from_them_by_name() {
    let pool = pool();
    for Pair {
        name,
        ours,
        theirs_written,
        ..
    } in PAIRS
    {
        let descriptor = message(&pool, name);
        for sample in samples(&descriptor) {
            let received = ours(&theirs_written(named(&sample)));
            assert_eq!(
                decoded(&descriptor, &received),
                without_newer(&sample),
                "{name}"
            );
        }
    }
}

#[test]
fn every_message_passes_through_ours_whole() {
    let pool = pool();
    let pairs = PAIRS.iter().map(|pair| (pair.name, pair.ours));
    for (name, ours) in pairs.chain(NEWER.iter().map(|newer| (newer.name, newer.ours))) {
        let descriptor = message(&pool, name);
        for sample in samples(&descriptor) {
            assert_eq!(
                decoded(&descriptor, &ours(&sample.encode_to_vec())),
                sample,
                "{name}"
            );
        }
    }
}

#[test]
fn every_message_is_theirs_or_newer() {
    let listed = PAIRS
        .iter()
        .map(|pair| pair.name)
        .chain(NEWER.iter().map(|newer| newer.name));
    let pool = pool();
    let all: BTreeSet<String> = messages(&pool)
        .map(|message| short(message.full_name()))
        .collect();
    assert_eq!(
        listed.clone().map(str::to_owned).collect::<BTreeSet<_>>(),
        all
    );
    assert_eq!(listed.count(), all.len(), "a message is listed twice");
}

#[test]
fn newer_messages_have_the_fields_of_the_list() {
    let pool = pool();
    for newer in NEWER {
        let facts: Vec<String> = message(&pool, newer.name)
            .fields()
            .map(|field| known::fact(&field))
            .collect();
        assert_eq!(
            facts, newer.fields,
            "{} of cri-api {}",
            newer.name, newer.since
        );
    }
}

#[test]
fn newer_fields_are_there() {
    let pool = pool();
    for (name, fact, since) in NEWER_FIELDS {
        let mut fields = message(&pool, name)
            .fields()
            .map(|field| known::fact(&field))
            .collect::<Vec<_>>();
        fields.retain(|field| field == fact);
        assert_eq!(fields.len(), 1, "{name}.{fact} of cri-api {since}");
    }
}

#[test]
fn every_value_of_an_enum_has_their_number() {
    let pool = pool();
    for known::EnumPair { name, theirs } in ENUMS {
        let values = pool.get_enum_by_name(&format!("{PACKAGE}.{name}")).unwrap();
        for value in values.values() {
            assert_eq!(
                theirs(value.name()),
                Some(value.number()),
                "{name}.{}",
                value.name()
            );
        }
    }
}

#[test]
fn every_enum_is_theirs_or_newer() {
    let listed = ENUMS
        .iter()
        .map(|pair| pair.name)
        .chain(NEWER_ENUMS.iter().map(|newer| newer.0));
    let pool = pool();
    let all: BTreeSet<String> = enums(&pool)
        .map(|values| short(values.full_name()))
        .collect();
    assert_eq!(listed.map(str::to_owned).collect::<BTreeSet<_>>(), all);
}

#[test]
fn newer_enums_are_numbered_without_a_gap() {
    let pool = pool();
    for (name, since, count) in NEWER_ENUMS {
        let values = pool.get_enum_by_name(&format!("{PACKAGE}.{name}")).unwrap();
        let numbers: Vec<i32> = values.values().map(|value| value.number()).collect();
        let expected: Vec<i32> = (0..).take(*count).collect();
        assert_eq!(numbers, expected, "{name} of cri-api {since}");
    }
}

/// An environment is bytes since cri-api 0.37: what is no text must pass too.
#[test]
fn an_environment_value_need_not_be_text() {
    let pair = PAIRS.iter().find(|pair| pair.name == "KeyValue").unwrap();
    let sent = [0x0a, 1, b'K', 0x12, 3, 0xff, 0x00, 0xfe];
    assert_eq!((pair.ours)(&sent), sent);
}
