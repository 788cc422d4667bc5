//! The io_uring backend.
//!
//! Cost of a datagram answered: one submission and one completion in shared memory, and its share of an
//! io_uring_enter; with 64 in flight that is about a tenth of a system call.

mod buffers;

use std::collections::VecDeque;
use std::io;
use std::mem;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::ptr;
use std::time::Duration;

use io_uring::register::Probe;
use io_uring::squeue::{Entry, Flags};
use io_uring::types::{CancelBuilder, Fd, Fixed};
use io_uring::{IoUring, opcode};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SendFlags, SocketFlags, SocketType};

use self::buffers::{Buffers, Completion, push};
use crate::driver::{DriverError, Found, Options, Place, Statistics};
use crate::outbox::{Control, GROUPS_MAX, Outbox, SEGMENTS_MAX, is_about_segments};
use crate::socket::{GENERATION_MASK, Kind, SocketId, Sockets, State};
use crate::waker::Waker;

/// One io_uring with its buffers.
pub(crate) struct Ring {
    ring: IoUring,
    datagrams: Buffers,
    streams: Buffers,
    /// Datagrams that are not submitted yet: sent without waiting, so their room is free after that.
    outbox: Outbox,
    /// The message headers of its groups.
    headers: Box<[Header]>,
    /// Its groups whose operations are queued.
    posted: usize,
    /// How often everything queued was submitted.
    submissions: u64,
    /// Completions taken out of the queue and not looked at.
    batch: Vec<Completion>,
    /// How many of them were looked at.
    looked_at: usize,
    /// The buffer whose octets were handed out last.
    lent: Option<(Kind, u16)>,
    /// Sockets to receive on again once buffers are given back.
    rearm: Vec<SocketId>,
    /// Streams with something to send.
    senders: Vec<SocketId>,
    /// Streams that were asked about with nothing to send.
    sent: VecDeque<SocketId>,
    waker: Waker,
    wake_room: Box<[u8; 8]>,
    /// Places for descriptors that the kernel has looked up already: one for each socket with a small number.
    places: u32,
    /// Operations whose last completion is still to come.
    in_flight: usize,
    /// The kernel does not let us enter the ring any more.
    refused: Option<Errno>,
    has_no_iowait: bool,
    waits: u64,
    no_buffers: u64,
}

/// Descriptors registered with the ring; datagram sockets have the use of it, as they carry many small operations.
const PLACES: u32 = 1024;
const SUBMISSION_ENTRIES: u32 = 1024;
const COMPLETION_ENTRIES: u32 = 8192;
const DATAGRAM_BUFFER_BYTES: usize = 2048;
const STREAM_BUFFER_BYTES: usize = 16 * 1024;
/// Completions taken out at once.
const BATCH: usize = 64;
/// How long a ring that works may take to receive what has been sent already.
const PROBE_TIME: Duration = Duration::from_millis(200);
/// How long the end of all operations is waited for when the ring is given up.
const SHUT_DOWN_TIME: Duration = Duration::from_millis(500);

const ENTER_GETEVENTS: u32 = 1;
const ENTER_EXT_ARG: u32 = 8;
/// Waiting for the network is no waiting for disks (Linux 6.15).
const ENTER_NO_IOWAIT: u32 = 128;

/// What an operation was, in the upper octet of its user data.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u8)]
enum Operation {
    /// Nobody waits for its completion.
    Cancel = 0,
    Receive = 1,
    Accept = 2,
    Connect = 3,
    Send = 4,
    SendDatagram = 5,
    Wake = 6,
    /// Several datagrams.
    SendGroup = 7,
}

/// What a send of several datagrams names; read when it is submitted.
#[derive(Debug)]
struct Header {
    message: libc::msghdr,
    part: libc::iovec,
    control: Control,
}

