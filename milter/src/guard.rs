//! What happens when something of ours panics: it is counted and logged, and mail goes on without it.
//!
//! There are two rings. Within a conversation each step of a verification, and the end of each message, is guarded, so that
//! the message still gets its reply. Around a conversation every input is, so that what no one thought of costs one
//! connection, which the mail server meets with its default action, and not the thread with all the others.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use mailproof::Session;
use mailproof::service::{Conversation, Host};
use mailproof_proto::dns::{Answer, Question};

use crate::service::Service;

/// Runs a step of ours. There is no result when it panicked; what it left half done the caller must throw away. `place` is
/// a pair for the line of the log.
pub(crate) fn guarded<R>(service: &Service, place: (&str, &str), step: impl FnOnce() -> R) -> Option<R> {
    let result = catch_unwind(AssertUnwindSafe(step)).ok();
    if result.is_none() {
        service.metrics.internal_error();
        service.log("internal-error", |line| {
            line.pair(place.0, place.1);
        });
    }
    result
}

/// Runs a step of a verification; with a fault its session goes.
pub(crate) fn guarded_session<R>(
    service: &Service,
    place: (&str, &str),
    session: &mut Option<Box<Session>>,
    step: impl FnOnce(&mut Option<Box<Session>>) -> R,
) -> Option<R> {
    let mut taken = session.take();
    let result = guarded(service, place, || step(&mut taken))?;
    *session = taken;
    Some(result)
}

/// A conversation whose faults end its connection and nothing else.
pub(crate) struct Guarded<C> {
    service: Arc<Service>,
    /// A word for the log.
    name: &'static str,
    conversation: C,
    is_broken: bool,
}

impl<C: Conversation> Guarded<C> {
    pub(crate) fn new(service: Arc<Service>, name: &'static str, conversation: C) -> Self {
        Self { service, name, conversation, is_broken: false }
    }

    fn input(&mut self, host: &mut Host<'_>, step: impl FnOnce(&mut C, &mut Host<'_>)) {
        if self.is_broken {
            return;
        }
        let conversation = &mut self.conversation;
        if guarded(&self.service, ("service", self.name), || step(conversation, host)).is_none() {
            self.is_broken = true;
            // Half a reply is worse than none.
            host.output().clear();
            host.close();
        }
    }
}

impl<C: Conversation> Conversation for Guarded<C> {
    fn received(&mut self, octets: &[u8], host: &mut Host<'_>) {
        self.input(host, |conversation, host| conversation.received(octets, host));
    }

    fn answered(&mut self, question: &Question, answer: &Answer, host: &mut Host<'_>) {
        self.input(host, |conversation, host| conversation.answered(question, answer, host));
    }

    fn woken(&mut self, host: &mut Host<'_>) {
        self.input(host, Conversation::woken);
    }

    fn drain(&mut self, host: &mut Host<'_>) {
        self.input(host, Conversation::drain);
    }

    fn closed(&mut self) {
        // Also after a fault: an open connection is counted.
        let conversation = &mut self.conversation;
        guarded(&self.service, ("service", self.name), || conversation.closed());
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Mutex;

    use mailproof::service::Requests;
    use mailproof_proto::time::Timestamp;

    use super::*;
    use crate::config::Config;
    use crate::log::Sink;
    use crate::metrics::Metrics;
    use crate::signing::Signer;

    /// Answers `ok`, and panics when it is sent an `x`.
    #[derive(Default)]
    struct Faulty {
        inputs: usize,
        closed: bool,
    }

    impl Conversation for Faulty {
        fn received(&mut self, octets: &[u8], host: &mut Host<'_>) {
            self.inputs += 1;
            host.output().extend_from_slice(b"ok");
            assert_ne!(octets, b"x", "a fault that the test makes");
        }

        fn answered(&mut self, _: &Question, _: &Answer, _: &mut Host<'_>) {}

        fn woken(&mut self, _: &mut Host<'_>) {}

        fn drain(&mut self, _: &mut Host<'_>) {}

        fn closed(&mut self) {
            self.closed = true;
        }
    }

    #[derive(Default)]
    struct Lines(Mutex<Vec<String>>);

    impl Sink for Lines {
        fn write_line(&self, line: &str) {
            self.0.lock().unwrap().push(line.to_owned());
        }
    }

    #[test]
    fn a_fault_that_nobody_thought_of_ends_one_connection() {
        let config = Config::parse("", Path::new("test.toml")).unwrap();
        let signer = Signer::load(&config.signing).unwrap();
        let (metrics, lines) = (Arc::new(Metrics::default()), Arc::new(Lines::default()));
        let service = Arc::new(Service::new(&config, "mx.example.net", signer, metrics.clone(), lines.clone()));
        let mut it = Guarded::new(service, "milter", Faulty::default());
        let mut requests = Requests::default();
        for (octets, output, closes) in [(b"a", &b"ok"[..], false), (b"x", b"", true), (b"b", b"", true)] {
            it.received(octets, &mut Host::new(Timestamp::from_seconds(1), &mut requests));
            assert_eq!((requests.take_output(), requests.closes()), (output.to_vec(), closes));
        }
        it.closed();
        assert!(it.conversation.closed && it.conversation.inputs == 2);
        assert_eq!(*lines.0.lock().unwrap(), ["event=internal-error service=milter"]);
        assert!(metrics.render(None).contains("mailproof_internal_errors_total 1\n"));
    }
}
