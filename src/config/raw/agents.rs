//! `providers`, `agents`, `bindings`, `tools`, `jobs`: who answers, whom, with what.
//!
//! Invariant: as in `raw`.

use serde_json::Value;

use crate::config::section::*;

/// What an agent is told where nothing else is configured.
const SYSTEM_PROMPT: &str = "You are a friendly assistant in a chat. Answer in the language of the message, in plain text, \
    in a few sentences unless more is asked for. Say so when you do not know something.";

variants! {
    /// A language model's server.
    Provider(ProviderCommon) as ProviderOf {
        OpenAi(OpenAi) = "openai",
        Anthropic(Anthropic) = "anthropic",
        Builtin(Builtin) = "builtin"
    }
}

section! {
    /// What all providers have.
    ProviderCommon {
        /// Time to connect, in ms.
        connect_timeout: u64 = key("connectTimeout", Preset::Int(10_000)).range(1, 3_600_000);
        /// Time until the answer begins, in ms.
        first_byte_timeout: u64 = key("firstByteTimeout", Preset::Int(60_000)).range(1, 3_600_000);
        /// Longest pause within an answer, in ms.
        chunk_timeout: u64 = key("chunkTimeout", Preset::Int(60_000)).range(1, 3_600_000);
    }
}

section! {
    /// Any OpenAI-compatible server.
    OpenAi {
        /// Its address up to `/v1`, as `http://127.0.0.1:8080/v1`.
        base_url: String = key("baseUrl", Preset::Required).range(1, 2048);
        /// Its key, where it wants one.
        api_key: Option<RawSecret> = key("apiKey", Preset::Unset);
    }
}

section! {
    /// Anthropic's API.
    Anthropic {
        /// Another server of that API.
        base_url: Option<String> = key("baseUrl", Preset::Unset).range(1, 2048);
        /// Its key.
        api_key: Option<RawSecret> = key("apiKey", Preset::Unset);
    }
}

section! {
    /// The offline one that is built in: it answers commands, and tells how to connect a model.
    Builtin {}
}

section! {
    /// Who answers.
    Agent {
        /// `false` switches it off.
        enabled: bool = key("enabled", Preset::Bool(true));
        /// A name in `providers`; without it the first one there, else a model server found on this machine, else the built-in one.
        provider: Option<String> = key("provider", Preset::Unset).range(1, 64);
        /// The model's name at the provider; `auto` is the first that the provider lists.
        model: String = key("model", Preset::Text("auto")).range(1, 256);
        /// Names in `providers` that are tried in turn where the first one fails.
        fallbacks: Vec<String> = key("fallbacks", Preset::EmptyList).range(0, 16);
        /// What the model is told before the conversation.
        system_prompt: String = key("systemPrompt", Preset::Text(SYSTEM_PROMPT)).range(0, 65_536);
        /// Entries of the transcript that the model sees.
        max_history: u64 = key("maxHistory", Preset::Int(40)).range(0, 10_000);
        /// Whether images that users send are shown to the model; a model that can't see them is told so in words by itself.
        images: bool = key("images", Preset::Bool(true));
        /// Calls of the model in one turn.
        max_rounds: u64 = key("maxRounds", Preset::Int(8)).range(1, 1000);
        /// Time for a turn, in ms.
        turn_timeout: u64 = key("turnTimeout", Preset::Int(300_000)).range(1, 86_400_000);
        /// Tokens of one answer; without it the server decides.
        max_output_tokens: Option<u64> = key("maxOutputTokens", Preset::Unset).range(1, 100_000_000);
        /// Tokens, in and out, that one turn may use.
        tokens_per_turn: Option<u64> = key("tokensPerTurn", Preset::Unset).range(1, 1_000_000_000_000);
        /// Tokens that it may use in a day (UTC).
        tokens_per_day: Option<u64> = key("tokensPerDay", Preset::Unset).range(1, 1_000_000_000_000);
        /// Tokens that one user may use of it in a day.
        tokens_per_user_day: Option<u64> = key("tokensPerUserDay", Preset::Unset).range(1, 1_000_000_000_000);
        /// The tools that it is offered, by name, `*` standing for any part; without it all that the rules don't deny.
        tools: Option<Vec<String>> = key("tools", Preset::Unset).range(0, 256);
    }
}

section! {
    /// A rule on who answers whom.
    Binding {
        /// A channel's name, `websocket`, `openai` (the OpenAI-compatible API), or `*` for all.
        channel: String = key("channel", Preset::Text("*")).range(1, 64);
        /// A user id, or `*` for all.
        user: String = key("user", Preset::Text("*")).range(1, 256);
        /// The agent that answers.
        agent: String = key("agent", Preset::Required).range(1, 64);
    }
}

section! {
    /// What agents may do beside answering.
    Tools {
        /// What applies to a tool that no rule names.
        default: Action = key("default", Preset::Text("ask"));
        /// Rules; the first that fits decides. Where neither `default` nor `rules` is written, the tools that touch nothing but the
        /// user's own conversation and notes are allowed.
        rules: Vec<ToolRule> = key("rules", Preset::EmptyList);
        /// MCP servers, by name. Those with a `command` can be set in the file alone, never over HTTP.
        mcp: Named<McpServer> = key("mcp", Preset::EmptyObject).names().range(0, 32);
        /// Programs that agents may run. It can be set in the file alone, never over HTTP.
        shell: Option<Shell> = key("shell", Preset::Unset);
    }
}

