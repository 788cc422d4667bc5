//! The figures and the state of the process over HTTP/1.1 (RFC 9112): `GET /metrics`, `/-/healthy`, `/-/ready`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use mailproof::Engine;
use mailproof::service::{Conversation, Host};
use mailproof_proto::dns::{Answer, Question};

use super::Metrics;

/// What the process says of itself. It is ready once its sockets listen, and no more when it is about to end.
#[derive(Debug, Default)]
pub struct Status {
    ready: AtomicBool,
}

/// One HTTP connection.
#[derive(Debug)]
pub struct HttpConversation {
    metrics: Arc<Metrics>,
    status: Arc<Status>,
    engine: Engine,
    head: Vec<u8>,
    draining: bool,
}

impl Status {
    /// Says whether mail is taken.
    pub fn set_ready(&self, ready: bool) {
        self.ready.store(ready, Ordering::Relaxed);
    }

    /// True when mail is taken.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Relaxed)
    }
}

impl HttpConversation {
    /// A connection on which nothing was said.
    #[must_use]
    pub fn new(metrics: Arc<Metrics>, status: Arc<Status>, engine: Engine) -> Self {
        Self { metrics, status, engine, head: Vec::new(), draining: false }
    }

    /// Answers one request; false when its head is not complete.
    fn answer_next(&mut self, host: &mut Host<'_>) -> bool {
        let mut fields = [httparse::EMPTY_HEADER; FIELDS_MAX];
        let mut request = httparse::Request::new(&mut fields);
        let (length, method, path, closes) = match request.parse(&self.head) {
            Ok(httparse::Status::Complete(length)) => {
                let closes = request.version == Some(0) || request.headers.iter().any(ends_connection);
                (length, request.method.unwrap_or_default(), request.path.unwrap_or_default(), closes)
            }
            Ok(httparse::Status::Partial) if self.head.len() < HEAD_BYTES_MAX => return false,
            Ok(httparse::Status::Partial) | Err(_) => {
                respond(host, "GET", "400 Bad Request", "Bad request\n", true);
                host.close();
                self.head.clear();
                return false;
            }
        };
        let closes = closes || self.draining;
        let path = path.split('?').next().unwrap_or_default();
        match (method, path) {
            ("GET" | "HEAD", "/metrics") => {
                let page = self.metrics.render(Some(&self.engine));
                respond(host, method, "200 OK", &page, closes);
            }
            ("GET" | "HEAD", "/-/healthy") => respond(host, method, "200 OK", "Healthy\n", closes),
            ("GET" | "HEAD", "/-/ready") if self.status.is_ready() => {
                respond(host, method, "200 OK", "Ready\n", closes);
            }
            ("GET" | "HEAD", "/-/ready") => {
                respond(host, method, "503 Service Unavailable", "Not ready\n", closes);
            }
            ("GET" | "HEAD", _) => respond(host, method, "404 Not Found", "Not found\n", closes),
            _ => {
                // What the body of another method holds is not known, so the next request can not be found.
                respond(host, "GET", "405 Method Not Allowed", "Method not allowed\n", true);
                host.close();
                self.head.clear();
                return false;
            }
        }
        if closes {
            host.close();
            self.head.clear();
            return false;
        }
        self.head.drain(..length);
        true
    }
}

impl Conversation for HttpConversation {
    fn received(&mut self, octets: &[u8], host: &mut Host<'_>) {
        let room = HEAD_BYTES_MAX.saturating_sub(self.head.len());
        self.head.extend_from_slice(octets.get(..room).unwrap_or(octets));
        while !self.head.is_empty() && self.answer_next(host) {}
    }

