//! The parts, put together; nothing serves yet.
//!
//! Invariant: each part is given what it needs and nothing is looked up. Only opening the store can fail.

use std::path::Path;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, OnceLock};

use crate::agent::Agents;
use crate::agent::mcp::Servers;
use crate::api::{Api, Settings};
use crate::auth::Authenticator;
use crate::base::clock::Clock;
use crate::base::error::Result;
use crate::base::live::Live;
use crate::base::threads::Threads;
use crate::channel;
use crate::channel::chat::Chat;
use crate::channel::registry::Registry;
use crate::config::{Config, Limits};
use crate::domain::WEBSOCKET_CHANNEL;
use crate::flow::{Flow, Parts};
use crate::gateway::Start;
use crate::gateway::reload::{self, Reload};
use crate::gateway::tools;
use crate::net::client::Client;
use crate::net::door::Door;
use crate::net::websocket::Sockets;
use crate::store::Store;
use crate::store::sqlite::SqliteStore;
use crate::telemetry::metrics::Metrics;

/// The parts that the start and the drain deal with.
pub struct Built {
    /// The way of a message.
    pub flow: Arc<Flow>,
    /// What the door serves.
    pub api: Arc<Api>,
    /// The configuration.
    pub reload: Arc<Reload>,
    /// The door's bounds.
    pub limits: Arc<Live<Limits>>,
    /// To be filled with the door: it serves the API, which tells its counts, so one of them has to come first.
    pub door_cell: Arc<OnceLock<Arc<Door>>>,
}

/// Opens the store.
///
/// # Errors
/// Where it can't be opened: another gateway uses it, the folder can't be written, it is damaged.
pub fn open_store(start: &Start, threads: &Threads) -> Result<Arc<SqliteStore>> {
    let store = SqliteStore::open(&start.loaded.resolved.config.store.path, start.clock.clone(), threads)?;
    tell_recovery(&*store);
    Ok(store)
}

/// Builds everything else for `config`, which is `start`'s.
pub fn build(start: Start, config: &Config, store: &Arc<SqliteStore>, threads: &Threads) -> Built {
    let Start { loaded, places, logger, clock, began: _, passed: _ } = start;
    let chat = Arc::new(Chat::new(clock.clone()));
    let auth = Arc::new(Authenticator::new(&config.gateway.auth, clock.clone()));
    let flow = Arc::new(Flow::new(parts(store.clone(), config, &chat, &auth, &clock, threads, &places.data_dir), config));
    flow.channels.set(Registry::new(&config.channels, &channel_parts(&flow), None).with(WEBSOCKET_CHANNEL, chat.clone()));
    let limits = Arc::new(Live::new(config.gateway.limits));
    let sockets = Sockets::new(clock.clone(), threads.clone(), reload::websocket_settings(config));
    let door_cell: Arc<OnceLock<Arc<Door>>> = Arc::default();
    let reload = Arc::new(Reload::new(
        loaded,
        reload::Parts {
            flow: flow.clone(),
            auth: auth.clone(),
            door: door_cell.clone(),
            limits: limits.clone(),
            chat: chat.clone(),
            sockets: sockets.clone(),
            announcer: OnceLock::new(),
            logger: logger.clone(),
            places,
            clock: clock.clone(),
        },
    ));
    let door = door_cell.clone();
    let api = Arc::new(Api {
        flow: flow.clone(),
        auth,
        settings: Live::new(Settings::new(config, &clock)),
        configurator: reload.clone(),
        chat,
        sockets,
        logger,
        door: Box::new(move || door.get().map(|door| door.stats()).unwrap_or_default()),
        document: OnceLock::new(),
        asking: AtomicUsize::new(0),
    });
    reload.attach(&api);
    Built { flow, api, reload, limits, door_cell }
}

/// What channels are made with.
pub fn channel_parts(flow: &Arc<Flow>) -> channel::Parts {
    channel::Parts {
        name: String::new(),
        client: flow.delivery_client.clone(),
        clock: flow.clock.clone(),
        threads: flow.threads.clone(),
        inlet: Arc::new(flow.clone()),
    }
}

fn parts(
    store: Arc<SqliteStore>,
    config: &Config,
    chat: &Arc<Chat>,
    auth: &Arc<Authenticator>,
    clock: &Clock,
    threads: &Threads,
    data_dir: &Path,
) -> Parts {
    let pool = config.gateway.pool_max_size;
    let (client, delivery_client) = (Arc::new(Client::new(pool)), Arc::new(Client::new(pool)));
    // Those that hold a connection need the flow as their way in: `build` puts them there.
    let channels = Registry::default().with(WEBSOCKET_CHANNEL, chat.clone());
    let agents = Agents::new(config, &client, clock, None);
    let mcp = Arc::new(Servers::new(&config.tools.mcp, None, &client, clock, threads));
    let metrics = Metrics::new(clock.clone());
    store.count_in(&metrics);
    Parts {
        store,
        clock: clock.clone(),
        metrics,
        channels,
        agents,
        tools: tools::toolbox(config, data_dir, &mcp),
        mcp,
        client,
        delivery_client,
        auth: auth.clone(),
        threads: threads.clone(),
    }
}

fn tell_recovery(store: &dyn Store) {
    let r = store.recovery();
    if r.unclean {
        log::warn!(resumed = r.resumed, set_aside = r.set_aside, resent = r.resent, unknown = r.unknown; "the former process ended without closing; its work goes on");
    }
}
