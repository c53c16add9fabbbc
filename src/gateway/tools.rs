//! What agents may call under one configuration.
//!
//! Invariant: every tool is in one toolbox, behind its one door. Cannot fail: what a tool needs and lacks is that tool's own error.

use std::path::Path;
use std::sync::Arc;

use crate::agent::tools::http::HttpGet;
use crate::agent::tools::policy::Policy;
use crate::agent::tools::shell::Shell;
use crate::agent::tools::system::SystemStatus;
use crate::agent::tools::{Tool, Toolbox, built_in};
use crate::config::Config;

/// The toolbox of `config`.
pub fn toolbox(config: &Config, data_dir: &Path) -> Toolbox {
    let mut tools = built_in();
    tools.push(Arc::new(SystemStatus::new(data_dir)));
    tools.push(Arc::new(HttpGet::new()));
    tools.extend(Shell::new(&config.tools).map(|shell| Arc::new(shell) as Arc<dyn Tool>));
    Toolbox::new(Policy::new(&config.tools), tools)
}
