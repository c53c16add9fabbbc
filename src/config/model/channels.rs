//! What is meant by `channels`: what all of them have, and what each type needs.

use std::path::PathBuf;
use std::time::Duration;

use crate::base::secret::Secret;

/// One of `channels`.
#[derive(Clone, Debug)]
pub struct Channel {
    /// `enabled`.
    pub enabled: bool,
    /// What all types have.
    pub common: ChannelCommon,
    /// What its type needs.
    pub kind: ChannelKind,
}

/// What all channels have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChannelCommon {
    /// `dmPolicy`.
    pub dm_policy: DmPolicy,
    /// `allowFrom`: immutable ids in the channel's own terms.
    pub allow_from: Vec<String>,
    /// `groupPolicy`.
    pub group_policy: GroupPolicy,
    /// `groups`: immutable ids.
    pub groups: Vec<String>,
    /// `requireMention`.
    pub require_mention: bool,
    /// `queue`.
    pub queue: Queue,
    /// `maxAge`.
    pub max_age: Option<Duration>,
    /// `onUnknown`.
    pub on_unknown: OnUnknown,
}

/// Who may write directly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DmPolicy {
    /// Those in `allowFrom`, and whom an operator let in; others get a code.
    Pairing,
    /// Those in `allowFrom`.
    Allowlist,
    /// Everybody.
    Open,
}

/// In which groups it answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GroupPolicy {
    /// Those in `groups`.
    Allowlist,
    /// All.
    Open,
    /// None.
    Off,
}

/// What becomes of a message that comes while a turn of its session runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Queue {
    /// A turn of its own, behind.
    Followup,
    /// One turn with what else piled up of the same sender.
    Collect,
    /// The running turn is cut short.
    Interrupt,
}

/// What becomes of a delivery whose outcome is unknown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnUnknown {
    /// It is sent again.
    Resend,
    /// It is kept as `unknown` for a person to decide.
    Hold,
}

/// A channel's `type` with its keys.
#[derive(Clone, Debug)]
pub enum ChannelKind {
    /// `webhook`.
    Webhook(Webhook),
    /// `telegram`.
    Telegram(Telegram),
    /// `matrix`.
    Matrix(Matrix),
    /// `mqtt`.
    Mqtt(Mqtt),
    /// `discord`.
    Discord(Discord),
    /// `slack`.
    Slack(Slack),
    /// One of that type that is switched off: nothing of it was fetched.
    Off(&'static str),
}

/// A Telegram bot.
#[derive(Clone, Debug)]
pub struct Telegram {
    /// `token`.
    pub token: Secret,
    /// `apiRoot`, without a slash at its end.
    pub api_root: String,
    /// `preview`.
    pub preview: bool,
}

/// A Matrix account.
#[derive(Clone, Debug)]
pub struct Matrix {
    /// `homeserver`, without a slash at its end.
    pub homeserver: String,
    /// `userId`.
    pub user_id: String,
    /// `accessToken`, or else `password`.
    pub access_token: Option<Secret>,
    /// `password`.
    pub password: Option<Secret>,
}

/// An MQTT broker.
#[derive(Clone, Debug)]
pub struct Mqtt {
    /// `mqtts://`.
    pub tls: bool,
    /// The broker's host.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// `username`.
    pub username: Option<String>,
    /// `password`.
    pub password: Option<Secret>,
    /// `clientId`; `None`: one that stays the same is made of the channel's name and the data directory's.
    pub client_id: Option<String>,
    /// `caFile`, absolute.
    pub ca_file: Option<PathBuf>,
    /// `subscribe`.
    pub subscribe: String,
    /// `publish`.
    pub publish: String,
    /// `homeAssistant`.
    pub home_assistant: bool,
}

/// A Discord bot.
#[derive(Clone, Debug)]
pub struct Discord {
    /// `token`.
    pub token: Secret,
    /// `apiRoot`, without a slash at its end.
    pub api_root: String,
}

/// A Slack app in socket mode.
#[derive(Clone, Debug)]
pub struct Slack {
    /// `appToken`.
    pub app_token: Secret,
    /// `botToken`.
    pub bot_token: Secret,
    /// `apiRoot`, without a slash at its end.
    pub api_root: String,
}

/// A webhook channel.
#[derive(Clone, Debug, Default)]
pub struct Webhook {
    /// `secret`: verifies Standard Webhooks or `X-Hub-Signature-256`.
    pub secret: Option<Secret>,
    /// `token`: a bearer.
    pub token: Option<Secret>,
    /// `replyUrl`: where replies are posted.
    pub reply_url: Option<String>,
    /// `replySecret`, or else `secret`: signs replies.
    pub reply_secret: Option<Secret>,
    /// `messagePath`, `userPath`, `idPath`: JSON Pointers into a foreign body.
    pub message_path: Option<String>,
    /// See `message_path`.
    pub user_path: Option<String>,
    /// See `message_path`.
    pub id_path: Option<String>,
    /// `deliverOnly`: what comes in goes straight to the user, without an agent.
    pub deliver_only: bool,
}
