//! The DNS of the demo.

use super::draft::{Keys, short_key_record};

/// The zone file.
pub(super) fn text(keys: &Keys) -> Result<String, String> {
    let key = |name: &str| keys.record(name);
    Ok(format!(
        r#"# The DNS of the demo: every name is fictional. A name that is not listed does not exist.

# A fruit shop that does everything right, with a newsletter sent by a service and a subdomain for payments.
orchard.example:
- TXT: "v=spf1 ip4:192.0.2.0/28 -all"
- MX: [10, mx.orchard.example]
_dmarc.orchard.example:
- TXT: "v=DMARC1; p=reject; sp=quarantine; rua=mailto:dmarc@orchard.example"
autumn._domainkey.orchard.example:
- TXT: "{orchard}"
pear._domainkey.orchard.example:
- TXT: "{orchard_ed25519}"
revoked._domainkey.orchard.example:
- TXT: "v=DKIM1; p="
news._domainkey.news.orchard.example:
- TXT: "{orchard}"
pay.orchard.example:
- A: 192.0.2.9
mx.orchard.example:
- A: 192.0.2.2
- TXT: "v=spf1 a -all"

# A bank, and what others write in its name.
harbour-bank.example:
- TXT: "v=spf1 ip4:192.0.2.32/28 -all"
_dmarc.harbour-bank.example:
- TXT: "v=DMARC1; p=reject; adkim=s"
desk._domainkey.harbour-bank.example:
- TXT: "{bank}"
short._domainkey.harbour-bank.example:
- TXT: "{short}"

# A festival that asks for quarantine, and whose SPF record trusts an include.
lanternfest.example:
- TXT: "v=spf1 include:_spf.postwagon.example ~all"
_dmarc.lanternfest.example:
- TXT: "v=DMARC1; p=quarantine"
crew._domainkey.lanternfest.example:
- TXT: "{postwagon}"

# A hiking club that only wants reports.
ridgewalkers.example:
- TXT: "v=spf1 ip4:192.0.2.64/28 -all"
_dmarc.ridgewalkers.example:
- TXT: "v=DMARC1; p=none; rua=mailto:post@ridgewalkers.example"

# A town: mail from names that do not exist is to be refused.
town.example:
- TXT: "v=spf1 -all"
_dmarc.town.example:
- TXT: "v=DMARC1; p=quarantine; np=reject"

# A museum that is still testing its policy.
museum.example:
- TXT: "v=spf1 ip4:192.0.2.80/30 -all"
_dmarc.museum.example:
- TXT: "v=DMARC1; p=quarantine; t=y"

# A service that sends for others.
postwagon.example:
- TXT: "v=spf1 include:_spf.postwagon.example -all"
_spf.postwagon.example:
- TXT: "v=spf1 ip4:198.51.100.0/26 -all"
bounce.postwagon.example:
- TXT: "v=spf1 redirect=_spf.postwagon.example"
wheel._domainkey.postwagon.example:
- TXT: "{postwagon}"

# Mailing lists and a forwarding service for old pupils.
lists.commons.example:
- TXT: "v=spf1 ip4:198.51.100.96/30 -all"
_dmarc.commons.example:
- TXT: "v=DMARC1; p=none"
seal._domainkey.lists.commons.example:
- TXT: "{commons}"
list._domainkey.lists.commons.example:
- TXT: "{commons}"
alumni.example:
- TXT: "v=spf1 ip4:198.51.100.112/30 -all"
seal._domainkey.alumni.example:
- TXT: "{commons}"

# A bookshop with a name beyond ASCII.
xn--bcherstube-9db.example:
- TXT: "v=spf1 ip4:192.0.2.96/30 -all"
_dmarc.xn--bcherstube-9db.example:
- TXT: "v=DMARC1; p=reject"

# Small trades: no policy at all, an SPF record that asks too much, a server that does not answer.
tinker-and-daughter.example:
- MX: [10, mail.tinker-and-daughter.example]
endless-loop.example:
- TXT: "v=spf1 include:endless-loop.example -all"
_dmarc.endless-loop.example:
- TXT: "v=DMARC1; p=quarantine"
slow-post.example:
- TXT: TIMEOUT
_dmarc.slow-post.example:
- TXT: TIMEOUT

# Those who write in the names of others have SPF records too.
win-big.example:
- TXT: "v=spf1 ip4:203.0.113.0/24 -all"
"#,
        orchard = key("orchard")?,
        orchard_ed25519 = key("orchard-ed25519")?,
        bank = key("harbour-bank")?,
        postwagon = key("postwagon")?,
        commons = key("commons")?,
        short = short_key_record(super::letters::SHORT_KEY_BITS),
    ))
}
