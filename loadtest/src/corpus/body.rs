//! Bodies as mail has them: markup of newsletters, text, and attachments in base64.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use mailproof_testkit::random::Random;

/// A body of about this many octets, with its media type.
pub(super) fn draw(random: &mut Random, bytes: usize) -> (&'static str, Vec<u8>) {
    type Add = fn(&mut String, &mut Random);
    let kinds: [(&str, Add); 3] = [
        ("text/html; charset=utf-8", markup),
        ("text/plain; charset=utf-8", paragraph),
        ("application/pdf; name=\"invoice.pdf\"", base64_line),
    ];
    let (media, add) = kinds[random.weighted(&[55, 20, 25])];
    let mut body = String::with_capacity(bytes + 512);
    while body.len() < bytes {
        add(&mut body, random);
    }
    (media, body.into_bytes())
}

// Writing to a String can not fail.
fn markup(body: &mut String, random: &mut Random) {
    let indent = " ".repeat(random.between(2, 14));
    let _ =
        write!(body, "{indent}<tr>\r\n{indent}  <td class=\"cell-{}\"  style=\"padding: 0\">\r\n", random.below(20));
    let _ = write!(body, "{indent}    <a href=\"https://news.example/c/{:016x}\">", random.number());
    words(body, random, 4);
    let _ = write!(body, "</a>\r\n{indent}    ");
    words(body, random, 12);
    let _ = write!(body, "\r\n{indent}  </td>\r\n{indent}</tr>\r\n");
}

fn paragraph(body: &mut String, random: &mut Random) {
    words(body, random, 11);
    body.push_str(random.pick(&[" \r\n", "\r\n", ".  And\r\n", ".\r\n\r\n"]));
}

fn base64_line(body: &mut String, random: &mut Random) {
    let mut octets = [0; 64];
    for eight in octets.chunks_exact_mut(8) {
        eight.copy_from_slice(&random.number().to_le_bytes());
    }
    STANDARD.encode_string(&octets[..57], body);
    body.push_str("\r\n");
}

fn words(body: &mut String, random: &mut Random, count: usize) {
    const WORDS: [&str; 12] =
        ["the", "order", "of", "yours", "was", "sent", "today", "and", "should", "arrive", "within", "days"];
    for at in 0..random.between(1, count) {
        if at > 0 {
            body.push(' ');
        }
        body.push_str(random.pick(&WORDS));
    }
}
