//! `gateway`: the server itself.
//!
//! Invariant: times are in ms, sizes in bytes; every number has both bounds.

use serde_json::Value;

use crate::config::section::*;

/// A day, the longest time that a key can be set to.
const DAY: u64 = 86_400_000;

section! {
    /// The server: where it listens, who may call it, its bounds.
    Gateway {
        /// Address and port of HTTP and WebSocket; port 0 lets the system choose one.
        listen: String = key("listen", Preset::Text("127.0.0.1:8787")).range(1, 64).restart();
        /// The same as `gateway.auth.allowInsecure`.
        allow_insecure: bool = key("allowInsecure", Preset::Bool(false));
        /// Who may call it.
        auth: Auth = key("auth", Preset::EmptyObject);
        /// How many requests a caller may make.
        rate_limit: RateLimit = key("rateLimit", Preset::EmptyObject);
        /// The userIds of those who are told when a channel goes down and when it is back, where they were last seen.
        notify: Vec<String> = key("notify", Preset::EmptyList).range(0, 100);
        /// The regular look at channels, providers, memory and WebSockets.
        heartbeat: Heartbeat = key("heartbeat", Preset::EmptyObject);
        /// How often a failed delivery or provider call is tried again.
        retry: Retry = key("retry", Preset::EmptyObject);
        /// Connections to other servers.
        pool: Pool = key("pool", Preset::EmptyObject);
        /// What is kept of other servers' answers.
        cache: Cache = key("cache", Preset::EmptyObject);
        /// The bounds of the HTTP door.
        limits: Limits = key("limits", Preset::EmptyObject);
        /// The sizes of the worker pools.
        workers: Workers = key("workers", Preset::EmptyObject);
        /// How it ends.
        shutdown: Shutdown = key("shutdown", Preset::EmptyObject);
        /// The Unix socket for this machine's administration (mode 0660, no token needed), relative to the data directory; `null` is none.
        local_socket: Option<String> = key("localSocket", Preset::Text("gatelet.sock")).range(1, 4096).restart();
        /// Whether it is announced on the local network as `_gatelet._tcp.local` (mDNS), where it listens on more than loopback.
        mdns: bool = key("mdns", Preset::Bool(false));
        /// Further values of `Host` that are answered, beside this machine's own names and addresses.
        allowed_hosts: Vec<String> = key("allowedHosts", Preset::EmptyList);
        /// Further origins whose pages may call the gateway, as `https://panel.example`.
        allowed_origins: Vec<String> = key("allowedOrigins", Preset::EmptyList);
        /// Addresses or networks (`10.0.0.0/8`) of proxies whose `X-Forwarded-For` is believed.
        trusted_proxies: Vec<String> = key("trustedProxies", Preset::EmptyList);
    }
}

section! {
    /// Who may call the gateway.
    Auth {
        /// `token`: static tokens, and those of `oauthProviders` where there are any; `oauth`: the same, and there must be some; `none`: everybody is admin, on a loopback address only.
        mode: AuthMode = key("mode", Preset::Text("token"));
        /// The admin's token, 16 characters or more. Without one, one is made at first start and kept in `token` in the data directory.
        token: Option<RawSecret> = key("token", Preset::Unset);
        /// Further tokens, each with a name and a role.
        tokens: Vec<NamedToken> = key("tokens", Preset::EmptyList);
        /// Identity providers: a bearer that is no static token is asked of each, in this order. Not with mode `none`.
        oauth_providers: Vec<OauthProvider> = key("oauthProviders", Preset::EmptyList);
        /// Allows mode `none` on an address that is not loopback: whoever reaches it is admin.
        allow_insecure: bool = key("allowInsecure", Preset::Bool(false));
    }
}

choice! {
    /// `gateway.auth.mode`
    AuthMode { Token = "token", None = "none", Oauth = "oauth" }
}

choice! {
    /// A principal's role.
    Role { User = "user", Operator = "operator", Admin = "admin" }
}

section! {
    /// A token beside the admin's.
    NamedToken {
        /// The principal's id; a `user`'s messages and sessions are the ones of this userId.
        name: String = key("name", Preset::Required).range(1, 64);
        /// `admin` may do all; `operator` changes no configuration; `user` has its own messages and sessions alone.
        role: Role = key("role", Preset::Required);
        /// The token, 16 characters or more.
        token: RawSecret = key("token", Preset::Required);
    }
}

