//! A store that has notes, jobs, a history and an audit trail, in memory; tools ask it for nothing else.

use std::sync::Mutex;
use std::time::Duration;

use crate::config::Retention;
use crate::domain::*;
use crate::domain::{Job, JobRun, Pairing};
use crate::store::{AuditEntry, Depths, Done, Listed, Page, Recovery, Result, Seen, Space, Store, StoreError, Upkeep, Withdrawn};

#[derive(Default)]
pub(crate) struct FakeStore {
    pub(crate) notes: Mutex<Vec<Note>>,
    pub(crate) history: Mutex<Vec<Entry>>,
    pub(crate) audit: Mutex<Vec<AuditEntry>>,
    pub(crate) jobs: Mutex<Vec<Job>>,
    pub(crate) is_down: bool,
}

impl FakeStore {
    fn up(&self) -> Result<()> {
        if self.is_down { Err(StoreError::Unavailable("the disk at /secret/path is full".into())) } else { Ok(()) }
    }

    /// The audit trail: action and outcome.
    pub(crate) fn traces(&self) -> Vec<String> {
        let shown = |e: &AuditEntry| format!("{} {}", e.action, e.detail["outcome"].as_str().unwrap());
        self.audit.lock().unwrap().iter().map(shown).collect()
    }
}

fn unasked() -> ! {
    panic!("no tool asks the store for this")
}

