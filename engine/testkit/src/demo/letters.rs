//! The letters of the demo, from the plain to the forged.

use super::draft::{Draft, Hop, Keys, Plan};
use super::{Expected, Letter};

/// The letter that `mailproof explain` is shown with.
pub(super) const EXPLAINED: &str = "lantern-list";
/// Bits of the key that is too short.
pub(super) const SHORT_KEY_BITS: usize = 768;

const ADA: &str = "Ada Lund <ada@lantern-lane.example>";

const ORCHARD: Hop = Hop { ip: "192.0.2.2", helo: "mx.orchard.example", mail_from: "hello@orchard.example" };
const BANK: Hop = Hop { ip: "192.0.2.34", helo: "out.harbour-bank.example", mail_from: "desk@harbour-bank.example" };
const LIST: Hop =
    Hop { ip: "198.51.100.97", helo: "lists.commons.example", mail_from: "hikes-bounces@lists.commons.example" };
const WAGON: Hop =
    Hop { ip: "198.51.100.7", helo: "w7.postwagon.example", mail_from: "b-7431@bounce.postwagon.example" };
const CROOK: Hop = Hop { ip: "203.0.113.66", helo: "win-big.example", mail_from: "cheer@win-big.example" };

const FOOTER: &str = "\n-- \nhikes mailing list, https://lists.commons.example/hikes\n";

/// SPF, DKIM, ARC, DMARC, action.
const fn expect(
    spf: &'static str,
    dkim: &'static str,
    arc: &'static str,
    dmarc: &'static str,
    action: &'static str,
) -> Expected {
    Expected { spf, dkim, arc, dmarc, action }
}

pub(super) fn all(keys: &Keys) -> Result<Vec<Letter>, String> {
    let mut letters = honest(keys)?;
    letters.extend(passed_on(keys)?);
    letters.extend(forged());
    letters.extend(gone_wrong(keys)?);
    letters.extend(tampered(keys)?);
    Ok(letters)
}

/// Mail that is what it says it is.
fn honest(keys: &Keys) -> Result<Vec<Letter>, String> {
    let pass = expect("pass", "pass", "none", "pass", "accept");
    let from = "Orchard Fruit <hello@orchard.example>";
    let apples = "Dear Ada,\n\nyour box is packed: twelve russets, six quinces and one\nsurprise. It leaves tomorrow on the morning cart.\n\nOrchard Fruit\n";
    let news = "Good morning,\n\nthe first medlars are in. They look like nothing and taste\nlike apple sauce with a secret.\n\nSign off: https://orchard.example/less-post\n";
    let quince = Draft::new("quince-recipe", from, ADA, "How to cook a quince", "Slowly.\n\nOrchard Fruit\n");
    let newsletter = Draft::new("medlar-news", "Orchard News <news@orchard.example>", ADA, "Medlars!", news);
    let bounce = Draft::new(
        "undelivered",
        "Mail System <mailer-daemon@orchard.example>",
        ADA,
        "Your letter came back",
        "Hello,\n\nthere is no one called gardner@orchard.example here.\nDid you mean gardener?\n",
    );
    Ok(vec![
        Draft::new("box-is-packed", from, ADA, "Your box is packed", apples)
            .signed(keys, "orchard", "orchard.example", "autumn")?
            .delivered(ORCHARD, pass, "signed with RSA, sent from the shop's own server"),
        quince.clone().signed(keys, "orchard-ed25519", "orchard.example", "pear")?.delivered(
            ORCHARD,
            pass,
            "signed with Ed25519",
        ),
        Draft::new("receipt", from, ADA, "Receipt for box 118", "One box of fruit, 24.50. Paid, thank you.\n")
            .signed(keys, "orchard", "orchard.example", "autumn")?
            .signed(keys, "orchard-ed25519", "orchard.example", "pear")?
            .delivered(ORCHARD, Expected { dkim: "pass,pass", ..pass }, "signed twice, with RSA and Ed25519"),
        newsletter
            .with("List-Unsubscribe: <https://orchard.example/less-post>")
            .signed(keys, "orchard", "news.orchard.example", "news")?
            .signed(keys, "postwagon", "postwagon.example", "wheel")?
            .delivered(
                WAGON,
                Expected { dkim: "pass,pass", ..pass },
                "newsletter sent by a service, signed for a subdomain",
            ),
        Draft::new(
            "direct-debit",
            "Orchard Payments <till@pay.orchard.example>",
            ADA,
            "Direct debit on Friday",
            "We will draw 24.50 on Friday.\n",
        )
        .signed(keys, "orchard", "orchard.example", "autumn")?
        .delivered(ORCHARD, pass, "from a subdomain, signed by the domain above"),
        Draft::new(
            "sunday-hike",
            "Ridge Walkers <post@ridgewalkers.example>",
            ADA,
            "Sunday: the long ridge",
            "Meet at eight by the old mill. Bring a coat, the ridge is windy.\n",
        )
        .delivered(
            Hop { ip: "192.0.2.66", helo: "mail.ridgewalkers.example", mail_from: "post@ridgewalkers.example" },
            expect("pass", "none", "none", "pass", "accept"),
            "not signed, but sent from a server that SPF allows",
        ),
        bounce.signed(keys, "orchard", "orchard.example", "autumn")?.delivered(
            Hop { mail_from: "", ..ORCHARD },
            pass,
            "a bounce: no sender, so SPF asks about the HELO name",
        ),
        Draft::new(
            "reading-evening",
            "=?utf-8?q?B=C3=BCcherstube?= <gruss@b\u{fc}cherstube.example>",
            ADA,
            "Reading on Thursday",
            "Tea from seven, the first page at half past.\n",
        )
        .changed("<reading-evening@b\u{fc}cherstube.example>", "<reading-evening@xn--bcherstube-9db.example>")
        .delivered(
            Hop {
                ip: "192.0.2.97",
                helo: "post.xn--bcherstube-9db.example",
                mail_from: "gruss@xn--bcherstube-9db.example",
            },
            expect("pass", "none", "none", "pass", "accept"),
            "a domain beyond ASCII",
        ),
        Draft::new(
            "new-soles",
            "Tinker & Daughter <ring@tinker-and-daughter.example>",
            ADA,
            "Your boots",
            "Your boots have new soles. Come by when the bell rings.\n",
        )
        .delivered(
            Hop {
                ip: "192.0.2.130",
                helo: "mail.tinker-and-daughter.example",
                mail_from: "ring@tinker-and-daughter.example",
            },
            expect("none", "none", "none", "none", "accept"),
            "no SPF, no signature, no policy",
        ),
        quince
            .changed("quince-recipe@", "quince-again@")
            .signed(keys, "orchard", "orchard.example", "autumn")?
            .renamed("quince-again")
            .delivered(
                Hop { ip: "198.51.100.114", helo: "out.alumni.example", mail_from: "hello@orchard.example" },
                Expected { spf: "fail", ..pass },
                "forwarded as it was: SPF breaks, the signature holds",
            ),
    ])
}

