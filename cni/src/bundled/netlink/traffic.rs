//! Traffic control: queueing disciplines and filters, as far as plugins shape what a link sends.

use rustix::io::Errno;

use super::Socket;
use super::message::{self, ACK, CREATE, DUMP, EXCL, Message, attribute};

const NEWQDISC: u16 = 36;
const GETQDISC: u16 = 38;
const NEWTFILTER: u16 = 44;
const KIND: u16 = 1;
const OPTIONS: u16 = 2;
const TBF_PARMS: u16 = 1;
const TBF_RATE64: u16 = 4;
const U32_CLASSID: u16 = 1;
const U32_SEL: u16 = 5;
const U32_ACT: u16 = 7;
const ACT_KIND: u16 = 1;
const ACT_OPTIONS: u16 = 2;
const MIRRED_PARMS: u16 = 2;
/// Of `struct tcmsg`.
const HEADER: usize = 20;

/// Handles.
const ROOT: u32 = 0xffff_ffff;
const INGRESS: u32 = 0xffff_fff1;
const OF_INGRESS: u32 = 0xffff_0000;
const FIRST: u32 = 0x0001_0000;
const TBF: &str = "tbf";

/// A bucket of tokens, as the kernel has it: bytes, bytes in a second, and ticks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bucket {
    pub(crate) rate: u64,
    pub(crate) limit: u32,
    pub(crate) buffer: u32,
}

fn message(kind: u16, flags: u16, (index, handle, parent, info): (u32, u32, u32, u32)) -> Message {
    let mut header = [0; HEADER];
    for (at, value) in [(4, index), (8, handle), (12, parent), (16, info)] {
        header[at..at + 4].copy_from_slice(&value.to_ne_bytes());
    }
    Message::new(kind, flags, &header)
}

/// What leaves by the link goes through the bucket.
pub(crate) fn add_bucket(index: u32, bucket: Bucket) -> Message {
    let mut message = message(NEWQDISC, CREATE | EXCL | ACK, (index, FIRST, ROOT, 0));
    message.text(KIND, TBF);
    message.nest(OPTIONS, |options| {
        options.attr(TBF_PARMS, &parameters(bucket));
        if u32::try_from(bucket.rate).is_err() {
            options.attr(TBF_RATE64, &bucket.rate.to_ne_bytes());
        }
    });
    message
}

/// `struct tc_tbf_qopt`: a rate and a peak rate, of each the last word counts; limit, buffer, MTU.
fn parameters(bucket: Bucket) -> Vec<u8> {
    let short = u32::try_from(bucket.rate).unwrap_or(u32::MAX);
    let words = [0, 0, short, 0, 0, 0, bucket.limit, bucket.buffer, 0];
    words.map(u32::to_ne_bytes).concat()
}

/// Where filters for what comes in by the link can be.
pub(crate) fn add_ingress(index: u32) -> Message {
    let place = (index, OF_INGRESS, INGRESS, 0);
    let mut message = message(NEWQDISC, CREATE | EXCL | ACK, place);
    message.text(KIND, "ingress").nest(OPTIONS, |_| {});
    message
}

/// All that comes in by the link `from` leaves by the link `to`.
pub(crate) fn redirect(from: u32, to: u32) -> Message {
    const ALL_PROTOCOLS: u16 = 3;
    let info = FIRST | u32::from(ALL_PROTOCOLS.to_be());
    let place = (from, 0, OF_INGRESS, info);
    let mut message = message(NEWTFILTER, CREATE | EXCL | ACK, place);
    message.text(KIND, "u32").nest(OPTIONS, |options| {
        options.u32(U32_CLASSID, FIRST | 1);
        // `struct tc_u32_sel`: terminal, with one key, which asks for nothing.
        let mut selector = [0; 32];
        (selector[0], selector[2]) = (1, 1);
        options.attr(U32_SEL, &selector);
        options.nest(U32_ACT, |actions| {
            actions.nest(1, |action| {
                action.text(ACT_KIND, "mirred");
                action.nest(ACT_OPTIONS, |options| {
                    options.attr(MIRRED_PARMS, &mirrored(to));
                });
            });
        });
    });
    message
}

/// `struct tc_mirred`: what is done with the packet here (it is stolen), how, and to which link.
fn mirrored(to: u32) -> Vec<u8> {
    let (stolen, redirected) = (4, 1);
    let words = [0, 0, stolen, 0, 0, redirected, to];
    words.map(u32::to_ne_bytes).concat()
}

impl Socket {
    /// The bucket that what leaves by the link goes through.
    pub(crate) fn bucket(&mut self, index: u32) -> Result<Option<Bucket>, Errno> {
        let replies = self.ask(&message(GETQDISC, DUMP, (index, 0, 0, 0)))?;
        let of_link = replies
            .iter()
            .filter(|(_, body)| message::u32_at(body, 4) == Some(index));
        Ok(of_link.filter_map(|(_, body)| Bucket::read(body)).next())
    }
}

impl Bucket {
    fn read(body: &[u8]) -> Option<Self> {
        let attrs = body.get(HEADER..)?;
        if message::text(attribute(attrs, KIND)?) != TBF {
            return None;
        }
        let options = attribute(attrs, OPTIONS)?;
        let parameters = attribute(options, TBF_PARMS)?;
        let word = |at: usize| message::u32_at(parameters, at * 4);
        let long = attribute(options, TBF_RATE64).and_then(|it| it.try_into().ok());
        Some(Self {
            rate: match long {
                Some(bytes) => u64::from_ne_bytes(bytes),
                None => word(2)?.into(),
            },
            limit: word(6)?,
            buffer: word(7)?,
        })
    }
}