impl Ring {
    /// A ring that has been seen to work.
    pub(crate) fn new(waker: &Waker, options: &Options) -> Result<Self, DriverError> {
        let ring = set_up().map_err(refused("io_uring_setup"))?;
        check_operations(&ring)?;
        let buffers = |group, count, bytes| {
            Buffers::new(&ring, group, count, bytes).map_err(refused("io_uring_register (buffers)"))
        };
        let datagrams = buffers(0, options.datagram_buffers, DATAGRAM_BUFFER_BYTES)?;
        let streams = buffers(1, options.stream_buffers, STREAM_BUFFER_BYTES)?;
        let has_no_iowait = ring.params().is_feature_no_iowait();
        // Refused where the process may have few descriptors; then each operation looks its own up.
        let places = if ring.submitter().register_files_sparse(PLACES).is_ok() { PLACES } else { 0 };
        let mut it = Self {
            ring,
            datagrams,
            streams,
            outbox: Outbox::new(),
            headers: std::iter::repeat_with(Header::new).take(GROUPS_MAX).collect(),
            posted: 0,
            submissions: 0,
            batch: Vec::with_capacity(BATCH),
            looked_at: 0,
            lent: None,
            rearm: Vec::new(),
            senders: Vec::new(),
            sent: VecDeque::new(),
            waker: waker.clone(),
            wake_room: Box::new([0; 8]),
            places,
            in_flight: 0,
            refused: None,
            has_no_iowait,
            waits: 0,
            no_buffers: 0,
        };
        it.try_out()?;
        it.watch_waker();
        Ok(it)
    }

    /// Receives once, because a filter may allow the set-up and refuse the rest.
    fn try_out(&mut self) -> Result<(), DriverError> {
        let pair = rustix::net::socketpair(AddressFamily::UNIX, SocketType::DGRAM, SocketFlags::CLOEXEC, None);
        let (here, there) = pair.map_err(|errno| refused("socketpair")(errno.into()))?;
        rustix::net::send(&there, b"?", SendFlags::empty()).map_err(|errno| refused("send")(errno.into()))?;
        let mut sockets = Sockets::default();
        let id = sockets.insert(here, Kind::Datagram);
        if let Some(socket) = sockets.get(id) {
            socket.wants = true;
        }
        self.receive(&mut sockets, id);
        self.wait(&mut sockets, Some(PROBE_TIME)).map_err(refused("io_uring_enter"))?;
        let found = self.next(&mut sockets);
        if let Some(errno) = self.refused {
            return Err(refused("io_uring_enter")(errno.into()));
        }
        if !matches!(found, Some(Found::Received { place: Place::Buffer { length: 1, .. }, .. })) {
            let source = io::Error::other("a multishot receive with provided buffers gave nothing");
            return Err(DriverError::UringRefused { step: "io_uring_enter", source });
        }
        self.shut_down(&mut sockets);
        Ok(())
    }

    fn watch_waker(&mut self) {
        let room = self.wake_room.as_mut_ptr();
        let event = Fd(self.waker.event().as_raw_fd());
        let entry = opcode::Read::new(event, room, 8).build().user_data((Operation::Wake as u64) << 56);
        self.push_counted(&entry);
    }

    pub(crate) fn receive(&mut self, sockets: &mut Sockets, id: SocketId) {
        let Some(socket) = sockets.open(id) else { return };
        // A receive that is being cancelled ends first; its end arms the next.
        if socket.armed || socket.state != State::Open {
            return;
        }
        socket.armed = true;
        socket.in_flight += 1;
        let fd = Fd(socket.fd.as_raw_fd());
        if socket.kind == Kind::Datagram && !socket.has_place && id.index < self.places {
            let update = self.ring.submitter().register_files_update(id.index, &[fd.0]);
            socket.has_place = update.is_ok();
        }
        let entry = match socket.kind {
            Kind::Datagram if socket.has_place => {
                opcode::RecvMulti::new(Fixed(id.index), self.datagrams.group()).build()
            }
            Kind::Datagram => opcode::RecvMulti::new(fd, self.datagrams.group()).build(),
            Kind::Stream => opcode::RecvMulti::new(fd, self.streams.group()).build(),
            Kind::Listener => opcode::AcceptMulti::new(fd).flags(libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK).build(),
        };
        let operation = if socket.kind == Kind::Listener { Operation::Accept } else { Operation::Receive };
        self.push_counted(&entry.user_data(user_data(operation, id)));
    }

