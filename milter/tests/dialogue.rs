//! Dialogues of a mail server with the milter, one a file of `dialogues/`: the same replies whatever the pieces in which
//! octets come, and whether answers of the DNS are at hand or come as late as they can.
//!
//! With `MAILPROOF_WRITE_DIALOGUES=1` the replies and log lines in the files are written anew, to be read before they
//! are kept.

mod server;

use std::fs;
use std::path::{Path, PathBuf};

use server::Daemon;

/// The parts of a file: why, settings, DNS, and what is said.
struct Script {
    path: PathBuf,
    text: String,
    why: String,
    config: String,
    zone: String,
    dialogue: String,
}

impl Script {
    fn load(path: PathBuf) -> Self {
        let text = fs::read_to_string(&path).unwrap();
        let part = |name: &str| {
            let mut lines = text.lines().skip_while(|line| *line != format!("{name}:")).skip(1).peekable();
            let mut part = String::new();
            while let Some(line) = lines.next_if(|line| line.starts_with("  ") || line.is_empty()) {
                part.push_str(line.strip_prefix("  ").unwrap_or(line));
                part.push('\n');
            }
            part.trim_end().to_owned()
        };
        let dialogue = text.lines().filter(|line| line.starts_with("> ")).map(|line| format!("{line}\n")).collect();
        Self { why: part("why"), config: part("config"), zone: part("zone"), dialogue, path, text }
    }

    /// The file with the replies and lines of this run.
    fn run(&self, offline: bool, chunk: usize) -> String {
        let daemon = Daemon::new(&self.config, if self.zone.is_empty() { "{}" } else { &self.zone }, offline);
        let dialogue = daemon.connect().play(&self.dialogue, chunk);
        let part = |name: &str, text: &str| {
            let lines: String = text.lines().map(|line| format!("  {line}").trim_end().to_owned() + "\n").collect();
            if text.is_empty() { String::new() } else { format!("{name}:\n{lines}") }
        };
        let log = daemon.take_lines().join("\n");
        [
            part("why", &self.why),
            part("config", &self.config),
            part("zone", &self.zone),
            format!("dialogue:\n{dialogue}"),
            part("log", &log),
        ]
        .concat()
    }
}

fn scripts() -> Vec<Script> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/dialogues");
    let mut paths: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.into_iter().map(Script::load).collect()
}

#[test]
fn every_dialogue_goes_as_written_in_every_way() {
    let scripts = scripts();
    assert!(scripts.len() >= 15, "{}", scripts.len());
    for script in &scripts {
        let name = script.path.file_stem().unwrap().to_string_lossy();
        let whole = script.run(false, usize::MAX);
        if std::env::var_os("MAILPROOF_WRITE_DIALOGUES").is_some() {
            fs::write(&script.path, &whole).unwrap();
        } else {
            assert_eq!(whole, script.text, "{name}");
        }
        for (offline, chunk) in [(false, 1), (false, 7), (true, usize::MAX), (true, 1), (true, 13)] {
            assert_eq!(script.run(offline, chunk), whole, "{name}: offline {offline}, pieces of {chunk}");
        }
    }
}
