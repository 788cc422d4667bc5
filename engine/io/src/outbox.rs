//! Datagrams on their way out; those of one length to one peer go together.
//!
//! The way of a datagram through the kernel costs about a microsecond whatever its length. With segmentation
//! (UDP_SEGMENT) several of one length go that way once and are parted at the device, or at the peer's socket where the
//! peer is on this machine. What a peer receives is the same.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use rustix::io::Errno;

use crate::socket::{Socket, SocketId};

/// Room for one group. Four of the longest datagrams that are sent this way fit in, or thirty DNS queries.
const ROOM_BYTES: usize = 2048;
/// Groups that wait at a time.
pub(crate) const GROUPS_MAX: usize = 256;
/// The longest datagram that is queued here; DNS queries stay below.
pub(crate) const DATAGRAM_BYTES_MAX: usize = 512;
/// Datagrams of one group. The kernel takes 64.
pub(crate) const SEGMENTS_MAX: usize = 32;

/// Datagrams that leave with the next submission.
#[derive(Debug)]
pub(crate) struct Outbox {
    rooms: Box<[[u8; ROOM_BYTES]]>,
    groups: Vec<Group>,
    /// Groups of an earlier turn take no more datagrams.
    turn: u64,
    /// The kernel parts datagrams, as far as is known.
    joins: bool,
    joined: u64,
}

/// Datagrams of one socket: all of one length, but the last may be shorter.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Group {
    pub(crate) socket: SocketId,
    bytes: usize,
    /// The length of each but the last.
    segment_bytes: usize,
    count: usize,
    takes_more: bool,
}

/// The group that a socket's last datagram is in.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Latest {
    turn: u64,
    group: usize,
}

/// What goes through the kernel at once.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Parcel<'a> {
    pub(crate) octets: &'a [u8],
    /// Where the kernel is to part it.
    pub(crate) segment_bytes: Option<u16>,
}

impl<'a> Parcel<'a> {
    /// Its datagrams, each on its own.
    pub(crate) fn parted(self) -> impl Iterator<Item = Parcel<'a>> {
        let bytes = self.segment_bytes.map_or(self.octets.len(), usize::from);
        // A lone datagram may be empty.
        let first = self.octets.get(..bytes.min(self.octets.len())).unwrap_or_default();
        let others = self.octets.get(first.len()..).unwrap_or_default().chunks(bytes.max(1));
        std::iter::once(first).chain(others).map(|octets| Parcel { octets, segment_bytes: None })
    }
}

impl Outbox {
    pub(crate) fn new() -> Self {
        let rooms = vec![[0; ROOM_BYTES]; GROUPS_MAX].into_boxed_slice();
        // A socket that has sent nothing names turn 0.
        Self { rooms, groups: Vec::with_capacity(GROUPS_MAX), turn: 1, joins: true, joined: 0 }
    }

    /// Queues a datagram; false when there is no room for it.
    pub(crate) fn add(&mut self, id: SocketId, socket: &mut Socket, datagram: &[u8]) -> bool {
        if datagram.len() > DATAGRAM_BYTES_MAX {
            return false;
        }
        let latest = socket.latest;
        if self.joins && socket.segments && latest.turn == self.turn && self.join(latest.group, datagram) {
            return true;
        }
        let group = self.groups.len();
        let Some(room) = self.rooms.get_mut(group).and_then(|room| room.get_mut(..datagram.len())) else {
            return false;
        };
        room.copy_from_slice(datagram);
        self.groups.push(Group {
            socket: id,
            bytes: datagram.len(),
            segment_bytes: datagram.len(),
            count: 1,
            takes_more: !datagram.is_empty(),
        });
        socket.latest = Latest { turn: self.turn, group };
        true
    }

    fn join(&mut self, group: usize, datagram: &[u8]) -> bool {
        let (Some(group), Some(room)) = (self.groups.get_mut(group), self.rooms.get_mut(group)) else { return false };
        let bytes = group.bytes + datagram.len();
        let fits = group.takes_more && !datagram.is_empty() && datagram.len() <= group.segment_bytes;
        let Some(room) = room.get_mut(group.bytes..bytes).filter(|_| fits) else { return false };
        room.copy_from_slice(datagram);
        (group.bytes, group.count) = (bytes, group.count + 1);
        group.takes_more = datagram.len() == group.segment_bytes && group.count < SEGMENTS_MAX;
        true
    }

