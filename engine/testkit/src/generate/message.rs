//! Random messages: odd headers and bodies, signed in many ways and then, often, changed on the way.

use std::net::IpAddr;

use serde_json::json;

use super::keys::{ED25519, KEYS, RSA_512, RSA_1024, RSA_2048, TestKey};
use super::sign::{Layout, Parts, Plan, field_name};
use super::{NOW_SECONDS, Records};
use crate::random::Random;

/// One message with its envelope and the DNS.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct MessageCase {
    /// The DNS.
    pub records: Records,
    /// Address of the client.
    pub ip: IpAddr,
    /// HELO argument.
    pub helo: String,
    /// MAIL FROM, empty for the null reverse-path.
    pub mail_from: String,
    /// The message.
    pub parts: Parts,
}

/// Variants of one signed message before the next is signed: signing is what takes the time.
pub const VARIANTS: u64 = 4;

/// A signed message that has not been changed yet.
#[must_use]
pub fn generate(random: &mut Random) -> MessageCase {
    let mut world = World { random, records: Records::default(), parts: Parts::default(), author: String::new() };
    world.author = world.author_domain();
    world.author_policy();
    world.header();
    world.parts.body = body(world.random);
    let count = [0, 1, 2, 3][world.random.weighted(&[14, 62, 18, 6])];
    for index in 0..count {
        world.sign(index);
    }
    if world.random.chance(7) {
        for instance in 1..=world.random.between(1, 3) {
            world.seal(instance);
        }
    }
    let (helo, mail_from) = world.envelope();
    let ip = CLIENTS[world.random.below(CLIENTS.len())].parse().expect("an address");
    MessageCase { records: world.records, ip, helo, mail_from, parts: world.parts }
}

const CLIENTS: [&str; 3] = ["192.0.2.10", "198.51.100.7", "2001:db8::25"];
const ORGANISATIONS: [&str; 4] = ["o1.example", "o2.example", "o3.test", "corp.bank"];

struct World<'a> {
    random: &'a mut Random,
    records: Records,
    parts: Parts,
    author: String,
}

