//! DNS questions and their answers, for people.

use mailproof_proto::dns::{Answer, Outcome, RecordSet, Transcript};

use crate::words::{listed, visible_octets};

/// One line for each question asked, in the order first asked.
pub(crate) fn told(transcript: &Transcript) -> Vec<String> {
    let lines: Vec<(String, String)> = transcript
        .iter()
        .map(|(question, answer)| (question.to_string(), answer.map_or_else(|| "no answer".to_owned(), told_answer)))
        .collect();
    let width = lines.iter().map(|(question, _)| question.len()).filter(|len| *len <= QUESTION_WIDTH_MAX).max();
    let width = width.unwrap_or_default();
    lines.into_iter().map(|(question, answer)| format!("{question:<width$}  {answer}")).collect()
}

/// What the DNS said, with its time to live.
pub(crate) fn told_answer(answer: &Answer) -> String {
    let said = match answer.outcome() {
        Outcome::Records(records) => told_records(records),
        Outcome::NoData => "nothing of this type".to_owned(),
        Outcome::NxDomain => "no such name".to_owned(),
        Outcome::Failed(failure) => format!("failed: {failure}"),
    };
    match answer.ttl_seconds() {
        Some(ttl) => format!("{said}  ({ttl} s)"),
        None => said,
    }
}

fn told_records(records: &RecordSet) -> String {
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
            let texts: Vec<String> = list.iter().map(|txt| format!("\"{}\"", visible_octets(&txt.0))).collect();
            listed(&texts)
        }
        _ => "records of another type".to_owned(),
    }
}

/// Questions longer than this do not widen the column.
const QUESTION_WIDTH_MAX: usize = 48;
