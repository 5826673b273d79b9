//! Looks at paths that a user chose, which may lie on a volume whose server does not answer.
//!
//! A look has a thread from a pool that has an end, and a thread that the kernel holds cannot be
//! called back. So where one hangs is remembered until it has come back.
//!
//! Invariant: neither a path at which a look hangs nor what is below it is looked at again: however
//! often a create is tried, it costs one thread.

use crate::error::{Context, Error, Kind, Result};
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

    /// It is over.
    ///
    /// # Errors
    /// Where nobody waits for it any more.
    fn come_back(self) -> Result<()> {
        match self.looks.out().looks.remove(&self.number) {
            Some(look) if !look.late => Ok(()),
            _ => Err(Error::internal("the look came back too late")),
        }
    }
}

impl Looks {
    /// Looks, on a thread that may wait, for no longer than the limit; then does, on the same thread,
    /// what needs what was found, and may take its time. Nothing is done after a look that was late.
    ///
    /// # Errors
    /// What the look or the work says; else at which path the look hangs.
    pub async fn within<T, U: Send + 'static>(
        &self,
        limit: Duration,
        look: impl FnOnce(&Looker) -> Result<T> + Send + 'static,
        then: impl FnOnce(T) -> Result<U> + Send + 'static,
    ) -> Result<U> {
        let looker = self.begin();
        let number = looker.number;
        let mut work = tokio::task::spawn_blocking(move || {
            let found = look(&looker);
            looker.come_back()?;
            then(found?)
        });
        let done = match tokio::time::timeout(limit, &mut work).await {
            Ok(done) => done,
            Err(_) => match self.late(number, limit) {
                Some(late) => return Err(late),
                None => work.await,
            },
        };
        done.context(Kind::Internal, || "a worker thread ended early".to_owned())?
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

    /// Says of a look that nobody waits for it any more; `None`: it has come back.
    fn late(&self, number: u64, limit: Duration) -> Option<Error> {
        let mut out = self.out();
        let look = out.looks.get_mut(&number)?;
        look.late = true;
        let place = look.at.as_ref();
        let place = place.map_or("a path of the node".into(), |at| at.to_string_lossy());
        Some(Error::internal(format!(
            "look at {place}: no answer from the file system within {limit:?}; is a mount dead?"
        )))
    }

    fn out(&self) -> MutexGuard<'_, Out> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    const LONG: Duration = Duration::from_secs(60);

    async fn look(looks: &Looks, path: &'static str) -> Result<()> {
        let at = |look: &Looker| look.at(Path::new(path));
        looks.within(LONG, at, Ok).await
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
        let done = Arc::new(Mutex::new(false));
        let work = Arc::clone(&done);
        let work = move |()| {
            *work.lock().unwrap() = true;
            Ok(())
        };
        let limit = Duration::from_millis(20);
        let error = looks.within(limit, hanging, work).await;
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
        // The thread that was late has let go of what it was to do.
        while Arc::strong_count(&done) > 1 {
            tokio::task::yield_now().await;
        }
        assert!(!*done.lock().unwrap(), "it was given up");
    }

    #[tokio::test]
    async fn what_is_done_after_a_look_may_take_its_time() {
        let looks = Looks::default();
        let limit = Duration::from_millis(20);
        let slow = move |()| {
            std::thread::sleep(3 * limit);
            Ok(7)
        };
        let at = |look: &Looker| look.at(Path::new("/volume"));
        assert_eq!(looks.within(limit, at, slow).await.unwrap(), 7);
    }
}
