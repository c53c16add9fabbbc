//! Who is connected to the WebSocket chat, and what is pushed to them.
//!
//! Invariant: a user may have many connections and each gets everything; closing one takes nothing from another. Pushing
//! never blocks: a line either takes a frame into its own bound or closes itself. What is pushed here is a copy; the outbox
//! keeps the message until its receipt. Nothing here fails.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::Value;

use crate::domain::{Approval, Delivery, Principal, Role};
use crate::flow::frames;

/// One connection as the hub sees it.
pub trait Line: Send + Sync {
    /// Queues a frame; false where the line is closed or was too slow and is being dropped.
    fn send(&self, frame: Arc<str>) -> bool;
    /// Queues a frame that may be left out where the line is busy (a delta, an event).
    fn hint(&self, frame: Arc<str>);
    /// Closes it with that code, behind what is queued.
    fn close(&self, code: u16, reason: &'static str);
}

/// Pushes that are held while a backlog is under way, at most.
const HELD_MAX: usize = 256;

/// Deliveries of the backlog that are remembered, for the pushes of them that may still come.
const KNOWN_MAX: usize = 512;

/// What is pushed while the backlog is under way: ids and frames.
#[derive(Default)]
struct Held {
    frames: Vec<(String, Arc<str>)>,
    is_cut: bool,
}

/// How a connection stands to its backlog.
enum Stand {
    /// It is being sent; what is pushed meanwhile goes behind it, once.
    Behind(Held),
    /// It has caught up. A message may have been read from the store before it was pushed: that push is of one that it has.
    Even(HashSet<String>),
}

/// A connection that has said who it is.
pub struct Client {
    id: u64,
    line: Arc<dyn Line>,
    principal: Arc<Principal>,
    stand: Mutex<Stand>,
}

impl Client {
    /// Who it is.
    pub fn principal(&self) -> &Arc<Principal> {
        &self.principal
    }

    /// Sends a frame that belongs to this connection alone.
    pub fn send(&self, frame: &Value) -> bool {
        self.line.send(frame.to_string().into())
    }

    /// Sends a frame that may be left out where the line is busy.
    pub fn hint(&self, frame: Arc<str>) {
        self.line.hint(frame);
    }

    /// Sends one message of the backlog, ahead of what is held.
    pub fn push_backlog(&self, delivery: &Delivery) {
        self.line.send(frames::message(delivery));
    }

    /// Sends one message to this connection alone.
    pub fn push(&self, delivery: &Delivery) {
        self.take(&delivery.id, &frames::message(delivery));
    }

    fn take(&self, delivery_id: &str, frame: &Arc<str>) {
        match &mut *lock(&self.stand) {
            // What is left out here is in the store, and read from there again before this connection has caught up.
            Stand::Behind(held) if held.frames.len() >= HELD_MAX => held.is_cut = true,
            Stand::Behind(held) => held.frames.push((delivery_id.to_string(), frame.clone())),
            Stand::Even(known) => {
                if !known.remove(delivery_id) {
                    self.line.send(frame.clone());
                }
            }
        }
    }