impl Store for FakeStore {
    fn audit(&self, entry: AuditEntry) {
        self.audit.lock().unwrap().push(entry);
    }
    fn add_note(&self, note: Note) -> Result<()> {
        self.up()?;
        let mut notes = self.notes.lock().unwrap();
        if notes.iter().any(|n| n.id == note.id) {
            return Ok(());
        }
        if notes.len() >= 3 {
            return Err(StoreError::Conflict("full".into()));
        }
        notes.push(note);
        Ok(())
    }
    fn note(&self, id: &str) -> Result<Note> {
        self.up()?;
        self.notes.lock().unwrap().iter().find(|n| n.id == id).cloned().ok_or(StoreError::NotFound)
    }
    fn forget_note(&self, id: &str) -> Result<()> {
        self.notes.lock().unwrap().retain(|n| n.id != id);
        Ok(())
    }
    fn notes(&self, _: &str, _: Option<&str>, _: Page) -> Result<Listed<Note>> {
        Ok(Listed { items: self.notes.lock().unwrap().clone(), next: None })
    }
    /// Those of everybody: a store at fault.
    fn search_notes(&self, _: &str, _: &str, text: &str, _: usize) -> Result<Vec<Note>> {
        self.up()?;
        Ok(self.notes.lock().unwrap().iter().filter(|n| n.text.contains(text)).cloned().collect())
    }
    fn history(&self, session_id: &str, limit: usize) -> Result<Vec<Entry>> {
        self.up()?;
        assert_eq!(session_id, "ses_1");
        let all = self.history.lock().unwrap();
        Ok(all[all.len().saturating_sub(limit)..].to_vec())
    }
    fn recovery(&self) -> Recovery {
        unasked()
    }
    fn accept(&self, _: NewInbound, _: Done<Accepted>) {
        unasked()
    }
    fn saw(&self, _: &str, _: Seen) -> Result<()> {
        unasked()
    }
    fn seen(&self, _: &str) -> Result<Vec<Seen>> {
        unasked()
    }
    fn claim_turn(&self) -> Result<Option<Claim>> {
        unasked()
    }
    fn next_turn_due(&self) -> Option<Duration> {
        unasked()
    }
    fn record_step(&self, _: &str, _: Step) -> Result<()> {
        unasked()
    }
    fn defer_turn(&self, _: &str, _: Duration, _: &str) -> Result<Option<String>> {
        unasked()
    }
    fn release_turn(&self, _: &str) -> Result<Option<String>> {
        unasked()
    }
    fn finish_turn(&self, _: FinishedTurn) -> Result<Vec<Delivery>> {
        unasked()
    }
    fn fail_turn(&self, _: &str, _: &str, _: Vec<NewOutbound>, _: Vec<Spent>) -> Result<Vec<Delivery>> {
        unasked()
    }
    fn cancel_turn(&self, _: &str, _: &str, _: Vec<Spent>) -> Result<()> {
        unasked()
    }
    fn cancel_waiting(&self, _: &str, _: Option<&str>, _: &str) -> Result<Withdrawn> {
        unasked()
    }
    fn cancel_message(&self, _: &str, _: &str) -> Result<Vec<String>> {
        unasked()
    }
    fn claim_urgent(&self) -> Result<Option<Claim>> {
        unasked()
    }
    fn park_turn(&self, _: &str, _: Vec<Approval>, _: Step) -> Result<Option<String>> {
        unasked()
    }
    fn decide_approval(&self, _: &str, _: Decision, _: &str) -> Result<Approval> {
        unasked()
    }
    fn expire_approvals(&self) -> Result<Vec<Approval>> {
        unasked()
    }
    fn next_approval_due(&self) -> Option<Duration> {
        unasked()
    }
    fn approval(&self, _: &str) -> Result<Approval> {
        unasked()
    }
    fn approvals(&self, _: Option<ApprovalState>, _: Page) -> Result<Listed<Approval>> {
        unasked()
    }
    fn learned_rules(&self) -> Result<Vec<LearnedRule>> {
        unasked()
    }
    fn forget_rule(&self, _: &str) -> Result<()> {
        unasked()
    }
    fn change_note(&self, _: &str, _: &str) -> Result<Note> {
        unasked()
    }
    fn keep_attachment(&self, _: &str, _: usize, _: &[u8]) -> Result<()> {
        unasked()
    }
    fn miss_attachment(&self, _: &str, _: usize) -> Result<()> {
        unasked()
    }
    fn attachment(&self, _: &str, _: usize) -> Result<Vec<u8>> {
        unasked()
    }
    fn summary(&self, _: &str) -> Result<Option<Summary>> {
        unasked()
    }
    fn set_summary(&self, _: &str, _: Summary) -> Result<()> {
        unasked()
    }
    fn set_model(&self, _: &str, _: Option<&str>) -> Result<()> {
        unasked()
    }
    fn usage(&self, _: i64, _: Option<&str>) -> Result<Vec<Usage>> {
        unasked()
    }
    fn tokens_of(&self, _: i64, _: &str, _: Option<&str>) -> Result<u64> {
        unasked()
    }
    fn retry_message(&self, _: &str) -> Result<()> {
        unasked()
    }
    fn enqueue(&self, _: Vec<NewOutbound>, _: Option<(String, String, String)>, _: Done<Vec<Delivery>>) {
        unasked()
    }
    fn claim_delivery(&self, _: &dyn Fn(&str) -> crate::domain::CutOff) -> Result<Option<Delivery>> {
        unasked()
    }
    fn next_delivery_due(&self) -> Option<Duration> {
        unasked()
    }
    fn record_attempt(&self, _: Attempt) -> Result<()> {
        unasked()
    }
    fn acknowledge(&self, _: &str, _: &str, _: &str) -> Result<u64> {
        unasked()
    }
    fn unacknowledged(&self, _: &str, _: &str, _: usize) -> Result<Vec<Delivery>> {
        unasked()
    }
    fn retry_delivery(&self, _: &str) -> Result<Delivery> {
        unasked()
    }
    fn drop_delivery(&self, _: &str) -> Result<()> {
        unasked()
    }
    fn message(&self, _: &str) -> Result<InboundMessage> {
        unasked()
    }
    fn messages(&self, _: Option<MessageState>, _: Page) -> Result<Listed<InboundMessage>> {
        unasked()
    }
    fn delivery(&self, _: &str) -> Result<Delivery> {
        unasked()
    }
    fn deliveries(&self, _: Option<DeliveryState>, _: Page) -> Result<Listed<Delivery>> {
        unasked()
    }
    fn sessions(&self, _: Page) -> Result<Listed<SessionInfo>> {
        unasked()
    }
    fn sessions_of(&self, _: &str, _: usize, _: Page) -> Result<Listed<SessionInfo>> {
        unasked()
    }
    fn cursor(&self, _: &str) -> Result<Option<String>> {
        unasked()
    }
    fn set_cursor(&self, _: &str, _: &str) -> Result<()> {
        unasked()
    }
    fn record_part(&self, _: &str, _: u32) -> Result<()> {
        unasked()
    }
    fn ask_pairing(&self, _: Pairing) -> Result<Pairing> {
        unasked()
    }
    fn decide_pairing(&self, _: &str, _: bool) -> Result<Pairing> {
        unasked()
    }
    fn pairings(&self, _: Page) -> Result<Listed<Pairing>> {
        unasked()
    }
    fn is_paired(&self, _: &str, _: &str) -> Result<bool> {
        unasked()
    }
    fn unpair(&self, _: &str, _: &str) -> Result<()> {
        unasked()
    }
    fn put_job(&self, job: Job) -> Result<()> {
        self.up()?;
        let mut jobs = self.jobs.lock().unwrap();
        jobs.retain(|j| j.id != job.id);
        jobs.push(job);
        Ok(())
    }
    fn delete_job(&self, id: &str) -> Result<()> {
        self.jobs.lock().unwrap().retain(|j| j.id != id);
        Ok(())
    }
    fn job(&self, id: &str) -> Result<Job> {
        self.up()?;
        self.jobs.lock().unwrap().iter().find(|j| j.id == id).cloned().ok_or(StoreError::NotFound)
    }
    fn jobs(&self) -> Result<Vec<Job>> {
        self.up()?;
        Ok(self.jobs.lock().unwrap().clone())
    }
    fn record_run(&self, _: JobRun, _: Option<i64>) -> Result<()> {
        unasked()
    }
    fn note_run(&self, _: JobRun) -> Result<()> {
        unasked()
    }
    fn job_runs(&self, _: &str, _: Page) -> Result<Listed<JobRun>> {
        unasked()
    }
    fn erase_user(&self, _: &str) -> Result<u64> {
        unasked()
    }
    fn audit_trail(&self, _: Page) -> Result<Listed<AuditEntry>> {
        unasked()
    }
    fn depths(&self) -> Depths {
        unasked()
    }
    fn health(&self, _: bool) -> Result<()> {
        unasked()
    }
    fn close(&self) {
        unasked()
    }
}

impl Upkeep for FakeStore {
    fn keep(&self, _: Retention) {
        unasked()
    }
    fn prune(&self) -> Result<u64> {
        unasked()
    }
    fn make_room(&self) -> Result<u64> {
        unasked()
    }
    fn space(&self) -> Space {
        unasked()
    }
    fn tidy(&self) {
        unasked()
    }
    fn shrink(&self) {
        unasked()
    }
}
