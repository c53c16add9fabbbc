//! `tools`: what rules, MCP servers and programs mean, what is wrong with them, and what may not come over HTTP.

use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use super::{CANARY, World, complaints, lines, read};
use crate::config::*;
use crate::domain::Standing;

fn mcp(server: &str) -> String {
    format!(r#"{{"tools": {{"mcp": {{"m": {server}}}}}}}"#)
}

fn shell(command: &str) -> String {
    format!(r#"{{"tools": {{"shell": {{"commands": {{"c": {command}}}}}}}}}"#)
}

#[track_caller]
fn check(text: &str, expected: &[&str]) {
    assert_eq!(complaints(text), expected, "{text}");
}

#[test]
fn built_in_rules_where_nothing_is_written() {
    let names = |text: &str| -> Vec<_> {
        let tools = read(text).unwrap().config.tools;
        assert!(tools.rules.iter().all(|r| r.action == Action::Allow && r.role.is_none() && r.arguments.is_empty()));
        tools.rules.into_iter().map(|r| r.tool).collect()
    };
    let built_in = ["time.*", "memory.*", "session.*", "system.status"];
    for text in ["{}", r#"{"tools": {}}"#, r#"{"tools": {"mcp": {"a": {"url": "http://a"}}}}"#] {
        assert_eq!(names(text), built_in, "{text}");
        assert_eq!(read(text).unwrap().config.tools.default, Action::Ask);
    }
    for text in [r#"{"tools": {"default": "ask"}}"#, r#"{"tools": {"rules": []}}"#] {
        assert_eq!(names(text), [""; 0], "{text}");
    }
    // What `GET /api/config` shows can be sent back, and means the same.
    let shown = read("{}").unwrap().effective();
    assert_eq!(names(&restore(&shown, &json!({})).unwrap().to_string()), built_in);
}

#[test]
fn rules() {
    let text = r#"{"tools": {"default": "deny", "rules": [
        {"tool": "message.send", "action": "allow", "agent": "ma*", "channel": "door", "user": "ana", "role": "operator", "arguments": {"to": "bob", "text": "*"}},
        {"tool": "*", "action": "ask", "role": "admin"}, {"tool": "http.get", "action": "deny", "role": "unverified"}]}}"#;
    let tools = read(text).unwrap().config.tools;
    let first = ToolRule {
        tool: "message.send".into(),
        action: Action::Allow,
        agent: Some("ma*".into()),
        channel: Some("door".into()),
        user: Some("ana".into()),
        role: Some(Standing::Operator),
        arguments: vec![("to".into(), "bob".into()), ("text".into(), "*".into())],
    };
    assert_eq!((tools.default, &tools.rules[0]), (Action::Deny, &first));
    assert_eq!((tools.rules[1].role, tools.rules[2].role), (Some(Standing::Admin), Some(Standing::Unverified)));
    check(
        r#"{"tools": {"default": "yes", "rules": [{"tool": "", "action": "alow", "role": "root", "arguments": {"a": 1, "": "x"}}, {"role": null, "agent": "", "who": 1}]}}"#,
        &[
            "$.tools.default: found \"yes\", expected \"allow\", \"ask\" or \"deny\"",
            "$.tools.rules[0].tool: found 0 bytes of text, expected a text of 1 to 256 bytes",
            "$.tools.rules[0].action: found \"alow\", expected \"allow\", \"ask\" or \"deny\"; did you mean \"allow\"",
            "$.tools.rules[0].role: found \"root\", expected \"unverified\", \"user\", \"operator\" or \"admin\"",
            "$.tools.rules[0].arguments.a: found 1, expected a text of 1 to 1024 bytes; write it in quotes",
            "$.tools.rules[0].arguments[\"\"]: not an id; expected 1 to 256 bytes without control characters",
            "$.tools.rules[1].agent: found 0 bytes of text, expected a text of 1 to 256 bytes or null",
            "$.tools.rules[1].who: unknown key; the nearest known one is \"tool\"",
            "$.tools.rules[1].tool: missing, expected a text of 1 to 256 bytes",
            "$.tools.rules[1].action: missing, expected \"allow\", \"ask\" or \"deny\"",
        ],
    );
}

