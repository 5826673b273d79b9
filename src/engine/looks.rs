//! Looks at paths that a user chose, which may lie on a volume whose server does not answer.
//!
//! A look has a thread from a pool that has an end, and a thread that the kernel holds cannot be
//! called back. So where one hangs is remembered until it has come back.
//!
//! Invariant: neither a path at which a look hangs nor what is below it is looked at again: however
//! often a create is tried, it costs one thread.

use super::blocking;
use crate::error::{Error, Result};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// The looks that are under way.
#[derive(Debug, Clone, Default)]
pub struct Looks(Arc<Mutex<Out>>);

#[derive(Debug, Default)]
struct Out {
    last: u64,
    looks: BTreeMap<u64, Look>,
}

#[derive(Debug, Default)]
struct Look {
    at: Option<PathBuf>,
    /// Nobody waits for it any more.
    late: bool,
}

/// One look, which says where it is. Dropped, it has come back.
#[derive(Debug)]
pub struct Looker {
    looks: Looks,
    number: u64,
}

impl Drop for Looker {
    fn drop(&mut self) {
        self.looks.out().looks.remove(&self.number);
    }
}

impl Looker {
    /// To be said before this path is touched.
    ///
    /// # Errors
    /// Where an earlier look at it, or at a directory above it, has not come back.
    pub fn at(&self, path: &Path) -> Result<()> {
        let mut out = self.looks.out();
        let mut late = out.looks.values().filter(|look| look.late);
        if let Some(held) =
            late.find_map(|look| look.at.as_deref().filter(|at| path.starts_with(at)))
        {
            return Err(Error::internal(format!(
                "look at {}: an earlier look at {} has not come back; the volume's server does not answer",
                path.display(),
                held.display()
            )));
        }
        if let Some(own) = out.looks.get_mut(&self.number) {
            own.at = Some(path.to_owned());
        }
        Ok(())
    }
}

impl Looks {
    /// Looks, on a thread that may wait, for no longer than the limit.
    ///
    /// # Errors
    /// What the look says; else at which path it hangs.
    pub async fn within<T: Send + 'static>(
        &self,
        limit: Duration,
        look: impl FnOnce(&Looker) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let looker = self.begin();
        let number = looker.number;
        let looked = blocking(move || look(&looker));
        match tokio::time::timeout(limit, looked).await {
            Ok(done) => done,
            Err(_) => Err(self.late(number, limit)),
        }
    }

    fn begin(&self) -> Looker {
        let mut out = self.out();
        out.last += 1;
        let number = out.last;
        out.looks.insert(number, Look::default());
        Looker {
            looks: self.clone(),
            number,
        }
    }

    /// One that came back just now is late all the same, and not remembered.
    fn late(&self, number: u64, limit: Duration) -> Error {
        let mut out = self.out();
        let look = out.looks.get_mut(&number).map(|look| {
            look.late = true;
            &look.at
        });
        let place = look.and_then(Option::as_ref);
        let place = place.map_or("a path of the node".into(), |at| at.to_string_lossy());
        Error::internal(format!(
            "look at {place}: no answer from the file system within {limit:?}; is a mount dead?"
        ))
    }

    fn out(&self) -> MutexGuard<'_, Out> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;
    use std::sync::mpsc;

    const LONG: Duration = Duration::from_secs(60);

    async fn look(looks: &Looks, path: &'static str) -> Result<()> {
        looks.within(LONG, |look| look.at(Path::new(path))).await
    }

    #[tokio::test]
    async fn where_a_look_hangs_nobody_looks_until_it_has_come_back() {
        let looks = Looks::default();
        let (answer, server) = mpsc::channel::<()>();
        let hanging = move |look: &Looker| {
            look.at(Path::new("/dead/volume"))?;
            let _ = server.recv();
            Ok(())
        };
        let error = looks.within(Duration::from_millis(20), hanging).await;
        let error = error.unwrap_err();
        assert_eq!(error.kind(), Kind::Internal);
        assert!(error.to_string().contains("/dead/volume"), "{error}");
        for held in ["/dead/volume", "/dead/volume/below"] {
            let refused = look(&looks, held).await.unwrap_err().to_string();
            assert!(
                refused.contains("at /dead/volume has not come back"),
                "{refused}"
            );
        }
        for free in ["/dead", "/dead/volume2"] {
            look(&looks, free).await.unwrap();
        }
        drop(answer);
        while look(&looks, "/dead/volume").await.is_err() {
            tokio::task::yield_now().await;
        }
    }
}
