//! The `gatelet` binary as it is, on the C library's allocator: what the other is measured beside.
//!
//! Invariant: it differs from `mimalloc.rs` by its allocator alone.
#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    gatelet::cli::main()
}
