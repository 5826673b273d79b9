//! A list in several messages: what the Stream RPCs answer.
//!
//! Invariant: each item is in one message, none is empty, and the end of the stream says that the
//! list is whole.

use tonic::{Response, Status};

/// How many items a message has at most: well below the largest message even with full labels.
const IN_ONE: usize = 64;

/// The messages of a list.
pub type Parts<M> = tokio_stream::Iter<std::vec::IntoIter<Result<M, Status>>>;

/// Splits a list; `message` makes one message of some of its items.
pub fn in_parts<T, M>(items: Vec<T>, message: impl Fn(Vec<T>) -> M) -> Response<Parts<M>> {
    let mut messages = Vec::with_capacity(items.len().div_ceil(IN_ONE));
    let mut items = items.into_iter();
    loop {
        let some: Vec<T> = items.by_ref().take(IN_ONE).collect();
        if some.is_empty() {
            return Response::new(tokio_stream::iter(messages));
        }
        messages.push(Ok(message(some)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio_stream::StreamExt;

    async fn parts(count: usize) -> Vec<Vec<usize>> {
        let stream = in_parts((0..count).collect(), |some: Vec<usize>| some).into_inner();
        stream.map(|part| part.unwrap()).collect().await
    }

    #[tokio::test]
    async fn each_item_is_in_one_part_and_no_part_is_empty() {
        for count in [0, 1, IN_ONE, IN_ONE + 1, 3 * IN_ONE] {
            let parts = parts(count).await;
            assert!(parts.iter().all(|part| (1..=IN_ONE).contains(&part.len())));
            assert_eq!(parts.concat(), (0..count).collect::<Vec<_>>());
        }
    }
}
