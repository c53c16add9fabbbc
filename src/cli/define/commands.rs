//! All commands with their forms and options.
//!
//! Invariant: what stands here is what there is; see the module's head. It cannot fail.

use super::{Command, Form, Opt};
use crate::cli::{
    agents, approvals, backup, chat, check, completions, config, doctor, help, init, jobs, lists, logs, man, memory, pairings,
    restore, send, serve, status, token, version,
};

const fn switch(name: &'static str, about: &'static str) -> Opt {
    Opt { name, short: None, value: None, choices: &[], about }
}

const fn takes(name: &'static str, value: &'static str, about: &'static str) -> Opt {
    Opt { name, short: None, value: Some(value), choices: &[], about }
}

const fn form(words: &'static str, about: &'static str) -> Form {
    Form { words, about, options: &[] }
}

/// Without any words.
static PLAIN: &[Form] = &[form("", "")];

const fn command(name: &'static str, group: &'static str, about: &'static str, run: super::Run) -> Command {
    Command { name, group, about, more: "", forms: PLAIN, options: &[], run }
}

/// Options that every command knows.
pub static EVERYWHERE: &[&Opt] = &[
    &takes("config", "FILE", "the configuration file ($GATELET_CONFIG)"),
    &takes("data-dir", "DIR", "the data directory ($GATELET_DATA_DIR)"),
    &takes("url", "URL", "the gateway to talk to ($GATELET_URL)"),
    &takes("token", "TOKEN", "the credential ($GATELET_TOKEN)"),
    &Opt { short: Some('h'), ..switch("help", "help on the command") },
];

const JSON: &Opt = &switch("json", "answer in JSON");
const LISTED: &[&Opt] = &[JSON];

const SET_UP: &str = "set up";
const RUN: &str = "run";
const LOOK: &str = "look";
const DECIDE: &str = "decide and do";
const KEEP: &str = "keep";
const MORE: &str = "more";