choice! {
    /// What becomes of a tool call.
    Action { Allow = "allow", Ask = "ask", Deny = "deny" }
}

choice! {
    /// How far a sender is known.
    Sender { Unverified = "unverified", User = "user", Operator = "operator", Admin = "admin" }
}

section! {
    /// A rule on tools. It fits where all that is written in it fits.
    ToolRule {
        /// A tool's name; `*` stands for any part.
        tool: String = key("tool", Preset::Required).range(1, 256);
        /// What becomes of its calls: `ask` lets a person decide.
        action: Action = key("action", Preset::Required);
        /// The agent that calls; `*` stands for any part.
        agent: Option<String> = key("agent", Preset::Unset).range(1, 256);
        /// The channel by which the message came; `*` stands for any part.
        channel: Option<String> = key("channel", Preset::Unset).range(1, 256);
        /// The user who wrote it; `*` stands for any part.
        user: Option<String> = key("user", Preset::Unset).range(1, 256);
        /// How far that user is known: exactly this.
        role: Option<Sender> = key("role", Preset::Unset);
        /// Arguments, by name: each must be there and fit its text, in which `*` stands for any part.
        arguments: Named<String> = key("arguments", Preset::EmptyObject).range(0, 32);
    }
}

section! {
    /// An MCP server: a program (`command`) that speaks over its standard input and output, or an address (`url`).
    McpServer {
        /// `false` switches it off.
        enabled: bool = key("enabled", Preset::Bool(true));
        /// The program, as an absolute path.
        command: Option<String> = key("command", Preset::Unset).range(1, 4096);
        /// Its arguments.
        args: Vec<String> = key("args", Preset::EmptyList).range(0, 64);
        /// Its environment, all of it.
        env: Named<RawSecret> = key("env", Preset::EmptyObject).range(0, 64);
        /// The directory that it runs in; a relative path starts at the data directory, which is the default.
        cwd: Option<String> = key("cwd", Preset::Unset).range(1, 4096);
        /// The address of a server that speaks Streamable HTTP.
        url: Option<String> = key("url", Preset::Unset).range(1, 2048);
        /// The bearer token for that address.
        token: Option<RawSecret> = key("token", Preset::Unset);
        /// The tools of it that are used, by the server's own names, `*` standing for any part; without it all.
        tools: Option<Vec<String>> = key("tools", Preset::Unset).range(0, 256);
        /// Time for one call, in ms.
        timeout: u64 = key("timeout", Preset::Int(30_000)).range(100, 3_600_000);
    }
}

section! {
    /// Programs that agents may run, as `shell.run`: never by a shell, with an empty environment.
    Shell {
        /// The programs, by the names that agents call them by.
        commands: Named<ShellCommand> = key("commands", Preset::EmptyObject).names().range(0, 64);
    }
}

section! {
    /// A program that agents may run.
    ShellCommand {
        /// Its absolute path. A change of the file behind it needs a new approval.
        path: String = key("path", Preset::Required).range(1, 4096);
        /// Its arguments, one pattern each: a text, in which `*` stands for any part, but never for a leading `-`, for `..` between
        /// slashes, or for control characters. With a last one of `...` the one before it may come any number of times.
        args: Vec<String> = key("args", Preset::EmptyList).range(0, 64);
        /// What it does, for the model.
        about: Option<String> = key("about", Preset::Unset).range(1, 300);
        /// The directory that it runs in; the data directory's `shell` folder without it.
        cwd: Option<String> = key("cwd", Preset::Unset).range(1, 4096);
        /// Time that it may run, in ms.
        timeout: u64 = key("timeout", Preset::Int(10_000)).range(100, 600_000);
        /// Memory that it may take, in bytes.
        max_memory: u64 = key("maxMemory", Preset::Int(268_435_456)).range(1_048_576, 1_099_511_627_776);
        /// Processes that it may have at a time.
        max_processes: u64 = key("maxProcesses", Preset::Int(16)).range(1, 1000);
    }
}

section! {
    /// A scheduled turn (`agent` and `prompt`) or message (`message`). It needs one of `at`, `every` and `cron`.
    Job {
        /// Its id; one is made where there is none.
        id: Option<String> = key("id", Preset::Unset).range(1, 64);
        /// Once, at this time (RFC 3339).
        at: Option<String> = key("at", Preset::Unset).range(1, 64);
        /// Again and again, with this pause in ms.
        every: Option<u64> = key("every", Preset::Unset).range(1000, 31_536_000_000);
        /// Again and again, by a cron line.
        cron: Option<String> = key("cron", Preset::Unset).range(1, 256);
        /// The time zone of the cron line.
        timezone: Option<String> = key("timezone", Preset::Unset).range(1, 64);
        /// The agent whose turn it is.
        agent: Option<String> = key("agent", Preset::Unset).range(1, 64);
        /// What that agent is asked.
        prompt: Option<String> = key("prompt", Preset::Unset).range(1, 65_536);
        /// What is sent as it is.
        message: Option<String> = key("message", Preset::Unset).range(1, 65_536);
        /// Who gets it.
        user_id: Option<String> = key("userId", Preset::Unset).range(1, 256);
        /// By which channel; without it where the user was last seen.
        channel: Option<String> = key("channel", Preset::Unset).range(1, 64);
        /// Whether runs that were missed while the gateway was down are made up for, once.
        catch_up: bool = key("catchUp", Preset::Bool(false));
    }
}
