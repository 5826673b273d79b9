//! What a person sees who looks into a container.

use super::*;

#[tokio::test]
async fn who_looks_into_a_container_sees_that_its_log_lost_lines() {
    let bench = Bench::new().await;
    let id = bench.with_container().await;
    let shim = async || {
        let info = bench.engine.container_info(id.as_str()).await.unwrap();
        let info: serde_json::Value = serde_json::from_str(&info["info"]).unwrap();
        info["shim"].clone()
    };
    let told = shim().await;
    assert_eq!(told["droppedLines"], 3);
    assert!(told["logError"].as_str().unwrap().contains("No space left"));
    bench.tasks.refuse("health");
    let silent = shim().await;
    assert!(silent["error"].as_str().unwrap().contains("told to refuse"));
}