/// All commands, in the order of the help.
pub static COMMANDS: &[Command] = &[
    Command {
        more: "On a terminal it asks for what no option names; with --yes, or without a terminal, it asks nothing. Secrets are \
               kept in files of their own beside the data (mode 0600), and the configuration refers to them.\n\
               An API key and a bot's token are better given by their variables ($GATELET_INIT_API_KEY, \
               $GATELET_INIT_TELEGRAM_TOKEN) than as options, which other users of the machine can see.",
        options: &[
            &takes("listen", "ADDRESS", "where to listen, 127.0.0.1:8787 unless told otherwise"),
            &Opt {
                choices: &["auto", "openai", "anthropic", "builtin"],
                ..takes("provider", "TYPE", "the model's server: auto, openai (any compatible one), anthropic or builtin")
            },
            &takes("base-url", "URL", "the model server's address, as http://192.168.1.5:11434/v1"),
            &takes("model", "NAME", "the model; else the server's first"),
            &takes("api-key", "KEY", "the model server's key"),
            &takes("telegram-token", "TOKEN", "a Telegram bot's token, as @BotFather gives it"),
            &switch("yes", "ask nothing: take the options and else the defaults"),
            &switch("force", "overwrite a configuration that is there"),
            JSON,
        ],
        ..command("init", SET_UP, "write a first configuration", init::run)
    },
    Command { options: LISTED, ..command("check", SET_UP, "check the configuration and say every problem", check::run) },
    Command {
        more: "It looks at clock, data directory, configuration, port, names, model servers, channels, database and service, \
               each within a deadline, and says what to do. Nothing is changed. It ends with 1 where something fails.",
        options: LISTED,
        ..command("doctor", SET_UP, "look for what is wrong, and say what to do", doctor::run)
    },
    Command {
        more: "show prints the running configuration, secrets as \"***\"; get prints one value of it, by its path \
               (gateway.listen, agents.main.model). set changes one value of the running gateway: VALUE is JSON, or else a text; \
               null removes the key. What needs a restart is named.",
        forms: &[
            form("show", "the running configuration"),
            form("get PATH", "one value of it"),
            form("set PATH VALUE", "change a value, live"),
            form("reload", "have the gateway read the file again (SIGHUP)"),
            form("schema", "the JSON Schema of the file, for editors"),
            form("path", "where the configuration is"),
        ],
        options: LISTED,
        ..command("config", SET_UP, "show and change the running configuration", config::run)
    },
    Command {
        more: "new makes another token at once and withdraws the old one: a running gateway takes it up by itself. It needs the \
               right to write to the data directory.",
        forms: &[
            form("where", "where the admin's token comes from"),
            form("show", "print it"),
            form("new", "make a new one; the old one counts no more"),
        ],
        options: LISTED,
        ..command("token", SET_UP, "the admin's token: where it is, show it, renew it", token::run)
    },
    Command {
        more: "SIGTERM or SIGINT drains and ends it, a second one ends it at once; SIGHUP reads the configuration again.",
        ..command("serve", RUN, "serve until SIGTERM; what gatelet does without a command", serve::run)
    },
    Command {
        more: "A line is a message; /quit, Ctrl-D, or Ctrl-C twice leaves, Ctrl-C once stops the answer. Where the token's role \
               may decide, approvals are asked here: y, n or always. On a pipe each line is sent, and each reply is a line.",
        options: &[&takes("agent", "NAME", "the agent to talk to"), JSON],
        ..command("chat", RUN, "talk to the gateway's agent in this terminal", chat::run)
    },
    Command {
        forms: &[form("USER MESSAGE", "send MESSAGE to USER ('-' reads it from standard input)")],
        options: &[
            &takes("channel", "NAME", "the channel to use; else where the user was last seen"),
            &takes("key", "KEY", "a repeat with the same key is the same message"),
            JSON,
        ],
        ..command("send", RUN, "send a message to a user", send::run)
    },
    Command { options: LISTED, ..command("status", LOOK, "how the running gateway is", status::run) },
    Command {
        more: "The gateway keeps its latest 500 records; the journal (journalctl -u gatelet) keeps them all.",
        options: &[
            &Opt { short: Some('f'), ..switch("follow", "go on with what comes") },
            &Opt { short: Some('n'), ..takes("lines", "N", "how many records, 50 unless told otherwise") },
            &Opt { choices: &["error", "warn", "info", "debug", "trace"], ..takes("level", "LEVEL", "that grave at least") },
            JSON,
        ],
        ..command("logs", LOOK, "the latest log records", logs::run)
    },
    Command {
        forms: &[form("list", "the agents and how they are"), form("tools", "the tools that they have, and the policy")],
        options: LISTED,
        ..command("agents", LOOK, "the agents and how they are", agents::run)
    },
    Command {
        forms: &[form("list", "the channels and how they are"), form("reconnect NAME", "begin its connection anew")],
        options: LISTED,
        ..command("channels", LOOK, "the channels and how they are", lists::channels)
    },
    Command {
        more: "STATE is queued, running, waiting_approval, answered, failed or cancelled.",
        forms: &[
            form("list [STATE]", "the latest ones"),
            form("show ID", "the life of one"),
            form("retry ID", "queue a failed one again"),
        ],
        options: LISTED,
        ..command("messages", LOOK, "messages that came in", lists::messages)
    },
    Command {
        forms: &[
            form("list", "the latest used ones"),
            form("show USER", "a user's, with transcripts"),
            form("erase USER", "end and erase a user's"),
        ],
        options: LISTED,
        ..command("sessions", LOOK, "conversations", lists::sessions)
    },
    Command {
        forms: &[
            form("list", "what waits"),
            form("allow ID", "let a tool call run"),
            form("deny ID", "don't"),
            form("always ID", "let it run, and every one exactly like it"),
        ],
        options: LISTED,
        ..command("approvals", DECIDE, "tool calls that wait for a decision", approvals::run)
    },
    Command {
        forms: &[form("list", "who waits"), form("approve CODE", "let one in"), form("reject CODE", "don't")],
        options: LISTED,
        ..command("pairings", DECIDE, "unknown senders who wait to be let in", pairings::run)
    },
    Command {
        more: "STATE is pending, sending, sent, dead or unknown. An unknown one was cut off between the send and its record, or \
               came back with a restored backup: it may have arrived.",
        forms: &[
            form("list [STATE]", "the latest ones"),
            form("retry ID", "send a dead or unknown one again"),
            form("drop ID", "remove one"),
        ],
        options: LISTED,
        ..command("outbox", DECIDE, "what is to be sent, was, or could not be", lists::outbox)
    },
    Command {
        forms: &[
            form("list", "all of them"),
            Form {
                options: &[
                    &takes("at", "TIME", "once, in RFC 3339"),
                    &takes("every", "TIME", "again and again: 90s, 15m, 2h, 1d"),
                    &takes("cron", "LINE", "by 'MINUTE HOUR DAY MONTH WEEKDAY'"),
                    &takes("timezone", "ZONE", "of the line or the time, as Europe/Berlin"),
                    &takes("agent", "NAME", "whose turn it is"),
                    &takes("prompt", "TEXT", "what the agent is asked"),
                    &takes("message", "TEXT", "what is sent as it is"),
                    &takes("channel", "NAME", "where it goes"),
                    &takes("id", "ID", "its name"),
                    &switch("catch-up", "make up for missed runs, once"),
                ],
                ..form("add USER", "make one")
            },
            form("remove ID", "remove one"),
            form("run ID", "run one now, beside its schedule"),
            form("runs ID", "how its runs went"),
        ],
        options: LISTED,
        ..command("jobs", DECIDE, "scheduled turns and messages", jobs::run)
    },
    Command {
        forms: &[
            Form { options: &[AGENT], ..form("list USER", "what is kept about a user") },
            Form { options: &[AGENT], ..form("add USER TEXT", "keep something") },
            form("edit ID TEXT", "change a note"),
            form("forget ID", "remove a note"),
        ],
        options: LISTED,
        ..command("memory", DECIDE, "what agents keep about a user", memory::run)
    },
    Command {
        more: "DIR is a folder to be made, mode 0700: the database as it stands at one moment, the configuration, and what stands \
               beside the data. The gateway may run meanwhile. The copy is checked before the folder gets its name.\n\
               Secrets are left out unless --with-secrets asks for them.",
        forms: &[form("DIR", "into that folder, which must not be there yet")],
        options: &[&switch("with-secrets", "take tokens, keys and passwords along; keep the folder safe then"), JSON],
        ..command("backup", KEEP, "copy all that lasts, while the gateway runs", backup::run)
    },
    Command {
        more: "The gateway must not run. What is there now is kept in a folder before-restore-TIME in the data directory. What \
               was to be sent or answered when the backup was made is held (outbox list unknown, messages list failed), since it \
               may have been since: nothing is sent twice, and all of it can be retried.",
        forms: &[form("DIR", "the folder that backup made")],
        options: &[&switch("keep-config", "leave the configuration as it is here"), JSON],
        ..command("restore", KEEP, "put a backup in the place of what is here", restore::run)
    },
    Command {
        forms: &[form("[COMMAND]", "on a command; without one, all commands")],
        ..command("help", MORE, "this text, or the help on a command", help::run)
    },
    Command { more: "As in: gatelet man | man -l -", ..command("man", MORE, "the manual page, in roff", man::run) },
    Command {
        more: "As in: source <(gatelet completions bash)",
        forms: &[form("bash", "for bash"), form("zsh", "for zsh"), form("fish", "for fish")],
        ..command("completions", MORE, "a shell's completions", completions::run)
    },
    Command { options: LISTED, ..command("version", MORE, "the version", version::run) },
];

const AGENT: &Opt = &takes("agent", "NAME", "the agent that keeps it");
