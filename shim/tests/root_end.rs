//! How containers end, and what a shim does meanwhile. Need root.

#![expect(clippy::unwrap_used, reason = "a test says what must hold by failing")]

#[path = "create/container.rs"]
#[expect(dead_code, reason = "shared with other tiers, which use the rest")]
mod container;

use container::{Bundle, cgroups};
use corten_shim::api::Request;
use serde_json::json;
use std::time::{Duration, Instant};

/// Without a PID namespace of its own, nobody but the shim ends what the init has left behind.
#[test]
#[ignore = "needs root"]
fn root_who_outlives_the_init_holds_no_call_up() {
    let mut bundle = Bundle::new("sleep 1000 >/dev/null 2>&1 & exit 0");
    bundle.set("/linux/namespaces", json!([{"type": "mount"}]));
    let mut container = bundle.create().unwrap();
    container.start().unwrap();
    assert_eq!(container.exited().code, 0);
    let begin = Instant::now();
    container.call(Request::Health).0.unwrap();
    container.shut();
    let took = begin.elapsed();
    assert!(took < Duration::from_secs(2), "{took:?}");
    assert!(cgroups(bundle.id()).is_empty());
}
