//! Budgets: what a turn, an agent and a user may use in tokens.
//!
//! Invariant: asked before each call of a model, so that what is over a limit is one answer at most. A limit that is reached is
//! told to the user in words, and to the operators by the flow; a store that can't be read fails the try, never the limit.

use crate::agent::turn::Turn;
use crate::base::error::{Error, ErrorKind, Result};
use crate::config;
use crate::domain::Spent;

const DAY_MS: i64 = 86_400_000;

/// A limit that is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reached {
    /// The configuration's key.
    pub limit: &'static str,
    /// The limit.
    pub max: u64,
    /// What was used.
    pub used: u64,
}

impl Reached {
    /// What the user is told.
    pub fn sentence(&self, agent: &str) -> String {
        let Reached { max, used, .. } = self;
        match self.limit {
            "tokensPerTurn" => format!("I stopped here: this answer may use {max} tokens, and it took {used} already."),
            "tokensPerUserDay" => {
                format!("Your limit of {max} tokens a day with agent {agent} is used up ({used}). It opens again at 00:00 UTC.")
            }
            _ => format!("The limit of {max} tokens a day of agent {agent} is used up ({used}). It opens again at 00:00 UTC."),
        }
    }
}

/// Days since 1970 in UTC.
pub fn day_of(unix_ms: i64) -> i64 {
    unix_ms.div_euclid(DAY_MS)
}

/// The limit that is reached, if one is; `spent` is what this turn used so far, which no account holds yet.
///
/// # Errors
/// `Transient` where the store can't be read.
pub fn reached(config: &config::Agent, turn: &Turn<'_>, spent: &[Spent]) -> Result<Option<Reached>> {
    let own: u64 = spent.iter().map(|s| s.tokens_in + s.tokens_out).sum();
    let (agent, user) = (turn.claim.agent.as_str(), turn.claim.user_id.as_str());
    let day = day_of(turn.clock.unix_ms());
    let used = |user: Option<&str>| {
        let booked = turn.store.tokens_of(day, agent, user);
        booked.map(|n| n + own).map_err(|e| Error::new(ErrorKind::Transient, format!("the accounts can't be read: {e}")))
    };
    if let Some(max) = config.tokens_per_turn.filter(|max| own >= *max) {
        return Ok(Some(Reached { limit: "tokensPerTurn", max, used: own }));
    }
    for (limit, max, user) in
        [("tokensPerUserDay", config.tokens_per_user_day, Some(user)), ("tokensPerDay", config.tokens_per_day, None)]
    {
        if let Some(max) = max {
            let used = used(user)?;
            if used >= max {
                return Ok(Some(Reached { limit, max, used }));
            }
        }
    }
    Ok(None)
}