    pub(crate) fn pause(&mut self, sockets: &mut Sockets, id: SocketId) {
        let Some(socket) = sockets.open(id).filter(|socket| socket.armed) else { return };
        let operation = if socket.kind == Kind::Listener { Operation::Accept } else { Operation::Receive };
        let cancel = opcode::AsyncCancel::new(user_data(operation, id)).build();
        self.push_counted(&cancel);
    }

    pub(crate) fn watch_connect(&mut self, sockets: &mut Sockets, id: SocketId) {
        let Some(socket) = sockets.open(id) else { return };
        socket.in_flight += 1;
        let entry = opcode::PollAdd::new(Fd(socket.fd.as_raw_fd()), libc::POLLOUT as u32).build();
        self.push_counted(&entry.user_data(user_data(Operation::Connect, id)));
    }

    pub(crate) fn send_datagram(&mut self, sockets: &mut Sockets, id: SocketId, datagram: &[u8]) {
        let Some(socket) = sockets.open(id) else { return };
        if self.outbox.add(id, socket, datagram) {
            return;
        }
        // There is no room, it is too long to be queued, or the kernel takes nothing at the moment: then after the others.
        self.post(sockets);
        self.submit();
        let Some(socket) = sockets.open(id) else { return };
        if !self.outbox.add(id, socket, datagram) {
            let _ = rustix::net::send(&socket.fd, datagram, SendFlags::DONTWAIT | SendFlags::NOSIGNAL);
        }
    }

    /// Queues the operations that send what is in the outbox.
    fn post(&mut self, sockets: &mut Sockets) {
        if self.posted == self.outbox.len() {
            return;
        }
        self.outbox.seal();
        while let Some(group) = self.outbox.group(self.posted) {
            // Whoever let go of a socket wants nothing sent by it any more.
            if let Some(socket) = sockets.open(group.socket) {
                let place = socket.has_place.then_some(Fixed(group.socket.index));
                self.post_group(group.socket, Fd(socket.fd.as_raw_fd()), place);
            }
            // Only now: with all groups posted, an empty queue means that they are submitted and their room is free.
            self.posted += 1;
        }
    }

    fn post_group(&mut self, id: SocketId, fd: Fd, place: Option<Fixed>) {
        let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
        let mut entries = [const { None }; SEGMENTS_MAX];
        let Self { outbox, headers, posted, .. } = self;
        for (entry, parcel) in entries.iter_mut().zip(outbox.parcels(*posted, outbox.joins())) {
            let header = headers.get_mut(*posted);
            let (built, operation) = match (parcel.segment_bytes, header) {
                (Some(bytes), Some(header)) => {
                    let message = header.name(parcel.octets, bytes);
                    let built = match place {
                        Some(place) => opcode::SendMsg::new(place, message).flags(flags as u32).build(),
                        None => opcode::SendMsg::new(fd, message).flags(flags as u32).build(),
                    };
                    (built, Operation::SendGroup)
                }
                _ => {
                    let (start, length) = (parcel.octets.as_ptr(), parcel.octets.len() as u32);
                    let built = match place {
                        Some(place) => opcode::Send::new(place, start, length).flags(flags).build(),
                        None => opcode::Send::new(fd, start, length).flags(flags).build(),
                    };
                    (built, Operation::SendDatagram)
                }
            };
            *entry = Some(built.flags(Flags::SKIP_SUCCESS).user_data(user_data(operation, id)));
        }
        for entry in entries.iter().flatten() {
            self.push(entry);
        }
    }

