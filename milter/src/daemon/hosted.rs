//! What the engine's threads host: a milter connection has the settings of the moment at which it came, a policy request
//! those of its own.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use mailproof::service::{Conversation, Host, Peer, Service as Hosted};
use mailproof::{Engine, Options};
use mailproof_proto::dns::{Answer, Question};

use crate::guard::Guarded;
use crate::metrics::{HttpConversation, Metrics, Status};
use crate::{MilterConversation, PolicyConversation, Service};

/// Everything that a reload replaces, together.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) service: Arc<Service>,
    pub(crate) options: Arc<Options>,
    pub(crate) connections_max: usize,
    pub(crate) idle_time: Duration,
}

/// The settings in force.
#[derive(Debug)]
pub(crate) struct InForce(RwLock<Arc<Settings>>);

impl InForce {
    pub(crate) fn new(settings: Settings) -> Self {
        Self(RwLock::new(Arc::new(settings)))
    }

    pub(crate) fn replace(&self, settings: Settings) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(settings);
    }

    pub(crate) fn settings(&self) -> Arc<Settings> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Milter connections.
pub(crate) struct MilterHost(pub(crate) Arc<InForce>);

/// Connections of Postfix' policy delegation.
pub(crate) struct PolicyHost(pub(crate) Arc<InForce>);

/// HTTP connections.
pub(crate) struct StatusHost {
    pub(crate) in_force: Arc<InForce>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) status: Arc<Status>,
    /// The one with threads, whose figures are shown.
    pub(crate) engine: Engine,
}

impl Hosted for MilterHost {
    fn converse(&self, engine: &Engine, _: Peer) -> Box<dyn Conversation> {
        let settings = self.0.settings();
        let engine = engine.with_options(Arc::clone(&settings.options));
        let service = Arc::clone(&settings.service);
        Box::new(Guarded::new(Arc::clone(&service), "milter", MilterConversation::new(service, engine)))
    }

    fn connections_max(&self) -> usize {
        self.0.settings().connections_max
    }

    fn idle_time(&self) -> Option<Duration> {
        Some(self.0.settings().idle_time)
    }
}

impl Hosted for PolicyHost {
    fn converse(&self, engine: &Engine, _: Peer) -> Box<dyn Conversation> {
        let settings = self.0.settings();
        let own = engine.with_options(Arc::clone(&settings.options));
        let service = Arc::clone(&settings.service);
        let conversation = PolicyConversation::new(Arc::clone(&service), own);
        let renewed = RenewedPolicy { in_force: Arc::clone(&self.0), engine: engine.clone(), settings, conversation };
        Box::new(Guarded::new(service, "policy", renewed))
    }

    fn connections_max(&self) -> usize {
        self.0.settings().connections_max
    }

    fn idle_time(&self) -> Option<Duration> {
        Some(self.0.settings().idle_time)
    }
}

/// A connection of Postfix, whose requests get the settings of the moment at which they come.
struct RenewedPolicy {
    in_force: Arc<InForce>,
    engine: Engine,
    settings: Arc<Settings>,
    conversation: PolicyConversation,
}

impl Conversation for RenewedPolicy {
    fn received(&mut self, octets: &[u8], host: &mut Host<'_>) {
        let settings = self.in_force.settings();
        if !Arc::ptr_eq(&settings, &self.settings) {
            let engine = self.engine.with_options(Arc::clone(&settings.options));
            if self.conversation.renew(Arc::clone(&settings.service), engine) {
                self.settings = settings;
            }
        }
        self.conversation.received(octets, host);
    }

    fn answered(&mut self, question: &Question, answer: &Answer, host: &mut Host<'_>) {
        self.conversation.answered(question, answer, host);
    }

    fn woken(&mut self, host: &mut Host<'_>) {
        self.conversation.woken(host);
    }

    fn drain(&mut self, host: &mut Host<'_>) {
        self.conversation.drain(host);
    }

    fn closed(&mut self) {
        self.conversation.closed();
    }
}

impl Hosted for StatusHost {
    fn converse(&self, _: &Engine, _: Peer) -> Box<dyn Conversation> {
        let (metrics, status) = (Arc::clone(&self.metrics), Arc::clone(&self.status));
        let conversation = HttpConversation::new(metrics, status, self.engine.clone());
        Box::new(Guarded::new(Arc::clone(&self.in_force.settings().service), "status", conversation))
    }

    fn connections_max(&self) -> usize {
        STATUS_CONNECTIONS_MAX
    }

    fn idle_time(&self) -> Option<Duration> {
        Some(STATUS_IDLE_TIME)
    }
}

/// Connections of those who watch; mail has its own.
const STATUS_CONNECTIONS_MAX: usize = 64;
/// Those who watch come every few seconds.
const STATUS_IDLE_TIME: Duration = Duration::from_secs(60);
