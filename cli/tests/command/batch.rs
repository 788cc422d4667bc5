use serde_json::{Value, json};

use crate::{MESSAGE, ZONE, file, folder, run, run_with_input};

fn line(id: &str, key: &str, message: &str) -> String {
    json!({"id": id, key: message, "ip": "192.0.2.1", "helo": "mx.a.example", "mail_from": "x@a.example"}).to_string()
}

/// `From: x@a.example` and nothing else.
const SMALL_B64: &str = "RnJvbTogeEBhLmV4YW1wbGUNCg0K";

fn ids(run: &crate::Run) -> Vec<Value> {
    run.verdicts().iter().map(|verdict| verdict["id"].clone()).collect()
}

#[test]
fn verdicts_come_in_the_order_of_the_stream() {
    let dir = folder("batch-order");
    let zone = file(&dir, "zone.yml", ZONE);
    file(&dir, "one.eml", MESSAGE);
    let lines: Vec<String> = (0..500)
        .map(|number| match number % 3 {
            0 => line(&format!("m-{number}"), "message_b64", SMALL_B64),
            // Found beside the stream.
            _ => line(&format!("m-{number}"), "path", "one.eml"),
        })
        .collect();
    let stream = file(&dir, "stream.jsonl", lines.join("\n"));
    let run = run(&["verify", "--batch", &stream, "--threads", "4", "--zone", &zone]);
    assert_eq!(run.code, Some(0), "{}", run.err);
    assert_eq!(ids(&run), (0..500).map(|number| Value::from(format!("m-{number}"))).collect::<Vec<_>>());
    assert!(run.verdicts().iter().all(|it| it["spf"]["result"] == "pass" && it["dmarc"]["result"] == "pass"));
    let summary: Vec<&str> = run.err.trim().split(", ").collect();
    assert_eq!(summary[0], "500 messages");
    assert!(summary[1].ends_with(" bytes") && summary[2].ends_with(" s"), "{}", run.err);
    assert!(run.err.contains("µs CPU a message") && run.err.trim().ends_with(" MiB peak RSS"), "{}", run.err);
}

#[test]
fn bad_lines_are_answered_in_their_place() {
    let dir = folder("batch-bad");
    let zone = file(&dir, "zone.yml", ZONE);
    let lines = [
        line("good", "message_b64", SMALL_B64),
        "{\"id\": \"cut".to_owned(),
        line("gone", "path", "nowhere.eml"),
        line("letters", "message_b64", "%%%"),
        r#"{"id":"nothing"}"#.to_owned(),
        line("last", "message_b64", SMALL_B64),
    ];
    let stream = lines.join("\n");
    for more in [&[][..], &["--passes", "2"]] {
        let words = [&["verify", "--batch", "-", "--zone", &zone], more].concat();
        let run = run_with_input(&words, stream.as_bytes());
        assert_eq!(run.code, Some(0), "{}", run.err);
        assert_eq!(
            ids(&run),
            [json!("good"), Value::Null, json!("gone"), json!("letters"), json!("nothing"), json!("last")]
        );
        let errors: Vec<bool> = run.verdicts().iter().map(|it| it["error"].is_string()).collect();
        assert_eq!(errors, [false, true, true, true, true, false]);
        assert!(run.err.contains("4 not judged"), "{}", run.err);
    }
}

#[test]
fn passes_are_reported_and_change_no_verdict() {
    let dir = folder("batch-passes");
    let zone = file(&dir, "zone.yml", ZONE);
    let lines: Vec<String> = (0..100).map(|number| line(&number.to_string(), "message_b64", SMALL_B64)).collect();
    let stream = file(&dir, "stream.jsonl", lines.join("\n"));
    let fixed = ["verify", "--batch", &stream, "--zone", &zone, "--now", "1795435200"];
    let (once, thrice) = (run(&fixed), run(&[&fixed[..], &["--passes", "3", "--threads", "3"]].concat()));
    assert_eq!(once.out, thrice.out);
    let lines: Vec<&str> = thrice.err.lines().collect();
    assert_eq!(lines.len(), 4, "{}", thrice.err);
    for (line, start) in lines.iter().zip([
        "pass 1 of 3, cold: 100 ",
        "pass 2 of 3, warm: 100 ",
        "pass 3 of 3, warm: 100 ",
        "all passes: 300 ",
    ]) {
        assert!(line.starts_with(start), "{line}");
    }
}

#[test]
fn an_empty_stream_is_no_error() {
    let dir = folder("batch-empty");
    let zone = file(&dir, "zone.yml", ZONE);
    let run = run_with_input(&["verify", "--batch", "-", "--zone", &zone], b"\n\n");
    assert_eq!((run.code, run.out.as_str()), (Some(0), ""));
    assert!(run.err.starts_with("0 messages"), "{}", run.err);
}