impl World<'_> {
    fn author_domain(&mut self) -> String {
        let organisation = self.random.pick(&ORGANISATIONS);
        let prefix = ["", "mail.", "a.b.", "gone.", "x.y.gone.", "a.b.c.d.e.f.g.h.i."]
            [self.random.weighted(&[48, 16, 12, 10, 6, 8])];
        format!("{prefix}{organisation}")
    }

    /// A domain that is, or is not, aligned with the author's.
    fn other_domain(&mut self) -> String {
        let author = self.author.clone();
        let organisation = author.rsplitn(3, '.').take(2).collect::<Vec<_>>();
        match self.random.weighted(&[46, 20, 10, 6, 18]) {
            0 => author,
            1 => format!("{}.{}", organisation[1], organisation[0]),
            2 => format!("sub.{author}"),
            3 => author.split_once('.').map_or(author.clone(), |(_, parent)| parent.to_owned()),
            _ => self.random.pick(&ORGANISATIONS).to_owned(),
        }
    }

    fn author_policy(&mut self) {
        let author = self.author.clone();
        if !author.contains("gone") {
            match self.random.below(10) {
                0 => {}
                1 => self.records.add(&author, json!({ "MX": [10, "mx.example"] })),
                2 => self.records.add_text(&author, "nothing here"),
                _ => self.records.add(&author, json!({ "A": "192.0.2.80" })),
            }
        }
        let labels: Vec<&str> = author.split('.').collect();
        for at in 0..labels.len() {
            let name = labels[at..].join(".");
            let left = labels.len() - at;
            let percent = if at == 0 {
                55
            } else if left == 2 {
                70
            } else if left == 1 {
                6
            } else {
                12
            };
            if self.random.chance(percent) {
                self.policy_record(&name, left);
            }
        }
        if self.random.chance(25) {
            self.policy_record("o1.example", 2);
        }
    }

    fn policy_record(&mut self, name: &str, labels_left: usize) {
        let name = format!("_dmarc.{name}");
        match self.random.below(100) {
            0 => return self.records.add(&name, json!("TIMEOUT")),
            1 => return self.records.add(&name, json!("SERVFAIL")),
            2..=3 => return self.records.add_text(&name, "v=spf1 -all"),
            4 if !self.records.has(&name) => {
                self.records.add_text("_dmarc.hosted.example", "v=DMARC1; p=reject");
                return self.records.add(&name, json!({ "CNAME": "_dmarc.hosted.example" }));
            }
            _ => {}
        }
        let record = self.policy_text(labels_left);
        self.records.add_text(&name, &record);
        if self.random.chance(4) {
            let second = self.policy_text(labels_left);
            self.records.add_text(&name, &second);
        }
    }

    fn policy_text(&mut self, labels_left: usize) -> String {
        const POLICIES: [&str; 5] = ["none", "quarantine", "reject", "REJECT", "bogus"];
        let policy = |random: &mut Random| POLICIES[random.weighted(&[25, 30, 38, 3, 4])];
        let mut tags = Vec::new();
        if self.random.chance(96) {
            tags.push(format!("p={}", policy(self.random)));
        }
        if self.random.chance(30) {
            tags.push(format!("sp={}", policy(self.random)));
        }
        if self.random.chance(25) {
            tags.push(format!("np={}", policy(self.random)));
        }
        for tag in ["adkim", "aspf"] {
            if self.random.chance(25) {
                tags.push(format!("{tag}={}", self.random.pick(&["r", "s", "s", "S", "x"])));
            }
        }
        let psd = if labels_left == 1 { 80 } else { 12 };
        if self.random.chance(psd) {
            tags.push(format!(
                "psd={}",
                ["y", "n", "u", "x"][self.random.weighted(&[if labels_left == 1 { 90 } else { 25 }, 50, 15, 5])]
            ));
        }
        if self.random.chance(12) {
            tags.push(format!("t={}", self.random.pick(&["y", "n", "Y", "z"])));
        }
        if self.random.chance(40) {
            tags.push(
                (*self.random.pick(&[
                    &"rua=mailto:d@o1.example",
                    &"rua=mailto:a@x.example,mailto:b@y.example!10m",
                    &"rua=bogus",
                    &"rua=",
                ]))
                .to_owned(),
            );
        }
        if self.random.chance(10) {
            tags.push(
                (*self.random.pick(&[
                    &"pct=50",
                    &"pct=0",
                    &"fo=1:d",
                    &"ri=3600",
                    &"rf=afrf",
                    &"x-unknown=1",
                    &"ruf=mailto:f@x.example",
                ]))
                .to_owned(),
            );
        }
        if self.random.chance(12) && tags.len() > 1 {
            let at = self.random.below(tags.len());
            let tag = tags.remove(at);
            tags.push(tag);
        }
        if self.random.chance(2) && !tags.is_empty() {
            let tag = tags[self.random.below(tags.len())].clone();
            tags.push(tag);
        }
        let version = ["v=DMARC1", "v=dmarc1", "v = DMARC1", "V=DMARC1", " v=DMARC1", "v=DMARC2"]
            [self.random.weighted(&[92, 2, 2, 1, 1, 2])];
        let separator = self.random.pick(&["; ", "; ", "; ", ";", " ; ", ";\t"]);
        let mut text = version.to_owned();
        for tag in tags {
            text.push_str(separator);
            text.push_str(&tag);
        }
        text + self.random.pick(&["", "", ";", "; ", ";;"])
    }

    fn header(&mut self) {
        for _ in 0..self.random.below(3) {
            self.parts.fields.push(
                b"Received: from mx.example (mx.example [192.0.2.10])\r\n\tby mail.example with ESMTP id 4\r\n\tfor <u@v.example>; Mon, 23 Nov 2026 00:00:00 +0000\r\n"
                    .to_vec(),
            );
        }
        let mut fields = vec![self.author_field()];
        let others: [&[&str]; 9] = [
            &["To: u@v.example\r\n", "To: U <u@v.example>,\r\n\tw@v.example\r\n", "to:u@v.example\r\n"],
            &[
                "Subject: hello\r\n",
                "Subject:\r\n",
                "Subject: a  b\t c \r\n",
                "SUBJECT: two\r\n lines\r\n",
                "Subject: =?utf-8?q?caf=C3=A9?=\r\n",
                "Subject : odd\r\n",
                "Subject: caf\u{e9}\r\n",
                "Subject: \r\n \t\r\n x\r\n",
            ],
            &["Date: Mon, 23 Nov 2026 00:00:00 +0000\r\n", "Date:Mon, 23 Nov 2026 00:00:00 +0000 (UTC)\r\n"],
            &["Message-ID: <1@o1.example>\r\n", "Message-Id:\r\n <2.3@o1.example>\r\n"],
            &["MIME-Version: 1.0\r\n"],
            &["Content-Type: text/plain; charset=utf-8\r\n", "Content-Type: text/html;\r\n\tcharset=\"utf-8\"\r\n"],
            &["X-Empty:\r\n", "X-Space: \r\n", "X-Tab:\t\tx\t\r\n", "x-lower:a:b::c\r\n"],
            &["Cc: c@v.example\r\n", "Reply-To: r@o1.example\r\n"],
            &["List-Id: <l.o1.example>\r\n", "List-Unsubscribe: <https://o1.example/u>\r\n"],
        ];
        for (index, choices) in others.iter().enumerate() {
            let percent = if index < 4 { 90 } else { 40 };
            if self.random.chance(percent) {
                fields.push(self.random.pick(choices).as_bytes().to_vec());
            }
        }
        if self.random.chance(3) {
            fields.push(b"Subject: twice\r\n".to_vec());
        }
        while !fields.is_empty() {
            let at = if self.random.chance(75) { 0 } else { self.random.below(fields.len()) };
            let field = fields.remove(at);
            self.parts.fields.push(field);
        }
    }

    fn author_field(&mut self) -> Vec<u8> {
        let domain = &self.author.clone();
        let text = match self.random.weighted(&[40, 20, 8, 8, 6, 4, 3, 2, 2, 2, 1, 1, 1, 1, 1]) {
            0 => format!("From: Name <user@{domain}>"),
            1 => format!("From: user@{domain}"),
            2 => format!("From: \"Last, First\" <user@{domain}>"),
            3 => format!("From: =?utf-8?q?N=C3=A9?=\r\n =?utf-8?q?_M?= <user@{domain}>"),
            4 => format!("FROM:Name\r\n\t<user@{}>", domain.to_uppercase()),
            5 => format!("from: user@{domain} (Name)"),
            6 => format!("From: \"a@evil.example\" <user@{domain}>"),
            7 => format!("From: one@{domain}, two@{domain}"),
            8 => format!("From: one@{domain}, two@evil.example"),
            9 => format!("From: <user@{domain}>"),
            10 => format!("From: Team: one@{domain};"),
            11 => "From: user".to_owned(),
            12 => format!("From: \"us er\"@{domain}"),
            13 => format!("From: user@{domain}."),
            _ => format!("From: user @ {domain}"),
        };
        (text + "\r\n").into_bytes()
    }

    fn key(&mut self) -> &'static TestKey {
        let place = match self.random.weighted(&[56, 34, 8, 2]) {
            0 => ED25519[self.random.below(2)],
            1 => RSA_2048[self.random.below(2)],
            2 => RSA_1024,
            _ => RSA_512,
        };
        &KEYS[place]
    }

    fn sign(&mut self, index: usize) {
        let key = self.key();
        let domain = self.other_domain();
        let selector = self.random.pick(&["s", "sel", "2026.mail", "k1"]).to_owned() + &index.to_string();
        let mut plan = self.plan("DKIM-Signature", key, &domain, &selector);
        if self.random.chance(12) {
            self.spoil(&mut plan, &domain);
        }
        let mut field = plan.sign(&self.parts, key);
        match self.random.below(100) {
            0 => replace(&mut field, b"DKIM-Signature", b"dkim-signature"),
            1 => spoil_base64(&mut field),
            2 => field.splice(field.len() - 2.., b"!\r\n".iter().copied()).for_each(drop),
            _ => {}
        }
        self.parts.fields.insert(0, field);
        self.key_record(key, &domain, &selector);
    }

    fn plan(&mut self, name: &'static str, key: &TestKey, domain: &str, selector: &str) -> Plan {
        let (header_relaxed, body_relaxed) = (self.random.chance(65), self.random.chance(60));
        let word = |relaxed: bool| if relaxed { "relaxed" } else { "simple" };
        let canonicalisation = match (header_relaxed, body_relaxed) {
            (false, false) if self.random.chance(50) => None,
            (header, false) if self.random.chance(40) => Some(word(header).to_owned()),
            (header, body) => Some(format!("{}/{}", word(header), word(body))),
        };
        let mut tags = vec![
            ("v".to_owned(), "1".to_owned()),
            ("a".to_owned(), format!("{}-sha256", key.kind)),
            ("d".to_owned(), if self.random.chance(4) { domain.to_uppercase() } else { domain.to_owned() }),
            ("s".to_owned(), selector.to_owned()),
        ];
        let mut add = |tag: &str, value: String| tags.push((tag.to_owned(), value));
        if let Some(canonicalisation) = canonicalisation {
            add("c", canonicalisation);
        }
        if self.random.chance(20) {
            add("q", "dns/txt".to_owned());
        }
        if self.random.chance(35) {
            add("t", (NOW_SECONDS - 86_400).to_string());
        }
        if self.random.chance(12) {
            add("x", (NOW_SECONDS + 20 * 365 * 86_400).to_string());
        }
        if self.random.chance(25) {
            let prefix = ["@", "user@", "@sub.", "us=20er@"][self.random.weighted(&[50, 25, 20, 5])];
            add("i", format!("{prefix}{domain}"));
        }
        if self.random.chance(4) {
            add("z", "From:user@o1.example|Subject:hello".to_owned());
        }
        if self.random.chance(5) {
            add(if self.random.chance(30) { "x-tag" } else { "xtag" }, "anything=goes".to_owned());
        }
        let mut length = None;
        if self.random.chance(4) {
            let full = super::canonical::body(&self.parts.body, body_relaxed).len();
            let octets = [full, full / 2, 0][self.random.weighted(&[60, 30, 10])];
            add("l", octets.to_string());
            length = Some(octets);
        }
        if self.random.chance(20) {
            let at = self.random.below(tags.len());
            let tag = tags.remove(at);
            tags.push(tag);
        }
        let names = self.signed_names();
        Plan { name, tags, header_relaxed, body_relaxed, names, length, layout: Layout::random(self.random) }
    }

    fn signed_names(&mut self) -> Vec<String> {
        let mut names = vec!["From".to_owned()];
        for field in &self.parts.fields {
            let name = String::from_utf8_lossy(field_name(field)).into_owned();
            let percent =
                if matches!(&*name.to_ascii_lowercase(), "to" | "subject" | "date" | "message-id" | "content-type") {
                    85
                } else {
                    15
                };
            if !name.eq_ignore_ascii_case("from") && !name.starts_with("ARC-") && self.random.chance(percent) {
                names.push(name);
            }
        }
        for name in ["From", "Subject", "To", "Date", "X-Absent"] {
            if self.random.chance(22) {
                names.push(name.to_owned());
            }
        }
        if self.random.chance(50) {
            names.iter_mut().for_each(|name| name.make_ascii_lowercase());
        }
        if self.random.chance(20) {
            let name = names.remove(0);
            names.push(name);
        }
        names
    }

    /// Makes a signature that some rule of RFC 6376 forbids, or nearly.
    fn spoil(&mut self, plan: &mut Plan, domain: &str) {
        let set = |plan: &mut Plan, tag: &str, value: &str| {
            plan.tags.retain(|(it, _)| it != tag);
            plan.tags.push((tag.to_owned(), value.to_owned()));
        };
        let drop_tag = |plan: &mut Plan, tag: &str| plan.tags.retain(|(it, _)| it != tag);
        match self.random.below(26) {
            0 => drop_tag(plan, "v"),
            1 => drop_tag(plan, "a"),
            2 => drop_tag(plan, "d"),
            3 => drop_tag(plan, "s"),
            4 => set(plan, "v", "2"),
            5 => set(plan, "a", "rsa-sha512"),
            6 => set(plan, "a", "rsa-sha1"),
            7 => set(plan, "c", "nowsp/simple"),
            8 => set(plan, "q", "http/x"),
            9 => set(plan, "x", "1600000000"),
            10 => {
                set(plan, "t", "1795391000");
                set(plan, "x", "1600000000");
            }
            11 => set(plan, "i", "@evil.example"),
            12 => set(plan, "i", &format!("@bad{domain}")),
            13 => set(plan, "l", "99999999"),
            14 => plan.names.retain(|name| !name.eq_ignore_ascii_case("from")),
            15 => plan.tags.push(("s".to_owned(), "again".to_owned())),
            16 => set(plan, "d", "example"),
            17 => set(plan, "t", "9999999999"),
            18 => set(plan, "t", "abc"),
            19 => set(plan, "x", "99999999999999"),
            20 => set(plan, "l", "abc"),
            21 => plan.tags.push(("bad tag".to_owned(), "x".to_owned())),
            22 => set(plan, "v", " 1 "),
            23 => set(plan, "q", "dns/txt:http/x"),
            24 => plan.names.push(String::new()),
            _ => plan.tags.push((String::new(), "x".to_owned())),
        }
        if plan.names.is_empty() {
            plan.names.push("To".to_owned());
        }
    }

    fn key_record(&mut self, key: &TestKey, domain: &str, selector: &str) {
        let name = format!("{selector}._domainkey.{}", domain.to_ascii_lowercase());
        let (kind, public) = (key.kind, &key.public);
        let plain = match self.random.below(4) {
            0 if kind == "rsa" => format!("p={public}"),
            1 if kind == "rsa" => format!("v=DKIM1; p={public}"),
            2 => format!("v=DKIM1;k={kind};p={public};"),
            _ => format!("v=DKIM1; k={kind}; p={public}"),
        };
        let with = |tag: &str| format!("v=DKIM1; k={kind}; {tag}; p={public}");
        let record = match self.random.below(200) {
            0..=5 => return,
            6 | 7 => return self.records.add(&name, json!("TIMEOUT")),
            8 | 9 => return self.records.add(&name, json!("SERVFAIL")),
            10 => return self.records.add(&name, json!({ "A": "192.0.2.1" })),
            11..=13 => format!("v=DKIM1; k={kind}; p="),
            14..=18 => with("t=y"),
            19..=23 => with("t=s"),
            24 => with("t=y:s"),
            25 => with("t= y : s "),
            26 => with("t=x"),
            27 => with("h=sha256"),
            28 => with("h=sha1"),
            29 => with("h=sha1:sha256"),
            30 => with("h=sha512"),
            31 => with("s=email"),
            32 => with("s=*"),
            33 => with("s=tlsrpt"),
            34 => with("s=other:email"),
            35 => with("n=a note; x=y"),
            36 => with("g=user"),
            37 => format!("v=DKIM2; k={kind}; p={public}"),
            38 => format!("k={kind}; p={public}; v=DKIM1"),
            39 => format!("v=DKIM1; k=dsa; p={public}"),
            40 => format!("v=DKIM1; k={}; p={public}", if kind == "rsa" { "ed25519" } else { "rsa" }),
            41 => format!("v=DKIM1; k={kind}; p={}", &public[..public.len() / 2]),
            42 => format!("v=DKIM1; k={kind}; p=!{public}"),
            43 => format!("v=DKIM1; k={kind}"),
            44 => format!("v=DKIM1; k={kind}; p={public}; p={public}"),
            45 => format!("v=dkim1; k={kind}; p={public}"),
            46 => "hello".to_owned(),
            47 => {
                self.records.add_text(&name, &format!("v=DKIM1; k={kind}; p={}", KEYS[RSA_2048[0]].public));
                plain
            }
            48 => {
                self.records.add_text(&name, "not a key");
                plain
            }
            49 => {
                let middle = public.len() / 2;
                format!("v=DKIM1; k={kind}; p={} {}", &public[..middle], &public[middle..])
            }
            50 => {
                self.records.add(&name, json!({ "CNAME": "keys.hosted.example" }));
                self.records.add_text("keys.hosted.example", &plain);
                return;
            }
            51 => format!("v=DKIM1; k={kind}; bad; p={public}"),
            52 => format!("V=DKIM1; K={kind}; P={public}"),
            53 => format!(" v=DKIM1 ; k = {kind} ; p = {public} "),
            _ => plain,
        };
        let strings: Vec<String> =
            record.as_bytes().chunks(255).map(|chunk| String::from_utf8_lossy(chunk).into_owned()).collect();
        self.records.add(&name, json!({ "TXT": strings }));
    }

    /// Adds one ARC set on top (RFC 8617 section 5.1).
    fn seal(&mut self, instance: usize) {
        let key = &KEYS[if self.random.chance(70) { RSA_2048[0] } else { RSA_2048[1] }];
        let domain = self.random.pick(&ORGANISATIONS);
        let selector = format!("arc{instance}");
        let claimed = if self.random.chance(95) { instance } else { instance + 1 };
        let chain = match (instance, self.random.below(100)) {
            (1, 0..97) => "none",
            (1, _) | (_, 0..95) => "pass",
            (_, 95..98) => "none",
            _ => "fail",
        };
        let results =
            format!("ARC-Authentication-Results: i={claimed}; mx.example; spf=pass\r\n\tsmtp.mailfrom=o1.example\r\n");
        let mut message = self.plan("ARC-Message-Signature", key, domain, &selector);
        message.tags.retain(|(tag, _)| !matches!(&**tag, "v" | "i" | "l" | "q" | "z" | "x-tag"));
        message.length = None;
        message.tags.insert(0, ("i".to_owned(), claimed.to_string()));
        let signature = message.sign(&self.parts, key);
        let seal_tags = [
            ("i", claimed.to_string()),
            ("a", "rsa-sha256".to_owned()),
            ("cv", chain.to_owned()),
            ("d", domain.to_owned()),
            ("s", selector.clone()),
        ];
        let seal = Plan {
            name: "ARC-Seal",
            tags: seal_tags.into_iter().map(|(tag, value)| (tag.to_owned(), value)).collect(),
            header_relaxed: true,
            layout: Layout::random(self.random),
            ..message
        };
        let mut sets = Vec::new();
        for below in 1..instance {
            for name in ["ARC-Authentication-Results", "ARC-Message-Signature", "ARC-Seal"] {
                let of_name: Vec<&Vec<u8>> =
                    self.parts.fields.iter().filter(|field| field.starts_with(format!("{name}:").as_bytes())).collect();
                if let Some(field) = of_name.len().checked_sub(below).and_then(|at| of_name.get(at)) {
                    sets.push((*field).clone());
                }
            }
        }
        sets.push(results.clone().into_bytes());
        sets.push(signature.clone());
        let seal = seal.seal(&sets, key);
        self.parts.fields.splice(0..0, [seal, signature, results.into_bytes()]);
        if self.random.chance(95) {
            self.records.add_text(
                &format!("{selector}._domainkey.{domain}"),
                &format!("v=DKIM1; k={}; p={}", key.kind, key.public),
            );
        }
    }

    fn envelope(&mut self) -> (String, String) {
        let domain = self.other_domain();
        let text = match self.random.weighted(&[50, 20, 10, 10, 10]) {
            0 => "v=spf1 ip4:192.0.2.0/24 -all",
            1 => "v=spf1 ip4:198.51.100.0/24 ip6:2001:db8::/32 ~all",
            2 => "v=spf1 +all",
            3 => "v=spf1 -all",
            _ => "v=spf1 include:nothing.example -all",
        };
        match self.random.below(20) {
            0 => {}
            1 => self.records.add(&domain, json!({ "TXT": "SERVFAIL" })),
            _ => self.records.add_text(&domain, text),
        }
        let helo = if self.random.chance(50) { "mx.example".to_owned() } else { domain.clone() };
        let mail_from = if self.random.chance(8) { String::new() } else { format!("bounce@{domain}") };
        (helo, mail_from)
    }
}