    /// Groups that are waiting, in the order in which they were begun.
    pub(crate) fn len(&self) -> usize {
        self.groups.len()
    }

    pub(crate) fn group(&self, index: usize) -> Option<Group> {
        self.groups.get(index).copied()
    }

    /// The datagrams of a group, in one parcel or one by one.
    pub(crate) fn parcels(&self, index: usize, joins: bool) -> impl Iterator<Item = Parcel<'_>> {
        let group = self.groups.get(index);
        let octets = group.and_then(|group| self.rooms.get(index)?.get(..group.bytes));
        let segment_bytes = group.filter(|group| group.count > 1).and_then(|it| u16::try_from(it.segment_bytes).ok());
        let whole = octets.map(|octets| Parcel { octets, segment_bytes });
        let parted = whole.filter(|_| !joins).into_iter().flat_map(Parcel::parted);
        whole.filter(|_| joins).into_iter().chain(parted)
    }

    /// No group takes any more.
    pub(crate) fn seal(&mut self) {
        self.turn += 1;
        self.joined +=
            self.groups.iter().filter(|group| self.joins && group.count > 1).map(|it| it.count as u64).sum::<u64>();
    }

    /// The kernel has read everything.
    pub(crate) fn clear(&mut self) {
        self.groups.clear();
    }

    /// Whether datagrams may go together.
    pub(crate) fn joins(&self) -> bool {
        self.joins
    }

    /// The kernel parts no datagrams here: each goes alone from now on. False when that was known.
    pub(crate) fn stop_joining(&mut self) -> bool {
        std::mem::replace(&mut self.joins, false)
    }

    /// Datagrams that went in company.
    pub(crate) fn joined(&self) -> u64 {
        self.joined
    }
}

/// Whether this is what a kernel or device says that can not part datagrams.
pub(crate) fn is_about_segments(error: &io::Error) -> bool {
    let errno = Errno::from_io_error(error);
    matches!(errno, Some(Errno::INVAL | Errno::IO | Errno::MSGSIZE | Errno::NOPROTOOPT | Errno::OPNOTSUPP))
}

/// Whether the kernel parts datagrams of this socket (Linux 4.18, UDP). Others would send a group as one datagram.
pub(crate) fn segments(socket: BorrowedFd<'_>) -> bool {
    let mut value: libc::c_int = 0;
    let mut length = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: the kernel writes at most `length` octets to `value`, and the length; both live until the call returns.
    let code = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_UDP,
            libc::UDP_SEGMENT,
            std::ptr::from_mut(&mut value).cast(),
            &mut length,
        )
    };
    code == 0
}

/// Control data that says where to part a datagram.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(8))]
pub(crate) struct Control([u8; CONTROL_BYTES]);

/// A control header and two octets, with padding: 24 where a word has 64 bits, 16 where it has 32.
// SAFETY: computes a length from a length.
const CONTROL_BYTES: usize = unsafe { libc::CMSG_SPACE(size_of::<u16>() as libc::c_uint) } as usize;

impl Control {
    pub(crate) const NONE: Self = Self([0; CONTROL_BYTES]);

    /// Makes `header` carry this control data, which says to part after so many octets.
    pub(crate) fn attach(&mut self, header: &mut libc::msghdr, segment_bytes: u16) {
        header.msg_control = self.0.as_mut_ptr().cast();
        header.msg_controllen = CONTROL_BYTES as _;
        // SAFETY: the header names `CONTROL_BYTES` aligned octets of ours, which have room for one control header with two
        // octets behind it; nothing is written beyond them.
        unsafe {
            let control = libc::CMSG_FIRSTHDR(header);
            (*control).cmsg_level = libc::SOL_UDP;
            (*control).cmsg_type = libc::UDP_SEGMENT;
            (*control).cmsg_len = libc::CMSG_LEN(size_of::<u16>() as libc::c_uint) as _;
            libc::CMSG_DATA(control).cast::<u16>().write_unaligned(segment_bytes);
        }
    }
}
