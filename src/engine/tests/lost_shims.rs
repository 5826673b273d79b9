//! Shims that do not answer, and ends that nobody saw.

use super::*;
use crate::model::container::Exit;

impl Bench {
    async fn runs(&self) -> ContainerId {
        let id = self.with_container().await;
        self.engine.start_container(id.as_str()).await.unwrap();
        id
    }

    async fn sought(&self, times: usize) {
        while self.tasks.sought() < times {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    fn finished_at(&self, id: &ContainerId) -> i64 {
        match self.state(id) {
            ContainerState::Exited(exit) => exit.finished_at,
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_is_cut_is_made_anew_and_costs_no_container() {
    let bench = Bench::new().await;
    let id = bench.runs().await;
    bench.tasks.cut_off(&id);
    bench.sought(1).await;
    bench.stop(&id, Duration::from_secs(60)).await;
    assert_eq!(bench.exit(&id), (143, "Error".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn a_shim_that_cannot_be_spoken_with_is_sought_until_it_can() {
    let bench = Bench::new().await;
    let id = bench.runs().await;
    bench.tasks.refuse("reconnect");
    bench.tasks.cut_off(&id);
    bench.sought(3).await;
    assert_eq!(bench.state(&id), ContainerState::Running);
    bench.tasks.refuse("");
    bench.sought(4).await;
    // Sought no more once it was found.
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(bench.tasks.sought(), 4);
    bench.stop(&id, Duration::from_secs(60)).await;
    assert_eq!(bench.exit(&id), (143, "Error".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn who_has_no_shim_has_a_grace_all_the_same() {
    let bench = Bench::new().await;
    let id = bench.runs().await;
    bench.tasks.ignore_term();
    bench.tasks.refuse("reconnect");
    let bench = bench.restart().await;
    let asked = tokio::time::Instant::now();
    bench.stop(&id, Duration::from_secs(30)).await;
    assert!(asked.elapsed() >= Duration::from_secs(30));
    assert_eq!(bench.tasks.signals(), [15, 9]);
    assert_eq!(bench.exit(&id), (255, "Unknown".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn who_has_no_shim_and_obeys_is_not_waited_for_longer() {
    let bench = Bench::new().await;
    let id = bench.runs().await;
    bench.tasks.refuse("reconnect");
    let bench = bench.restart().await;
    let asked = tokio::time::Instant::now();
    bench.stop(&id, Duration::from_secs(30)).await;
    assert!(asked.elapsed() < Duration::from_secs(5));
    assert_eq!(bench.tasks.signals()[0], 15);
    assert_eq!(bench.exit(&id), (255, "Unknown".to_owned()));
}

#[tokio::test]
async fn the_shim_of_an_end_that_was_recorded_goes_with_its_container() {
    let bench = Bench::new().await;
    let id = bench.runs().await;
    let mut record = bench.engine.container_status(id.as_str()).unwrap();
    Arc::make_mut(&mut record).state = ContainerState::Exited(Exit {
        code: 9,
        reason: "Error".to_owned(),
        message: String::new(),
        finished_at: 1,
    });
    bench.store.save_container(&record).unwrap();
    let bench = bench.restart().await;
    assert_eq!(bench.exit(&id), (9, "Error".to_owned()));
    bench.engine.remove_container(id.as_str()).await.unwrap();
    assert_eq!(bench.tasks.containers(), 0);
}

#[tokio::test]
async fn an_end_by_a_reboot_has_one_time_for_ever() {
    let bench = Bench::new().await;
    let id = bench.runs().await;
    let mut record = bench.engine.container_status(id.as_str()).unwrap();
    Arc::make_mut(&mut record).boot_id = "an earlier boot".to_owned();
    bench.store.save_container(&record).unwrap();
    let bench = bench.restart().await;
    assert_eq!(bench.exit(&id), (255, "Unknown".to_owned()));
    let finished = bench.finished_at(&id);
    let bench = bench.restart().await;
    assert_eq!(bench.finished_at(&id), finished);
}

#[tokio::test]
async fn a_container_whose_start_took_too_long_does_not_run_later() {
    let bench = Bench::new().await;
    let id = bench.with_container().await;
    bench.tasks.slow_down("start");
    let error = bench.engine.start_container(id.as_str()).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Internal);
    assert_eq!(bench.exit(&id), (137, "Error".to_owned()));
}
