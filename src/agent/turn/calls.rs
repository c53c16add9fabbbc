//! The calls of one round: each is run, refused, or put to a person; in the order in which the model made them.
//!
//! Invariant: `Called` is committed before a call whose repeat could do harm, `Result` before anything that follows it. A call with
//! `Called` and without `Result` has an unknown outcome: it is never run again, and the model is told. Where one call waits for a
//! person all questions of the round are asked at once, and what follows it in the round waits, too.

use std::time::Duration;

use crate::agent::Route;
use crate::agent::tools::{APPROVAL_WAIT, About, Context, Invoked, Question, Verdict};
use crate::agent::turn::journal::Round;
use crate::agent::turn::{Outcome, Turn, store_error};
use crate::base::crash;
use crate::base::error::{Error, ErrorKind, Result};
use crate::base::ids::new_id;
use crate::domain::{Approval, ApprovalState, CallResult, LearnedRule, Step, StepKind, ToolCall};

/// A call that was made this often before is not run again.
const REPEATS_MAX: usize = 2;
/// Most calls of one turn.
const CALLS_MAX: usize = 64;

impl Turn<'_> {
    /// Runs what is still open of the last round. `Parked` where a person is to decide first.
    pub(super) fn settle_last(&self, route: &Route, rounds: &mut [Round], deadline: Duration) -> Result<Option<Outcome>> {
        let Some((round, before)) = rounds.split_last_mut() else { return Ok(None) };
        if round.open_call().is_none() {
            return Ok(None);
        }
        let learned = self.store.learned_rules().map_err(store_error)?;
        while let Some(call) = round.open_call().cloned() {
            if self.cancel.is_set() {
                return Err(Error::new(ErrorKind::Stopped, "the turn was cut short"));
            }
            let settled = match self.without_running(&call, before, round) {
                Some(result) => Ok(Invoked::Done(result)),
                None => self.invoke(route, &call, &learned, deadline),
            };
            match settled? {
                Invoked::Done(result) => {
                    self.record_result(&call, &result)?;
                    round.results.push(result);
                }
                Invoked::Ask(question) => return self.park(route, round, &call, question, &learned).map(Some),
            }
        }
        Ok(None)
    }

    /// What comes of a call that is not to run at all.
    fn without_running(&self, call: &ToolCall, before: &[Round], round: &Round) -> Option<CallResult> {
        let error = |content: String| Some(CallResult { call_id: call.id.clone(), is_error: true, content });
        if round.begun.contains(&call.id) {
            return error(
                "The gateway was cut off while this call ran: whether it took effect is unknown, and it was not run again. Find out, or tell \
                 the user, before you repeat it."
                    .into(),
            );
        }
        let made = before.iter().flat_map(|r| &r.asked.calls).chain(round.asked.calls.iter().take_while(|c| c.id != call.id));
        let (all, same) = made.fold((0, 0), |(all, same), c| (all + 1, same + usize::from(is_same(c, call))));
        if same >= REPEATS_MAX {
            return error(format!(
                "You made this very call {same} times in this turn. It was not run again: answer with what you have."
            ));
        }
        if all >= CALLS_MAX {
            return error(format!("This turn made {CALLS_MAX} tool calls, which is all it may. Answer with what you have."));
        }
        match self.decision(call)? {
            ApprovalState::Denied => error("An operator was asked and refused this call. Do without it.".into()),
            ApprovalState::Expired => error("Nobody approved this call in time, so it was not run. Do without it.".into()),
            ApprovalState::Cancelled => error("The question about this call was withdrawn. Do without it.".into()),
            ApprovalState::Pending | ApprovalState::Allowed => None,
        }
    }

    fn approval(&self, call: &ToolCall) -> Option<&Approval> {
        self.claim.approvals.iter().rev().find(|a| a.call_id == call.id)
    }

    fn decision(&self, call: &ToolCall) -> Option<ApprovalState> {
        self.approval(call).map(|a| a.state)
    }

    fn invoke(&self, route: &Route, call: &ToolCall, learned: &[LearnedRule], deadline: Duration) -> Result<Invoked> {
        let who = self.who();
        let context = Context {
            who: &who,
            session_id: &self.claim.session_id,
            message_id: &self.claim.message_id,
            key: format!("{}:{}", self.claim.message_id, call.id),
            deadline,
            cancel: self.cancel,
            clock: self.clock,
            store: self.store,
            courier: self.courier,
        };
        let mut begin = |about: &About| {
            if !about.idempotent {
                crash::point("call.begins");
                self.record(StepKind::Called, &call.name, call.id.clone())?;
            }
            crash::point("call.begun");
            Ok(())
        };
        let permit = self.approval(call).filter(|a| a.state == ApprovalState::Allowed);
        let invoked = self.tools.invoke(call, route.config.tools.as_deref(), &context, learned, permit, &mut begin);
        crash::point("call.ran");
        invoked
    }

    fn record_result(&self, call: &ToolCall, result: &CallResult) -> Result<()> {
        let data = serde_json::to_string(result).map_err(|e| Error::new(ErrorKind::Bug, e.to_string()))?;
        let detail = if result.is_error { format!("{}: {}", call.name, result.content) } else { call.name.clone() };
        self.record(StepKind::Result, &detail, data)?;
        crash::point("call.recorded");
        Ok(())
    }

    /// The questions of the round from `call` on.
    fn park(
        &self,
        route: &Route,
        round: &Round,
        call: &ToolCall,
        question: Question,
        learned: &[LearnedRule],
    ) -> Result<Outcome> {
        let mut approvals = vec![self.question_of(call, question)];
        let behind = round.asked.calls.iter().skip_while(|c| c.id != call.id).skip(1);
        for other in behind.filter(|c| self.decision(c).is_none()) {
            if let Verdict::Ask(question) = self.tools.judge(other, &self.who(), route.config.tools.as_deref(), learned) {
                approvals.push(self.question_of(other, question));
            }
        }
        let tools: Vec<_> = approvals.iter().map(|a| a.tool.as_str()).collect();
        let step = Step {
            kind: StepKind::Parked,
            detail: crate::base::error::shorten(&tools.join(", "), 150),
            data: String::new(),
            at_ms: self.clock.unix_ms(),
        };
        Ok(Outcome::Parked { approvals, step })
    }

    fn question_of(&self, call: &ToolCall, question: Question) -> Approval {
        let (claim, now_ms) = (self.claim, self.clock.unix_ms());
        Approval {
            id: new_id("apr", now_ms),
            state: ApprovalState::Pending,
            tool: call.name.clone(),
            arguments: question.arguments,
            question: question.text,
            digest: question.digest,
            call_id: call.id.clone(),
            message_id: claim.message_id.clone(),
            session_id: claim.session_id.clone(),
            agent: claim.agent.clone(),
            channel: claim.channel.clone(),
            user_id: claim.user_id.clone(),
            created_ms: now_ms,
            expires_ms: now_ms.saturating_add(APPROVAL_WAIT.as_millis() as i64),
            decided_by: None,
            decided_ms: None,
        }
    }
}

/// Whether two calls ask for the same: names and arguments, however the JSON is written.
fn is_same(a: &ToolCall, b: &ToolCall) -> bool {
    let arguments = |c: &ToolCall| serde_json::from_str::<serde_json::Value>(&c.arguments).ok();
    a.name == b.name && (a.arguments == b.arguments || (arguments(a).is_some() && arguments(a) == arguments(b)))
}
