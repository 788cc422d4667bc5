//! The milter as the workers host it, with everything that goes in and out of it noted.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use mailproof::Engine;
use mailproof::service::{Conversation, Host, Peer, Requests, Service as Hosted};
use mailproof_milter::log::Sink;
use mailproof_milter::{MessageReport, MilterConversation, Observer, Service};
use mailproof_proto::dns::{Answer, Question};
use mailproof_proto::verdict::Action;

use super::check::{Found, Invariant, SharedNotes, lock};

/// The milter.
pub(super) struct Watching {
    pub(super) service: Arc<Service>,
    pub(super) notes: SharedNotes,
    pub(super) connections_max: usize,
    /// The engine's time at the beginning of the run.
    pub(super) base_ms: u64,
    pub(super) serial: AtomicU64,
}

impl Hosted for Watching {
    fn converse(&self, engine: &Engine, _: Peer) -> Box<dyn Conversation> {
        let inner = MilterConversation::new(Arc::clone(&self.service), engine.clone());
        let number = self.serial.fetch_add(1, Ordering::Relaxed);
        let notes = Arc::clone(&self.notes);
        Box::new(Watched { inner, number, notes, base_ms: self.base_ms, requests: Requests::default(), is_over: false })
    }

    fn connections_max(&self) -> usize {
        self.connections_max
    }

    fn idle_time(&self) -> Option<Duration> {
        Some(IDLE_TIME)
    }
}

/// One connection.
struct Watched {
    inner: MilterConversation,
    number: u64,
    notes: SharedNotes,
    base_ms: u64,
    requests: Requests,
    is_over: bool,
}

impl Watched {
    fn input(&mut self, host: &mut Host<'_>, step: impl FnOnce(&mut MilterConversation, &mut Host<'_>)) {
        let now_ms = host.now().milliseconds() - self.base_ms;
        if self.is_over {
            let detail = format!("conversation {} got something after its end", self.number);
            lock(&self.notes).note(Invariant::NothingAfterClose, detail);
        }
        step(&mut self.inner, &mut Host::new(host.now(), &mut self.requests));
        host.output().append(self.requests.output_mut());
        let mut notes = lock(&self.notes);
        for question in self.requests.drain_questions() {
            notes.asked(self.number, question.clone(), now_ms);
            host.ask(question);
        }
        host.wake_at(self.requests.wake_at());
        if self.requests.closes() {
            self.is_over = true;
            notes.closed(self.number);
            host.close();
        }
    }
}

impl Conversation for Watched {
    fn received(&mut self, octets: &[u8], host: &mut Host<'_>) {
        self.input(host, |inner, host| inner.received(octets, host));
    }

    fn answered(&mut self, question: &Question, answer: &Answer, host: &mut Host<'_>) {
        let now_ms = host.now().milliseconds() - self.base_ms;
        lock(&self.notes).answered(self.number, question, answer, now_ms);
        self.input(host, |inner, host| inner.answered(question, answer, host));
    }

    fn woken(&mut self, host: &mut Host<'_>) {
        self.requests.take_wake();
        self.input(host, Conversation::woken);
    }

    fn drain(&mut self, host: &mut Host<'_>) {
        self.input(host, Conversation::drain);
    }

    fn closed(&mut self) {
        self.is_over = true;
        lock(&self.notes).closed(self.number);
        self.inner.closed();
    }
}

/// A message that has ended, as the milter reports it.
pub(super) struct Report {
    pub(super) queue_id: String,
    /// `None` where there is none.
    pub(super) found: Option<Found>,
    pub(super) action: Action,
}

/// The milter's reports.
#[derive(Default)]
pub(super) struct Reports(Mutex<Vec<Report>>);

impl Reports {
    pub(super) fn take(&self) -> Vec<Report> {
        std::mem::take(&mut lock(&self.0))
    }
}

impl Observer for Reports {
    fn message(&self, report: &MessageReport<'_>) {
        let queue_id = report.queue_id.unwrap_or_default().to_owned();
        let found = report.verdict.map(Found::from);
        lock(&self.0).push(Report { queue_id, found, action: report.decision.action });
    }
}

/// The log, of which only what must never be in it counts.
pub(super) struct Log(pub(super) SharedNotes);

impl Sink for Log {
    fn write_line(&self, line: &str) {
        if line.contains("event=internal-error") {
            lock(&self.0).note(Invariant::NoPanic, line.to_owned());
        } else if line.contains("event=protocol-error") {
            lock(&self.0).note(Invariant::OneReply, line.to_owned());
        }
    }
}

/// Connections on which nothing happens for so long are closed.
pub(super) const IDLE_TIME: Duration = Duration::from_secs(300);
