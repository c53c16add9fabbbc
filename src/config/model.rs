//! What is meant: the resolved configuration. No `Option` stands for "default": defaults are filled in, units are types.

mod channels;
mod store;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::base::backoff::Retry;
use crate::base::secret::Secret;
use crate::domain::{Role, Standing, When, Work};

pub use channels::*;
pub use store::*;

/// The whole configuration.
#[derive(Clone, Debug)]
pub struct Config {
    /// `gateway`.
    pub gateway: Gateway,
    /// `users`: canonical user id → channel → the user's id there.
    pub users: BTreeMap<String, BTreeMap<String, String>>,
    /// `channels`, the built-in webhook `default` included where none of that name is configured; the WebSocket chat is not in it,
    /// nor are switched-off channels of types that this version cannot run.
    pub channels: BTreeMap<String, Channel>,
    /// `providers`.
    pub providers: BTreeMap<String, Provider>,
    /// `agents`, the built-in `main` included where none is configured.
    pub agents: BTreeMap<String, Agent>,
    /// `bindings`, in order; the first that fits decides. A last one to the first agent is always there.
    pub bindings: Vec<Binding>,
    /// `tools`.
    pub tools: Tools,
    /// `jobs`.
    pub jobs: Vec<Job>,
    /// `store`.
    pub store: Store,
    /// `log`.
    pub log: Log,
}

/// `gateway`.
#[derive(Clone, Debug)]
pub struct Gateway {
    /// `listen`.
    pub listen: SocketAddr,
    /// `auth`.
    pub auth: Auth,
    /// `rateLimit`; `None` where it is switched off.
    pub rate_limit: Option<RateLimit>,
    /// `notify`: userIds.
    pub notify: Vec<String>,
    /// `heartbeat.interval`.
    pub heartbeat: Duration,
    /// `retry`.
    pub retry: Retry,
    /// `pool.maxSize`: idle connections kept for each host.
    pub pool_max_size: usize,
    /// `cache`.
    pub cache: Cache,
    /// `limits`.
    pub limits: Limits,
    /// `workers`.
    pub workers: Workers,
    /// `shutdown.drainTimeout`.
    pub drain_timeout: Duration,
    /// `localSocket`, absolute; `None` where it is null.
    pub local_socket: Option<PathBuf>,
    /// `mdns`: whether it is announced on the local network.
    pub mdns: bool,
    /// `allowedHosts`, in lower case.
    pub allowed_hosts: Vec<String>,
    /// `allowedOrigins`, in lower case.
    pub allowed_origins: Vec<String>,
    /// `trustedProxies`: addresses or CIDR blocks.
    pub trusted_proxies: Vec<String>,
}

/// `gateway.auth`.
#[derive(Clone, Debug)]
pub struct Auth {
    /// `mode`.
    pub mode: AuthMode,
    /// The admin token (`token`); `None` in mode `none`. Where the configuration names none, the one kept in the data directory,
    /// and `None` until that one is made (`Resolved::token`).
    pub token: Option<Secret>,
    /// `tokens`.
    pub tokens: Vec<NamedToken>,
    /// `oauthProviders`; empty in mode `none`.
    pub oauth_providers: Vec<OauthProvider>,
    /// `gateway.cache`: how long a provider's answer about a token is kept, and how many.
    pub cache: Cache,
}

/// One of `gateway.auth.oauthProviders`.
#[derive(Clone, Debug)]
pub struct OauthProvider {
    /// `name`.
    pub name: String,
    /// `issuer`, exactly as written.
    pub issuer: Option<String>,
    /// `introspectionUrl`.
    pub introspection_url: Option<String>,
    /// `userinfoUrl`.
    pub userinfo_url: Option<String>,
    /// `clientId`.
    pub client_id: Option<String>,
    /// `clientSecret`.
    pub client_secret: Option<Secret>,
    /// `audience`.
    pub audience: Option<String>,
    /// `userIdClaim`.
    pub user_id_claim: String,
    /// `roles`, in order.
    pub roles: Vec<OauthRole>,
    /// What `users` says of it: the provider's subject → the user.
    pub users: BTreeMap<String, String>,
    /// Names that are somebody else's: of tokens, and under `users`.
    pub taken: BTreeSet<String>,
    /// Whether it is the first of the list: its subjects are users under their own names.
    pub is_first: bool,
}

