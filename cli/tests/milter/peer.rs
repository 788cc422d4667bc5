//! A milter connection without a mail server around it.

use std::io::{self, Read, Write};
use std::net::TcpStream;

use mailproof_testkit::mail_server::{OFFER, client, frame, message_frames};

use crate::World;
use crate::smtp::{PATIENCE, wait_for};

/// A connection on which the versions are agreed.
pub(crate) fn connect(world: &World) -> TcpStream {
    let mut stream = TcpStream::connect(world.milter).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(&frame(b'O', &OFFER)).unwrap();
    assert_eq!(reply(&mut stream), b'O');
    stream
}

/// A connection in the midst of a message: MAIL FROM was said, the header is on its way.
pub(crate) fn begin_message(world: &World) -> TcpStream {
    let mut stream = connect(world);
    stream.write_all(&envelope("127.0.0.5")).unwrap();
    stream.write_all(&frame(b'L', b"From\0 ann@good.example\0")).unwrap();
    wait_for("the message", || (world.dns.statistics().udp_queries > 0).then_some(()));
    stream
}

/// A client of this address that says it were good.example, up to MAIL FROM.
pub(crate) fn envelope(address: &str) -> Vec<u8> {
    let client = client("mail.good.example", Some(address.parse().unwrap()));
    [client, frame(b'H', b"mail.good.example\0"), frame(b'M', b"<ann@good.example>\0")].concat()
}

/// A message of good.example, from its header to its end.
pub(crate) fn message() -> Vec<Vec<u8>> {
    message_frames(b"From: ann@good.example\r\n\r\nHello.\r\n").unwrap()
}

/// Sends the frames of a message; as a mail server does, the next after a chunk of the body when that was answered.
pub(crate) fn send(stream: &mut (impl Read + Write), frames: &[Vec<u8>]) -> io::Result<()> {
    for frame in frames {
        stream.write_all(frame)?;
        if frame.get(4) == Some(&b'B') {
            whole_reply(stream)?;
        }
    }
    Ok(())
}

/// One whole message on a connection of its own; gives the replies to its end.
pub(crate) fn exchange(world: &World) -> Vec<Vec<u8>> {
    let mut stream = connect(world);
    stream.write_all(&envelope("127.0.0.5")).unwrap();
    send(&mut stream, &message()).unwrap();
    last_replies(&mut stream).unwrap()
}

/// The command of the next reply.
pub(crate) fn reply(stream: &mut impl Read) -> u8 {
    whole_reply(stream).unwrap()[0]
}

/// The next reply, its command and fields.
pub(crate) fn whole_reply(stream: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut length = [0; 4];
    stream.read_exact(&mut length)?;
    let mut reply = vec![0; u32::from_be_bytes(length) as usize];
    stream.read_exact(&mut reply)?;
    Ok(reply)
}

/// The replies to the end of a message, without signs of life.
pub(crate) fn last_replies(stream: &mut impl Read) -> io::Result<Vec<Vec<u8>>> {
    let mut replies = Vec::new();
    loop {
        let reply = whole_reply(stream)?;
        let decides = matches!(reply.first(), Some(b'c' | b'a' | b'y' | b't' | b'r'));
        if reply != b"p" {
            replies.push(reply);
        }
        if decides {
            return Ok(replies);
        }
    }
}

/// Everything that still comes until the connection ends.
pub(crate) fn rest(mut stream: TcpStream) -> String {
    let mut octets = Vec::new();
    // A connection that was reset has ended too.
    let _ = stream.read_to_end(&mut octets);
    String::from_utf8_lossy(&octets).into_owned()
}
