//! `gatelet init`.
use crate::cli::Failure;
use crate::cli::options::Options;
/// Runs it.
///
/// # Errors
/// Not there yet.
pub fn run(_: &Options) -> Result<(), Failure> {
    Err(Failure::Failed("not there yet".into()))
}