/// One of a provider's `roles`.
#[derive(Clone, Debug)]
pub struct OauthRole {
    /// `claim`.
    pub claim: String,
    /// `equals`: what the claim is, or contains where it is a list.
    pub equals: String,
    /// `role`.
    pub role: Role,
}

/// `gateway.auth.mode`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuthMode {
    /// Static tokens, and identity providers' where there are any (`oauth` as well: it only insists on some).
    Token,
    /// Everybody is admin; loopback alone, unless `allowInsecure`.
    None,
}

/// One of `gateway.auth.tokens`.
#[derive(Clone, Debug)]
pub struct NamedToken {
    /// The principal's id.
    pub name: String,
    /// Its role.
    pub role: Role,
    /// The credential.
    pub token: Secret,
}

/// `gateway.rateLimit`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateLimit {
    /// `window`.
    pub window: Duration,
    /// `maxRequests`.
    pub max_requests: u32,
    /// `perUser`: false makes it one limit for all.
    pub per_user: bool,
}

/// `gateway.cache`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cache {
    /// `ttl`.
    pub ttl: Duration,
    /// `maxEntries`.
    pub max_entries: usize,
}

/// `gateway.limits`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// `maxConnections`: HTTP connections at a time.
    pub max_connections: usize,
    /// `maxWebSockets`.
    pub max_websockets: usize,
    /// `maxHeaderBytes`: a request's whole head.
    pub max_header_bytes: usize,
    /// `maxBodyBytes`.
    pub max_body_bytes: usize,
    /// `requestTimeout`: for a head from its first byte, and for a body, in all.
    pub request_timeout: Duration,
    /// `idleTimeout`: a connection between two requests.
    pub idle_timeout: Duration,
    /// `maxMemory`, in bytes.
    pub max_memory: u64,
    /// `maxAttachmentBytes`; 0 fetches none.
    pub max_attachment_bytes: usize,
}

/// `gateway.workers`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Workers {
    /// `http`.
    pub http: usize,
    /// `turns`.
    pub turns: usize,
    /// `deliveries`.
    pub deliveries: usize,
}

/// One of `providers`.
#[derive(Clone, Debug)]
pub struct Provider {
    /// `type`.
    pub kind: ProviderKind,
    /// `baseUrl`, without a slash at its end; empty for the built-in one.
    pub base_url: String,
    /// `apiKey`.
    pub api_key: Option<Secret>,
    /// `connectTimeout`.
    pub connect_timeout: Duration,
    /// `firstByteTimeout`.
    pub first_byte_timeout: Duration,
    /// `chunkTimeout`.
    pub chunk_timeout: Duration,
}

/// A provider's `type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProviderKind {
    /// Any OpenAI-compatible server.
    OpenAi,
    /// Anthropic's Messages API.
    Anthropic,
    /// The offline one.
    Builtin,
}

/// One of `agents`.
#[derive(Clone, Debug)]
pub struct Agent {
    /// `enabled`.
    pub enabled: bool,
    /// `provider`: a name in `providers`, where none is written the first one of the document. `None` where none is configured
    /// at all: then one found on this machine, else the built-in one.
    pub provider: Option<String>,
    /// `model`; `auto` is the server's first.
    pub model: String,
    /// `fallbacks`: names in `providers`.
    pub fallbacks: Vec<String>,
    /// `systemPrompt`.
    pub system_prompt: String,
    /// `maxHistory`: transcript entries that enter the prompt.
    pub max_history: usize,
    /// `turnTimeout`.
    pub turn_timeout: Duration,
    /// `maxOutputTokens`; `None` leaves it to the server.
    pub max_output_tokens: Option<u64>,
    /// `images`: whether images are shown to its model.
    pub images: bool,
    /// `maxRounds`: calls of the model in one turn.
    pub max_rounds: usize,
    /// `tokensPerTurn`.
    pub tokens_per_turn: Option<u64>,
    /// `tokensPerDay`.
    pub tokens_per_day: Option<u64>,
    /// `tokensPerUserDay`.
    pub tokens_per_user_day: Option<u64>,
    /// `tools`: patterns of the tools that it is offered; `None` for all.
    pub tools: Option<Vec<String>>,
}

