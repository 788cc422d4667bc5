//! `mailproof spf`: one client against the records of MAIL FROM and HELO.

use std::io::{self, Write};

use mailproof_explain::{outcome_lines, questions, source};
use mailproof_proto::spf::{Check, Identity, ReceivedSpf, SpfOutcome};
use mailproof_proto::verification::{Envelope, Options};
use serde_json::{Value, json};

use crate::arguments::SpfArguments;
use crate::failure::Failure;
use crate::judge;
use crate::table::Tone;
use crate::words::visible;

/// Runs the subcommand.
///
/// # Errors
/// What ends the run.
pub(crate) fn run(arguments: &SpfArguments) -> Result<(), Failure> {
    let receiver = arguments.receiver.clone().unwrap_or_else(judge::host_name);
    let options = Options { authserv_id: receiver.clone(), ..Options::default() };
    let engine = judge::engine(&arguments.dns, options, arguments.now, 1)?;
    let mail_from = arguments.mail_from.trim_start_matches('<').trim_end_matches('>');
    let check = Check {
        ip: arguments.ip,
        helo: &arguments.helo,
        mail_from,
        receiver: &receiver,
        now_seconds: engine.now().seconds(),
    };
    // SPF needs no octet of the message; one without a From field causes no other question.
    let mut session = engine.session(Envelope::new(arguments.ip, arguments.helo.as_str(), mail_from));
    let verdict = session.finish();
    let (sender, helo) = (verdict.spf.clone(), verdict.helo.clone());
    let received = ReceivedSpf::new(Identity::MailFrom, &check, &sender);
    let source = source(&engine);
    let written = if arguments.json {
        writeln!(io::stdout(), "{}", to_json(&check, &sender, &helo, &received))
    } else {
        writeln!(
            anstream::stdout(),
            "{}",
            to_text(&check, &sender, &helo, &received, &questions::told(session.transcript(), true), &source)
        )
    };
    written.map_err(Failure::Output)?;
    judge::end(&engine)
}

fn to_json(check: &Check<'_>, sender: &SpfOutcome, helo: &SpfOutcome, received: &ReceivedSpf) -> Value {
    json!({
        "v": 1,
        "ip": check.ip.to_string(),
        "mail_from": check.mail_from,
        "spf": outcome_to_json(sender),
        "helo": outcome_to_json(helo),
        "received_spf": unfolded(received),
    })
}

fn outcome_to_json(outcome: &SpfOutcome) -> Value {
    json!({
        "result": outcome.result.word(),
        "domain": outcome.domain.map(|domain| domain.to_string()),
        "problem": outcome.problem.as_ref().map(|problem| problem.word()),
        "problem_text": outcome.problem.as_ref().map(ToString::to_string),
        "mechanism": outcome.mechanism.as_ref().map(|term| term.as_str()),
        "explanation": outcome.explanation,
        "lookups": outcome.lookup_count,
        "void_lookups": outcome.void_lookup_count,
    })
}

fn to_text(
    check: &Check<'_>,
    sender: &SpfOutcome,
    helo: &SpfOutcome,
    received: &ReceivedSpf,
    questions: &[String],
    source: &str,
) -> String {
    let mail_from = if check.mail_from.is_empty() {
        format!("<> (stands for postmaster@{})", check.helo)
    } else {
        check.mail_from.to_owned()
    };
    let mut lines = vec![format!("Client     {}", check.ip.to_canonical()), String::new()];
    lines.extend(outcome_lines("MAIL FROM", &mail_from, sender));
    lines.push(String::new());
    lines.extend(outcome_lines("HELO", check.helo, helo));
    let source = Tone::Quiet.paint(&format!("answered from {}", visible(source)));
    lines.extend([String::new(), format!("{}  {source}", Tone::Strong.paint("Questions"))]);
    lines.extend(questions.iter().map(|question| format!("  {question}")));
    lines.extend([String::new(), format!("Received-SPF: {}", visible(&unfolded(received)))]);
    lines.join("\n")
}

/// The field on one line.
fn unfolded(received: &ReceivedSpf) -> String {
    received.to_string().split_ascii_whitespace().collect::<Vec<_>>().join(" ")
}
