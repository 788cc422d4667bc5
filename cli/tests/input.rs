//! Messages from files and directories of every kind.

use std::fs;
use std::path::{Path, PathBuf};

use mailproof_cli::input::{InputCause, Messages};

/// A directory that goes when the test ends.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("input-{}-{name}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn write(&self, name: &str, octets: &[u8]) -> PathBuf {
        let path = self.0.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, octets).unwrap();
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// `id=octets` for what could be read, the error for what could not.
fn shown(messages: Messages) -> Vec<String> {
    let text = |octets: &[u8]| String::from_utf8_lossy(octets).replace("\r\n", "|");
    messages
        .map(|item| match item {
            Ok(message) => format!("{}={}", message.id, text(&message.octets)),
            Err(error) => format!("{error}"),
        })
        .collect()
}

#[test]
fn every_kind_of_store_is_read_in_order() {
    let folder = Folder::new("kinds");
    let single = folder.write("one", b"A: one\n\nbody\n");
    let mbox = folder.write("box", b"From a\nA: two\n\nFrom b\nA: three\n");
    let eml = folder.write("four.EML", b"From a\nA: four\n");
    folder.write("maildir/cur/2:2,S", b"A: six\r\n");
    folder.write("maildir/cur/.hidden", b"A: hidden\r\n");
    folder.write("maildir/new/9", b"A: five\r\n");
    folder.write("maildir/tmp/1", b"A: tmp\r\n");
    folder.write("plain/b.eml", b"A: eight\r\n");
    folder.write("plain/a.eml", b"A: seven\r\n");
    folder.write("plain/c.txt", b"A: no\r\n");
    let [maildir, plain] = ["maildir", "plain"].map(|name| folder.0.join(name));
    let found = shown(Messages::new([single, mbox, eml, maildir, plain]));
    let wanted = [
        "one=A: one||body|",
        "box:#1=A: two|",
        "box:#2=A: three|",
        "four.EML=From a|A: four|",
        "9=A: five|",
        "2:2,S=A: six|",
        "a.eml=A: seven|",
        "b.eml=A: eight|",
    ];
    assert_eq!(found, wanted);
}

#[test]
fn what_can_not_be_read_is_named_and_the_run_goes_on() {
    let folder = Folder::new("errors");
    let missing = folder.0.join("missing.eml");
    let empty = folder.0.join("empty");
    fs::create_dir(&empty).unwrap();
    let long = folder.write("long.eml", b"A: 12345678\r\n");
    let fits = folder.write("fits.eml", b"A: 1234567\r\n");
    let found = shown(Messages::new([missing.clone(), empty.clone(), long.clone(), fits]).with_message_bytes_max(12));
    assert_eq!(found.len(), 4, "{found:?}");
    assert!(found[0].starts_with(&format!("{}: No such file", missing.display())), "{found:?}");
    assert_eq!(found[1], format!("{}: neither a Maildir nor a directory with .eml files", empty.display()));
    assert_eq!(found[2], format!("{}: a message of more than 12 octets", long.display()));
    assert_eq!(found[3], "fits.eml=A: 1234567|");
    let mut causes = Messages::new([missing]).filter_map(Result::err).map(|error| error.cause);
    assert!(matches!(causes.next(), Some(InputCause::Read(_))));
}

#[test]
fn standard_input_is_known_by_its_first_octets() {
    let read = |octets: &'static [u8]| shown(Messages::new([PathBuf::from("-")]).with_standard_input(octets));
    assert_eq!(read(b"From a\nA: b\n\nFrom b\nC: d\n"), ["-:#1=A: b|", "-:#2=C: d|"]);
    assert_eq!(read(b"From: a@example.org\n"), ["-=From: a@example.org|"]);
    assert_eq!(read(b"Fro"), ["-=Fro"]);
    assert_eq!(read(b""), ["-="]);
}
