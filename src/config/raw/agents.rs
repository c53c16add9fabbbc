//! `providers`, `agents`, `bindings`, `tools`, `jobs`: who answers, whom, with what.
//!
//! Invariant: as in `raw`. `tools.shell` and the entries of `tools.mcp` are free in form until a version runs them.

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
        /// Calls of the model in one turn.
        max_rounds: u64 = key("maxRounds", Preset::Int(8)).range(1, 1000);
        /// Time for a turn, in ms.
        turn_timeout: u64 = key("turnTimeout", Preset::Int(300_000)).range(1, 86_400_000);
        /// Tokens of one answer; without it the server decides.
        max_output_tokens: Option<u64> = key("maxOutputTokens", Preset::Unset).range(1, 100_000_000);
        /// Tokens that it may use in a day.
        tokens_per_day: Option<u64> = key("tokensPerDay", Preset::Unset).range(1, 1_000_000_000_000);
    }
}

section! {
    /// A rule on who answers whom.
    Binding {
        /// A channel's name, `websocket`, or `*` for all.
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
        /// Rules; the first that fits decides.
        rules: Vec<ToolRule> = key("rules", Preset::EmptyList);
        /// MCP servers, by name. Their `command` can be set in the file alone, never over HTTP.
        mcp: Named<Value> = key("mcp", Preset::EmptyObject).names();
        /// Programs that agents may run. It can be set in the file alone, never over HTTP.
        shell: Value = key("shell", Preset::Unset);
    }
}

choice! {
    /// What becomes of a tool call.
    Action { Allow = "allow", Ask = "ask", Deny = "deny" }
}

section! {
    /// A rule on tools.
    ToolRule {
        /// A tool's name; `*` at its end stands for any rest.
        tool: String = key("tool", Preset::Required).range(1, 256);
        /// What becomes of its calls: `ask` lets a person decide.
        action: Action = key("action", Preset::Required);
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
