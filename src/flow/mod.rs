//! The way of a message: ingress → inbox → a turn → outbox → a delivery, and the timer that keeps all of it moving.
//!
//! Invariant: what lasts is in the store; the queues here carry nudges alone, bounded, and a lost one costs one poll
//! interval. A panic in a turn or a delivery is one failure of that turn or delivery. Fails by telling: a message that can't
//! be handled ends as `failed`, one that can't be delivered as a dead letter.

pub mod admission;
mod approvals;
mod attachments;
pub mod cancel;
pub mod commands;
mod courier;
pub mod delivery;
pub mod frames;
pub mod heartbeat;
pub mod hub;
pub mod ingress;
mod inlet;
pub mod jobs;
pub mod listeners;
mod notices;
pub mod outbound;
mod pairing;
mod previews;
mod retention;
pub mod route;
pub mod timer;
pub mod turns;
mod typing;
pub mod waiters;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender};

use crate::agent::Agents;
use crate::agent::mcp::Servers;
use crate::agent::tools::Toolbox;
use crate::auth::Authenticator;
use crate::base::backoff::Retry;
use crate::base::clock::Clock;
use crate::base::crash;
use crate::base::error::Error;
use crate::base::limit::{Limiter, Verdict};
use crate::base::live::Live;
use crate::base::stop::Stop;
use crate::base::threads::{STACK, Threads};
use crate::channel::registry::Registry;
use crate::config::{self, Config, RateLimit, Retention};
use crate::flow::admission::Policy;
use crate::flow::cancel::Running;
use crate::flow::hub::Hub;
use crate::flow::jobs::Jobs;
use crate::flow::listeners::Listeners;
use crate::flow::notices::Notices;
use crate::flow::pairing::{Places, Tells};
use crate::flow::previews::Previews;
use crate::flow::retention::Keeper;
use crate::flow::route::Routes;
use crate::flow::typing::Typing;
use crate::flow::waiters::Waiters;
use crate::net::client::Client;
use crate::store::Store;
use crate::telemetry::memory::MemoryGuard;
use crate::telemetry::metrics::Metrics;

/// A worker that finds nothing looks again after this, whatever nudges were lost.
pub const POLL: Duration = Duration::from_secs(30);
/// Pause before a worker asks a store again that just refused.
const STORE_PAUSE: Duration = Duration::from_millis(250);

/// Work for the errands' thread; see [`Flow::errand`].
pub type Errand = Box<dyn FnOnce() + Send>;

/// What of the configuration the flow goes by.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Who is who and which agent answers.
    pub routes: Routes,
    /// `gateway.rateLimit`.
    pub rate_limit: Option<RateLimit>,
    /// `gateway.retry`, for turns and deliveries.
    pub retry: Retry,
    /// `gateway.heartbeat.interval`.
    pub heartbeat: Duration,
    /// `gateway.limits.maxMemory`.
    pub max_memory: u64,
    /// `gateway.limits.maxAttachmentBytes`.
    pub max_attachment_bytes: usize,
    /// Who may speak on each configured channel, and what happens in its conversations.
    pub channels: BTreeMap<String, Policy>,
    /// `gateway.notify`.
    pub notify: Vec<String>,
    /// `jobs`.
    pub jobs: Vec<config::Job>,
    /// `store.retention`, and `store.maxBytes`.
    pub retention: Retention,
    /// `store.writeBudget`.
    pub write_budget: Option<u64>,
}

impl Settings {
    /// The settings of a configuration.
    pub fn new(config: &Config) -> Self {
        Settings {
            routes: Routes::new(&config.bindings, &config.users),
            rate_limit: config.gateway.rate_limit,
            retry: config.gateway.retry,
            heartbeat: config.gateway.heartbeat,
            max_memory: config.gateway.limits.max_memory,
            max_attachment_bytes: config.gateway.limits.max_attachment_bytes,
            channels: config.channels.iter().map(|(name, channel)| (name.clone(), Policy::new(channel))).collect(),
            notify: config.gateway.notify.clone(),
            jobs: config.jobs.clone(),
            retention: config.store.retention,
            write_budget: config.store.write_budget,
        }
    }
}

