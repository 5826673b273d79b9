//! The log: text for a person at a terminal, JSON lines for everything else, always on stderr; and
//! its filter, which can be changed while the daemon runs.
//!
//! Invariant: a filter that cannot be read changes nothing.

use crate::error::{Context, Kind, Result};
use std::io::IsTerminal;
use std::sync::Mutex;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, Registry, fmt, reload};

/// The filter of this process's log.
#[derive(Debug)]
pub struct LogFilter {
    handle: reload::Handle<EnvFilter, Registry>,
    current: Mutex<String>,
}

impl LogFilter {
    /// Starts the log of this process with a filter in the words of `RUST_LOG`.
    ///
    /// # Errors
    /// `InvalidArgument` where it cannot be read; `Internal` where there is a log already.
    pub fn install(directives: &str) -> Result<Self> {
        let (filter, handle) = reload::Layer::new(parse(directives)?);
        let lines = lines(std::io::stderr().is_terminal());
        let log = tracing_subscriber::registry().with(filter).with(lines);
        log.try_init()
            .context(Kind::Internal, || "start the log".to_owned())?;
        Ok(Self {
            handle,
            current: Mutex::new(directives.to_owned()),
        })
    }

    /// Takes another filter, and tells the one before.
    ///
    /// # Errors
    /// `InvalidArgument` where it cannot be read.
    pub fn set(&self, directives: &str) -> Result<String> {
        let filter = parse(directives)?;
        let mut current = self.current.lock().expect("nobody panics with the lock");
        let changed = self.handle.reload(filter);
        changed.context(Kind::Internal, || "change the log's filter".to_owned())?;
        Ok(std::mem::replace(&mut *current, directives.to_owned()))
    }
}

/// Libraries below ours, which tell each frame; whoever wants that names them.
const QUIET: &str = "h2=info,hyper=info,hyper_util=info,tower=info,rustls=info";

fn parse(directives: &str) -> Result<EnvFilter> {
    EnvFilter::try_new(format!("{QUIET},{directives}")).context(Kind::InvalidArgument, || {
        format!("{directives:?} is no filter as RUST_LOG takes them")
    })
}

type Lines = Box<
    dyn Layer<tracing_subscriber::layer::Layered<reload::Layer<EnvFilter, Registry>, Registry>>
        + Send
        + Sync,
>;

fn lines(terminal: bool) -> Lines {
    let lines = fmt::layer().with_writer(std::io::stderr);
    match terminal {
        true => lines.with_target(false).boxed(),
        false => lines
            .json()
            .flatten_event(true)
            .with_span_list(false)
            .with_current_span(true)
            .boxed(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_that_cannot_be_read_changes_nothing() {
        let (_layer, handle) = reload::Layer::new(parse("info").unwrap());
        let filter = LogFilter {
            handle,
            current: Mutex::new("info".to_owned()),
        };
        assert_eq!(
            filter.set("corten=loud").unwrap_err().kind(),
            Kind::InvalidArgument
        );
        assert_eq!(filter.set("warn,corten=debug").unwrap(), "info");
        assert_eq!(filter.set("info").unwrap(), "warn,corten=debug");
    }
}