/// Mail that went through other hands.
fn passed_on(keys: &Keys) -> Result<Vec<Letter>, String> {
    let lantern = |name, subject| {
        Draft::new(
            name,
            "Lantern Crew <crew@lanternfest.example>",
            "hikes@lists.commons.example",
            subject,
            "Who carries the big paper carp this year? It needs eight\npeople and no wind.\n",
        )
        .signed(keys, "postwagon", "lanternfest.example", "crew")
    };
    let found = "dkim=pass header.d=lanternfest.example; spf=pass smtp.mailfrom=crew@lanternfest.example; dmarc=pass";
    let on_list = |draft: Draft, subject: &str| {
        draft
            .changed(&format!("Subject: {subject}"), &format!("Subject: [hikes] {subject}"))
            .appended(FOOTER)
            .with("List-Id: <hikes.lists.commons.example>")
    };
    let changed = expect("pass", "fail", "none", "fail", "quarantine");
    let sealed =
        on_list(lantern(EXPLAINED, "The carp")?, "The carp").sealed(keys, "commons", "lists.commons.example", found)?;
    let twice = on_list(lantern("lantern-twice", "The carp, again")?, "The carp, again")
        .sealed(keys, "commons", "lists.commons.example", found)?
        .sealed(keys, "commons", "alumni.example", "arc=pass; dmarc=fail header.from=lanternfest.example")?;
    let broken = on_list(lantern("lantern-broken", "The carp, third")?, "The carp, third")
        .sealed(keys, "commons", "lists.commons.example", found)?
        .appended("\nScanned by a box that adds lines.\n");
    let alumni = Hop { ip: "198.51.100.113", helo: "out.alumni.example", mail_from: "srs0=ada@alumni.example" };
    let teller = Draft::new(
        "teller-on-list",
        "Jon Teller <jon@harbour-bank.example>",
        "hikes@lists.commons.example",
        "Carpool",
        "I have two seats free on Sunday.\n",
    )
    .signed(keys, "harbour-bank", "harbour-bank.example", "desk")?;
    Ok(vec![
        sealed.delivered(LIST, Expected { arc: "pass", ..changed }, "a mailing list changed it and sealed it with ARC"),
        twice.delivered(alumni, Expected { arc: "pass", ..changed }, "a list and a forwarder, both with ARC"),
        broken.delivered(LIST, Expected { arc: "fail", ..changed }, "changed again behind the last ARC seal"),
        on_list(teller, "Carpool").delivered(LIST, changed, "a mailing list changed it, without ARC"),
        Draft::new(
            "list-rewritten",
            "Jon Teller via hikes <hikes@lists.commons.example>",
            "hikes@lists.commons.example",
            "[hikes] Carpool",
            "I have two seats free on Sunday.\n",
        )
        .changed("Date:", "Reply-To: Jon Teller <jon@harbour-bank.example>\r\nDate:")
        .appended(FOOTER)
        .signed(keys, "commons", "lists.commons.example", "list")?
        .delivered(
            LIST,
            expect("pass", "pass", "none", "pass", "accept"),
            "the list writes in its own name and signs",
        ),
    ])
}