    fn answered(&mut self, _: &Question, _: &Answer, _: &mut Host<'_>) {}

    fn woken(&mut self, _: &mut Host<'_>) {}

    fn drain(&mut self, host: &mut Host<'_>) {
        self.draining = true;
        if self.head.is_empty() {
            host.close();
        }
    }

    fn closed(&mut self) {}
}

fn ends_connection(field: &httparse::Header<'_>) -> bool {
    let is = |text: &str| field.name.eq_ignore_ascii_case(text);
    is("Connection") && field.value.eq_ignore_ascii_case(b"close")
        || is("Transfer-Encoding")
        || is("Content-Length") && field.value != b"0"
}

fn respond(host: &mut Host<'_>, method: &str, status: &str, page: &str, closes: bool) {
    let connection = if closes { "Connection: close\r\n" } else { "" };
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\nCache-Control: no-store\r\n\
         Content-Length: {}\r\n{connection}\r\n",
        page.len()
    );
    host.output().extend_from_slice(head.as_bytes());
    if method != "HEAD" {
        host.output().extend_from_slice(page.as_bytes());
    }
}

/// Octets of a request that are kept; what comes beyond is no question about this process.
const HEAD_BYTES_MAX: usize = 8 * 1024;
/// Header fields of a request.
const FIELDS_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use mailproof::service::Requests;
    use mailproof_proto::time::Timestamp;

    use super::*;

    fn talk(octets: &[u8], ready: bool, chunk: usize) -> (String, bool) {
        let status = Arc::new(Status::default());
        status.set_ready(ready);
        let engine = Engine::builder().offline().build().unwrap();
        let mut conversation = HttpConversation::new(Arc::default(), status, engine);
        let mut requests = Requests::default();
        for piece in octets.chunks(chunk) {
            conversation.received(piece, &mut Host::new(Timestamp::from_seconds(1), &mut requests));
            if requests.closes() {
                break;
            }
        }
        (String::from_utf8(requests.take_output()).unwrap(), requests.closes())
    }

    #[test]
    fn requests_get_their_answers_however_they_are_cut() {
        let octets = b"GET /-/healthy HTTP/1.1\r\nHost: x\r\n\r\nHEAD /-/ready HTTP/1.1\r\n\r\nGET /x HTTP/1.0\r\n\r\n";
        let (whole, closes) = talk(octets, true, usize::MAX);
        let statuses: Vec<&str> = whole.split('\n').filter(|line| line.starts_with("HTTP/1.1")).collect();
        assert_eq!(statuses, ["HTTP/1.1 200 OK\r", "HTTP/1.1 200 OK\r", "HTTP/1.1 404 Not Found\r"]);
        assert!(closes && whole.contains("\r\n\r\nHealthy\n") && !whole.contains("Ready\n"));
        for chunk in [1, 7] {
            assert_eq!(talk(octets, true, chunk), (whole.clone(), true));
        }
    }

    #[test]
    fn a_process_that_is_not_ready_says_so() {
        let (answer, closes) = talk(b"GET /-/ready?x HTTP/1.1\r\n\r\n", false, usize::MAX);
        assert!(answer.starts_with("HTTP/1.1 503 ") && !closes);
        assert!(talk(b"GET /metrics HTTP/1.1\r\n\r\n", false, usize::MAX).0.contains("mailproof_connections_total 0"));
    }

    #[test]
    fn what_is_no_request_ends_the_connection() {
        for octets in [&b"\x16\x03\x01\0\r\n\r\n"[..], b"POST /metrics HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello"] {
            let (answer, closes) = talk(octets, true, usize::MAX);
            assert!(closes && answer.starts_with("HTTP/1.1 4") && answer.contains("Connection: close"), "{answer}");
        }
        let endless = [b"GET / HTTP/1.1\r\nX: ".to_vec(), vec![b'x'; HEAD_BYTES_MAX]].concat();
        assert!(talk(&endless, true, 100).0.starts_with("HTTP/1.1 400"));
        let long = [b"GET /-/healthy HTTP/1.1\r\nX: ".to_vec(), vec![b'x'; HEAD_BYTES_MAX - 40], b"\r\n\r\n".to_vec()];
        assert!(talk(&long.concat(), true, 100).0.starts_with("HTTP/1.1 200"));
    }
}
