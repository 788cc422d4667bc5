use std::path::Path;
use std::process::Command;

use mailproof_testkit::demo::{self, Letter};
use serde_json::Value;

use crate::{demo_path, run};

fn letters() -> Vec<Letter> {
    demo::letters(Path::new(&demo_path("keys"))).unwrap()
}

#[test]
fn verdicts_are_those_the_letters_were_made_for() {
    let (mailbox, zone) = (demo_path("mailbox.mbox"), demo_path("zone.yml"));
    let now = demo::NOW_SECONDS.to_string();
    let run = run(&["verify", "--json", "--from-trace", "--zone", &zone, "--now", &now, &mailbox]);
    assert_eq!(run.code, Some(0), "{}", run.err);
    let (verdicts, letters) = (run.verdicts(), letters());
    assert_eq!(verdicts.len(), letters.len());
    let mut rows = vec!["name\tspf\tdkim\tarc\tdmarc\taction\twhat happened".to_owned()];
    for (verdict, letter) in verdicts.iter().zip(&letters) {
        let word = |value: &Value| value.as_str().unwrap().to_owned();
        let signatures = verdict["dkim"].as_array().unwrap();
        let dkim: Vec<String> = signatures.iter().map(|signature| word(&signature["result"])).collect();
        let dkim = if dkim.is_empty() { "none".to_owned() } else { dkim.join(",") };
        let result = |name: &str| word(&verdict[name]["result"]);
        let found = [result("spf"), dkim, result("arc"), result("dmarc"), word(&verdict["action"])];
        let it = &letter.expected;
        assert_eq!(found, [it.spf, it.dkim, it.arc, it.dmarc, it.action], "{}: {verdict}", letter.name);
        rows.push([&[letter.name.to_owned()], &found[..], &[letter.story.to_owned()]].concat().join("\t"));
    }
    assert_eq!(std::fs::read_to_string(demo_path("expected.tsv")).unwrap().trim_end(), rows.join("\n"));
}

#[test]
fn the_files_are_what_the_generator_makes() {
    let dir = crate::folder("demo");
    std::fs::create_dir(dir.join("keys")).unwrap();
    for entry in std::fs::read_dir(demo_path("keys")).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, dir.join("keys").join(path.file_name().unwrap())).unwrap();
    }
    demo::write(&dir).unwrap();
    for name in ["mailbox.mbox", "message.eml", "zone.yml", "expected.tsv"] {
        let (made, kept) = (std::fs::read(dir.join(name)).unwrap(), std::fs::read(demo_path(name)).unwrap());
        assert!(made == kept, "{name} differs: run `cargo run -p mailproof-testkit -- demo-mailbox demo`");
    }
}

#[test]
fn the_script_shows_the_mailbox_and_one_explanation() {
    let script = |binary: &str| Command::new("sh").arg(demo_path("run.sh")).arg(binary).output().unwrap();
    let shown = script(env!("CARGO_BIN_EXE_mailproof"));
    assert!(shown.status.success(), "{}", String::from_utf8_lossy(&shown.stderr));
    let text = String::from_utf8(shown.stdout).unwrap();
    assert!(text.contains(&format!("{} messages", letters().len())), "{text}");
    for part in ["box-is-packed", "36 messages: DMARC ", "Nothing proves that the message is from lanternfest.example."]
    {
        assert!(text.contains(part), "{part}\n{text}");
    }
    assert!(!script("/nonexistent/mailproof").status.success());
}