#[test]
fn mcp_servers() {
    let doc = json!({"tools": {"mcp": {
        "files": {"command": "/usr/bin/npx", "args": ["-y", "x"], "env": {"KEY": {"env": "A"}, "OPTS": "--a --b é", "EMPTY": ""}, "cwd": "files", "tools": ["read_*"]},
        "plain": {"command": "/bin/x"},
        "web": {"url": "https://mcp.example/mcp/", "token": {"env": "A"}, "timeout": 500},
        "off": {"enabled": false, "command": "/bin/x", "env": {"KEY": {"env": "UNSET"}}},
        "off-too": {"enabled": false, "url": "http://a", "token": {"env": "UNSET"}}
    }}});
    let resolved = World::default().var("A", CANARY).resolve(&doc).unwrap();
    let mcp = &resolved.config.tools.mcp;
    assert_eq!(mcp.keys().collect::<Vec<_>>(), ["files", "plain", "web"], "what is switched off is left out");
    let McpReach::Program { command, args, env, cwd } = &mcp["files"].reach else { panic!() };
    assert_eq!((command.to_str(), args.join(" ").as_str()), (Some("/usr/bin/npx"), "-y x"));
    let env: Vec<_> = env.iter().map(|(name, value)| (name.as_str(), value.reveal())).collect();
    assert_eq!(env, [("KEY", CANARY), ("OPTS", "--a --b é"), ("EMPTY", "")]);
    assert_eq!((cwd.as_path(), mcp["files"].tools.as_deref().unwrap().join(" ").as_str()), (Path::new("/data/files"), "read_*"));
    assert!(matches!(&mcp["plain"].reach, McpReach::Program { cwd, .. } if cwd == Path::new("/data")));
    assert!(
        matches!(&mcp["web"].reach, McpReach::Address { url, token: Some(t) } if url == "https://mcp.example/mcp" && t.matches(CANARY))
    );
    assert_eq!((mcp["plain"].timeout, mcp["web"].timeout), (Duration::from_secs(30), Duration::from_millis(500)));
    assert!(!format!("{:?} {}", resolved.config, resolved.effective()).contains(CANARY));
}

