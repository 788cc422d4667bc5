//! What other threads say to a worker, and what it publishes for them.

use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use mailproof_io::Backend;
use mailproof_proto::dns::{Answer, Failure, Question};

use super::NetworkStatistics;
use super::calls::{CompletionQueue, Gathering};
use super::hosting::ConversationId;
use super::jobs::{Job, JobId};
use super::tls::TlsTrouble;
use crate::service::Service;

/// What other threads want of a worker.
#[derive(Debug)]
pub(super) struct Inbox {
    /// `None` once the thread is gone.
    pub(super) messages: Mutex<Option<Vec<Message>>>,
    /// The thread is about to end and has no work left. It waits for its peers, whose questions may be its to ask.
    pub(super) is_done: AtomicBool,
    pub(super) waker: mailproof_io::Waker,
    pub(super) statistics: Published,
}

/// Figures that others may read at any time.
#[derive(Debug, Default)]
pub(super) struct Published {
    pub(super) figures: Mutex<NetworkStatistics>,
    pub(super) driver: Mutex<mailproof_io::Statistics>,
    pub(super) has_answered: AtomicBool,
    pub(super) prefetches: AtomicU64,
    pub(super) backend: Mutex<Option<Backend>>,
    pub(super) tls_trouble: Mutex<Option<TlsTrouble>>,
}

pub(super) enum Message {
    /// A caller wants these answers.
    Ask {
        questions: Vec<Question>,
        gathering: Arc<Gathering>,
    },
    /// Another worker wants this answer.
    AskFor {
        question: Question,
        worker: usize,
        waiter: Local,
    },
    /// This worker wanted this answer.
    Answered {
        question: Question,
        answer: Answer,
        waiter: Local,
    },
    /// The answer is about to expire and still in use.
    Prefetch(Question),
    Verify(Job),
    /// Nobody wants this verdict any more.
    Cancel {
        token: u64,
        queue: Arc<CompletionQueue>,
    },
    /// Work of somebody whose thread has other things to do.
    #[cfg(feature = "tokio-uring")]
    Run(Box<dyn FnOnce() + Send>),
    Listen {
        listener: OwnedFd,
        service: Arc<dyn Service>,
    },
    Converse {
        stream: OwnedFd,
        service: Arc<dyn Service>,
    },
    /// No more work, and an end at this moment at the latest.
    Stop(Instant),
}

impl Message {
    /// There is no thread to take it: whoever waits is told.
    pub(super) fn refuse(self) {
        match self {
            Self::Ask { questions, gathering } => {
                for question in questions {
                    gathering.deliver(question, Answer::failed(Failure::Unreachable));
                }
            }
            Self::Verify(job) => job.refuse(),
            #[cfg(feature = "tokio-uring")]
            Self::Run(work) => work(),
            _ => {}
        }
    }
}

impl std::fmt::Debug for Message {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Message")
    }
}

/// Somebody of the same worker who waits for an answer.
#[derive(Clone, Copy, Debug)]
pub(super) enum Local {
    Job(JobId),
    Conversation(ConversationId),
}

impl Inbox {
    pub(super) fn put(&self, message: Message) {
        if let Some(message) = self.offer(message) {
            message.refuse();
        }
    }

    /// Gives the message back when the thread is gone.
    pub(super) fn offer(&self, message: Message) -> Option<Message> {
        let mut messages = self.messages.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut *messages {
            Some(messages) => messages.push(message),
            None => return Some(message),
        }
        drop(messages);
        self.waker.wake();
        None
    }

    pub(super) fn take(&self) -> Vec<Message> {
        let mut messages = self.messages.lock().unwrap_or_else(PoisonError::into_inner);
        messages.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// Takes what is there and no more from now on.
    pub(super) fn close(&self) -> Vec<Message> {
        self.messages.lock().unwrap_or_else(PoisonError::into_inner).take().unwrap_or_default()
    }
}