    pub(crate) fn list_sender(&mut self, id: SocketId) {
        self.senders.push(id);
    }

    pub(crate) fn close(&mut self, sockets: &mut Sockets, id: SocketId) {
        let Some(socket) = sockets.get(id) else { return };
        if socket.in_flight == 0 {
            // What is queued names the descriptor, which another file may have next.
            if !self.ring.submission().is_empty() {
                self.submit();
            }
            self.remove(sockets, id);
            return;
        }
        let criteria = if socket.has_place {
            CancelBuilder::fd(Fixed(id.index))
        } else {
            CancelBuilder::fd(Fd(socket.fd.as_raw_fd()))
        };
        self.push_counted(&opcode::AsyncCancel2::new(criteria.all()).build());
    }

    /// Lets go of a socket that no operation uses.
    fn remove(&mut self, sockets: &mut Sockets, id: SocketId) {
        let socket = sockets.remove(id);
        if socket.is_some_and(|socket| socket.has_place) {
            // Otherwise the place would keep the socket open.
            let _ = self.ring.submitter().register_files_update(id.index, &[-1]);
        }
    }

    /// Submits what is queued and waits; `None` waits without end.
    pub(crate) fn wait(&mut self, sockets: &mut Sockets, timeout: Option<Duration>) -> io::Result<()> {
        self.prepare(sockets);
        let waits = timeout != Some(Duration::ZERO)
            && self.looked_at == self.batch.len()
            && self.sent.is_empty()
            && self.refused.is_none();
        self.enter(u32::from(waits), timeout)
    }

    /// Enters the kernel only when there is something to submit or to be told.
    pub(crate) fn glance(&mut self, sockets: &mut Sockets) -> io::Result<()> {
        self.prepare(sockets);
        let queue = self.ring.submission();
        let has_work = !queue.is_empty() || queue.taskrun() || queue.cq_overflow();
        drop(queue);
        if has_work { self.enter(0, Some(Duration::ZERO)) } else { Ok(()) }
    }

    /// What happened next.
    pub(crate) fn next(&mut self, sockets: &mut Sockets) -> Option<Found> {
        if let Some((kind, buffer)) = self.lent.take() {
            self.buffers(kind).give(buffer);
        }
        if let Some(socket) = self.sent.pop_front() {
            return Some(Found::Sent { socket });
        }
        loop {
            let Some(completion) = self.next_completion() else { return self.refused.map(Found::Refused) };
            if let Some(found) = self.complete(sockets, completion) {
                return Some(found);
            }
        }
    }

    pub(crate) fn octets(&self, kind: Kind, buffer: u16, length: usize) -> &[u8] {
        match kind {
            Kind::Datagram => self.datagrams.octets(buffer, length),
            _ => self.streams.octets(buffer, length),
        }
    }

    pub(crate) fn count(&self, statistics: &mut Statistics) {
        statistics.waits += self.waits;
        statistics.no_buffers += self.no_buffers;
        statistics.joined += self.outbox.joined();
    }

    /// Ends every operation, so that nothing of this side's memory is used any more.
    pub(crate) fn shut_down(&mut self, sockets: &mut Sockets) {
        self.push_counted(&opcode::AsyncCancel2::new(CancelBuilder::any()).build());
        let until = std::time::Instant::now() + SHUT_DOWN_TIME;
        while self.in_flight > 0 && self.refused.is_none() && std::time::Instant::now() < until {
            if self.enter(1, Some(Duration::from_millis(20))).is_err() {
                break;
            }
            while let Some(completion) = self.next_completion() {
                self.complete(sockets, completion);
                if let Some((kind, buffer)) = self.lent.take() {
                    self.buffers(kind).give(buffer);
                }
            }
        }
        self.abandon_if_in_flight(sockets);
    }

