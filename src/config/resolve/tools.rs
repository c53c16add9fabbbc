//! `tools`: rules, MCP servers, programs.
//!
//! Invariant: a resolved MCP server is a program with an absolute path or an address, never both; a program's path is absolute and
//! no wrapper that would run whatever it is told.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::secrets::Use;
use super::{Resolver, ms, text};
use crate::config::model::{Action, McpReach, McpServer, ShellCommand, ToolRule, Tools};
use crate::config::problem::join;
use crate::config::raw;
use crate::domain::Standing;

/// Programs that run what their arguments say: patterns of arguments are no bound for them.
const WRAPPERS: &[&str] = &[
    "ash",
    "awk",
    "bash",
    "busybox",
    "chroot",
    "csh",
    "dash",
    "doas",
    "env",
    "expect",
    "find",
    "fish",
    "flock",
    "gawk",
    "gdb",
    "ionice",
    "ksh",
    "ld.so",
    "lua",
    "mawk",
    "nice",
    "node",
    "nohup",
    "nsenter",
    "perl",
    "pkexec",
    "python",
    "python3",
    "ruby",
    "runuser",
    "screen",
    "script",
    "setarch",
    "setpriv",
    "setsid",
    "sh",
    "ssh",
    "start-stop-daemon",
    "stdbuf",
    "strace",
    "su",
    "sudo",
    "systemd-run",
    "taskset",
    "tclsh",
    "tcsh",
    "time",
    "timeout",
    "tmux",
    "toybox",
    "unshare",
    "vi",
    "vim",
    "watch",
    "xargs",
    "zsh",
];

impl Resolver<'_> {
    pub(super) fn tools(&mut self, raw: &raw::Tools) -> Tools {
        let mut tools = Tools {
            default: action(raw.default),
            rules: raw.rules.iter().map(rule).collect(),
            mcp: BTreeMap::new(),
            shell: BTreeMap::new(),
            shell_dir: self.env.data_dir.join("shell"),
        };
        for (name, server) in &raw.mcp.0 {
            let path = join("$.tools.mcp", name);
            if let Some(server) = self.mcp_server(server, &path) {
                tools.mcp.insert(name.clone(), server);
            }
        }
        for (name, command) in raw.shell.iter().flat_map(|shell| &shell.commands.0) {
            let path = join("$.tools.shell.commands", name);
            let command = self.shell_command(command, &path);
            tools.shell.insert(name.clone(), command);
        }
        tools
    }

    /// `None` where it is switched off or a problem.
    fn mcp_server(&mut self, raw: &raw::McpServer, path: &str) -> Option<McpServer> {
        let reach = match (&raw.command, &raw.url) {
            (Some(command), None) => McpReach::Program {
                command: self.absolute(command, &join(path, "command")),
                args: raw.args.clone(),
                env: self.environment(raw, path),
                cwd: raw.cwd.as_ref().map_or(self.env.data_dir.to_path_buf(), |cwd| self.path(cwd, &join(path, "cwd"))),
            },
            (None, Some(_)) => McpReach::Address {
                url: self.formed(raw.url.as_deref(), path, "url", text::url).unwrap_or_default(),
                token: self.keyed(raw.token.as_ref(), path, "token", Use::Key),
            },
            (None, None) => {
                self.out.add(path, "names neither a `command` (a program) nor a `url` (an address); it needs one of them");
                return None;
            }
            (Some(_), Some(_)) => {
                self.out.add(path, "names both a `command` and a `url`; leave one of them out");
                return None;
            }
        };
        raw.enabled.then(|| McpServer { reach, tools: raw.tools.clone(), timeout: ms(raw.timeout) })
    }

    fn environment(&mut self, raw: &raw::McpServer, path: &str) -> Vec<(String, crate::base::secret::Secret)> {
        let path = join(path, "env");
        let mut all = Vec::new();
        for (name, value) in &raw.env.0 {
            if name.is_empty() || name.contains(['=', '\0']) {
                self.out.add(join(&path, name), "not a name of an environment variable");
            }
            if let Some(value) = self.keyed(Some(value), &path, name, Use::Key) {
                all.push((name.clone(), value));
            }
        }
        all
    }

    fn shell_command(&mut self, raw: &raw::ShellCommand, path: &str) -> ShellCommand {
        let at = join(path, "path");
        let program = self.absolute(&raw.path, &at);
        let name = program.file_name().and_then(|n| n.to_str()).unwrap_or_default();
        if WRAPPERS.contains(&name.trim_end_matches(|c: char| c.is_ascii_digit() || c == '.')) || WRAPPERS.contains(&name) {
            self.out.add(&at, format!("{name} runs whatever its arguments say; name the program itself"));
        }
        if raw.args.first().is_some_and(|a| a == "...") {
            self.out.add(join(path, "args"), "`...` repeats the pattern before it, and there is none");
        }
        ShellCommand {
            path: program,
            args: raw.args.clone(),
            about: raw.about.clone(),
            cwd: raw.cwd.as_ref().map(|cwd| self.path(cwd, &join(path, "cwd"))),
            timeout: ms(raw.timeout),
            max_memory: raw.max_memory,
            max_processes: raw.max_processes,
        }
    }

    /// A path that is absolute and has no `..` in it.
    fn absolute(&mut self, written: &str, path: &str) -> PathBuf {
        let program = Path::new(written);
        if !program.is_absolute() || program.components().any(|c| c == std::path::Component::ParentDir) {
            self.out.add(path, "not an absolute path; write it out, as /usr/bin/uptime");
        }
        program.to_path_buf()
    }
}

fn rule(raw: &raw::ToolRule) -> ToolRule {
    ToolRule {
        tool: raw.tool.clone(),
        action: action(raw.action),
        agent: raw.agent.clone(),
        channel: raw.channel.clone(),
        user: raw.user.clone(),
        role: raw.role.map(standing),
        arguments: raw.arguments.0.clone(),
    }
}

fn action(raw: raw::Action) -> Action {
    match raw {
        raw::Action::Allow => Action::Allow,
        raw::Action::Ask => Action::Ask,
        raw::Action::Deny => Action::Deny,
    }
}

fn standing(raw: raw::Sender) -> Standing {
    match raw {
        raw::Sender::Unverified => Standing::Unverified,
        raw::Sender::User => Standing::User,
        raw::Sender::Operator => Standing::Operator,
        raw::Sender::Admin => Standing::Admin,
    }
}
