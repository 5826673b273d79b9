//! How far a pull or an import is: a line for each layer on a terminal, redrawn; nothing elsewhere.

use super::table::{bytes, short};
use corten_proto::admin::v1::{LayerProgress, Stage};
use std::io::{IsTerminal, Stderr, Write};

/// Cells of a bar.
const WIDTH: u64 = 30;

/// The lines of some work.
#[derive(Debug)]
pub struct Progress {
    out: Option<Stderr>,
    layers: Vec<LayerProgress>,
    drawn: usize,
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
        match self
            .layers
            .iter_mut()
            .find(|layer| layer.digest == step.digest)
        {
            Some(layer) => *layer = step,
            None => self.layers.push(step),
        }
        self.draw();
    }

    /// Goes up over what was drawn, and draws anew. A terminal that is gone is no matter.
    fn draw(&mut self) {
        let Some(out) = &mut self.out else { return };
        let mut text = match self.drawn {
            0 => String::new(),
            lines => format!("\x1b[{lines}A"),
        };
        for layer in &self.layers {
            text.push_str(&format!("\x1b[2K{}\n", line(layer)));
        }
        self.drawn = self.layers.len();
        let _ = out.write_all(text.as_bytes());
    }
}

fn line(layer: &LayerProgress) -> String {
    let name = short(&layer.digest);
    let (done, total) = (layer.bytes_done, layer.bytes_total);
    match layer.stage() {
        Stage::Unspecified | Stage::Resolving | Stage::Waiting => format!("{name}  waits"),
        Stage::Fetching => format!(
            "{name}  {} {} of {}",
            bar(done, total),
            bytes(done),
            bytes(total)
        ),
        Stage::Unpacking => format!("{name}  {} unpacks", bar(total, total)),
        Stage::Done => format!("{name}  done, {}", bytes(total)),
        Stage::Exists => format!("{name}  was here"),
    }
}

fn bar(done: u64, total: u64) -> String {
    let full = (done.min(total) * WIDTH).checked_div(total).unwrap_or(0);
    let cell = |at| if at < full { '#' } else { '.' };
    (0..WIDTH).map(cell).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_is_as_full_as_the_work_is_done() {
        assert_eq!(bar(0, 100).matches('#').count(), 0);
        assert_eq!(bar(50, 100).matches('#').count(), 15);
        assert_eq!(bar(100, 100).matches('#').count(), 30);
        assert_eq!(bar(7, 0).matches('#').count(), 0);
    }

    #[test]
    fn each_layer_has_one_line() {
        let mut progress = Progress {
            out: None,
            layers: Vec::new(),
            drawn: 0,
        };
        let step = |digest: &str, bytes_done| LayerProgress {
            stage: Stage::Fetching.into(),
            digest: digest.to_owned(),
            bytes_done,
            bytes_total: 10,
        };
        progress.step(step("", 0));
        progress.step(step("sha256:a", 1));
        progress.step(step("sha256:b", 1));
        progress.step(step("sha256:a", 5));
        let done: Vec<u64> = progress
            .layers
            .iter()
            .map(|layer| layer.bytes_done)
            .collect();
        assert_eq!(done, [5, 1]);
    }
}
