//! Clients that stop in the midst of a message, and stay.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use super::milter::{Agreement, Frames};
use crate::corpus::Letter;
use crate::target::Address;

/// Connections to a milter on which half a message has been sent; they close when dropped.
#[derive(Debug)]
pub struct Stalled {
    // Only held open.
    _streams: Vec<Stream>,
}

#[derive(Debug)]
enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// Connections that stall.
pub const STALLED_MAX: usize = 20_000;
/// How long a filter may take to answer a client that will stall.
const PATIENCE: Duration = Duration::from_secs(30);

impl Stalled {
    /// Opens so many, up to [`STALLED_MAX`].
    ///
    /// # Errors
    /// When the milter can not be reached, or the process may not open as many.
    pub fn open(address: &Address, letters: &[Letter], count: usize) -> io::Result<Self> {
        let agreed = Agreement::probe(address)?;
        let shown = letters.get(..letters.len().min(DISTINCT)).unwrap_or_default();
        let frames: Vec<Frames> = shown.iter().map(|letter| Frames::new(letter, agreed)).collect();
        let mut streams = Vec::with_capacity(count.min(STALLED_MAX));
        for frames in frames.iter().cycle().take(count.min(STALLED_MAX)) {
            let mut stream = Stream::connect(address)?;
            stream.write_all(Frames::offer())?;
            let mut length = [0; 4];
            stream.read_exact(&mut length)?;
            let mut reply = vec![0; u32::from_be_bytes(length) as usize % (1 << 20)];
            stream.read_exact(&mut reply)?;
            stream.write_all(frames.stalled())?;
            streams.push(stream);
        }
        Ok(Self { _streams: streams })
    }
}

/// Messages that are told apart.
const DISTINCT: usize = 100;

impl Stream {
    fn connect(address: &Address) -> io::Result<Self> {
        Ok(match address {
            Address::Tcp(address) => {
                let stream = TcpStream::connect(address)?;
                stream.set_read_timeout(Some(PATIENCE))?;
                stream.set_write_timeout(Some(PATIENCE))?;
                Self::Tcp(stream)
            }
            Address::Unix(path) => {
                let stream = UnixStream::connect(path)?;
                stream.set_read_timeout(Some(PATIENCE))?;
                stream.set_write_timeout(Some(PATIENCE))?;
                Self::Unix(stream)
            }
        })
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.read(buffer),
            Self::Unix(stream) => stream.read(buffer),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.write(octets),
            Self::Unix(stream) => stream.write(octets),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
