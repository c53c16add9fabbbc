//! What the end of a command changes in memory.
//!
//! Invariant: all of it runs on the writer's thread, after the commit, in the order of the commits. A key in hand is let go by
//! whatever ends its turn or its try; where the disk fails it stays in hand, since the worker tries again. It cannot fail.

use std::sync::Arc;

use crate::store::sqlite::approvals::{Parked, Settled};
use crate::store::sqlite::command::Command;
use crate::store::sqlite::outbox::Put;
use crate::store::sqlite::pairings;
use crate::store::sqlite::ready::Next;
use crate::store::sqlite::sessions::Gone;
use crate::store::sqlite::shared::Shared;
use crate::store::sqlite::sql::{Ran, Sql};
use crate::store::sqlite::turns::{Finished, Left};
use crate::store::{Result, StoreError};

/// What a turn's end does to its session's place. A turn that was ended elsewhere lets it go as well.
pub(super) fn let_go<T>(
    message_id: &str,
    left: impl FnOnce(&T) -> Left + Send + 'static,
) -> impl FnOnce(&Shared, &Result<T>) + Send + 'static {
    let_go_until(message_id, move |value| {
        let left = left(value);
        (left, left.next)
    })
}

/// As [`let_go`], where what a session in hand does next (the second) is not what its rows say.
pub(super) fn let_go_until<T>(
    message_id: &str,
    left: impl FnOnce(&T) -> (Left, Next) + Send + 'static,
) -> impl FnOnce(&Shared, &Result<T>) + Send + 'static {
    let id = message_id.to_string();
    move |shared, outcome| match outcome {
        Ok(value) => {
            let ((left, held), mut turns) = (left(value), shared.turns());
            // An urgent turn has no session in hand.
            if !turns.settle_held(&id, held) {
                turns.learn(left.session, (), left.next);
            }
        }
        Err(StoreError::NotFound | StoreError::Conflict(_)) => {
            shared.turns().settle_held(&id, Next::Now);
        }
        Err(_) => {}
    }
}

/// Puts what a turn left to the deliveries that may be sent, and lets its session go.
pub(super) fn finished(message_id: &str) -> impl FnOnce(&Shared, &Result<Finished>) + Send + 'static {
    let then = let_go(message_id, |finished: &Finished| finished.left);
    move |shared, outcome| {
        if let Ok(finished) = outcome {
            self::gone(shared, &finished.gone);
            offer_all(shared, &finished.puts);
        }
        then(shared, outcome);
    }
}

/// Lets go what an erasure took: the heads of targets, and files.
pub(super) fn gone(shared: &Shared, gone: &Gone) {
    gone.targets.iter().for_each(|target| shared.deliveries().wake(*target));
    shared.files.remove_all(&gone.files);
}

/// Notes when what was asked expires, and lets the session go.
pub(super) fn parked(message_id: &str) -> impl FnOnce(&Shared, &Result<Parked>) + Send + 'static {
    let then = let_go(message_id, |parked: &Parked| parked.kept.left);
    move |shared, outcome| {
        if let Ok(parked) = outcome {
            parked.dues.iter().for_each(|due| shared.approvals().put(*due, &shared.clock));
        }
        then(shared, outcome);
    }
}

/// Lets go what was settled, and offers the session whose message is queued again.
pub(super) fn settled(shared: &Shared, settled: &Settled) {
    shared.approvals().remove(settled.n);
    if let Some(left) = settled.left {
        learn(shared, left);
    }
}

/// Takes note of what a session has to do.
pub(super) fn learn(shared: &Shared, left: Left) {
    shared.turns().learn(left.session, (), left.next);
}

/// Takes note of who waits to be let in, and of who was.
pub(super) fn paired(shared: &Shared, outcome: &Result<pairings::Changed>) {
    let Ok(changed) = outcome else { return };
    let mut dues = shared.pairings();
    changed.gone.iter().for_each(|n| dues.remove(*n));
    if let Some((due, _)) = &changed.asked {
        dues.put(*due, &shared.clock);
    }
    drop(dues);
    if let Some((pairing, true)) = &changed.decided {
        shared.paired().add(&pairing.channel, &pairing.user_id);
    }
}

/// Ends a try of a delivery.
pub(super) fn delivery(shared: &Shared, id: &str, next: Next) {
    shared.deliveries().settle_held(id, next);
}

pub(super) fn offer_all(shared: &Shared, puts: &[Put]) {
    for (target, channel) in puts.iter().filter_map(|put| put.offer.as_ref()) {
        shared.deliveries().offer(*target, channel.clone());
    }
}

pub(super) fn offer_and_wake(shared: &Shared, (target, channel): &(i64, String)) {
    let mut deliveries = shared.deliveries();
    deliveries.offer(*target, Arc::from(channel.as_str()));
    deliveries.wake(*target);
}

/// Takes back what was claimed for a caller that gave up, beside the queue: the writer, on whose thread this runs, looks there
/// next.
pub(super) fn undo<T: Send + 'static>(
    shared: &Arc<Shared>,
    work: impl FnOnce(&Sql<'_>) -> Ran<T> + Send + 'static,
    settle: impl FnOnce(&Shared, &Result<T>) + Send + 'static,
) {
    let after = shared.clone();
    let command = Command::new(shared, true, None, work, Box::new(move |outcome| settle(&after, &outcome)));
    if !shared.put_beside(command) {
        log::warn!("a claim that did not reach its worker stays until the next start");
    }
}