/// `tools`.
#[derive(Clone, Debug)]
pub struct Tools {
    /// `default`.
    pub default: Action,
    /// `rules`; the first that fits decides.
    pub rules: Vec<ToolRule>,
    /// `mcp`: the servers that are switched on.
    pub mcp: BTreeMap<String, McpServer>,
    /// `shell.commands`.
    pub shell: BTreeMap<String, ShellCommand>,
    /// The data directory's folder `shell`, where programs run that name no other; made when it is needed.
    pub shell_dir: PathBuf,
}

/// What becomes of a tool call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// It runs.
    Allow,
    /// A person decides.
    Ask,
    /// It doesn't.
    Deny,
}

/// One of `tools.rules`. In patterns `*` stands for any part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ToolRule {
    /// `tool`, a pattern.
    pub tool: String,
    /// `action`.
    pub action: Action,
    /// `agent`, a pattern.
    pub agent: Option<String>,
    /// `channel`, a pattern.
    pub channel: Option<String>,
    /// `user`, a pattern.
    pub user: Option<String>,
    /// `role`, exactly.
    pub role: Option<Standing>,
    /// `arguments`: names and patterns.
    pub arguments: Vec<(String, String)>,
}

/// One of `tools.mcp`.
#[derive(Clone, Debug)]
pub struct McpServer {
    /// How it is reached.
    pub reach: McpReach,
    /// `tools`: patterns of the server's own names; `None` for all.
    pub tools: Option<Vec<String>>,
    /// `timeout`.
    pub timeout: Duration,
}

/// How an MCP server is reached.
#[derive(Clone, Debug)]
pub enum McpReach {
    /// `command`, `args`, `env`, `cwd`.
    Program {
        /// An absolute path.
        command: PathBuf,
        /// Its arguments.
        args: Vec<String>,
        /// Its whole environment.
        env: Vec<(String, Secret)>,
        /// The directory that it runs in, absolute.
        cwd: PathBuf,
    },
    /// `url`, `token`.
    Address {
        /// `http` or `https`.
        url: String,
        /// The bearer token.
        token: Option<Secret>,
    },
}

/// One of `tools.shell.commands`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShellCommand {
    /// `path`, absolute.
    pub path: PathBuf,
    /// `args`: patterns.
    pub args: Vec<String>,
    /// `about`.
    pub about: Option<String>,
    /// `cwd`, absolute; `None` for the data directory's `shell` folder.
    pub cwd: Option<PathBuf>,
    /// `timeout`.
    pub timeout: Duration,
    /// `maxMemory`.
    pub max_memory: u64,
    /// `maxProcesses`.
    pub max_processes: u64,
}

/// One of `bindings`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Binding {
    /// A channel's name, or `*`.
    pub channel: String,
    /// A user id, or `*`.
    pub user: String,
    /// An agent's name.
    pub agent: String,
}

/// One of `jobs`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Job {
    /// `id`, or `job-` and its place in the list, from 1.
    pub id: String,
    /// `at`, `every` or `cron`.
    pub when: When,
    /// `timezone`.
    pub timezone: Option<String>,
    /// `agent` and `prompt`, or `message`.
    pub work: Work,
    /// `userId`.
    pub user_id: String,
    /// `channel`; `None` where the user was last seen.
    pub channel: Option<String>,
    /// `catchUp`.
    pub catch_up: bool,
}

/// `log`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Log {
    /// `level`.
    pub level: log::LevelFilter,
    /// `format`.
    pub format: LogFormat,
}

/// `log.format`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// Text on a terminal, JSON elsewhere.
    Auto,
    /// Text.
    Text,
    /// JSON lines.
    Json,
}