    /// Hands the sockets over to another backend. What was being sent on a stream may or may not be on its way, so such a
    /// stream ends; unless it was never submitted.
    pub(crate) fn leave(&mut self, sockets: &mut Sockets) -> Vec<Found> {
        let mut ended = Vec::new();
        for id in sockets.ids() {
            let Some(socket) = sockets.get(id) else { continue };
            let is_uncertain = socket.output.is_busy && socket.output.submission < self.submissions;
            socket.output.is_busy = false;
            (socket.armed, socket.in_flight) = (false, 0);
            if is_uncertain {
                // The kernel may read it until the ring is gone for good, which nobody tells.
                mem::forget(mem::take(&mut socket.output.sending));
                socket.output.sent = 0;
                socket.output.queue.clear();
                if socket.state == State::Open && socket.end() {
                    socket.state = State::Failed;
                    ended.push(Found::Ended { socket: id, error: Some(Errno::CONNRESET) });
                }
            }
        }
        ended
    }

    /// Where the end of an operation could not be waited for, its memory is given up for good rather than freed.
    fn abandon_if_in_flight(&mut self, sockets: &mut Sockets) {
        if self.in_flight == 0 {
            return;
        }
        for id in sockets.ids() {
            if let Some(socket) = sockets.get(id).filter(|socket| socket.output.is_busy) {
                mem::forget(mem::take(&mut socket.output.sending));
                socket.output.sent = 0;
            }
        }
        mem::forget(mem::replace(&mut self.wake_room, Box::new([0; 8])));
        self.datagrams.abandon();
        self.streams.abandon();
    }

    fn complete(&mut self, sockets: &mut Sockets, completion: Completion) -> Option<Found> {
        let (operation, id) = parts(completion.user_data);
        let has_ended = !completion.has_more();
        if has_ended && !matches!(operation, Operation::SendDatagram | Operation::SendGroup) {
            self.in_flight = self.in_flight.saturating_sub(1);
        }
        match operation {
            Operation::Cancel => return None,
            Operation::Wake => {
                self.watch_waker_again(completion);
                return None;
            }
            Operation::SendDatagram | Operation::SendGroup => {
                let error = Errno::from_raw_os_error(-completion.result);
                if operation == Operation::SendGroup && is_about_segments(&error.into()) {
                    // Their room may have been used again.
                    return self.outbox.stop_joining().then_some(Found::DatagramsLost);
                }
                return sockets.open(id).map(|_| Found::DatagramFailed { socket: id, error });
            }
            _ => {}
        }
        let found = match operation {
            Operation::Receive => self.received(sockets, id, completion),
            Operation::Accept => self.accepted(sockets, id, completion),
            Operation::Connect => self.connected(sockets, id),
            _ => self.sent(sockets, id, completion),
        };
        if has_ended {
            let socket = sockets.get(id)?;
            socket.in_flight -= 1;
            if socket.state == State::Closing && socket.in_flight == 0 {
                self.remove(sockets, id);
            }
        }
        found
    }

    fn watch_waker_again(&mut self, completion: Completion) {
        if completion.result != -libc::ECANCELED {
            self.watch_waker();
        }
    }

    fn received(&mut self, sockets: &mut Sockets, id: SocketId, completion: Completion) -> Option<Found> {
        let socket = sockets.get(id)?;
        let kind = socket.kind;
        let is_open = socket.is_heard();
        if !completion.has_more() {
            socket.armed = false;
            if completion.result == -libc::ENOBUFS {
                self.no_buffers += 1;
            }
            if is_open && socket.wants {
                self.rearm.push(id);
            }
        }
        if let Some(buffer) = completion.buffer() {
            self.lent = Some((kind, buffer));
            let length = usize::try_from(completion.result).unwrap_or(0);
            if is_open && (length > 0 || kind == Kind::Datagram) {
                return Some(Found::Received { socket: id, place: Place::Buffer { kind, buffer, length } });
            }
            self.buffers(kind).give(buffer);
            self.lent = None;
        }
        if !is_open || matches!(-completion.result, libc::ENOBUFS | libc::ECANCELED | libc::EAGAIN | libc::EINTR) {
            return None;
        }
        let error = (completion.result < 0).then(|| Errno::from_raw_os_error(-completion.result));
        match (kind, error) {
            (Kind::Datagram, Some(error)) => Some(Found::DatagramFailed { socket: id, error }),
            // An empty datagram, which takes no buffer.
            (Kind::Datagram, None) => Some(Found::Received { socket: id, place: Place::Room { length: 0 } }),
            (_, error) => socket.end().then_some(Found::Ended { socket: id, error }),
        }
    }

