//! Seen from outside: metrics, the log, and what the process costs.
//!
//! Invariant: recording never blocks on a peer, a disk or a reader, and never fails in a way that its caller must handle; what
//! is kept has a bound. Nothing here knows the configuration's types: it stands below them.

mod family;
mod flood;
pub mod histogram;
mod json_log;
mod line;
pub mod logging;
pub mod memory;
pub mod metrics;
mod metrics_json;
pub mod process;
mod prometheus;
mod record;
mod ring;
mod text_log;
pub(crate) mod timestamp;
mod writer;
mod written;

pub use logging::{Format, Logger, install_panic_hook};
pub use metrics::{DeliveryEnd, External, Intake, Metrics, OpenWebSocket, TurnEnd};
pub use process::Process;
pub use record::LogRecord;
pub use timestamp::rfc3339;
