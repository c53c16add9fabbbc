//! What waits in the outbox for a user's receipt, sent to a connection that has just said who it is.
//!
//! Invariant: oldest first, as much at a time as the connection has room for, and what is pushed meanwhile behind it, each once.
//! What went to another connection of the same user just now comes only if it is not acknowledged there. Fails by closing the
//! connection: the client comes again, and so do its messages.

use std::collections::{HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::domain::{ApprovalState, Delivery, Role, WEBSOCKET_CHANNEL};
use crate::flow::hub::Client;
use crate::flow::{Flow, frames};
use crate::net::websocket::{QUEUE_BYTES, Socket};
use crate::store::{Page, Seen};

/// Deliveries of the backlog that are under way at a time.
const BACKLOG: usize = 256;
/// Questions that an operator is shown when it connects.
const QUESTIONS: usize = 50;
/// How long a connection has to acknowledge a message before another one of the same user, opened meanwhile, gets it too.
const RECEIPT_WITHIN: Duration = Duration::from_secs(2);

/// The feed of one connection.
pub struct Feed {
    flow: Arc<Flow>,
    /// The connection as the hub knows it.
    pub client: Arc<Client>,
    socket: Socket,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Still to be sent, oldest first.
    backlog: VecDeque<Delivery>,
    /// Sent and not acknowledged.
    sent: HashSet<String>,
    /// Whether the store has more than was read.
    is_cut: bool,
}

impl Feed {
    /// A feed that has not begun.
    pub fn new(flow: Arc<Flow>, client: Arc<Client>, socket: Socket) -> Self {
        Feed { flow, client, socket, state: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes where the user is, and begins.
    pub fn begin(&self) {
        let user = &self.client.principal().id;
        let at_ms = self.flow.clock.unix_ms();
        let seen = Seen { channel: WEBSOCKET_CHANNEL.into(), peer: user.clone(), conversation: None, at_ms };
        if let Err(e) = self.flow.store.saw(user, seen) {
            log::warn!("a connection could not be noted: {e}");
        }
        self.read();
        self.show_questions();
    }

    /// Shows an operator what waits for a decision; the list of approvals has what finds no room here.
    fn show_questions(&self) {
        if self.client.principal().role < Role::Operator {
            return;
        }
        match self.flow.store.approvals(Some(ApprovalState::Pending), Page { cursor: None, limit: QUESTIONS }) {
            Ok(pending) => pending.items.iter().rev().for_each(|a| self.client.hint(frames::approval(a, true))),
            Err(e) => log::warn!("what waits for a decision could not be read: {e}"),
        }
    }

    fn read(&self) {
        match self.flow.store.unacknowledged(WEBSOCKET_CHANNEL, &self.client.principal().id, BACKLOG) {
            Ok(mut backlog) => {
                let mut state = self.lock();
                state.is_cut = backlog.len() == BACKLOG;
                backlog.retain(|d| !state.sent.contains(&d.id));
                self.hold_back(&mut backlog);
                state.backlog = backlog.into();
                self.send(&mut state);
            }
            Err(e) => {
                log::warn!("a user's waiting messages could not be read: {e}");
                self.socket.close(1011, "try again");
            }
        }
    }

    /// The connection has room again.
    pub fn go_on(&self) {
        let mut state = self.lock();
        if !state.backlog.is_empty() {
            self.send(&mut state);
        }
    }

    /// Sends as much as there is room for.
    fn send(&self, state: &mut State) {
        while let Some(delivery) = state.backlog.front() {
            let room = self.socket.room();
            if room < delivery.message.len() * 2 + 1024 && room < QUEUE_BYTES {
                return;
            }
            self.client.push_backlog(delivery);
            let id = delivery.id.clone();
            state.sent.insert(id);
            state.backlog.pop_front();
        }
        state.is_cut |= !self.client.catch_up(&state.sent);
    }

    /// A receipt came for what answers to `id`: it makes room for what the store still has.
    pub fn acknowledged(self: &Arc<Self>, id: &str) {
        let mut state = self.lock();
        state.sent.remove(id);
        if state.backlog.is_empty() && std::mem::take(&mut state.is_cut) {
            let feed = self.clone();
            drop(state);
            if let Err(work) = self.flow.errand(Box::new(move || feed.read())) {
                work();
            }
        }
    }

    fn hold_back(&self, backlog: &mut Vec<Delivery>) {
        if self.flow.hub.count(&self.client.principal().id) < 2 {
            return;
        }
        let fresh_ms = self.flow.clock.unix_ms() - RECEIPT_WITHIN.as_millis() as i64;
        let held: HashSet<_> = backlog.extract_if(.., |d| d.created_ms > fresh_ms).map(|d| d.id).collect();
        if !held.is_empty() {
            self.flow.hub.repeat_at(self.flow.clock.mono() + RECEIPT_WITHIN, self.client.clone(), held);
            self.flow.nudge_timer();
        }
    }
}
