//! Whatever comes to a shim's sockets, from a daemon or from the processes that it starts: each packet is a message or an
//! error, a message is the same when it is sent on, and of the descriptors that came none is left open or missing.
#![no_main]

#[path = "../wire.rs"]
mod wire;

use corten_shim::api::{Call, DialRequest, ExecControl, ExecRequest, Failure, SandboxRequest};
use corten_shim::packet;
use corten_shim::sync::{FromInit, FromStage, ToStage};
use libfuzzer_sys::fuzz_target;
use rustix::fd::OwnedFd;
use serde::{Serialize, de::DeserializeOwned};
use wire::{Heard, Packet, open_descriptors, packets, pair};

fuzz_target!(|input: &[u8]| {
    let before = open_descriptors();
    let (theirs, ours) = pair();
    for packet in packets(input) {
        packet.send(&theirs).expect("there is room for one packet");
        match packet.kind % 9 {
            0 => read::<Call>(&packet, &ours),
            1 => read::<ToStage>(&packet, &ours),
            2 => read::<ExecRequest>(&packet, &ours),
            3 => read::<ExecControl>(&packet, &ours),
            4 => read::<SandboxRequest>(&packet, &ours),
            5 => read::<DialRequest>(&packet, &ours),
            6 => read::<FromStage>(&packet, &ours),
            7 => read::<FromInit>(&packet, &ours),
            _ => read::<Result<i32, Failure>>(&packet, &ours),
        }
    }
    drop((theirs, ours));
    assert_eq!(open_descriptors(), before);
});

fn read<T: Serialize + DeserializeOwned>(packet: &Packet<'_>, ours: &OwnedFd) {
    let received = packet::receive::<T>(ours);
    match packet.heard() {
        Heard::Nonsense => assert!(received.is_err()),
        Heard::End => assert!(matches!(received, Ok(None))),
        Heard::Message(body, fds) => {
            let Ok(Some(received)) = received else {
                return assert!(postcard::from_bytes::<T>(body).is_err());
            };
            assert_eq!((received.fds.len(), received.lost), (fds, false));
            is_sent_on(&received.message);
        }
    }
}

fn is_sent_on<T: Serialize + DeserializeOwned>(message: &T) {
    let (a, b) = pair();
    let encoded = |message: &T| postcard::to_stdvec(message).expect("what was read can be written");
    packet::send(&a, message, &[]).expect("it can be sent");
    let again = packet::receive::<T>(&b)
        .expect("and read")
        .expect("the peer is there");
    assert_eq!(encoded(&again.message), encoded(message));
}
