//! The mail server's side of a milter connection: a message as Postfix and Sendmail hand it over.

use std::net::IpAddr;

use mailproof_proto::message::HeaderIndex;
use mailproof_proto::verification::Envelope;

/// Version 6, every action, every step: what Postfix and Sendmail say first.
pub const OFFER: [u8; 12] = [0, 0, 0, 6, 0, 0, 1, 0xff, 0, 0x1f, 0xff, 0xff];
/// Octets of a body in one frame, as Postfix and Sendmail cut it.
pub const CHUNK_BYTES: usize = 65_535;

/// A frame: its length, the command, the fields.
#[must_use]
pub fn frame(command: u8, fields: &[u8]) -> Vec<u8> {
    let length = u32::try_from(fields.len() + 1).unwrap_or(u32::MAX).to_be_bytes();
    [&length[..], &[command], fields].concat()
}

/// The client of a session: host name and address, or none that is known.
#[must_use]
pub fn client(host: &str, address: Option<IpAddr>) -> Vec<u8> {
    let Some(address) = address else { return frame(b'C', format!("{host}\0U").as_bytes()) };
    let family = if address.is_ipv4() { b'4' } else { b'6' };
    let port = 25_u16.to_be_bytes();
    frame(b'C', &[host.as_bytes(), &[0, family], &port, address.to_string().as_bytes(), &[0]].concat())
}

/// The frames of a session with one message, from the client on: everything behind the offer. `None` for octets that no
/// mail server hands over as they are: lines that are no header field, lone CR, LF and NUL it changes or refuses.
#[must_use]
pub fn session(envelope: &Envelope, queue_id: &str, message: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut frames = vec![
        client("host.example", envelope.ip),
        frame(b'H', format!("{}\0", envelope.helo).as_bytes()),
        frame(b'M', format!("<{}>\0", envelope.mail_from).as_bytes()),
        frame(b'D', format!("Ni\0{queue_id}\0").as_bytes()),
    ];
    frames.extend(message_frames(message)?);
    Some(frames)
}

/// The frames of a message: its header fields, its body, its end.
#[must_use]
pub fn message_frames(message: &[u8]) -> Option<Vec<Vec<u8>>> {
    let (header, body) = if let Some(body) = message.strip_prefix(b"\r\n") {
        (&message[..0], body)
    } else if let Some(at) = memchr::memmem::find(message, b"\r\n\r\n") {
        (&message[..at + 2], &message[at + 4..])
    } else {
        (message, &message[..0])
    };
    let mut index = HeaderIndex::new();
    let headers = index.scan(header);
    let defects = headers.defects();
    if defects.garbage_lines + defects.bare_cr + defects.bare_lf + defects.nul > 0 {
        return None;
    }
    let mut frames: Vec<Vec<u8>> = headers
        .fields()
        .map(|field| {
            let value: Vec<u8> = field.value.iter().copied().filter(|octet| *octet != b'\r').collect();
            let name = &field.raw[..field.raw.len() - field.value.len() - 1];
            frame(b'L', &[name, b"\0", &value, b"\0"].concat())
        })
        .collect();
    frames.push(frame(b'N', b""));
    frames.extend(body.chunks(CHUNK_BYTES).map(|chunk| frame(b'B', chunk)));
    frames.push(frame(b'E', b""));
    Some(frames)
}
