//! The `gatelet` binary with mimalloc in the place of the C library's allocator: what `.ci/allocators` measures beside the other.
//!
//! Invariant: it differs from `own.rs` by its allocator alone.
#![forbid(unsafe_code)]

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    gatelet::cli::main()
}
