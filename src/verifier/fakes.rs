//! A verifier in memory: it refuses what it is told to, and remembers what it was asked.

use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;

use super::{Error, Subject, Verifier};

/// A verifier without programs; at first it refuses nothing.
#[derive(Default)]
pub struct Programs {
    refused: Mutex<Vec<String>>,
    asked: Mutex<Vec<Subject>>,
}

impl Programs {
    /// Refuses images of this name from now on, whatever their digest.
    pub fn refuse(&self, name: &str) {
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        refused.push(name.to_owned());
    }

    /// What was judged so far.
    #[must_use]
    pub fn asked(&self) -> Vec<Subject> {
        let asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        asked.clone()
    }
}

#[async_trait]
impl Verifier for Programs {
    async fn verify(&self, subject: &Subject) -> Result<(), Error> {
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        asked.push(subject.clone());
        let refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        if !refused.contains(&subject.name.to_string()) {
            return Ok(());
        }
        Err(Error::Refused {
            program: "fake".to_owned(),
            image: subject.name.to_string(),
            code: 1,
            output: "not signed".to_owned(),
        })
    }
}