    fn accepted(&mut self, sockets: &mut Sockets, id: SocketId, completion: Completion) -> Option<Found> {
        // SAFETY: a result that is not negative is a descriptor the kernel has just made, and nobody else has it.
        let stream = (completion.result >= 0).then(|| unsafe { OwnedFd::from_raw_fd(completion.result) });
        let listener = sockets.get(id)?;
        if !completion.has_more() {
            listener.armed = false;
        }
        if listener.state != State::Open {
            return None;
        }
        let Some(stream) = stream else {
            let error = Errno::from_raw_os_error(-completion.result);
            // A connection that ended before it was accepted is no fault of the listener's.
            if matches!(error, Errno::CANCELED | Errno::CONNABORTED | Errno::INTR | Errno::AGAIN) {
                if listener.wants && !listener.armed {
                    self.rearm.push(id);
                }
                return None;
            }
            listener.wants = false;
            return Some(Found::AcceptFailed { listener: id, error });
        };
        if listener.wants && !listener.armed {
            self.rearm.push(id);
        }
        let socket = sockets.insert(stream, Kind::Stream);
        Some(Found::Accepted { listener: id, socket })
    }

    fn connected(&mut self, sockets: &mut Sockets, id: SocketId) -> Option<Found> {
        let socket = sockets.get(id).filter(|socket| socket.state == State::Connecting)?;
        match rustix::net::sockopt::socket_error(&socket.fd) {
            Ok(Ok(())) => {
                socket.state = State::Open;
                if socket.wants {
                    self.rearm.push(id);
                }
                if socket.output.waiting_bytes() > 0 && !mem::replace(&mut socket.output.is_listed, true) {
                    self.senders.push(id);
                }
                Some(Found::Connected { socket: id })
            }
            Ok(Err(errno)) | Err(errno) => {
                socket.state = State::Failed;
                Some(Found::Ended { socket: id, error: Some(errno) })
            }
        }
    }

    fn sent(&mut self, sockets: &mut Sockets, id: SocketId, completion: Completion) -> Option<Found> {
        let socket = sockets.get(id)?;
        let output = &mut socket.output;
        output.is_busy = false;
        if socket.state != State::Open {
            return None;
        }
        match usize::try_from(completion.result) {
            Ok(sent) => output.sent = (output.sent + sent).min(output.sending.len()),
            Err(_) if matches!(-completion.result, libc::EAGAIN | libc::EINTR) => {}
            Err(_) => {
                let error = Some(Errno::from_raw_os_error(-completion.result));
                if output.closes {
                    self.close_now(sockets, id);
                    return None;
                }
                socket.fail();
                return socket.end().then_some(Found::Ended { socket: id, error });
            }
        }
        if output.waiting_bytes() > 0 {
            if !mem::replace(&mut output.is_listed, true) {
                self.senders.push(id);
            }
            return None;
        }
        if output.closes {
            self.close_now(sockets, id);
            return None;
        }
        mem::take(&mut output.notifies).then_some(Found::Sent { socket: id })
    }

    /// Closes from within a completion, which takes the socket out itself when it was the last.
    fn close_now(&mut self, sockets: &mut Sockets, id: SocketId) {
        let Some(socket) = sockets.get(id) else { return };
        socket.state = State::Closing;
        if socket.in_flight > 1 {
            let cancel = opcode::AsyncCancel2::new(CancelBuilder::fd(Fd(socket.fd.as_raw_fd())).all()).build();
            self.push_counted(&cancel);
        }
    }