fn body(random: &mut Random) -> Vec<u8> {
    let mut text = Vec::new();
    match random.weighted(&[36, 18, 16, 6, 10, 8, 3, 3]) {
        0 => {
            for _ in 0..random.between(1, 12) {
                text.extend(
                    random
                        .pick(&[
                            "A line of text.\r\n",
                            "Another  line\t with white space \r\n",
                            "\r\n",
                            " indented\r\n",
                            "caf\u{e9}\r\n",
                            "..dots\r\n",
                            "\t\r\n",
                        ])
                        .bytes(),
                );
            }
        }
        1 => {
            for _ in 0..random.between(1, 30) {
                for _ in 0..19 {
                    let octet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"[random.below(64)];
                    text.extend([octet; 4]);
                }
                text.extend(b"\r\n");
            }
        }
        2 => {
            text.extend(b"<html>\r\n<body style=\"margin: 0\">\r\n");
            for _ in 0..random.between(1, 40) {
                text.extend(b"    <tr>  <td class=\"x\">\t&nbsp;</td>   </tr>  \r\n");
            }
            text.extend(b"</body></html>\r\n");
        }
        3 => {}
        4 => text.extend("Text\r\n".bytes().chain("\r\n".repeat(random.between(1, 5)).bytes())),
        5 => text.extend(" \t\r\n".repeat(random.between(1, 4)).bytes()),
        6 => text.extend(b"bare\rcarriage\nand line feed\r\n"),
        _ => text.extend(b"no end of line"),
    }
    match random.below(25) {
        0 => text.extend(b"\r\n\r\n"),
        1 => text.extend(b" \t"),
        2 => text.extend(b"tail"),
        3 => text.extend(b" \r\n"),
        _ => {}
    }
    text
}

