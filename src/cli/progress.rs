//! How far a pull or an import is: a line for each layer on a terminal, redrawn; nothing elsewhere.

use super::table::{bytes, short};
use corten_proto::admin::v1::{LayerProgress, Stage};
use std::io::{IsTerminal, Stderr, Write};
use std::time::{Duration, Instant};

/// Cells of a bar.
const WIDTH: u64 = 24;
/// Columns of a terminal that does not tell.
const COLUMNS: usize = 80;
/// How much the newest step counts in a layer's rate.
const NEWEST: f64 = 0.3;

/// The lines of some work.
#[derive(Debug)]
pub struct Progress {
    out: Option<Stderr>,
    layers: Vec<Layer>,
    drawn: usize,
}

/// A layer, and how fast it comes.
#[derive(Debug)]
struct Layer {
    step: LayerProgress,
    at: Instant,
    /// Bytes a second; 0: not known yet.
    rate: f64,
}

impl Layer {
    fn new(step: LayerProgress, at: Instant) -> Self {
        Self {
            step,
            at,
            rate: 0.0,
        }
    }

    /// Takes the next step of the same layer. A layer that begins anew has no rate.
    fn step(&mut self, step: LayerProgress, at: Instant) {
        let took = at.duration_since(self.at).as_secs_f64();
        match step.bytes_done.checked_sub(self.step.bytes_done) {
            Some(0) => {}
            Some(came) if step.stage() == Stage::Fetching && took > 0.0 => {
                let now = exact(came) / took;
                self.rate = match self.rate {
                    0.0 => now,
                    before => before + NEWEST * (now - before),
                };
                self.at = at;
            }
            _ => *self = Self::new(step.clone(), at),
        }
        self.step = step;
    }

    /// How long it takes until all has come; `None` where nobody can know.
    fn left(&self) -> Option<Duration> {
        let left = self.step.bytes_total.checked_sub(self.step.bytes_done)?;
        let seconds = exact(left) / self.rate;
        Duration::try_from_secs_f64(seconds).ok()
    }

    fn line(&self) -> String {
        let name = short(&self.step.digest);
        let (done, total) = (self.step.bytes_done, self.step.bytes_total);
        match self.step.stage() {
            Stage::Unspecified | Stage::Resolving | Stage::Waiting => format!("{name}  waits"),
            Stage::Fetching => format!(
                "{name}  {} {} of {}{}",
                bar(done, total),
                bytes(done),
                bytes(total),
                self.speed()
            ),
            Stage::Unpacking => format!("{name}  {} unpacks", bar(total, total)),
            Stage::Done => format!("{name}  done, {}", bytes(total)),
            Stage::Exists => format!("{name}  was here"),
        }
    }

    fn speed(&self) -> String {
        if self.rate < 1.0 {
            return String::new();
        }
        let rate = bytes(whole(self.rate));
        match self.left() {
            Some(left) => format!(", {rate}/s, {} left", time(left)),
            None => format!(", {rate}/s"),
        }
    }
}

impl Progress {
    /// On stderr, where that is a terminal.
    #[must_use]
    pub fn new() -> Self {
        let err = std::io::stderr();
        Self {
            out: err.is_terminal().then_some(err),
            layers: Vec::new(),
            drawn: 0,
        }
    }

    /// Takes a step, and draws it.
    pub fn step(&mut self, step: LayerProgress) {
        if step.digest.is_empty() {
            return;
        }
        let now = Instant::now();
        let mut known = self.layers.iter_mut();
        match known.find(|layer| layer.step.digest == step.digest) {
            Some(layer) => layer.step(step, now),
            None => self.layers.push(Layer::new(step, now)),
        }
        self.draw();
    }

    /// Goes up over what was drawn, and draws anew. A terminal that is gone is no matter.
    fn draw(&mut self) {
        let Some(out) = &mut self.out else { return };
        let columns =
            rustix::termios::tcgetwinsize(&*out).map_or(0, |size| usize::from(size.ws_col));
        let columns = if columns == 0 { COLUMNS } else { columns };
        let mut text = match self.drawn {
            0 => String::new(),
            lines => format!("\x1b[{lines}A"),
        };
        for layer in &self.layers {
            // A line that wraps would be two, and the next drawing one too low.
            let line: String = layer.line().chars().take(columns - 1).collect();
            text.push_str(&format!("\x1b[2K{line}\n"));
        }
        self.drawn = self.layers.len();
        let _ = out.write_all(text.as_bytes());
    }
}

fn bar(done: u64, total: u64) -> String {
    let full = (done.min(total) * WIDTH).checked_div(total).unwrap_or(0);
    let cell = |at| if at < full { '#' } else { '.' };
    (0..WIDTH).map(cell).collect()
}

/// `8s`, `3m05s`, `2h10m`.
fn time(left: Duration) -> String {
    let seconds = left.as_secs();
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        _ => format!("{}h{:02}m", seconds / 3600, seconds % 3600 / 60),
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "a rate is read by a person, to a digit or two"
)]
fn exact(bytes: u64) -> f64 {
    bytes as f64
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a rate is not negative, and what is too large becomes the largest"
)]
fn whole(rate: f64) -> u64 {
    rate as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fetching(digest: &str, bytes_done: u64, bytes_total: u64) -> LayerProgress {
        LayerProgress {
            stage: Stage::Fetching.into(),
            digest: digest.to_owned(),
            bytes_done,
            bytes_total,
        }
    }

    #[test]
    fn a_bar_is_as_full_as_the_work_is_done() {
        let full = |done, total| bar(done, total).matches('#').count();
        assert_eq!((full(0, 100), full(50, 100), full(100, 100)), (0, 12, 24));
        assert_eq!(full(7, 0), 0);
    }

    #[test]
    fn each_layer_has_one_line() {
        let mut progress = Progress {
            out: None,
            layers: Vec::new(),
            drawn: 0,
        };
        for (digest, done) in [("", 0), ("sha256:a", 1), ("sha256:b", 1), ("sha256:a", 5)] {
            progress.step(fetching(digest, done, 10));
        }
        let done = progress.layers.iter().map(|layer| layer.step.bytes_done);
        assert_eq!(done.collect::<Vec<_>>(), [5, 1]);
    }

    #[test]
    fn a_layer_tells_its_rate_and_the_time_left() {
        const MIB: u64 = 1 << 20;
        let begin = Instant::now();
        let mut layer = Layer::new(fetching("sha256:abc", 0, 100 * MIB), begin);
        assert_eq!(layer.speed(), "");
        layer.step(
            fetching("sha256:abc", 10 * MIB, 100 * MIB),
            begin + Duration::from_secs(2),
        );
        assert_eq!(layer.speed(), ", 5.0 MiB/s, 18s left");
        let after = begin + Duration::from_secs(3);
        layer.step(fetching("sha256:abc", 25 * MIB, 100 * MIB), after);
        assert_eq!(layer.speed(), ", 8.0 MiB/s, 9s left");
        layer.step(
            fetching("sha256:abc", 0, 100 * MIB),
            after + Duration::from_secs(1),
        );
        assert_eq!(layer.speed(), "", "it begins anew");
    }

    #[test]
    fn times_are_as_long_as_they_must() {
        let told = [59, 185, 7805].map(|seconds| time(Duration::from_secs(seconds)));
        assert_eq!(told, ["59s", "3m05s", "2h10m"]);
    }
}
