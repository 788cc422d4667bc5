//! For programs that live on tokio-uring: their streams, the engine's conversations.
//!
//! [`Engine::verify_async`](crate::Engine::verify_async) is a plain future and can be awaited here as on any executor;
//! [`Engine::verify_on_threads`](crate::Engine::verify_on_threads) is one that computes elsewhere. [`converse`] runs a
//! [`Conversation`] over a stream of the program.
//!
//! ```no_run
//! use mailproof::{Engine, service::Service, tokio_uring};
//!
//! fn serve(engine: &Engine, service: &dyn Service) -> Result<(), Box<dyn std::error::Error>> {
//!     let listener = std::net::TcpListener::bind("127.0.0.1:8892")?;
//!     listener.set_nonblocking(true)?;
//!     tokio_uring::runtime()?.block_on(async {
//!         let listener = tokio::net::TcpListener::from_std(listener)?;
//!         loop {
//!             let (stream, _) = listener.accept().await?;
//!             let hosted = tokio_uring::converse(engine, stream.into_std()?, service)?;
//!             // Kept by its own task: dropping it would end the conversation.
//!             ::tokio_uring::spawn(hosted);
//!         }
//!     })
//! }
//! ```
//!
//! # The rules that this module keeps
//!
//! - Streams come from the standard library: sockets that tokio-uring 0.5 binds share their ports with others, and its
//!   unix listener is refused by kernels from 6.13 on (and those that took the change over).
//! - An operation that was begun is awaited to its end. A read that is dropped goes on in the kernel, takes the next
//!   octets of the stream and loses them, and holds the descriptor. So a conversation is ended by shutting the socket
//!   down, which completes what is pending, and it lives in a task of its own, which a caller that loses patience does
//!   not drop.
//! - The thread computes nothing for long. Every input of a conversation is taken by it on one of the engine's threads, in
//!   pieces of 64 KiB at the most, and its questions are asked by those threads too. (An engine that answers from a zone
//!   file has no threads: with it the work is done here.)
//! - The ring is made with COOP_TASKRUN and SINGLE_ISSUER ([`runtime`]). With tokio-uring's own defaults replies of 30 KiB
//!   cost 1.3 to 1.5 times what they cost under tokio; with these flags it is a tie. DEFER_TASKRUN would hang: nobody enters
//!   the kernel for the completions.
//! - A kernel that refuses io_uring is an error, not a panic, and it is found out by use before the runtime is made: under
//!   a filter that lets the set-up pass, operations would wait forever.
//!
//! # Why the engine does not stand on it
//!
//! Measured with tokio-uring 0.5.0 on Linux 6.18, 2 CPUs, loopback; each in a run of its own:
//!
//! | what | found |
//! |---|---|
//! | one task that is always runnable, tokio 1.54 | no operation is submitted at all: no DNS query in 15 s, no `no_op` in 4 s |
//! | DNS round trip beside 64 tasks that compute in slices of 100 µs | never, within 60 s; tokio's epoll 6 ms; a loop that looks after every slice, as the engine's does, 0.2 ms |
//! | a UDP receive that timed out and was dropped | takes the next datagram with it; 50 of them leak 50 descriptors |
//! | connecting with a time limit | leaks a descriptor each time, 10 of 10 |
//! | 8,000 UDP sockets bound to port 0 | 1,030 of them share a port with another |
//! | CPU of a DNS query, 64 at a time, one task each | 1.6 times a plain tokio loop; tasks on a ring of their own 0.9 |
//! | receives that go on by themselves, buffers lent by the kernel | not to be had |
//!
//! What it does well are long-lived streams whose operations nobody drops, with timers and channels of tokio beside them:
//! what [`converse`] makes of it.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::net::Shutdown;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use std::{io, mem};

use ::tokio_uring::net::{TcpStream, UnixStream};
use mailproof_io::{Choice, Driver, DriverError};
use mailproof_proto::dns::{Answer, Failure, Question};
use mailproof_proto::time::Timestamp;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::{Sleep, sleep};

use crate::engine::Engine;
use crate::network::Gathering;
use crate::service::{Conversation, Host, Peer, Requests, Service};

/// A stream of the standard library, of either kind.
#[derive(Debug)]
#[non_exhaustive]
pub enum Stream {
    /// To a host.
    Tcp(std::net::TcpStream),
    /// To a process of this host.
    Unix(std::os::unix::net::UnixStream),
}

/// A conversation on its way; a future of how it ends. Dropping it ends the conversation.
#[derive(Debug)]
pub struct Hosted {
    task: JoinHandle<io::Result<()>>,
    control: Rc<Control>,
}

