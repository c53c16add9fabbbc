//! What workers take: the next turn, the next urgent one, the next delivery, approvals whose time is over.
//!
//! Invariant: what is in one hand is in no other; what was claimed for a caller that gave up is put back. Where memory says that
//! there is nothing to take, the writer isn't asked. Fails as any command does.

use std::sync::Arc;

use crate::domain::{Approval, Attempt, Claim, CutOff, Delivery, Outcome};
use crate::store::Result;
use crate::store::sqlite::approvals::{self, Settled};
use crate::store::sqlite::ready::Next;
use crate::store::sqlite::recover::{self, Look};
use crate::store::sqlite::settle::{self, let_go, undo};
use crate::store::sqlite::shared::Shared;
use crate::store::sqlite::sql::Sql;
use crate::store::sqlite::turns::{self, Kept, Taken};
use crate::store::sqlite::{SqliteStore, delivering};

const SOFT: bool = true;
const DURABLE: bool = false;
/// Most approvals that expire in one transaction.
const EXPIRED_MAX: usize = 256;

impl SqliteStore {
    /// Takes in sessions from disk. On the writer's thread: nothing is committed between the look and that.
    fn refill_turns(&self) -> Result<()> {
        let asked = self.shared.turns().refill_from(self.shared.clock.mono());
        let Some((from, most)) = asked else { return Ok(()) };
        let (shared, look) = (self.shared.clone(), Look::later(&self.shared.clock));
        self.write(SOFT, move |sql| {
            recover::take_in(&mut shared.turns(), recover::waiting_sessions(sql, look, from, most)?);
            Ok(())
        })
    }

    /// The same for targets.
    fn refill_deliveries(&self) -> Result<()> {
        let asked = self.shared.deliveries().refill_from(self.shared.clock.mono());
        let Some((from, most)) = asked else { return Ok(()) };
        let (shared, look) = (self.shared.clone(), Look::later(&self.shared.clock));
        self.write(SOFT, move |sql| {
            recover::take_in(&mut shared.deliveries(), recover::waiting_targets(sql, look, from, most)?);
            Ok(())
        })
    }

    /// Takes the next turn.
    pub(super) fn take_turn(&self) -> Result<Option<Claim>> {
        self.refill_turns()?;
        loop {
            let Some((session, ())) = self.shared.turns().pick(self.shared.clock.mono()) else { return Ok(None) };
            let after = move |shared: &Shared, outcome: &Result<Taken>| match outcome {
                Ok(Taken::Turn(claim)) => shared.turns().hold(&claim.message_id, session),
                Ok(Taken::Nothing) => shared.turns().settle(session, Next::Nothing),
                Ok(Taken::Later(pause)) => shared.turns().settle(session, Next::At(shared.clock.mono() + *pause)),
                Err(_) => shared.turns().settle(session, Next::Now),
            };
            let orphaned = |shared: &Arc<Shared>, taken| {
                if let Taken::Turn(claim) = taken {
                    unclaim(shared, Some(*claim));
                }
            };
            if let Taken::Turn(claim) = self.ask(SOFT, move |sql| turns::claim(sql, session), after, orphaned)? {
                return Ok(Some(*claim));
            }
        }
    }

    /// Takes the oldest urgent message.
    pub(super) fn take_urgent(&self) -> Result<Option<Claim>> {
        if !self.shared.has_urgent() {
            return Ok(None);
        }
        self.ask(SOFT, turns::claim_urgent, |_, _| {}, unclaim)
    }

    /// Takes the next delivery.
    pub(super) fn take_delivery(&self, cut_off: &dyn Fn(&str) -> CutOff) -> Result<Option<Delivery>> {
        self.refill_deliveries()?;
        loop {
            let picked = self.shared.deliveries().pick(self.shared.clock.mono());
            let Some((target, channel)) = picked else { return Ok(None) };
            let after = move |shared: &Shared, outcome: &Result<Option<Delivery>>| match outcome {
                Ok(Some(delivery)) => shared.deliveries().hold(&delivery.id, target),
                Ok(None) => shared.deliveries().settle(target, Next::Nothing),
                Err(_) => shared.deliveries().settle(target, Next::Now),
            };
            let orphaned = |shared: &Arc<Shared>, delivery: Option<Delivery>| {
                let Some(delivery) = delivery else { return };
                let attempt = Attempt { delivery_id: delivery.id.clone(), outcome: Outcome::Untried };
                let look = Look::later(&shared.clock);
                let settle = move |shared: &Shared, _: &Result<()>| settle::delivery(shared, &delivery.id, Next::Now);
                undo(shared, move |sql| delivering::record(sql, &attempt, look).map(drop), settle);
            };
            let cut_off = cut_off(&channel);
            let work = move |sql: &Sql<'_>| delivering::claim(sql, target, cut_off != CutOff::Held);
            if let Some(delivery) = self.ask(cut_off == CutOff::Resent, work, after, orphaned)? {
                return Ok(Some(delivery));
            }
        }
    }

    /// Expires what is over, [`EXPIRED_MAX`] at a time.
    pub(super) fn take_expired(&self) -> Result<Vec<Approval>> {
        let over = self.shared.approvals().over(&self.shared.clock, EXPIRED_MAX);
        if over.is_empty() {
            return Ok(Vec::new());
        }
        let rows = over.clone();
        let after = move |shared: &Shared, outcome: &Result<Vec<Settled>>| match outcome {
            Ok(expired) => {
                over.iter().for_each(|n| shared.approvals().remove(*n)); // some were decided before
                expired.iter().for_each(|one| settle::settled(shared, one));
            }
            Err(_) => shared.approvals().pause(&shared.clock),
        };
        let expired = self.ask(DURABLE, move |sql| approvals::expire(sql, &rows), after, |_, _| {})?;
        Ok(expired.into_iter().map(|settled| settled.approval).collect())
    }
}

/// Puts a turn back that did not reach its worker.
fn unclaim(shared: &Arc<Shared>, claim: Option<Claim>) {
    let Some(claim) = claim else { return };
    let settle = let_go(&claim.message_id, |kept: &Kept| kept.left);
    undo(shared, move |sql| turns::unclaim(sql, &claim.message_id), settle);
}
