//! `channels`: the places where people write.
//!
//! Invariant: a key of another type is a problem; what all types share is declared once.

use serde_json::Value;

use crate::config::section::*;

variants! {
    /// A named connection to a place where people write. The names `websocket` and `openai` are taken: the WebSocket chat
    /// and the OpenAI-compatible API.
    Channel(ChannelCommon) as ChannelOf {
        Telegram(Telegram) = "telegram",
        Matrix(Matrix) = "matrix",
        Mqtt(Mqtt) = "mqtt",
        Discord(Discord) = "discord",
        Slack(Slack) = "slack",
        Webhook(Webhook) = "webhook"
    }
}

section! {
    /// What all channels have.
    ChannelCommon {
        /// `false` switches it off.
        enabled: bool = key("enabled", Preset::Bool(true));
        /// Who may write to it directly: `pairing` those in `allowFrom` and whom an operator let in (others get a code for the operator), `allowlist` those in `allowFrom` alone, `open` everybody. Without it `pairing`, but `open` for a webhook, whose credential is the check, and for MQTT, where the broker's access list is.
        dm_policy: Option<DmPolicy> = key("dmPolicy", Preset::Unset);
        /// The immutable ids of those who may write directly, in the channel's own terms; a name is refused. An empty list lets nobody in.
        allow_from: Vec<String> = key("allowFrom", Preset::EmptyList).range(0, 10_000);
        /// In which groups it answers: `allowlist` (the default) in those of `groups`, `open` in all, `off` in none. Whoever writes in such a group may speak there, and there alone.
        group_policy: Option<GroupPolicy> = key("groupPolicy", Preset::Unset);
        /// The immutable ids of those groups; an empty list is none.
        groups: Vec<String> = key("groups", Preset::EmptyList).range(0, 10_000);
        /// Whether it answers in a group only where it is named; `true` without it.
        require_mention: Option<bool> = key("requireMention", Preset::Unset);
        /// What becomes of a message that comes while a turn of its conversation runs: `followup` a turn of its own behind it, `collect` one turn together with what else piled up of the same sender, `interrupt` cuts short what runs and takes the place of what waits.
        queue: Queue = key("queue", Preset::Text("followup"));
        /// The age in ms above which a message is neither taken in nor answered any more, by the time at which the service says it was written.
        max_age: Option<u64> = key("maxAge", Preset::Unset).range(1, 31_536_000_000);
        /// What becomes of a delivery that was cut off, so that nobody knows whether it arrived.
        on_unknown: OnUnknown = key("onUnknown", Preset::Text("resend"));
    }
}

choice! {
    /// `dmPolicy`
    DmPolicy { Pairing = "pairing", Allowlist = "allowlist", Open = "open" }
}

choice! {
    /// `groupPolicy`
    GroupPolicy { Allowlist = "allowlist", Open = "open", Off = "off" }
}

choice! {
    /// `queue`
    Queue { Followup = "followup", Collect = "collect", Interrupt = "interrupt" }
}

choice! {
    /// `onUnknown`
    OnUnknown { Resend = "resend", Hold = "hold" }
}

section! {
    /// A Telegram bot.
    Telegram {
        /// The bot's token.
        token: RawSecret = key("token", Preset::Required);
        /// Another server of the Bot API.
        api_root: Option<String> = key("apiRoot", Preset::Unset).range(1, 2048);
        /// Whether an answer is shown while it is made: one message, edited as more of it is there, that becomes the answer.
        preview: bool = key("preview", Preset::Bool(false));
    }
}

section! {
    /// A Matrix account. It needs `accessToken` or `password`.
    Matrix {
        /// The homeserver's address.
        homeserver: String = key("homeserver", Preset::Required).range(1, 2048);
        /// The account, as `@bot:example.org`.
        user_id: String = key("userId", Preset::Required).range(1, 256);
        /// The account's access token.
        access_token: Option<RawSecret> = key("accessToken", Preset::Unset);
        /// The account's password.
        password: Option<RawSecret> = key("password", Preset::Unset);
    }
}

section! {
    /// An MQTT broker.
    Mqtt {
        /// The broker's address: `mqtt://` or `mqtts://`.
        url: String = key("url", Preset::Required).range(1, 2048);
        /// The user there.
        username: Option<String> = key("username", Preset::Unset).range(1, 1024);
        /// The password there.
        password: Option<RawSecret> = key("password", Preset::Unset);
        /// The client id; one is made where there is none.
        client_id: Option<String> = key("clientId", Preset::Unset).range(1, 256);
        /// A file with the certificate of the broker's authority.
        ca_file: Option<String> = key("caFile", Preset::Unset).range(1, 4096);
        /// The topics read; the level at `+` is the user.
        subscribe: String = key("subscribe", Preset::Text("gatelet/in/+")).range(1, 1024);
        /// The topic written.
        publish: String = key("publish", Preset::Text("gatelet/out/{user}")).range(1, 1024);
        /// Whether it announces itself to Home Assistant.
        home_assistant: bool = key("homeAssistant", Preset::Bool(false));
    }
}

section! {
    /// A Discord bot.
    Discord {
        /// The bot's token.
        token: RawSecret = key("token", Preset::Required);
        /// Another server of the API.
        api_root: Option<String> = key("apiRoot", Preset::Unset).range(1, 2048);
    }
}

section! {
    /// A Slack app in socket mode.
    Slack {
        /// The app-level token.
        app_token: RawSecret = key("appToken", Preset::Required);
        /// The bot's token.
        bot_token: RawSecret = key("botToken", Preset::Required);
        /// Another server of the API.
        api_root: Option<String> = key("apiRoot", Preset::Unset).range(1, 2048);
    }
}

section! {
    /// Messages by `POST /webhook/<name>`, replies to `replyUrl`. With neither `secret` nor `token` it needs a gateway token.
    Webhook {
        /// Verifies Standard Webhooks and `X-Hub-Signature-256`: `whsec_` and base64 of 24 to 64 bytes, or a text of 16 characters or more.
        secret: Option<RawSecret> = key("secret", Preset::Unset);
        /// A bearer token that senders use, 16 characters or more.
        token: Option<RawSecret> = key("token", Preset::Unset);
        /// Where replies are posted; without it they are read by `?wait=` or the API.
        reply_url: Option<String> = key("replyUrl", Preset::Unset).range(1, 2048);
        /// Signs replies; without it `secret` does.
        reply_secret: Option<RawSecret> = key("replySecret", Preset::Unset);
        /// Where the message stands in a foreign body, as a JSON Pointer (`/comment/body`).
        message_path: Option<String> = key("messagePath", Preset::Unset).range(1, 1024);
        /// Where the user stands in a foreign body, as a JSON Pointer.
        user_path: Option<String> = key("userPath", Preset::Unset).range(1, 1024);
        /// Where the message's id stands in a foreign body, as a JSON Pointer.
        id_path: Option<String> = key("idPath", Preset::Unset).range(1, 1024);
        /// Whether what comes in is delivered as it is to its user, where they were last seen, without an agent.
        deliver_only: bool = key("deliverOnly", Preset::Bool(false));
    }
}
