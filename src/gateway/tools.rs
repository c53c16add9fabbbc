//! What agents may call under one configuration.
//!
//! Invariant: every tool is in one toolbox, behind its one door. Cannot fail: what a tool needs and lacks is that tool's own error.

use std::path::Path;
use std::sync::Arc;

use crate::agent::mcp::Servers;
use crate::agent::tools::http::HttpGet;
use crate::agent::tools::policy::Policy;
use crate::agent::tools::shell::Shell;
use crate::agent::tools::system::SystemStatus;
use crate::agent::tools::{Source, Tool, Toolbox, built_in};
use crate::config::Config;

/// The toolbox of `config`, with the tools of `servers` as they come and go.
pub fn toolbox(config: &Config, data_dir: &Path, servers: &Arc<Servers>) -> Toolbox {
    let mut tools = built_in();
    tools.push(Arc::new(SystemStatus::new(data_dir)));
    tools.push(Arc::new(HttpGet::new()));
    tools.extend(Shell::new(&config.tools).map(|shell| Arc::new(shell) as Arc<dyn Tool>));
    Toolbox::new(Policy::new(&config.tools), tools).with(Arc::new(Mcp(servers.clone())))
}

/// The tools of MCP servers.
struct Mcp(Arc<Servers>);

impl Source for Mcp {
    fn tools(&self) -> Vec<Arc<dyn Tool>> {
        self.0.tools()
    }
}
