//! `tools`: rules, MCP servers, programs.
//!
//! Invariant: a resolved MCP server is a program with an absolute path or an address, never both; a program's path is absolute and
//! no wrapper that would run whatever it is told.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::secrets::Use;
use super::{Resolver, ms, text};
use crate::base::secret::Secret;
use crate::config::model::{Action, McpReach, McpServer, ShellCommand, ToolRule, Tools};
use crate::config::problem::join;
use crate::config::raw;
use crate::domain::Standing;

/// Programs that run what their arguments say: patterns of arguments are no bound for them. A number behind a name counts for nothing.
#[rustfmt::skip] // a list to read, not a column
const WRAPPERS: &[&str] = &[
    "ash", "awk", "bash", "bpftrace", "busybox", "bwrap", "capsh", "choom", "chpst", "chroot", "chrt", "cpulimit", "csh",
    "dash", "deno", "doas", "dumb-init", "ed", "elvish", "emacs", "env", "ex", "expect", "fakeroot", "find", "firejail",
    "fish", "flock", "gawk", "gdb", "guile", "hyperfine", "ionice", "irb", "java", "jshell", "ksh", "lua", "luajit", "make",
    "mawk", "mksh", "nano", "ncat", "newgrp", "nice", "node", "nodejs", "nohup", "nsenter", "numactl", "nvim", "parallel",
    "perl", "php", "pkexec", "prlimit", "proxychains", "pwsh", "pypy", "python", "rbash", "rlwrap", "ruby", "run-parts",
    "runcon", "runuser", "screen", "script", "setarch", "setpriv", "setsid", "sg", "sh", "socat", "ssh", "sshpass",
    "start-stop-daemon", "stdbuf", "strace", "su", "sudo", "systemd-run", "taskset", "tclsh", "tcsh", "time", "timeout",
    "tini", "tmux", "torsocks", "toybox", "unbuffer", "unshare", "valgrind", "vi", "vim", "watch", "wish", "xargs", "yash",
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

    /// `None` where it is switched off or a problem. What is switched off fetches no secrets.
    fn mcp_server(&mut self, raw: &raw::McpServer, path: &str) -> Option<McpServer> {
        let reach = match (&raw.command, &raw.url) {
            (Some(command), None) => {
                self.misplaced(&[("token", raw.token.is_some())], "url", path);
                McpReach::Program {
                    command: self.absolute(command, &join(path, "command")),
                    args: raw.args.clone(),
                    env: self.environment(raw, path),
                    cwd: raw.cwd.as_ref().map_or(self.env.data_dir.to_path_buf(), |cwd| self.path(cwd, &join(path, "cwd"))),
                }
            }
            (None, Some(_)) => {
                let others = [("args", !raw.args.is_empty()), ("env", !raw.env.0.is_empty()), ("cwd", raw.cwd.is_some())];
                self.misplaced(&others, "command", path);
                let token = raw.token.as_ref().filter(|_| raw.enabled);
                McpReach::Address {
                    url: self.formed(raw.url.as_deref(), path, "url", text::url).unwrap_or_default(),
                    token: self.keyed(token, path, "token", Use::Key),
                }
            }
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

    /// Keys that are written at a server of the other kind, which would be silently without effect.
    fn misplaced(&mut self, keys: &[(&str, bool)], home: &str, path: &str) {
        for (key, _) in keys.iter().filter(|(_, written)| *written) {
            self.out.add(join(path, key), format!("belongs to a server with a `{home}`, which this is not; leave it out"));
        }
    }

    fn environment(&mut self, raw: &raw::McpServer, path: &str) -> Vec<(String, Secret)> {
        let path = join(path, "env");
        let mut all = Vec::new();
        for (name, value) in &raw.env.0 {
            if name.is_empty() || name.contains(['=', '\0']) {
                self.out.add(join(&path, name), "not a name of an environment variable");
            }
            let value = Some(value).filter(|_| raw.enabled);
            if let Some(value) = self.keyed(value, &path, name, Use::Variable) {
                all.push((name.clone(), value));
            }
        }
        all
    }

    fn shell_command(&mut self, raw: &raw::ShellCommand, path: &str) -> ShellCommand {
        let at = join(path, "path");
        let program = self.absolute(&raw.path, &at);
        match program.file_name().and_then(|n| n.to_str()) {
            Some(name) if is_wrapper(name) => {
                self.out.add(&at, format!("{name} runs whatever its arguments say; name the program itself"));
            }
            Some(_) => {}
            None => self.out.add(&at, "names no program"),
        }
        match raw.args.iter().position(|a| a == "...") {
            Some(0) => self.out.add(join(path, "args"), "`...` repeats the pattern before it, and there is none"),
            Some(i) if i + 1 < raw.args.len() => {
                self.out.add(format!("{path}.args[{i}]"), "`...` repeats the last pattern: nothing may stand behind it");
            }
            _ => {}
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

/// Whether a program of that name is a [wrapper](WRAPPERS), under whatever version.
fn is_wrapper(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    let bare = name.trim_end_matches(|c: char| c.is_ascii_digit() || matches!(c, '.' | '-'));
    WRAPPERS.contains(&bare) || name.starts_with("ld") && name.contains(".so") // the dynamic loader
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