/// All that the way of a message needs; shared by the workers and by the API.
pub struct Flow {
    /// What lasts.
    pub store: Arc<dyn Store>,
    /// Time.
    pub clock: Clock,
    /// Counts.
    pub metrics: Arc<Metrics>,
    /// The settings, replaced by a reload.
    pub settings: Live<Settings>,
    /// The channels, replaced by a reload.
    pub channels: Live<Registry>,
    /// The agents, replaced by a reload.
    pub agents: Live<Agents>,
    /// What agents may call, replaced by a reload.
    pub tools: Live<Toolbox>,
    /// The MCP servers behind some of it; a reload keeps those that it doesn't change.
    pub mcp: Live<Arc<Servers>>,
    /// The turns that run.
    pub running: Running,
    /// HTTP out to providers. Interrupting it cuts turns short and leaves deliveries alone.
    pub client: Arc<Client>,
    /// HTTP out to reply addresses.
    pub delivery_client: Arc<Client>,
    /// Who comes in; here for the windows of failed logins, which the timer sweeps with its own.
    pub auth: Arc<Authenticator>,
    /// The threads, for the panics that are caught in turns and deliveries.
    pub threads: Threads,
    /// Who is connected to the WebSocket chat.
    pub hub: Hub,
    /// Who waits for a reply.
    pub waiters: Waiters,
    /// Who listens to a reply while it is spoken.
    pub listeners: Listeners,
    jobs: Jobs,
    rate: Limiter,
    /// Senders who were told lately why nothing of theirs is taken.
    tells: Tells,
    /// Where those who wait to be let in wrote from.
    places: Places,
    /// Channels that are down.
    notices: Notices,
    /// Turns whose users see that an answer is being made.
    typing: Typing,
    /// Answers that are shown while they are made.
    previews: Previews,
    turn_nudge: (Sender<()>, Receiver<()>),
    delivery_nudge: (Sender<()>, Receiver<()>),
    timer_nudge: (Sender<()>, Receiver<()>),
    /// Short work with the store for threads that have no stack to spare for it.
    errands: (Sender<Errand>, Receiver<Errand>),
    /// What a commit has settled and its senders are to be told: the writer goes on with the next commit meanwhile.
    answers: (Sender<Errand>, Receiver<Errand>),
    /// Set when no new message is to be taken.
    draining: AtomicBool,
    /// Ends what urgent messages wait for.
    urgent_end: Stop,
    /// Whether the process holds more memory than it may.
    memory: MemoryGuard,
    /// What goes by age and size.
    keeper: Keeper,
    /// What the heartbeat found.
    findings: heartbeat::Findings,
    turn_workers: usize,
    /// Turn workers between a claim and its end, of which what is to be sent is known then.
    turning: AtomicUsize,
    /// Deliveries between their claim and their record.
    sending: AtomicUsize,
}

/// What a flow is built from.
pub struct Parts {
    /// What lasts.
    pub store: Arc<dyn Store>,
    /// Time.
    pub clock: Clock,
    /// Counts.
    pub metrics: Arc<Metrics>,
    /// The channels.
    pub channels: Registry,
    /// The agents.
    pub agents: Agents,
    /// What they may call.
    pub tools: Toolbox,
    /// The MCP servers behind some of it.
    pub mcp: Arc<Servers>,
    /// HTTP out to providers.
    pub client: Arc<Client>,
    /// HTTP out to reply addresses.
    pub delivery_client: Arc<Client>,
    /// Who comes in.
    pub auth: Arc<Authenticator>,
    /// The threads.
    pub threads: Threads,
}

impl Flow {
    /// Puts the parts together; nothing runs yet.
    pub fn new(parts: Parts, config: &Config) -> Self {
        let workers = config.gateway.workers;
        Flow {
            store: parts.store,
            clock: parts.clock,
            metrics: parts.metrics,
            settings: Live::new(Settings::new(config)),
            channels: Live::new(parts.channels),
            agents: Live::new(parts.agents),
            tools: Live::new(parts.tools),
            mcp: Live::new(parts.mcp),
            running: Running::new(),
            client: parts.client,
            delivery_client: parts.delivery_client,
            auth: parts.auth,
            threads: parts.threads,
            hub: Hub::new(),
            waiters: Waiters::new(),
            listeners: Listeners::new(),
            jobs: Jobs::default(),
            rate: Limiter::new(),
            tells: Tells::default(),
            places: Places::default(),
            notices: Notices::default(),
            typing: Typing::default(),
            previews: Previews::default(),
            turn_nudge: crossbeam_channel::bounded(workers.turns),
            delivery_nudge: crossbeam_channel::bounded(workers.deliveries),
            timer_nudge: crossbeam_channel::bounded(1),
            errands: crossbeam_channel::bounded(1024),
            answers: crossbeam_channel::bounded(1024),
            draining: AtomicBool::new(false),
            urgent_end: Stop::new(),
            memory: MemoryGuard::default(),
            keeper: Keeper::default(),
            findings: heartbeat::Findings::default(),
            turn_workers: workers.turns,
            turning: AtomicUsize::new(0),
            sending: AtomicUsize::new(0),
        }
    }