    /// Queues what has to be queued before the kernel is entered.
    fn prepare(&mut self, sockets: &mut Sockets) {
        self.post(sockets);
        for id in mem::take(&mut self.rearm) {
            if sockets.open(id).is_some_and(|socket| socket.wants) {
                self.receive(sockets, id);
            }
        }
        let mut senders = mem::take(&mut self.senders);
        for id in senders.drain(..) {
            self.start_sending(sockets, id);
        }
        if self.senders.is_empty() {
            self.senders = senders;
        }
    }

    fn start_sending(&mut self, sockets: &mut Sockets, id: SocketId) {
        let Some(socket) = sockets.open(id) else { return };
        let output = &mut socket.output;
        output.is_listed = false;
        if socket.state != State::Open || output.is_busy {
            // Connecting: its end lists the socket again. Busy: the end of that does.
            return;
        }
        if !output.advance() {
            if mem::take(&mut output.notifies) {
                self.sent.push_back(id);
            }
            return;
        }
        output.is_busy = true;
        output.submission = self.submissions;
        socket.in_flight += 1;
        let rest = output.sending.get(output.sent..).unwrap_or_default();
        let length = u32::try_from(rest.len()).unwrap_or(u32::MAX);
        let entry = opcode::Send::new(Fd(socket.fd.as_raw_fd()), rest.as_ptr(), length)
            .flags(libc::MSG_NOSIGNAL | libc::MSG_WAITALL)
            .build()
            .user_data(user_data(Operation::Send, id));
        self.push_counted(&entry);
    }

    fn push_counted(&mut self, entry: &Entry) {
        self.in_flight += 1;
        self.push(entry);
    }

    /// Queues an operation; when the queue is full, what is in it is submitted first.
    fn push(&mut self, entry: &Entry) {
        // SAFETY: received octets go into registered buffers; octets sent on a stream stay in its socket until the last
        // completion (`Output::sending` is touched only while not busy); datagrams stay in the outbox until everything is
        // submitted, and a send that does not wait has read them by then; the waker's room lives as long as the ring.
        while !unsafe { push(&mut self.ring, entry) } {
            self.submit();
            if self.refused.is_some() {
                return;
            }
        }
    }

    fn submit(&mut self) {
        // Whatever is wrong shows itself again at the next wait.
        let _ = self.enter(0, Some(Duration::ZERO));
    }

    fn enter(&mut self, want: u32, timeout: Option<Duration>) -> io::Result<()> {
        if self.refused.is_some() {
            return Ok(());
        }
        let timespec = timeout.map(|timeout| libc::timespec {
            tv_sec: timeout.as_secs() as libc::time_t,
            tv_nsec: libc::c_long::from(timeout.subsec_nanos()),
        });
        let argument = GetEventsArgument {
            signal_mask: 0,
            signal_mask_bytes: 0,
            min_wait_us: 0,
            timeout: timespec.as_ref().filter(|_| want > 0).map_or(0, |it| std::ptr::from_ref(it) as u64),
        };
        let mut flags = ENTER_GETEVENTS | ENTER_EXT_ARG;
        if self.has_no_iowait && want > 0 {
            flags |= ENTER_NO_IOWAIT;
        }
        let queued = self.ring.submission().len() as u32;
        self.waits += 1;
        // SAFETY: `argument` has the layout that EXT_ARG names and, with the time it points to, outlives the call.
        let result = unsafe { self.ring.submitter().enter(queued, want, flags, Some(&argument)) };
        if self.ring.submission().is_empty() {
            self.submissions += 1;
            if self.posted == self.outbox.len() {
                self.outbox.clear();
                self.posted = 0;
            }
        }
        match result.map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO)) {
            Ok(_) | Err(Errno::TIME | Errno::INTR | Errno::BUSY | Errno::AGAIN) => Ok(()),
            Err(errno @ (Errno::PERM | Errno::NOSYS | Errno::ACCESS)) => {
                self.refused = Some(errno);
                Ok(())
            }
            Err(errno) => Err(errno.into()),
        }
    }

    fn next_completion(&mut self) -> Option<Completion> {
        if self.looked_at == self.batch.len() {
            self.batch.clear();
            self.looked_at = 0;
            self.batch.extend(self.ring.completion().take(BATCH).map(|entry| Completion::new(&entry)));
        }
        let completion = self.batch.get(self.looked_at).copied();
        self.looked_at += usize::from(completion.is_some());
        completion
    }

    fn buffers(&mut self, kind: Kind) -> &mut Buffers {
        match kind {
            Kind::Datagram => &mut self.datagrams,
            _ => &mut self.streams,
        }
    }
}

