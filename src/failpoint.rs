//! The daemon's side of faults on purpose: like [`corten_shim::failpoint`], but nobody blocks a
//! thread on which others' calls run. In releases the macro is nothing at all.

/// Marks a step's end in an async function that returns the crate's error.
#[macro_export]
macro_rules! failpoint {
    ($name:literal) => {
        #[cfg(feature = "failpoints")]
        $crate::failpoint::pass($name).await?;
    };
}

/// Passes a point.
///
/// # Errors
/// `Internal`, where the point is armed with an error.
#[cfg(feature = "failpoints")]
pub async fn pass(name: &'static str) -> crate::error::Result<()> {
    use crate::error::Error;
    use corten_shim::failpoint::{Armed, take};
    match take(name) {
        None => Ok(()),
        Some(Armed::Error(hit)) => Err(Error::internal(hit.to_string())),
        Some(Armed::Pause(file)) => {
            while file.exists() {
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    /// A wait cannot stand in a constant, nor can any call that the compiler does not know.
    #[cfg(not(feature = "failpoints"))]
    #[test]
    fn without_the_feature_a_point_is_nothing() {
        const {
            failpoint!("a_test/nothing");
        }
    }
}