/// Mail in the names of others.
fn forged() -> Vec<Letter> {
    let forged = expect("pass", "none", "none", "fail", "quarantine");
    let urgent = "Dear customer,\n\nyour account sleeps. Wake it within one hour:\nhttp://win-big.example/wake\n";
    vec![
        Draft::new("account-sleeps", "Harbour Bank <service@harbour-bank.example>", ADA, "Your account sleeps", urgent)
            .delivered(CROOK, forged, "forged From of a bank with p=reject; SPF passes for the forger's own domain"),
        Draft::new("account-sleeps-2", "Harbour Bank <service@harbour-bank.example>", ADA, "Last warning", urgent)
            .delivered(
                Hop { mail_from: "service@harbour-bank.example", ..CROOK },
                Expected { spf: "fail", ..forged },
                "forged From and forged sender",
            ),
        Draft::new(
            "carp-tickets",
            "Lantern Crew <crew@lanternfest.example>",
            ADA,
            "Carp tickets half price",
            "Only today!\n",
        )
        .delivered(
            Hop { mail_from: "crew@lanternfest.example", ..CROOK },
            Expected { spf: "softfail", ..forged },
            "forged From of a domain with p=quarantine",
        ),
        Draft::new(
            "hike-lottery",
            "Ridge Walkers <post@ridgewalkers.example>",
            ADA,
            "You won a mountain",
            "Click to claim it.\n",
        )
        .delivered(
            CROOK,
            Expected { action: "accept", ..forged },
            "forged From of a domain that asks for reports only",
        ),
        Draft::new(
            "tax-refund",
            "Town Tax Office <refund@tax-office.town.example>",
            ADA,
            "Your refund",
            "418.20 wait for you.\n",
        )
        .delivered(CROOK, forged, "forged From of a subdomain that does not exist (np=reject)"),
        Draft::new("pay-now", "Orchard Payments <till@pay.orchard.example>", ADA, "Unpaid box", "Pay by gift card.\n")
            .delivered(CROOK, forged, "forged From of a subdomain that exists (sp=quarantine)"),
        Draft::new("museum-night", "The Museum <night@museum.example>", ADA, "Free night", "Bring your card number.\n")
            .delivered(
                CROOK,
                Expected { action: "accept", ..forged },
                "forged From of a domain that is testing its policy (t=y)",
            ),
        Draft::new(
            "name-only",
            "\"service@harbour-bank.example\" <cheer@win-big.example>",
            ADA,
            "Your account",
            urgent,
        )
        .delivered(
            CROOK,
            expect("pass", "none", "none", "none", "accept"),
            "the bank stands in the display name only: look at the From column",
        ),
        Draft::new(
            "two-authors",
            "service@harbour-bank.example, cheer@win-big.example",
            ADA,
            "From both of us",
            urgent,
        )
        .delivered(
            CROOK,
            expect("pass", "none", "none", "permerror", "accept"),
            "two addresses of two domains in From",
        ),
        Draft::new("nul-in-from", "service@harbour-bank.example\0.win-big.example", ADA, "A hole in the From", urgent)
            .changed("nul-in-from@harbour-bank.example\0.win-big.example", "nul-in-from@win-big.example")
            .delivered(
                CROOK,
                expect("pass", "none", "none", "permerror", "accept"),
                "a NUL octet in From, at which some readers stop",
            ),
    ]
}

