//! `gatelet backup`.
use crate::cli::options::Options;
use crate::cli::Failure;
/// Runs it.
///
/// # Errors
/// Not there yet.
pub fn run(_: &Options) -> Result<(), Failure> {
    Err(Failure::Failed("not there yet".into()))
}