    /// Starts the workers and the timer. `turns_end` and `deliveries_end` ask the workers to end after what they have in hand;
    /// `stop` ends the timer.
    ///
    /// # Errors
    /// Where the system refuses a thread.
    pub fn start(
        self: &Arc<Self>,
        deliveries: usize,
        threads: &Threads,
        turns_end: &Stop,
        deliveries_end: &Stop,
        stop: &Stop,
    ) -> Result<(), Error> {
        for i in 0..self.turn_workers {
            let (flow, end, pulse) = (self.clone(), turns_end.clone(), threads.pulse(&format!("turn-{i}")));
            threads.spawn(&format!("turn-{i}"), STACK * 2, turns_end, move || turns::work(&flow, &pulse, &end))?;
        }
        for i in 0..deliveries {
            let (flow, end, pulse) = (self.clone(), deliveries_end.clone(), threads.pulse(&format!("deliver-{i}")));
            threads.spawn(&format!("deliver-{i}"), STACK * 2, deliveries_end, move || delivery::work(&flow, &pulse, &end))?;
        }
        for (name, queue) in [("errands", &self.errands.1), ("answers", &self.answers.1)] {
            let (queue, end) = (queue.clone(), stop.clone());
            threads.spawn(name, STACK, stop, move || run_errands(&queue, &end))?;
        }
        self.urge(); // what the former process left
        self.sync_jobs();
        self.sync_retention();
        let (flow, end, pulse) = (self.clone(), stop.clone(), threads.pulse("timer"));
        threads.spawn("timer", STACK, stop, move || timer::run(&flow, &pulse, &end))
    }

    /// Takes no new message from now on.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::SeqCst);
        self.urgent_end.set();
    }

    /// Has the errands' thread handle what is urgent. Where too many errands wait, the heartbeat does it.
    pub fn urge(self: &Arc<Self>) {
        let flow = self.clone();
        let _ = self.errand(Box::new(move || turns::urgent(&flow)));
    }

    /// Whether new messages are refused because the gateway drains.
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::SeqCst)
    }

    /// Turn workers that have something in hand.
    pub fn turning(&self) -> usize {
        self.turning.load(Ordering::SeqCst)
    }

    /// Deliveries between their claim and their record.
    pub fn sending(&self) -> usize {
        self.sending.load(Ordering::SeqCst)
    }

    /// Wakes a turn worker. A full queue means that all of them are awake.
    pub fn nudge_turns(&self) {
        let _ = self.turn_nudge.0.try_send(());
    }

    /// Wakes a delivery worker.
    pub fn nudge_deliveries(&self) {
        let _ = self.delivery_nudge.0.try_send(());
    }

    /// Wakes the timer, so that it looks at its deadlines anew.
    pub fn nudge_timer(&self) {
        let _ = self.timer_nudge.0.try_send(());
    }

    /// Lets the errands' thread do a short work with the store, for threads that must not wait for it or have no stack to spare: a
    /// WebSocket's thread keeps every page of stack that it ever touched, and SQLite touches many. Given back where too many
    /// wait.
    ///
    /// # Errors
    /// The work, not done.
    pub fn errand(&self, work: Errand) -> Result<(), Errand> {
        self.errands.0.try_send(work).map_err(crossbeam_channel::TrySendError::into_inner)
    }

    /// Lets the answers' thread tell a sender; done here where too many wait to be told.
    fn answer(&self, tell: Errand) {
        if let Err(refused) = self.answers.0.try_send(tell) {
            refused.into_inner()();
        }
    }

    /// Looks whether a message is ended already, for those who wait for it. Where too many such wait, they wait on.
    pub fn look_up_reply(self: &Arc<Self>, message_id: &str) {
        let (flow, id) = (self.clone(), message_id.to_string());
        let _ = self.errand(Box::new(move || turns::look_up(&flow, &id)));
    }

    /// Counts one request of `key`; the verdict where it is one too many.
    pub fn over_rate(&self, key: &str) -> Option<Verdict> {
        let limit = self.settings.get().rate_limit?;
        let key = if limit.per_user { key } else { "all" };
        let verdict = self.rate.take(key, limit.max_requests, limit.window, self.clock.mono());
        if verdict.allowed {
            return None;
        }
        self.metrics.rate_limited();
        Some(verdict)
    }
}

/// Waits for a nudge, a stop or `timeout`; true when it is time to end.
fn idle(nudge: &Receiver<()>, stop: &Stop, timeout: Duration) -> bool {
    crossbeam_channel::select! {
        recv(nudge) -> _ => false,
        recv(stop.receiver()) -> _ => true,
        default(timeout) => false,
    }
}

fn run_errands(errands: &Receiver<Errand>, stop: &Stop) {
    loop {
        crossbeam_channel::select! {
            recv(errands) -> errand => match errand {
                Ok(errand) => {
                    crash::point("errand");
                    errand();
                }
                Err(_) => return,
            },
            recv(stop.receiver()) -> _ => return,
        }
    }
}

#[cfg(test)]
mod tests;