fn replace(octets: &mut Vec<u8>, from: &[u8], to: &[u8]) {
    if let Some(at) = memchr::memmem::find(octets, from) {
        octets.splice(at..at + from.len(), to.iter().copied());
    }
}

/// Takes the last octet of base64 away.
fn spoil_base64(field: &mut Vec<u8>) {
    let end = field.len() - 2;
    if end > 0 {
        field.remove(end - 1);
    }
}

impl MessageCase {
    /// The message as a later hop got it: unchanged, or with one or two changes.
    #[must_use]
    pub fn on_the_way(&self, random: &mut Random) -> Self {
        let mut case = self.clone();
        if random.chance(35) {
            return case;
        }
        for _ in 0..random.between(1, 2) {
            case.change(random);
        }
        case
    }

    fn change(&mut self, random: &mut Random) {
        let Parts { fields, body } = &mut self.parts;
        let some = random.below(fields.len());
        match random.below(24) {
            0 => body.extend(b"appended\r\n"),
            1 => body.extend(b"\r\n\r\n"),
            2 => body.extend(b" \t\r\n"),
            3 => {
                if !body.is_empty() {
                    let at = random.below(body.len());
                    body[at] ^= 1;
                }
            }
            4 => {
                let at = random.below(body.len() + 1);
                body.insert(at, b' ');
            }
            5 => {
                if let Some(at) = memchr::memmem::find(body, b"  ") {
                    body.remove(at);
                }
            }
            6 => body.truncate(body.len() / 2),
            7 => fields.insert(0, b"From: evil@evil.example\r\n".to_vec()),
            8 => fields.push(b"From: evil@evil.example\r\n".to_vec()),
            9 => fields.insert(0, b"Subject: changed\r\n".to_vec()),
            10 => fields.push(b"Subject: changed\r\n".to_vec()),
            11 => fields.push(b"To: more@v.example\r\n".to_vec()),
            12 => fields.insert(0, b"Received: by relay.example; Mon, 23 Nov 2026 00:00:01 +0000\r\n".to_vec()),
            13 => fields.swap(some, 0),
            14 => {
                let other = random.below(fields.len());
                fields.swap(some, other);
            }
            15 => {
                if let Some(at) = fields[some].iter().position(|&octet| octet == b' ') {
                    fields[some].splice(at..=at, b"\r\n\t".iter().copied());
                }
            }
            16 => {
                if let Some(at) = fields[some].iter().position(|&octet| octet == b' ') {
                    fields[some].insert(at, b' ');
                }
            }
            17 => {
                let colon = field_name(&fields[some]).len();
                fields[some][..colon].make_ascii_lowercase();
            }
            18 => {
                let end = fields[some].len() - 2;
                fields[some].splice(end..end, b" \t".iter().copied());
            }
            19 => {
                let end = fields[some].len() - 2;
                if fields[some][end - 1].is_ascii_alphanumeric() {
                    fields[some][end - 1] ^= 1;
                }
            }
            20 => {
                if fields.len() > 1 {
                    fields.remove(some);
                }
            }
            21 => {
                let copy = fields[some].clone();
                fields.insert(some, copy);
            }
            22 => {
                if let Some(field) = fields.iter_mut().find(|field| field_name(field).eq_ignore_ascii_case(b"subject"))
                {
                    *field = b"Subject: rewritten\r\n".to_vec();
                }
            }
            _ => {
                if let Some(field) = fields.iter_mut().find(|field| field_name(field) == b"DKIM-Signature") {
                    field.truncate(field.len() - 2 - 10.min(field.len() - 20));
                    field.extend(b"\r\n");
                }
            }
        }
    }

    /// Smaller cases, for shrinking a disagreement.
    #[must_use]
    pub fn smaller(&self) -> Vec<Self> {
        let mut all: Vec<Self> =
            self.records.smaller().into_iter().map(|records| Self { records, ..self.clone() }).collect();
        for at in 0..self.parts.fields.len() {
            let mut less = self.clone();
            less.parts.fields.remove(at);
            all.push(less);
        }
        if !self.parts.body.is_empty() {
            let mut less = self.clone();
            less.parts.body.truncate(self.parts.body.len() / 2);
            all.push(less);
            let mut empty = self.clone();
            empty.parts.body.clear();
            all.push(empty);
        }
        all
    }
}
