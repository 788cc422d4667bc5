use std::io::Read;
use std::process::{Command, Stdio};

use crate::{MESSAGE, ZONE, demo_path, file, folder, run};

#[test]
fn help_names_the_exit_codes() {
    let help = run(&["--help"]);
    assert_eq!((help.code, help.err.as_str()), (Some(0), ""));
    for code in ["0", "1", "64", "65", "66", "69", "71", "74", "75"] {
        assert!(
            help.out.lines().any(|line| line.trim_start().starts_with(&format!("{code}  "))),
            "{code}\n{}",
            help.out
        );
    }
    assert_eq!(run(&["--version"]).code, Some(0));
}

#[test]
fn wrong_usage_is_64() {
    let dir = folder("usage");
    let message = file(&dir, "one.eml", MESSAGE);
    for words in [
        &[][..],
        &["judge"],
        &["verify"],
        &["verify", "--ip", "x", &message],
        &["verify", "--policy", "1", &message],
        &["verify", "--resolver", "dns.example", &message],
        &["verify", "--zone", "a", "--resolver", "192.0.2.53", &message],
        &["verify", "--passes", "2", &message],
        &["verify", "--batch", "-", "--ip", "192.0.2.1"],
        &["verify", "--batch", "-", "--passes", "0"],
        &["spf", "--ip", "192.0.2.1"],
        &["sign", "--key", "k", &message],
    ] {
        let run = run(words);
        assert_eq!(run.code, Some(64), "{words:?}: {}", run.err);
        assert!(!run.err.is_empty() && run.out.is_empty(), "{words:?}");
    }
}

#[test]
fn what_is_not_there_is_66_and_the_rest_is_judged() {
    let dir = folder("missing");
    let (zone, message) = (file(&dir, "zone.yml", ZONE), file(&dir, "one.eml", MESSAGE));
    let gone = dir.join("gone.eml");
    let gone = gone.to_str().unwrap();
    let verify = run(&["verify", "--json", "--zone", &zone, gone, &message]);
    assert_eq!(verify.code, Some(66), "{}", verify.err);
    let verdicts = verify.verdicts();
    assert_eq!((verdicts[0]["id"].as_str(), verdicts[1]["id"].as_str()), (Some("gone.eml"), Some("one.eml")));
    assert!(verdicts[0]["error"].as_str().unwrap().contains("no such file"));
    assert!(verify.err.contains("gone.eml: no such file or folder; check the path"), "{}", verify.err);
    let table = run(&["verify", "--zone", &zone, gone, &message]);
    assert!(
        table.code == Some(66) && !table.out.contains("gone.eml") && table.out.contains("1 message: "),
        "{}",
        table.out
    );
    let key = demo_path("keys/orchard.pem");
    for words in [
        &["explain", "--zone", &zone, gone][..],
        &["verify", "--zone", &zone, "--batch", gone],
        &["verify", "--zone", gone, &message],
        &["sign", "--key", gone, "--domain", "a.example", "--selector", "s", &message],
        &["sign", "--key", &key, "--domain", "a.example", "--selector", "s", gone],
    ] {
        let run = run(words);
        assert_eq!(run.code, Some(66), "{words:?}: {}", run.err);
        assert!(run.err.starts_with("mailproof: ") && run.err.contains("gone.eml"), "{}", run.err);
        assert_eq!(run.err.lines().count(), 1, "{}", run.err);
    }
}

#[test]
fn what_can_not_be_read_as_what_it_should_be_is_65() {
    let dir = folder("unreadable");
    let (zone, message) = (file(&dir, "zone.yml", ZONE), file(&dir, "one.eml", MESSAGE));
    let key = demo_path("keys/orchard.pem");
    for (name, text) in
        [("a.yml", "a.example: [{A: nonsense}]\n"), ("b.yml", "{{{"), ("c.zone", "a.example. IN A nonsense\n")]
    {
        let bad = file(&dir, name, text);
        let run = run(&["verify", "--zone", &bad, &message]);
        assert_eq!(run.code, Some(65), "{name}: {}", run.err);
        assert!(run.err.contains(name), "{}", run.err);
    }
    let bad_key = file(&dir, "key.pem", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n");
    let run_key = run(&["sign", "--key", &bad_key, "--domain", "a.example", "--selector", "s", &message]);
    assert_eq!(run_key.code, Some(65), "{}", run_key.err);
    let no_from = file(&dir, "no-from.eml", "Subject: x\n\n");
    let unsigned = run(&["sign", "--key", &key, "--domain", "a.example", "--selector", "s", &no_from]);
    assert_eq!(unsigned.code, Some(65), "{}", unsigned.err);
    let none = run(&["verify", "--zone", &zone, dir.join("sub").to_str().unwrap()]);
    assert_eq!(none.code, Some(66), "{}", none.err);
}

#[test]
fn nobody_reading_is_no_error() {
    let (mailbox, zone) = (demo_path("mailbox.mbox"), demo_path("zone.yml"));
    for style in [&["--json"][..], &["--header"], &[]] {
        let mut child = Command::new(env!("CARGO_BIN_EXE_mailproof"))
            .args(["verify", "--from-trace", "--zone", &zone])
            .args(style)
            .args(vec![mailbox.as_str(); 40])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut first = [0; 10];
        let mut out = child.stdout.take().unwrap();
        out.read_exact(&mut first).unwrap();
        drop(out);
        let output = child.wait_with_output().unwrap();
        assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(0), &b""[..]), "{style:?}");
    }
}

#[test]
fn a_full_disk_is_74() {
    let (mailbox, zone) = (demo_path("mailbox.mbox"), demo_path("zone.yml"));
    let Ok(full) = std::fs::OpenOptions::new().write(true).open("/dev/full") else {
        println!("no /dev/full here: nothing tested");
        return;
    };
    let output = Command::new(env!("CARGO_BIN_EXE_mailproof"))
        .args(["verify", "--json", "--from-trace", "--zone", &zone, &mailbox])
        .stdout(full)
        .output()
        .unwrap();
    let err = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(74), "{err}");
    assert!(err.contains("standard output: no space left"), "{err}");
}