#[test]
fn mcp_servers_that_are_none() {
    const ABSOLUTE: &str = "$.tools.mcp.m.command: not an absolute path; write it out, as /usr/bin/uptime";
    let neither = "$.tools.mcp.m: names neither a `command` (a program) nor a `url` (an address); it needs one of them";
    let both = "$.tools.mcp.m: names both a `command` and a `url`; leave one of them out";
    for (server, expected) in [
        ("{}", vec![neither]),
        (r#"{"enabled": false}"#, vec![neither]),
        (r#"{"command": null, "url": null}"#, vec![neither]),
        (r#"{"command": "/bin/x", "url": "http://a"}"#, vec![both]),
        (r#"{"command": "npx"}"#, vec![ABSOLUTE]),
        (r#"{"command": "./x"}"#, vec![ABSOLUTE]),
        (r#"{"command": "~/x"}"#, vec![ABSOLUTE]),
        (r#"{"command": "/usr/bin/../../tmp/x"}"#, vec![ABSOLUTE]),
        (r#"{"command": "/bin/x", "enabled": false}"#, vec![]),
        (r#"{"command": "x", "enabled": false}"#, vec![ABSOLUTE]),
        (
            r#"{"command": "/bin/x", "cwd": "~/x"}"#,
            vec!["$.tools.mcp.m.cwd: begins with \"~\", which only a shell understands; write the directory out"],
        ),
        (
            r#"{"command": "/bin/x", "env": {"A=B": "x", "A B": "y"}}"#,
            vec!["$.tools.mcp.m.env[\"A=B\"]: not a name of an environment variable"],
        ),
        (
            r#"{"command": "/bin/x", "env": {"": "x", "A\nB": "y", "C": 1, "D": "${X}", "E": {"env": "NONE"}}}"#,
            vec![
                "$.tools.mcp.m.env[\"\"]: not an id; expected 1 to 256 bytes without control characters",
                "$.tools.mcp.m.env[\"A\\nB\"]: not an id; expected 1 to 256 bytes without control characters",
                "$.tools.mcp.m.env.C: found 1, expected a text, {\"env\": \"NAME\"} or {\"file\": \"PATH\"}",
                "$.tools.mcp.m.env.D: a placeholder that nothing filled in; variables are written {\"env\": \"NAME\"}",
                "$.tools.mcp.m.env.E: the environment variable \"NONE\" is not set; set it for the gateway's process",
            ],
        ),
        (
            r#"{"command": "/bin/x", "env": {"A": "a\u0000b"}}"#,
            vec!["$.tools.mcp.m.env.A: a NUL character, which no environment carries"],
        ),
        (
            r#"{"command": "/bin/x", "args": ["a\u0000b"]}"#,
            vec!["$.tools.mcp.m.args[0]: found a NUL character, expected a text without one"],
        ),
        (
            r#"{"command": "/bin/x", "token": "0123456789"}"#,
            vec!["$.tools.mcp.m.token: belongs to a server with a `url`, which this is not; leave it out"],
        ),
        (
            r#"{"url": "http://a", "args": ["x"], "env": {"A": "b"}, "cwd": "x"}"#,
            vec![
                "$.tools.mcp.m.args: belongs to a server with a `command`, which this is not; leave it out",
                "$.tools.mcp.m.env: belongs to a server with a `command`, which this is not; leave it out",
                "$.tools.mcp.m.cwd: belongs to a server with a `command`, which this is not; leave it out",
            ],
        ),
        (r#"{"url": "ftp://a"}"#, vec!["$.tools.mcp.m.url: not a web address; expected http:// or https://"]),
        (
            r#"{"url": "http://u:p@a/"}"#,
            vec!["$.tools.mcp.m.url: a user and password in a web address are shown wherever it is; use a key of type secret"],
        ),
        (
            r#"{"url": "http://a", "token": "with blank"}"#,
            vec!["$.tools.mcp.m.token: blanks, control characters or characters beyond ASCII, which no header carries"],
        ),
    ] {
        check(&mcp(server), &expected);
    }
    check(
        r#"{"tools": {"mcp": {"a b": {"url": "http://a"}}}}"#,
        &["$.tools.mcp[\"a b\"]: not a name; expected 1 to 64 of the characters A-Z a-z 0-9 _ . -"],
    );
}

#[test]
fn programs() {
    let text = r#"{"tools": {"shell": {"commands": {"up": {"path": "/usr/bin/uptime"},
        "wc": {"path": "/usr/bin/wc", "args": ["-l", "*", "..."], "about": "counts", "cwd": "notes", "timeout": 500, "maxMemory": 1048576, "maxProcesses": 1}}}}}"#;
    let tools = read(text).unwrap().config.tools;
    assert_eq!(tools.shell_dir, Path::new("/data/shell"));
    let plain = ShellCommand {
        path: "/usr/bin/uptime".into(),
        args: vec![],
        about: None,
        cwd: None,
        timeout: Duration::from_secs(10),
        max_memory: 268_435_456,
        max_processes: 16,
    };
    assert_eq!(tools.shell["up"], plain);
    assert_eq!((tools.shell["wc"].cwd.as_deref(), tools.shell["wc"].max_processes), (Some(Path::new("/data/notes")), 1));
    for text in ["{}", r#"{"tools": {"shell": null}}"#, r#"{"tools": {"shell": {}}}"#] {
        assert!(read(text).unwrap().config.tools.shell.is_empty(), "off by default: {text}");
    }
}

#[test]
fn programs_that_are_none() {
    const ABSOLUTE: &str = "$.tools.shell.commands.c.path: not an absolute path; write it out, as /usr/bin/uptime";
    for (command, expected) in [
        ("{}", vec!["$.tools.shell.commands.c.path: missing, expected a text of 1 to 4096 bytes"]),
        (r#"{"path": "uptime"}"#, vec![ABSOLUTE]),
        (r#"{"path": "/usr/bin/../bin/uptime"}"#, vec![ABSOLUTE]),
        (r#"{"path": "/"}"#, vec!["$.tools.shell.commands.c.path: names no program"]),
        (r#"{"path": "/usr/bin/.."}"#, vec![ABSOLUTE, "$.tools.shell.commands.c.path: names no program"]),
        (
            r#"{"path": "/a", "args": ["..."]}"#,
            vec!["$.tools.shell.commands.c.args: `...` repeats the pattern before it, and there is none"],
        ),
        (
            r#"{"path": "/a", "args": ["x", "...", "y"]}"#,
            vec!["$.tools.shell.commands.c.args[1]: `...` repeats the last pattern: nothing may stand behind it"],
        ),
        (r#"{"path": "/a", "args": ["x", "..."]}"#, vec![]),
        (
            r#"{"path": "/a", "timeout": 1, "maxProcesses": 0}"#,
            vec![
                "$.tools.shell.commands.c.timeout: found 1, expected a whole number from 100 to 600000",
                "$.tools.shell.commands.c.maxProcesses: found 0, expected a whole number from 1 to 1000",
            ],
        ),
    ] {
        check(&shell(command), &expected);
    }
}

#[test]
fn wrappers_are_refused() {
    for name in [
        "sh",
        "bash",
        "dash",
        "busybox",
        "env",
        "time",
        "script",
        "flock",
        "xargs",
        "find",
        "sudo",
        "nice",
        "timeout",
        "perl5.36.0",
        "python3",
        "python3.11",
        "python2.7",
        "lua5.4",
        "node20",
        "ld-linux-x86-64.so.2",
        "ld-musl-armhf.so.1",
        "ld.so",
        "BASH",
        "ruby-3.2",
    ] {
        let found = complaints(&shell(&format!(r#"{{"path": "/opt//bin/./{name}"}}"#)));
        let expected = format!("$.tools.shell.commands.c.path: {name} runs whatever its arguments say; name the program itself");
        assert_eq!(found, [expected]);
    }
    for name in ["uptime", "df", "ls", "wc", "ldconfig", "shuf", "envsubst", "timedatectl", "vcgencmd", "findmnt", "i2cget"] {
        check(&shell(&format!(r#"{{"path": "/usr/bin/{name}"}}"#)), &[]);
    }
}

#[test]
fn programs_are_named_in_the_file_alone() {
    let old = json!({"tools": {
        "mcp": {"a": {"command": "/x", "args": ["1"], "env": {"KEY": "old-value"}}, "web": {"url": "http://a"}},
        "shell": {"commands": {"up": {"path": "/usr/bin/uptime"}}}
    }});
    let (a, web, fresh) = (Some("$.tools.mcp.a.command"), Some("$.tools.mcp.web.command"), Some("$.tools.mcp.new.command"));
    let shell = Some("$.tools.shell");
    for (patch, path) in [
        (json!({}), None),
        (json!({"tools": {"default": "deny", "rules": [{"tool": "*", "action": "allow"}]}}), None),
        (json!({"tools": {"mcp": {"web": {"url": "http://b", "token": "0123", "command": null}}}}), None),
        (json!({"tools": {"mcp": {"web": null, "other": {"url": "http://c"}}}}), None),
        // Defaults that are spelled out are no change.
        (
            json!({"tools": {"mcp": {"a": {"enabled": true, "timeout": 30000}}, "shell": {"commands": {"up": {"args": []}}}}}),
            None,
        ),
        (json!({"tools": {"shell": {"commands": {"ls": {"path": "/bin/ls"}}}}}), shell),
        (json!({"tools": {"shell": {"commands": {"up": {"args": ["*"]}}}}}), shell),
        (json!({"tools": {"shell": {"commands": {"up": {"cwd": "/"}}}}}), shell),
        (json!({"tools": {"shell": {"commands": {"up": {"maxProcesses": 1000}}}}}), shell),
        (json!({"tools": {"shell": null}}), shell),
        (json!({"tools": {"mcp": {"a": {"command": "/y"}}}}), a),
        (json!({"tools": {"mcp": {"a": {"args": ["-c", "evil"]}}}}), a),
        (json!({"tools": {"mcp": {"a": {"env": {"LD_PRELOAD": "/tmp/x.so"}}}}}), a),
        (json!({"tools": {"mcp": {"a": {"env": {"KEY": "new-value"}}}}}), a),
        (json!({"tools": {"mcp": {"a": {"cwd": "/tmp"}}}}), a),
        (json!({"tools": {"mcp": {"a": {"enabled": false}}}}), a),
        (json!({"tools": {"mcp": {"a": {"command": null, "url": "http://a"}}}}), a),
        (json!({"tools": {"mcp": {"a": null}}}), a),
        (json!({"tools": {"mcp": {"web": {"command": "/bin/sh"}}}}), web),
        (json!({"tools": {"mcp": {"web": {"command": "/bin/sh", "url": null}}}}), web),
        (json!({"tools": {"mcp": {"new": {"command": "/bin/sh"}}}}), fresh),
        (json!({"tools": {"mcp": {"new": {"command": "/bin/sh", "enabled": false}}}}), fresh),
        (json!({"tools": null}), shell),
    ] {
        let mut new = old.clone();
        merge(&mut new, &patch);
        assert_eq!(forbidden_over_http(&old, &new).as_deref(), path, "{patch}");
        // A PUT replaces the whole: the same holds of what is effective, with its secrets put back.
        let put = restore(&effective(&new), &new).unwrap();
        assert_eq!(forbidden_over_http(&old, &put).as_deref(), path, "{put}");
    }
    for new in [
        json!({"tools": {"shell": {"commands": {"ls": {"path": "/bin/ls"}}}}}),
        json!({"tools": {"mcp": {"a": {"command": "/x"}}}}),
    ] {
        assert!(forbidden_over_http(&json!({}), &new).is_some(), "{new}");
        assert!(forbidden_over_http(&new, &json!({})).is_some(), "{new}");
    }
    for new in [json!({}), json!({"tools": {}}), json!({"tools": {"shell": null}}), json!({"log": {}}), Value::Null] {
        assert_eq!(forbidden_over_http(&json!({}), &new), None, "{new}");
    }
}

#[test]
fn a_variable_that_changes_is_a_change() {
    let doc = json!({"tools": {"mcp": {"m": {"command": "/x", "env": {"A.B": {"env": "A"}, "C": "d"}}, "w": {"url": "http://a", "token": {"env": "A"}}}}});
    let [old, new] = ["first-0123456789", "second-0123456789"].map(|s| World::default().var("A", s).resolve(&doc).unwrap());
    assert_eq!(diff(&old, &new).applied, ["tools.mcp.m.env[\"A.B\"]", "tools.mcp.w.token"]);
    assert_eq!(old.effective(), new.effective());
    let found = lines(World::default().var("A", "short").resolve(&doc).err().unwrap_or_default());
    assert_eq!(found, [""; 0], "another server's key is what that server gave, and a variable is any text");
}