/// What its owner wants of a conversation.
#[derive(Debug, Default)]
struct Control {
    drains: Cell<bool>,
    cancels: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

/// Octets received at a time: what one piece of work on the engine's threads is.
const RECEIVED_BYTES: usize = 64 * 1024;
/// Octets that may wait to be sent before nothing more is received.
const UNSENT_BYTES_MAX: usize = 256 * 1024;
/// How long a peer may take for the last octets after the conversation has closed.
const LINGER_TIME: Duration = Duration::from_secs(30);

/// A runtime of tokio-uring for this thread, with the ring that [`converse`] is meant for.
///
/// # Errors
/// [`DriverError::UringRefused`] with the cause and the remedy where io_uring does not work, [`DriverError::System`] when
/// the runtime can not be made.
pub fn runtime() -> Result<::tokio_uring::Runtime, DriverError> {
    let probe = mailproof_io::Options { sockets_max: 1, datagram_buffers: 8, stream_buffers: 8 };
    drop(Driver::new(Choice::Uring, probe)?);
    let mut ring = ::tokio_uring::uring_builder();
    ring.setup_coop_taskrun().setup_single_issuer();
    let mut builder = ::tokio_uring::builder();
    builder.uring_builder(&ring);
    let made = ::tokio_uring::Runtime::new(&builder);
    made.map_err(|source| DriverError::System { step: "a runtime of tokio-uring", source })
}

/// Runs a conversation of `service` over a stream, in a task of its own. To be called from within a runtime of tokio-uring.
///
/// # Errors
/// When the engine asks the DNS by waiting ([`BlockingResolver`](crate::resolver::BlockingResolver)), which would hold up
/// every task of the thread, and when the stream's mode can not be set.
pub fn converse(engine: &Engine, stream: impl Into<Stream>, service: &dyn Service) -> io::Result<Hosted> {
    if engine.waits_for_answers() {
        return Err(io::ErrorKind::Unsupported.into());
    }
    let (link, peer) = Link::new(stream.into())?;
    // Its sessions are driven by `poll`; none of them may ask or wait by itself.
    let conversation = service.converse(&engine.without_workers(), peer);
    let control = Rc::new(Control::default());
    let task = Task {
        engine: engine.clone(),
        link: Rc::new(link),
        control: Rc::clone(&control),
        gathering: Arc::new(Gathering::default()),
        turn: Some(Turn { conversation, requests: Requests::default(), questions: Vec::new() }),
        away: None,
        reading: None,
        writing: None,
        unsent: Vec::new(),
        inputs: VecDeque::new(),
        timer: None,
        is_draining: false,
        is_closing: false,
        has_peer_ended: false,
    };
    Ok(Hosted { task: ::tokio_uring::spawn(task.run()), control })
}

impl Hosted {
    /// Tells the conversation that the program is about to end: the message under way may be finished, no other begun.
    pub fn drain(&self) {
        self.control.drains.set(true);
        self.control.wake();
    }
}

impl Future for Hosted {
    type Output = io::Result<()>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let ended = Pin::new(&mut self.task).poll(context);
        ended.map(|ended| ended.unwrap_or_else(|error| Err(io::Error::other(error))))
    }
}

impl Drop for Hosted {
    fn drop(&mut self) {
        self.control.cancels.set(true);
        self.control.wake();
    }
}

