//! Many datagrams a system call: recvmmsg and sendmmsg.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr;

use crate::outbox::{Control, Parcel};

/// Datagrams of one call.
pub(crate) const BATCH: usize = 64;

/// Room for a batch of datagrams that are received.
#[derive(Debug)]
pub(crate) struct Inbox {
    room: Box<[u8]>,
    datagram_bytes: usize,
    lengths: [u32; BATCH],
    count: usize,
    next: usize,
}

impl Inbox {
    pub(crate) fn new(datagram_bytes: usize) -> Self {
        let room = vec![0; datagram_bytes * BATCH].into_boxed_slice();
        Self { room, datagram_bytes, lengths: [0; BATCH], count: 0, next: 0 }
    }

    /// Receives what is there, up to a batch; gives how many datagrams came.
    pub(crate) fn fill(&mut self, socket: BorrowedFd<'_>) -> io::Result<usize> {
        (self.count, self.next) = (0, 0);
        let mut parts = [libc::iovec { iov_base: ptr::null_mut(), iov_len: 0 }; BATCH];
        for (part, room) in parts.iter_mut().zip(self.room.chunks_exact_mut(self.datagram_bytes)) {
            *part = libc::iovec { iov_base: room.as_mut_ptr().cast(), iov_len: room.len() };
        }
        let mut headers = headers(&mut parts);
        // SAFETY: every header points to one part, every part to its own piece of `room`; all three live and stay where
        // they are until the call returns, and the kernel writes nothing beyond the lengths given.
        let count = unsafe {
            libc::recvmmsg(
                socket.as_raw_fd(),
                headers.as_mut_ptr(),
                BATCH as libc::c_uint,
                libc::MSG_DONTWAIT as _,
                ptr::null_mut(),
            )
        };
        let count = usize::try_from(count).map_err(|_| io::Error::last_os_error())?;
        for (length, header) in self.lengths.iter_mut().zip(&headers).take(count) {
            *length = header.msg_len;
        }
        self.count = count;
        Ok(count)
    }

    /// Moves on to the next datagram of the batch; false when there is none.
    pub(crate) fn advance(&mut self) -> bool {
        let has_next = self.next < self.count;
        self.next += usize::from(has_next);
        has_next
    }

    /// The datagram that was moved to.
    pub(crate) fn last(&self) -> &[u8] {
        let index = self.next.saturating_sub(1);
        let start = index * self.datagram_bytes;
        let length = self.lengths.get(index).map_or(0, |length| *length as usize);
        self.room.get(start..start + length).unwrap_or_default()
    }
}

/// Sends to the peer of a connected socket; gives how many parcels were sent.
pub(crate) fn send(socket: BorrowedFd<'_>, parcels: &[Parcel<'_>]) -> io::Result<usize> {
    let mut parts = [libc::iovec { iov_base: ptr::null_mut(), iov_len: 0 }; BATCH];
    for (part, parcel) in parts.iter_mut().zip(parcels) {
        *part = libc::iovec { iov_base: parcel.octets.as_ptr().cast_mut().cast(), iov_len: parcel.octets.len() };
    }
    let mut headers = headers(&mut parts);
    let mut controls = [Control::NONE; BATCH];
    for ((header, control), parcel) in headers.iter_mut().zip(&mut controls).zip(parcels) {
        if let Some(bytes) = parcel.segment_bytes {
            control.attach(&mut header.msg_hdr, bytes);
        }
    }
    let count = parcels.len().min(BATCH);
    // SAFETY: as in `fill`; the kernel only reads the parcels and the controls, which stay until the call returns.
    let sent = unsafe {
        libc::sendmmsg(
            socket.as_raw_fd(),
            headers.as_mut_ptr(),
            count as libc::c_uint,
            (libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL) as _,
        )
    };
    usize::try_from(sent).map_err(|_| io::Error::last_os_error())
}

/// One header a part.
fn headers(parts: &mut [libc::iovec; BATCH]) -> [libc::mmsghdr; BATCH] {
    // SAFETY: a header of zeroes is a valid one: no address, no parts, no control data.
    let mut headers: [libc::mmsghdr; BATCH] = unsafe { std::mem::zeroed() };
    for (header, part) in headers.iter_mut().zip(parts) {
        header.msg_hdr.msg_iov = part;
        header.msg_hdr.msg_iovlen = 1;
    }
    headers
}
