//! The whole verdict of one message, many times: for profilers. Arguments: rounds, and KiB of body.
use mailproof_benches::mail_auth_side::MailAuth;
use mailproof_benches::mailproof_side::Mailproof;
use mailproof_benches::messages::{Kind, message};
fn main() {
    let n: usize = std::env::args().nth(1).and_then(|n| n.parse().ok()).unwrap_or(2000);
    let kib: usize = std::env::args().nth(2).and_then(|n| n.parse().ok()).unwrap_or(2);
    let alone = std::env::args().nth(3).is_some();
    for kind in [Kind::Base64, Kind::Html, Kind::Text] {
        let text = message(kind, kib);
        let mut it = Mailproof::new();
        let other = MailAuth::new();
        let mut best = [u128::MAX; 2];
        for _ in 0..n {
            let t = std::time::Instant::now();
            for _ in 0..4 {
                std::hint::black_box(it.verdict(&text));
            }
            best[0] = best[0].min(t.elapsed().as_nanos() / 4);
            let t = std::time::Instant::now();
            for _ in 0..(if alone { 0 } else { 4 }) {
                std::hint::black_box(other.verdict(&text));
            }
            best[1] = best[1].min(t.elapsed().as_nanos() / 4);
        }
        println!("best mailproof {} mail-auth {} ns", best[0], best[1]);
    }
}