impl Header {
    fn new() -> Self {
        // SAFETY: a header of zeroes is a valid one: no address, no parts, no control data.
        let message = unsafe { mem::zeroed() };
        Self { message, part: libc::iovec { iov_base: ptr::null_mut(), iov_len: 0 }, control: Control::NONE }
    }

    /// Makes it name these octets, to be parted after so many each. It has to stay where it is until it was read.
    fn name(&mut self, octets: &[u8], segment_bytes: u16) -> *const libc::msghdr {
        self.part = libc::iovec { iov_base: octets.as_ptr().cast_mut().cast(), iov_len: octets.len() };
        self.message.msg_iov = &mut self.part;
        self.message.msg_iovlen = 1;
        self.control.attach(&mut self.message, segment_bytes);
        &self.message
    }
}

/// What the kernel takes with EXT_ARG.
#[repr(C)]
struct GetEventsArgument {
    signal_mask: u64,
    signal_mask_bytes: u32,
    min_wait_us: u32,
    timeout: u64,
}

fn set_up() -> io::Result<IoUring> {
    let mut builder = IoUring::builder();
    builder.dontfork().setup_cqsize(COMPLETION_ENTRIES).setup_single_issuer();
    builder.setup_defer_taskrun().setup_taskrun_flag().setup_submit_all();
    builder.build(SUBMISSION_ENTRIES)
}

fn check_operations(ring: &IoUring) -> Result<(), DriverError> {
    let mut probe = Probe::new();
    ring.submitter().register_probe(&mut probe).map_err(refused("io_uring_register (probe)"))?;
    let needed = [
        opcode::Accept::CODE,
        opcode::AsyncCancel::CODE,
        opcode::PollAdd::CODE,
        opcode::Read::CODE,
        opcode::Recv::CODE,
        opcode::Send::CODE,
        opcode::SendMsg::CODE,
    ];
    if needed.iter().all(|&code| probe.is_supported(code)) && ring.params().is_feature_ext_arg() {
        return Ok(());
    }
    let source = io::Error::other("the kernel lacks an operation that is needed (Linux 6.1 has all)");
    Err(DriverError::UringRefused { step: "io_uring_register (probe)", source })
}

fn refused(step: &'static str) -> impl Fn(io::Error) -> DriverError {
    move |source| DriverError::UringRefused { step, source }
}

fn user_data(operation: Operation, id: SocketId) -> u64 {
    (operation as u64) << 56 | u64::from(id.generation & GENERATION_MASK) << 32 | u64::from(id.index)
}

fn parts(user_data: u64) -> (Operation, SocketId) {
    let operation = match user_data >> 56 {
        1 => Operation::Receive,
        2 => Operation::Accept,
        3 => Operation::Connect,
        4 => Operation::Send,
        5 => Operation::SendDatagram,
        6 => Operation::Wake,
        7 => Operation::SendGroup,
        _ => Operation::Cancel,
    };
    (operation, SocketId { index: user_data as u32, generation: (user_data >> 32) as u32 & GENERATION_MASK })
}
