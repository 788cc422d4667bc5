//! The side of Postfix's policy delegation that Postfix has: one request at RCPT, one answer.

use super::dialogue::{Added, Outgoing, Step, Trouble};
use super::findings::{Action, Findings};
use crate::corpus::Letter;

/// Octets of an answer; Postfix reads no longer lines.
const ANSWER_BYTES_MAX: usize = 16 * 1024;

/// The request for a message. `run` and `number` make its instance one of its own.
pub(crate) fn request(letter: &Letter) -> Vec<u8> {
    format!(
        "request=smtpd_access_policy\nprotocol_state=RCPT\nprotocol_name=ESMTP\nclient_address={client}\nclient_name={helo}\n\
         client_port=40000\nreverse_client_name={helo}\nserver_address=127.0.0.1\nserver_port=25\nhelo_name={helo}\n\
         sender={sender}\nrecipient=someone@receiver.example\nrecipient_count=0\nqueue_id=\nsasl_method=\nsasl_username=\n\
         sasl_sender=\nsize={size}\nccert_subject=\nccert_issuer=\nccert_fingerprint=\nencryption_protocol=\nencryption_cipher=\n\
         encryption_keysize=0\netrn_domain=\nstress=\npolicy_context=\n",
        client = letter.client,
        helo = letter.helo,
        sender = letter.mail_from,
        size = letter.octets.len(),
    )
    .into_bytes()
}

/// Sends the request. What tells this message from others goes behind it, as each is asked about once.
pub(crate) fn begin(request: &[u8], number: u64, out: &mut Outgoing) {
    out.own.extend_from_slice(request);
    out.own.extend_from_slice(format!("instance={number:x}.4f2.0\n\n").as_bytes());
}

/// Takes the answer.
pub(crate) fn received(
    input: &[u8],
    findings: &mut Findings,
    added: &mut Vec<Added>,
) -> Result<(usize, Step), Trouble> {
    let Some(end) = memchr::memmem::find(input, b"\n\n") else {
        return if input.len() > ANSWER_BYTES_MAX { Err(Trouble::Silent) } else { Ok((0, Step::Waits)) };
    };
    let answer = String::from_utf8_lossy(&input[..end]).into_owned();
    let action = answer.lines().find_map(|line| line.strip_prefix("action="));
    let action = action.ok_or(Trouble::Protocol("an answer without an action"))?;
    let (word, rest) = action.split_once(' ').unwrap_or((action, ""));
    match word.to_ascii_uppercase().as_str() {
        "PREPEND" => {
            let (name, value) = rest.split_once(':').unwrap_or((rest, ""));
            findings.learn_field(name.as_bytes(), value.as_bytes());
            added.insert(0, Added { name: name.into(), value: value.into() });
        }
        "HOLD" => findings.action = findings.action.max(Action::Quarantine),
        "DUNNO" | "OK" => {}
        word if word.starts_with("DEFER") || word.starts_with('4') => findings.action = Action::Defer,
        _ => findings.action = Action::Reject,
    }
    Ok((end + 2, Step::Done))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drive::findings::ResultWord;

    #[test]
    fn answers_are_taken_whole() {
        let (mut findings, mut added) = (Findings::default(), Vec::new());
        let mut take = |octets: &[u8]| received(octets, &mut findings, &mut added);
        assert_eq!(take(b"action=PREPEND Received-SPF: Pass (x)\n"), Ok((0, Step::Waits)));
        assert_eq!(take(b"action=PREPEND Received-SPF: Pass (x)\n\n"), Ok((39, Step::Done)));
        assert_eq!(take(b"\n\n"), Err(Trouble::Protocol("an answer without an action")));
        assert_eq!(take(&[b'x'; ANSWER_BYTES_MAX]), Ok((0, Step::Waits)));
        assert_eq!(take(&[b'x'; ANSWER_BYTES_MAX + 1]), Err(Trouble::Silent));
        assert_eq!(take(b"action=550 5.7.23 no\n\n"), Ok((22, Step::Done)));
        assert_eq!((findings.spf, findings.action), (Some(ResultWord::Pass), Action::Reject));
        assert_eq!(added, [Added { name: b"Received-SPF".to_vec(), value: b" Pass (x)".to_vec() }]);
    }
}