    /// The backlog (`sent`) is under way: what was pushed meanwhile goes behind it, once. False where some of that was left out:
    /// read the store again.
    pub fn catch_up(&self, sent: &HashSet<String>) -> bool {
        let mut stand = lock(&self.stand);
        let (waiting, known) = match &mut *stand {
            Stand::Behind(held) => (std::mem::take(held), HashSet::new()),
            Stand::Even(known) => (Held::default(), std::mem::take(known)),
        };
        let pushed: HashSet<&String> = waiting.frames.iter().map(|(id, _)| id).collect();
        let to_come = sent.iter().filter(|id| !pushed.contains(id)).cloned();
        *stand = Stand::Even(to_come.chain(known).take(KNOWN_MAX).collect());
        for (id, frame) in waiting.frames {
            if !sent.contains(&id) {
                self.line.send(frame);
            }
        }
        !waiting.is_cut
    }
}

/// What another connection of the same user got just now and may acknowledge yet: it comes to this one only if it doesn't.
pub struct Repeat {
    due: Duration,
    /// The connection.
    pub client: Arc<Client>,
    /// The deliveries.
    pub ids: HashSet<String>,
}

/// All connections.
#[derive(Default)]
pub struct Hub {
    clients: Mutex<HashMap<String, Vec<Arc<Client>>>>,
    repeats: Mutex<Vec<Repeat>>,
    next_id: AtomicU64,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Hub {
    /// Nobody connected.
    pub fn new() -> Self {
        Self::default()
    }

    /// A connection has said who it is. Pushes to it wait until it has caught up ([`Client::catch_up`]).
    pub fn join(&self, principal: Arc<Principal>, line: Arc<dyn Line>) -> Arc<Client> {
        let client = Arc::new(Client {
            id: self.next_id.fetch_add(1, Ordering::Relaxed),
            line,
            principal,
            stand: Mutex::new(Stand::Behind(Held::default())),
        });
        lock(&self.clients).entry(client.principal.id.clone()).or_default().push(client.clone());
        client
    }

    /// A connection is gone.
    pub fn leave(&self, client: &Client) {
        let mut clients = lock(&self.clients);
        lock(&self.repeats).retain(|r| r.client.id != client.id);
        if let Some(list) = clients.get_mut(&client.principal.id) {
            list.retain(|c| c.id != client.id);
            if list.is_empty() {
                clients.remove(&client.principal.id);
            }
        }
    }

    /// Notes what `client` gets at `due` if it is not acknowledged by then.
    pub fn repeat_at(&self, due: Duration, client: Arc<Client>, ids: HashSet<String>) {
        lock(&self.repeats).push(Repeat { due, client, ids });
    }

    /// Takes the repeats that are due; gives when the next one is.
    pub fn due_repeats(&self, now: Duration) -> (Vec<Repeat>, Option<Duration>) {
        let mut repeats = lock(&self.repeats);
        let due = repeats.extract_if(.., |r| r.due <= now).collect();
        (due, repeats.iter().map(|r| r.due).min())
    }

    /// How many connections a user has.
    pub fn count(&self, user_id: &str) -> usize {
        lock(&self.clients).get(user_id).map_or(0, Vec::len)
    }

    /// Pushes a message to all connections of its user.
    pub fn push(&self, delivery: &Delivery) {
        let clients = self.of(&delivery.user_id);
        if !clients.is_empty() {
            let frame = frames::message(delivery);
            clients.iter().for_each(|c| c.take(&delivery.id, &frame));
        }
    }

    /// Shows a piece of an answer while the model speaks: a hint.
    pub fn delta(&self, user_id: &str, message_id: &str, text: &str) {
        let clients = self.of(user_id);
        if !clients.is_empty() {
            let frame = frames::delta(message_id, text);
            clients.iter().for_each(|c| c.line.hint(frame.clone()));
        }
    }

    /// Tells a user that a message failed: a hint, the message's own state is the record.
    pub fn failed(&self, user_id: &str, frame: &Value) {
        let frame: Arc<str> = frame.to_string().into();
        self.of(user_id).iter().for_each(|c| c.line.hint(frame.clone()));
    }

    /// Shows an event to operators.
    pub fn event(&self, name: &str, detail: Value) {
        let clients = lock(&self.clients);
        let mut operators = clients.values().flatten().filter(|c| c.principal.role >= Role::Operator).peekable();
        if operators.peek().is_some() {
            let frame = frames::event(name, detail);
            operators.for_each(|c| c.line.hint(frame.clone()));
        }
    }

    /// Shows a question, or how it was settled, to operators and to the author of the message that waits for it.
    pub fn approval(&self, approval: &Approval) {
        let clients = lock(&self.clients);
        for client in clients.values().flatten() {
            let decides = client.principal.role >= Role::Operator;
            if decides || client.principal.id == approval.user_id {
                client.line.hint(frames::approval(approval, decides));
            }
        }
    }

    /// Closes the connections whose principal is no longer good.
    pub fn revoke(&self, still_good: impl Fn(&Principal) -> bool) -> usize {
        let clients = lock(&self.clients);
        let revoked = clients.values().flatten().filter(|c| !still_good(&c.principal));
        revoked.map(|c| c.line.close(4401, "credential revoked")).count()
    }

    /// Whether that user is connected.
    pub fn is_connected(&self, user_id: &str) -> bool {
        lock(&self.clients).contains_key(user_id)
    }

    fn of(&self, user_id: &str) -> Vec<Arc<Client>> {
        lock(&self.clients).get(user_id).cloned().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::channel::memory;
    use crate::domain::DeliveryState;

    #[derive(Default)]
    struct Tape(Mutex<Vec<String>>);

    impl Line for Tape {
        fn send(&self, frame: Arc<str>) -> bool {
            lock(&self.0).push(serde_json::from_str::<Value>(&frame).unwrap()["deliveryId"].as_str().unwrap_or("?").to_string());
            true
        }
        fn hint(&self, frame: Arc<str>) {
            self.send(frame);
        }
        fn close(&self, code: u16, _: &'static str) {
            lock(&self.0).push(code.to_string());
        }
    }

    fn delivery(id: &str) -> Delivery {
        Delivery {
            id: id.into(),
            channel: "websocket".into(),
            state: DeliveryState::Pending,
            attempts: 0,
            ..memory::delivery("ana", "hi")
        }
    }

    fn principal() -> Arc<Principal> {
        Arc::new(Principal { id: "ana".into(), role: Role::User, email: None, credential: None, grant: None })
    }

    #[test]
    fn what_is_pushed_during_the_backlog_comes_behind_it_once() {
        let (hub, tape) = (Hub::new(), Arc::new(Tape::default()));
        let client = hub.join(principal(), tape.clone());
        hub.push(&delivery("d2"));
        hub.push(&delivery("d3"));
        client.push_backlog(&delivery("d1"));
        client.push_backlog(&delivery("d2"));
        assert!(client.catch_up(&HashSet::from(["d1".to_string(), "d2".to_string()])));
        hub.push(&delivery("d4"));
        assert_eq!(*lock(&tape.0), ["d1", "d2", "d3", "d4"]);
    }

    #[test]
    fn closing_the_oldest_of_three_leaves_the_others() {
        let hub = Hub::new();
        let tapes: Vec<_> = (0..3).map(|_| Arc::new(Tape::default())).collect();
        let clients: Vec<_> = tapes.iter().map(|t| hub.join(principal(), t.clone())).collect();
        assert!(clients.iter().all(|c| c.catch_up(&HashSet::new())));
        hub.push(&delivery("d1"));
        hub.leave(&clients[0]);
        hub.push(&delivery("d2"));
        let got: Vec<_> = tapes.iter().map(|t| lock(&t.0).len()).collect();
        assert_eq!(got, [1, 2, 2]);
        hub.leave(&clients[1]);
        hub.leave(&clients[2]);
        assert!(!hub.is_connected("ana"));
    }

    /// A commit that a connection read before who committed came to push it.
    #[test]
    fn what_the_backlog_brought_is_not_pushed_once_more() {
        let (hub, tape) = (Hub::new(), Arc::new(Tape::default()));
        let client = hub.join(principal(), tape.clone());
        let id = |n: u32| format!("dlv_{n}");
        client.push_backlog(&delivery(&id(1)));
        assert!(client.catch_up(&HashSet::from([id(1)])));
        hub.push(&delivery(&id(1)));
        hub.push(&delivery(&id(2)));
        assert_eq!(*lock(&tape.0), [id(1), id(2)]);
        hub.push(&delivery(&id(1)));
        assert_eq!(lock(&tape.0).len(), 3, "once: what is pushed again is meant");
    }

    #[test]
    fn revoking_closes_those_it_concerns() {
        let (hub, tape) = (Hub::new(), Arc::new(Tape::default()));
        let _client = hub.join(principal(), tape.clone());
        assert_eq!(hub.revoke(|_| true), 0);
        assert_eq!(hub.revoke(|p| p.id != "ana"), 1);
        assert_eq!(*lock(&tape.0), ["4401"]);
    }
}