section! {
    /// An identity provider. One of `issuer`, `introspectionUrl` and `userinfoUrl` is needed.
    OauthProvider {
        /// Its name here; the principal of its subject `S` is `NAME:S`, or the user whose `users` entry says `"NAME": "S"`. No channel's name.
        name: String = key("name", Preset::Required).range(1, 64);
        /// Its issuer, compared exactly; keys and endpoints come from its OpenID discovery document. Needs `audience` or `clientId`.
        issuer: Option<String> = key("issuer", Preset::Unset).range(1, 2048);
        /// Its token introspection address (RFC 7662). Needs `clientId` and `clientSecret`.
        introspection_url: Option<String> = key("introspectionUrl", Preset::Unset).range(1, 2048);
        /// Its userinfo address, asked where no introspection can be. It tells no audience, so it goes without `audience`.
        userinfo_url: Option<String> = key("userinfoUrl", Preset::Unset).range(1, 2048);
        /// The gateway's client id there.
        client_id: Option<String> = key("clientId", Preset::Unset).range(1, 1024);
        /// The gateway's client secret there.
        client_secret: Option<RawSecret> = key("clientSecret", Preset::Unset);
        /// The audience that a token must be for; a JWT's is `clientId` where this is left out.
        audience: Option<String> = key("audience", Preset::Unset).range(1, 1024);
        /// The claim that says who it is.
        user_id_claim: String = key("userIdClaim", Preset::Text("sub")).range(1, 256);
        /// Which role a claim gives; the first that fits decides, and without one it is `user`.
        roles: Vec<OauthRole> = key("roles", Preset::EmptyList);
    }
}

section! {
    /// A role by a claim.
    OauthRole {
        /// The claim's name.
        claim: String = key("claim", Preset::Required).range(1, 256);
        /// The value that it must have or contain.
        equals: String = key("equals", Preset::Required).range(0, 256);
        /// The role that it gives.
        role: Role = key("role", Preset::Required);
    }
}

section! {
    /// How many requests a caller may make: at most `maxRequests` in a `window` that opens with the caller's first one.
    RateLimit {
        /// Whether there is a limit.
        enabled: bool = key("enabled", Preset::Bool(true));
        /// The window in ms.
        window: u64 = key("window", Preset::Int(60_000)).range(1, DAY);
        /// Requests in a window.
        max_requests: u64 = key("maxRequests", Preset::Int(100)).range(1, 1_000_000_000);
        /// `false` makes it one limit for all callers together.
        per_user: bool = key("perUser", Preset::Bool(true));
    }
}

section! {
    /// The regular look at channels, providers, memory and WebSockets.
    Heartbeat {
        /// The pause between two, in ms; a WebSocket that is silent for two of them is closed.
        interval: u64 = key("interval", Preset::Int(30_000)).range(10, DAY);
    }
}

section! {
    /// How often a failed delivery or provider call is tried again.
    Retry {
        /// Tries after the first one; 0 is none.
        max_retries: u64 = key("maxRetries", Preset::Int(3)).range(0, 100);
        /// The pause before the first retry in ms; it doubles with each further one, up to 15 minutes.
        delay: u64 = key("delay", Preset::Int(1000)).range(1, 3_600_000);
    }
}

section! {
    /// Connections to other servers.
    Pool {
        /// Idle connections kept for each host.
        max_size: u64 = key("maxSize", Preset::Int(10)).range(1, 1024).restart();
    }
}

section! {
    /// What is kept of other servers' answers.
    Cache {
        /// How long an answer is kept, in ms.
        ttl: u64 = key("ttl", Preset::Int(300_000)).range(1, DAY);
        /// Answers kept at most.
        max_entries: u64 = key("maxEntries", Preset::Int(1024)).range(1, 1_000_000).restart();
    }
}

section! {
    /// The bounds of the HTTP door.
    Limits {
        /// HTTP connections at a time.
        max_connections: u64 = key("maxConnections", Preset::Int(256)).range(1, 1_000_000);
        /// WebSockets at a time.
        max_websockets: u64 = key("maxWebSockets", Preset::Int(1024)).range(0, 1_000_000);
        /// Bytes of a request's whole head.
        max_header_bytes: u64 = key("maxHeaderBytes", Preset::Int(16_384)).range(1024, 1 << 20);
        /// Bytes of a request's body.
        max_body_bytes: u64 = key("maxBodyBytes", Preset::Int(1 << 20)).range(1024, 64 << 20);
        /// Time for a request's head from its first byte, and for its body, in ms.
        request_timeout: u64 = key("requestTimeout", Preset::Int(10_000)).range(1, 3_600_000);
        /// Time that a connection may wait between two requests, in ms.
        idle_timeout: u64 = key("idleTimeout", Preset::Int(60_000)).range(1, DAY);
        /// Bytes of memory of its own (without mapped files) above which it drops caches and refuses what brings more, until it is an eighth below.
        max_memory: u64 = key("maxMemory", Preset::Int(128 << 20)).range(1 << 20, 1 << 40);
        /// Bytes of a file that comes with a message; a larger one is not fetched. 0: none is.
        max_attachment_bytes: u64 = key("maxAttachmentBytes", Preset::Int(5 << 20)).range(0, 32 << 20);
    }
}

section! {
    /// The sizes of the worker pools.
    Workers {
        /// Requests that may block, worked on at a time.
        http: u64 = key("http", Preset::Int(4)).range(1, 64).restart();
        /// Turns at a time.
        turns: u64 = key("turns", Preset::Int(4)).range(1, 64).restart();
        /// Deliveries at a time.
        deliveries: u64 = key("deliveries", Preset::Int(2)).range(1, 64).restart();
    }
}

section! {
    /// How it ends.
    Shutdown {
        /// Time for running turns and deliveries to finish, in ms; what is not done then goes on at the next start.
        drain_timeout: u64 = key("drainTimeout", Preset::Int(30_000)).range(1, 3_600_000);
    }
}
