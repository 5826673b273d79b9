//! What happens, as an RPC that has no end of its own.
//!
//! Invariant: nothing is taken from the engine before the client has room for it, so a slow client
//! holds nothing here; how far it may fall behind is the engine's to say.

use crate::engine::Following;
use corten_proto::runtime::v1;
use futures::stream::{self, BoxStream, StreamExt};
use tonic::Status;

/// The messages of GetContainerEvents.
pub type Events = BoxStream<'static, Result<v1::ContainerEventResponse, Status>>;

/// Tells a client what happens, until it goes away, the daemon stops, or an error says what was lost.
pub fn events(following: Following) -> Events {
    stream::unfold(Some(following), async |following| {
        let mut following = following?;
        match following.next().await? {
            Ok(event) => Some((Ok((&event).into()), Some(following))),
            Err(error) => Some((Err(error.into()), None)),
        }
    })
    .boxed()
}
