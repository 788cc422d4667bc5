//! DNS questions and their answers, for people.

use mailproof_proto::dns::{Answer, Outcome, RecordSet, Transcript};

use crate::words::{listed, shortened, visible_octets};

/// One line for each question asked, in the order first asked; long texts are cut unless wanted in full.
#[must_use]
pub fn told(transcript: &Transcript, full: bool) -> Vec<String> {
    let said = |answer: Option<&Answer>| answer.map_or_else(|| "no answer".to_owned(), |it| told_answer(it, full));
    let lines: Vec<(String, String)> =
        transcript.iter().map(|(question, answer)| (question.to_string(), said(answer))).collect();
    let width = lines.iter().map(|(question, _)| question.len()).filter(|len| *len <= QUESTION_WIDTH_MAX).max();
    let width = width.unwrap_or_default();
    lines.into_iter().map(|(question, answer)| format!("{question:<width$}  {answer}")).collect()
}

/// What the DNS said, with its time to live.
#[must_use]
pub fn told_answer(answer: &Answer, full: bool) -> String {
    let said = match answer.outcome() {
        Outcome::Records(records) => told_records(records, full),
        Outcome::NoData => "nothing of this type".to_owned(),
        Outcome::NxDomain => "no such name".to_owned(),
        Outcome::Failed(failure) => format!("failed: {failure}"),
    };
    match answer.ttl_seconds() {
        Some(ttl) => format!("{said}  ({ttl} s)"),
        None => said,
    }
}

fn told_records(records: &RecordSet, full: bool) -> String {
    match records {
        RecordSet::A(list) => list.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
        RecordSet::Aaaa(list) => list.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
        RecordSet::Mx(list) => {
            let host = |mx: &mailproof_proto::dns::Mx| match &mx.exchange {
                Some(exchange) => format!("{} {exchange}", mx.preference),
                None => "null MX".to_owned(),
            };
            list.iter().map(host).collect::<Vec<_>>().join(", ")
        }
        RecordSet::Ptr(list) => list.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
        RecordSet::Txt(list) => {
            let texts = list.iter().map(|txt| told_text(&txt.0, full));
            listed(&texts.collect::<Vec<_>>())
        }
        _ => "records of another type".to_owned(),
    }
}

fn told_text(octets: &[u8], full: bool) -> String {
    let text = visible_octets(octets);
    let shown = if full { text.clone() } else { shortened(&text, TEXT_WIDTH_MAX) };
    if shown == text { format!("\"{text}\"") } else { format!("\"{shown}\" of {} octets", octets.len()) }
}

/// Characters of a text that are shown, unless it is wanted in full: more than most SPF records have.
const TEXT_WIDTH_MAX: usize = 120;
/// Questions longer than this do not widen the column.
const QUESTION_WIDTH_MAX: usize = 48;