/// Mail whose owners made a mistake, or whose servers were away.
fn gone_wrong(keys: &Keys) -> Result<Vec<Letter>, String> {
    let desk = |name, subject| {
        Draft::new(
            name,
            "Harbour Bank <desk@harbour-bank.example>",
            ADA,
            subject,
            "Your statement is at the desk. Nothing else to do.\n",
        )
    };
    let lost = expect("fail", "permerror", "none", "fail", "quarantine");
    let away = Hop { ip: "198.51.100.114", helo: "out.alumni.example", mail_from: "desk@harbour-bank.example" };
    let old =
        Plan { domain: "harbour-bank.example", selector: "desk", expires_after: Some(7 * 24 * 60 * 60), is_lax: false };
    let fruit = Draft::new("old-key", "Orchard Fruit <hello@orchard.example>", ADA, "Pears", "The pears are late.\n");
    Ok(vec![
        desk("expired", "Statement of October").signed_as(keys, "harbour-bank", &old)?.delivered(
            away,
            Expected { dkim: "policy", ..lost },
            "sent on a month later, when the signature had expired",
        ),
        fruit.signed(keys, "orchard", "orchard.example", "revoked")?.delivered(
            Hop { mail_from: "hello@orchard.example", ..away },
            lost,
            "signed with a key that was revoked",
        ),
        desk("no-key", "Statement of November")
            .signed(keys, "harbour-bank", "harbour-bank.example", "typo")?
            .delivered(away, lost, "signed with a selector at which there is no key"),
        desk("short-key", "Statement of September")
            .pretended("harbour-bank.example", "short", SHORT_KEY_BITS)
            .delivered(away, Expected { dkim: "policy", ..lost }, "signed with a key of 768 bits"),
        Draft::new("only-the-wagon", "Lantern Crew <crew@lanternfest.example>", ADA, "Programme", "Lights at dusk.\n")
            .signed(keys, "postwagon", "postwagon.example", "wheel")?
            .delivered(
                WAGON,
                expect("pass", "pass", "none", "fail", "quarantine"),
                "the service signs for itself only",
            ),
        Draft::new(
            "too-many",
            "Endless Loop <us@endless-loop.example>",
            ADA,
            "Round and round",
            "We include ourselves.\n",
        )
        .delivered(
            Hop { ip: "192.0.2.140", helo: "mail.endless-loop.example", mail_from: "us@endless-loop.example" },
            expect("permerror", "none", "none", "fail", "quarantine"),
            "an SPF record that includes itself",
        ),
        Draft::new("slow", "Slow Post <us@slow-post.example>", ADA, "On our way", "It takes as long as it takes.\n")
            .delivered(
                Hop { ip: "192.0.2.150", helo: "mail.slow-post.example", mail_from: "us@slow-post.example" },
                expect("temperror", "none", "none", "temperror", "accept"),
                "the DNS of the domain does not answer",
            ),
    ])
}

/// Honest mail that somebody changed on its way.
fn tampered(keys: &Keys) -> Result<Vec<Letter>, String> {
    let desk = "Harbour Bank <desk@harbour-bank.example>";
    let body = "Your new card is on its way.\n";
    let lax = Plan { domain: "harbour-bank.example", selector: "desk", expires_after: None, is_lax: true };
    let caught = expect("pass", "fail", "none", "fail", "quarantine");
    let tags = format!("a=rsa-sha256; c=relaxed/relaxed; d=harbour-bank.example; s=desk; l={}", body.len() + 1);
    Ok(vec![
        Draft::new("card-changed", desk, ADA, "Your new card", body)
            .signed(keys, "harbour-bank", "harbour-bank.example", "desk")?
            .changed("Subject: Your new card", "Subject: Your new card: call +00 118 000")
            .delivered(CROOK, caught, "the subject was changed after signing"),
        Draft::new("card-appended", desk, ADA, "Your new card", body)
            .signed_with_tags(keys, "harbour-bank", &tags)?
            .appended("\nBefore you use it, log in at http://win-big.example/card\n")
            .delivered(CROOK, Expected { dkim: "policy", ..caught }, "text added behind the part that l= covers"),
        Draft::new("second-from", desk, ADA, "Your new card", body)
            .signed_as(keys, "harbour-bank", &lax)?
            .with("From: Cheerful Friend <cheer@win-big.example>")
            .delivered(
                CROOK,
                expect("pass", "policy", "none", "permerror", "accept"),
                "a second From put on top of a signed message",
            ),
        Draft::new("replayed", desk, ADA, "Your new card", body)
            .signed(keys, "harbour-bank", "harbour-bank.example", "desk")?
            .delivered(BANK, expect("pass", "pass", "none", "pass", "accept"), "the same letter, untouched"),
    ])
}
