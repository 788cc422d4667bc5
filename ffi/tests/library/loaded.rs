//! The shared library as a program with modules has it: loaded while running, by declarations of that program's own.

use std::path::Path;
use std::thread;

use mailproof::zone::Zone;
use mailproof::{Engine, Envelope};
use mailproof_library::{Delivery, Library, LibraryError};

use crate::c::library;

const ZONE: &str = "zonedata:\n  example.org:\n    - TXT: v=spf1 ip4:192.0.2.7 ip6:2001:db8::/32 -all\n  \
                    _dmarc.example.org:\n    - TXT: v=DMARC1; p=reject\n";
const MESSAGE: &[u8] = b"From: ann@example.org\r\nSubject: hello\r\n\r\nHello.\r\n";

#[test]
fn a_loaded_library_finds_what_the_engine_finds() {
    let loaded = Library::load(&library().join("libmailproof.so"), ZONE).unwrap();
    let zone = Zone::from_yaml(ZONE).unwrap();
    let engine = Engine::builder().zone(zone).authserv_id("mx.example.net").build().unwrap();
    // All at once: the engine of the library may be used by several threads.
    thread::scope(|scope| {
        for client in ["192.0.2.7", "192.0.2.8", "2001:db8::7", "::ffff:192.0.2.7"] {
            let (loaded, engine) = (&loaded, &engine);
            scope.spawn(move || {
                let client = client.parse().unwrap();
                for mail_from in ["ann@example.org", ""] {
                    let delivery = Delivery { client, helo: "mx.example.org", mail_from };
                    let envelope = Envelope::new(client, "mx.example.org", mail_from);
                    let expected = engine.verify(MESSAGE, envelope).authentication_results;
                    assert_eq!(loaded.verify(MESSAGE, delivery).unwrap(), expected);
                }
            });
        }
    });
    let delivery = Delivery { client: "192.0.2.7".parse().unwrap(), helo: "mx\0", mail_from: "" };
    assert!(matches!(loaded.verify(MESSAGE, delivery), Err(LibraryError::Nul(_))));
}

#[test]
fn what_is_no_library_is_said() {
    let missing = Library::load(Path::new("/nowhere/libmailproof.so"), ZONE).map(|_| ());
    assert!(matches!(missing, Err(LibraryError::Load { .. })), "{missing:?}");
    let zone = Library::load(&library().join("libmailproof.so"), "zonedata: [").map(|_| ());
    assert!(matches!(zone, Err(LibraryError::Call { call: "mailproof_zone_add_text", .. })), "{zone:?}");
}
