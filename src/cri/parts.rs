//! A list in several messages: what the Stream RPCs answer.
//!
//! Invariant: each item is in one message, none is empty, and the end of the stream says that the
//! list is whole. A message is far smaller than the largest one that a client takes, also where
//! annotations are as long as Kubernetes lets them be (256 KiB an object).

use prost::Message;
use tonic::{Response, Status};

/// How many items a message has at most.
const IN_ONE: usize = 64;
/// How many bytes of items a message has at most, but for the one that is larger by itself.
const BYTES_IN_ONE: usize = 1 << 20;

/// The messages of a list.
pub type Parts<M> = tokio_stream::Iter<std::vec::IntoIter<Result<M, Status>>>;

/// Splits a list; `message` makes one message of some of its items.
pub fn in_parts<T: Message, M>(items: Vec<T>, message: impl Fn(Vec<T>) -> M) -> Response<Parts<M>> {
    let messages: Vec<_> = split(items).into_iter().map(message).map(Ok).collect();
    Response::new(tokio_stream::iter(messages))
}

fn split<T: Message>(items: Vec<T>) -> Vec<Vec<T>> {
    let mut parts: Vec<Vec<T>> = Vec::new();
    let mut bytes = 0;
    for item in items {
        let more = item.encoded_len();
        match parts.last_mut() {
            Some(part) if part.len() < IN_ONE && bytes + more <= BYTES_IN_ONE => {
                part.push(item);
                bytes += more;
            }
            _ => {
                parts.push(vec![item]);
                bytes = more;
            }
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;
    use corten_proto::runtime::v1::KeyValue;
    use tokio_stream::StreamExt;

    fn items(count: usize, bytes: usize) -> Vec<KeyValue> {
        let item = |number: usize| KeyValue {
            key: number.to_string(),
            value: vec![b'x'; bytes],
        };
        (0..count).map(item).collect()
    }

    async fn parts(items: Vec<KeyValue>) -> Vec<Vec<KeyValue>> {
        let stream = in_parts(items, |some: Vec<KeyValue>| some).into_inner();
        stream.map(|part| part.unwrap()).collect().await
    }

    #[tokio::test]
    async fn each_item_is_in_one_part_and_no_part_is_empty() {
        for count in [0, 1, IN_ONE, IN_ONE + 1, 3 * IN_ONE] {
            let parts = parts(items(count, 0)).await;
            assert!(parts.iter().all(|part| (1..=IN_ONE).contains(&part.len())));
            assert_eq!(parts.len(), count.div_ceil(IN_ONE));
            assert_eq!(parts.concat(), items(count, 0));
        }
    }

    #[tokio::test]
    async fn a_part_is_small_also_where_its_items_are_large() {
        let annotated = items(10, 256 << 10);
        let parts = parts(annotated.clone()).await;
        assert_eq!(parts.concat(), annotated);
        for part in parts {
            let bytes: usize = part.iter().map(Message::encoded_len).sum();
            assert!(bytes <= BYTES_IN_ONE, "{} items, {bytes} bytes", part.len());
        }
    }

    #[tokio::test]
    async fn an_item_that_is_too_large_for_any_part_has_one_alone() {
        let parts = parts(items(3, BYTES_IN_ONE)).await;
        assert_eq!(parts.iter().map(Vec::len).collect::<Vec<_>>(), [1, 1, 1]);
    }
}