impl Control {
    fn wake(&self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

impl From<std::net::TcpStream> for Stream {
    fn from(stream: std::net::TcpStream) -> Self {
        Self::Tcp(stream)
    }
}

impl From<std::os::unix::net::UnixStream> for Stream {
    fn from(stream: std::os::unix::net::UnixStream) -> Self {
        Self::Unix(stream)
    }
}

/// A stream on the ring.
enum Link {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// A transfer that was begun: how it ended, and its buffer.
type Transfer = Pin<Box<dyn Future<Output = (io::Result<usize>, Vec<u8>)>>>;

impl Link {
    fn new(stream: Stream) -> io::Result<(Self, Peer)> {
        Ok(match stream {
            // A socket that does not block fails on the ring where it should wait.
            Stream::Tcp(stream) => {
                stream.set_nonblocking(false)?;
                stream.set_nodelay(true)?;
                let peer = Peer::Ip(stream.peer_addr()?);
                (Self::Tcp(TcpStream::from_std(stream)), peer)
            }
            Stream::Unix(stream) => {
                stream.set_nonblocking(false)?;
                (Self::Unix(UnixStream::from_std(stream)), Peer::Local)
            }
        })
    }

    fn read(self: &Rc<Self>) -> Transfer {
        let (link, room) = (Rc::clone(self), Vec::with_capacity(RECEIVED_BYTES));
        Box::pin(async move {
            match &*link {
                Self::Tcp(stream) => stream.read(room).await,
                Self::Unix(stream) => stream.read(room).await,
            }
        })
    }

    fn write(self: &Rc<Self>, octets: Vec<u8>) -> Transfer {
        let (link, count) = (Rc::clone(self), octets.len());
        Box::pin(async move {
            let (written, octets) = match &*link {
                Self::Tcp(stream) => stream.write_all(octets).await,
                Self::Unix(stream) => stream.write_all(octets).await,
            };
            (written.map(|()| count), octets)
        })
    }

    /// Completes every transfer that is pending.
    fn shut_down(&self) {
        // Fails only where the peer has done it already.
        let _ = match self {
            Self::Tcp(stream) => stream.shutdown(Shutdown::Both),
            Self::Unix(stream) => stream.shutdown(Shutdown::Both),
        };
    }
}

/// A conversation with what it asks for; it travels to the engine's threads and back.
struct Turn {
    conversation: Box<dyn Conversation>,
    requests: Requests,
    /// Those that only the network can answer.
    questions: Vec<Question>,
}

/// What a conversation is to hear.
enum Input {
    Received(Vec<u8>),
    Answered(Vec<(Question, Answer)>),
    Woken,
    Drain,
}

impl Turn {
    /// Takes one input, and the answers that are at hand.
    fn take(&mut self, input: Input, engine: &Engine) {
        let now = engine.now();
        match input {
            Input::Received(octets) => self.conversation.received(&octets, &mut Host::new(now, &mut self.requests)),
            Input::Woken => self.conversation.woken(&mut Host::new(now, &mut self.requests)),
            Input::Drain => self.conversation.drain(&mut Host::new(now, &mut self.requests)),
            Input::Answered(answers) => {
                for (question, answer) in answers {
                    self.answer(&question, &answer, now);
                }
            }
        }
        loop {
            let asked: Vec<Question> = self.requests.drain_questions().collect();
            if asked.is_empty() {
                return;
            }
            for question in asked {
                match engine.at_hand(&question, engine.now()) {
                    Some(answer) => self.answer(&question, &answer, now),
                    None => self.questions.push(question),
                }
            }
        }
    }

    fn answer(&mut self, question: &Question, answer: &Answer, now: Timestamp) {
        if !self.requests.closes() {
            self.conversation.answered(question, answer, &mut Host::new(now, &mut self.requests));
        }
    }
}

/// One conversation with its stream.
struct Task {
    engine: Engine,
    link: Rc<Link>,
    control: Rc<Control>,
    gathering: Arc<Gathering>,
    /// `None` while it is on one of the engine's threads.
    turn: Option<Turn>,
    away: Option<oneshot::Receiver<Turn>>,
    reading: Option<Transfer>,
    writing: Option<Transfer>,
    unsent: Vec<u8>,
    inputs: VecDeque<Input>,
    timer: Option<(Option<Timestamp>, Pin<Box<Sleep>>)>,
    is_draining: bool,
    is_closing: bool,
    has_peer_ended: bool,
}

enum Happened {
    Home(Turn),
    /// The engine's threads are gone, and the conversation with them.
    Lost,
    Wrote(io::Result<usize>),
    Read(io::Result<usize>, Vec<u8>),
    Answered(Vec<(Question, Answer)>),
    TimeOver,
    Drains,
    Cancelled,
}

impl Task {
    async fn run(mut self) -> io::Result<()> {
        let ended = self.converse().await;
        self.link.shut_down();
        for transfer in [self.reading.take(), self.writing.take()].into_iter().flatten() {
            // How it ended says nothing new.
            let _ = transfer.await;
        }
        if let Some(away) = self.away.take() {
            self.turn = away.await.ok();
        }
        if let Some(mut turn) = self.turn.take() {
            turn.conversation.closed();
        }
        ended
    }

    async fn converse(&mut self) -> io::Result<()> {
        loop {
            self.begin();
            if self.is_done() {
                return Ok(());
            }
            match self.next().await {
                Happened::Home(turn) => self.carry_out(turn),
                Happened::Lost => return Err(io::ErrorKind::BrokenPipe.into()),
                Happened::Wrote(written) => drop(written?),
                Happened::Read(count, mut octets) => {
                    octets.truncate(count?);
                    match octets.is_empty() {
                        true => self.has_peer_ended = true,
                        false => self.inputs.push_back(Input::Received(octets)),
                    }
                }
                Happened::Answered(answers) => self.inputs.push_back(Input::Answered(answers)),
                Happened::TimeOver if self.is_closing => return Err(io::ErrorKind::TimedOut.into()),
                Happened::TimeOver => self.wake(),
                Happened::Drains => {
                    self.is_draining = true;
                    self.inputs.push_back(Input::Drain);
                }
                Happened::Cancelled => return Ok(()),
            }
        }
    }

    /// Begins what can be begun: work, sending, receiving.
    fn begin(&mut self) {
        if !self.is_closing
            && !self.inputs.is_empty()
            && let Some(mut turn) = self.turn.take()
            && let Some(input) = self.inputs.pop_front()
        {
            let (send, receive) = oneshot::channel();
            let engine = self.engine.without_workers();
            self.engine.run_on_threads(Box::new(move || {
                turn.take(input, &engine);
                // Nobody waits for it when the runtime has ended.
                drop(send.send(turn));
            }));
            self.away = Some(receive);
        }
        if self.writing.is_none() && !self.unsent.is_empty() {
            self.writing = Some(self.link.write(mem::take(&mut self.unsent)));
        }
        let is_wanted = !self.is_closing && !self.has_peer_ended && self.unsent.len() <= UNSENT_BYTES_MAX;
        let waits = self.inputs.iter().any(|input| matches!(input, Input::Received(_)));
        if self.reading.is_none() && is_wanted && !waits {
            self.reading = Some(self.link.read());
        }
    }

    /// Nothing is left to be done: it has closed, or its peer has, and all is sent.
    fn is_done(&self) -> bool {
        let is_over = self.is_closing || self.has_peer_ended && self.inputs.is_empty();
        is_over && self.turn.is_some() && self.writing.is_none() && self.unsent.is_empty()
    }

    /// What happens next; whatever is pending stays as it is.
    async fn next(&mut self) -> Happened {
        poll_fn(|context| {
            if self.control.cancels.get() {
                return Poll::Ready(Happened::Cancelled);
            }
            if self.control.drains.get() && !self.is_draining {
                return Poll::Ready(Happened::Drains);
            }
            if let Some(Poll::Ready(turn)) = self.away.as_mut().map(|away| Pin::new(away).poll(context)) {
                self.away = None;
                return Poll::Ready(turn.map_or(Happened::Lost, Happened::Home));
            }
            if let Some(Poll::Ready((written, _))) = self.writing.as_mut().map(|it| it.as_mut().poll(context)) {
                self.writing = None;
                return Poll::Ready(Happened::Wrote(written));
            }
            if let Some(Poll::Ready((count, octets))) = self.reading.as_mut().map(|it| it.as_mut().poll(context)) {
                self.reading = None;
                return Poll::Ready(Happened::Read(count, octets));
            }
            let answers = self.gathering.take_or_wake(context);
            if !answers.is_empty() {
                return Poll::Ready(Happened::Answered(answers));
            }
            if let Some((_, timer)) = &mut self.timer
                && timer.as_mut().poll(context).is_ready()
            {
                return Poll::Ready(Happened::TimeOver);
            }
            *self.control.waker.borrow_mut() = Some(context.waker().clone());
            Poll::Pending
        })
        .await
    }

    /// Does what the conversation asked for.
    fn carry_out(&mut self, mut turn: Turn) {
        self.unsent.append(turn.requests.output_mut());
        let questions = mem::take(&mut turn.questions);
        self.is_closing = turn.requests.closes();
        if self.is_closing {
            self.timer = Some((None, Box::pin(sleep(LINGER_TIME))));
        } else {
            self.set_timer(turn.requests.wake_at());
            self.ask(questions);
        }
        self.turn = Some(turn);
    }

    fn ask(&mut self, questions: Vec<Question>) {
        if questions.is_empty()
            || self.engine.has_network() && self.engine.ask_network(questions.clone(), &self.gathering)
        {
            return;
        }
        let failed = |question| (question, Answer::failed(Failure::Unreachable));
        self.inputs.push_back(Input::Answered(questions.into_iter().map(failed).collect()));
    }

    fn set_timer(&mut self, moment: Option<Timestamp>) {
        if self.timer.as_ref().and_then(|(moment, _)| *moment) == moment {
            return;
        }
        self.timer = moment.map(|moment| {
            let left = moment.milliseconds().saturating_sub(self.engine.now().milliseconds());
            (Some(moment), Box::pin(sleep(Duration::from_millis(left))))
        });
    }

    /// The moment to wake it has come, unless the conversation is away and names another one when it comes home.
    fn wake(&mut self) {
        self.timer = None;
        if let Some(turn) = &mut self.turn
            && turn.requests.take_wake().is_some()
        {
            self.inputs.push_back(Input::Woken);
        }
    }
}
