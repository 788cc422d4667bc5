//! Random SPF evaluations: a small world of domains, hosts and addresses, dense enough that terms often match.

use std::fmt::Write;
use std::net::{IpAddr, Ipv6Addr};

use serde_json::{Value, json};

use super::Records;
use crate::random::Random;

/// One evaluation: the arguments of `check_host` and the DNS.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SpfCase {
    /// The DNS.
    pub records: Records,
    /// Address of the client.
    pub ip: IpAddr,
    /// HELO argument.
    pub helo: String,
    /// MAIL FROM, empty for the null reverse-path.
    pub mail_from: String,
}

/// Makes the case that the random numbers lead to.
#[must_use]
pub fn generate(random: &mut Random) -> SpfCase {
    let ip = client(random);
    let mut world = World { random, records: Records::default(), ip, domains: Vec::new() };
    let helo = world.helo();
    let mail_from = world.mail_from();
    world.hosts();
    world.pointers();
    if world.random.chance(12) {
        world.domain_near_a_limit(&mail_from, &helo);
    }
    world.policies();
    SpfCase { records: world.records, ip, helo, mail_from }
}

/// Domains that may have a policy; the first is the sender's most of the time.
const DOMAINS: [&str; 7] =
    ["d0.example", "d1.example", "d2.example", "sub.d0.example", "d3.example.org", "_spf.d1.example", "d4.test"];
const HOSTS: [&str; 7] = [
    "h0.example",
    "h1.example",
    "mail.d0.example",
    "mx.d1.example",
    "h2.example.org",
    "nowhere.example",
    "gone.d0.example",
];
const IPV4: [&str; 7] =
    ["192.0.2.1", "192.0.2.2", "192.0.2.77", "192.0.3.1", "198.51.100.5", "203.0.113.200", "10.0.0.1"];
const IPV6: [&str; 6] = ["2001:db8::1", "2001:db8::2", "2001:db8:0:1::1", "2001:db8:1::cb01", "fe80::1", "::1"];
const QUALIFIERS: [&str; 5] = ["", "-", "~", "?", "+"];
const QUALIFIER_WEIGHTS: [usize; 5] = [60, 14, 10, 10, 6];
/// Labels under which a zone may hold a wildcard, so that expanded macros exist.
const PREFIXES: [&str; 5] = ["_i", "u", "h", "x", "_spf"];

struct World<'a> {
    random: &'a mut Random,
    records: Records,
    ip: IpAddr,
    domains: Vec<&'static str>,
}

fn client(random: &mut Random) -> IpAddr {
    match random.weighted(&[66, 30, 4]) {
        0 => random.pick(&IPV4[..6]).parse().expect("an address"),
        1 => random.pick(&IPV6[..4]).parse().expect("an address"),
        _ => {
            let v4: std::net::Ipv4Addr = random.pick(&IPV4[..6]).parse().expect("an address");
            IpAddr::V6(Ipv6Addr::from_bits(0xffff_0000_0000 | u128::from(v4.to_bits())))
        }
    }
}

impl World<'_> {
    fn helo(&mut self) -> String {
        let helo = match self.random.weighted(&[55, 25, 6, 4, 4, 3, 3]) {
            0 => self.random.pick(&HOSTS),
            1 => self.random.pick(&DOMAINS),
            2 => "[192.0.2.1]",
            3 => "localhost",
            4 => "MX.D1.Example.",
            5 => "b\u{fc}cher.example",
            _ => "mail_host.d0.example",
        };
        helo.to_owned()
    }

    fn mail_from(&mut self) -> String {
        if self.random.chance(10) {
            return String::new();
        }
        let domain = match self.random.weighted(&[62, 24, 6, 2, 2, 2, 1, 1]) {
            0 => "d0.example",
            1 => self.random.pick(&DOMAINS),
            2 => "D0.EXAMPLE",
            3 => "d0.example.",
            4 => "localhost",
            5 => self.random.pick(&HOSTS),
            6 => "b\u{fc}cher.example",
            _ => "a..example",
        };
        let local_part = match self.random.weighted(&[50, 12, 8, 6, 6, 5, 4, 4, 3, 1, 1]) {
            0 => "user",
            1 => "first.last",
            2 => "list-owner+tag",
            3 => "strong-bad",
            4 => "",
            5 => "\"a b\"",
            6 => "a_b=c/d",
            7 => "Postmaster",
            8 => "x!y#z$1",
            9 => "\"a@b\"",
            _ => "us\u{e9}r",
        };
        format!("{local_part}@{domain}")
    }

    fn addresses(&mut self) -> Vec<Value> {
        let count = self.random.between(1, 3);
        let mut records = Vec::new();
        for _ in 0..count {
            if self.random.chance(65) {
                records.push(json!({ "A": self.random.pick(&IPV4) }));
            } else {
                records.push(json!({ "AAAA": self.random.pick(&IPV6) }));
            }
        }
        if self.random.chance(10) {
            records.push(self.client_record());
        }
        records
    }

    /// The record that says that a host has the client's address.
    fn client_record(&self) -> Value {
        match self.ip.to_canonical() {
            IpAddr::V4(ip) => json!({ "A": ip.to_string() }),
            IpAddr::V6(ip) => json!({ "AAAA": ip.to_string() }),
        }
    }

    /// What a name holds instead of records, now and then.
    fn outage(&mut self) -> Option<Value> {
        match self.random.below(100) {
            0..=1 => Some(json!("TIMEOUT")),
            2 => Some(json!("SERVFAIL")),
            3 => Some(json!({ "A": "TIMEOUT" })),
            4 => Some(json!({ "TXT": "SERVFAIL" })),
            5 => Some(json!({ "MX": "TIMEOUT" })),
            6 => Some(json!({ "PTR": "TIMEOUT" })),
            _ => None,
        }
    }

    fn hosts(&mut self) {
        for name in HOSTS.iter().take(5).chain(DOMAINS.iter().take(4)) {
            if self.random.chance(40) {
                continue;
            }
            if let Some(outage) = self.outage() {
                self.records.add(name, outage);
            } else if self.random.chance(5) {
                let target = self.random.pick(&HOSTS);
                if target != *name {
                    self.records.add(name, json!({ "CNAME": target }));
                }
            } else {
                for record in self.addresses() {
                    self.records.add(name, record);
                }
            }
        }
        for name in DOMAINS.iter().chain(&HOSTS[..1]) {
            let is_alias =
                self.records.0.iter().any(|(it, list)| it == name && list.iter().any(|r| !r["CNAME"].is_null()));
            if is_alias || self.random.chance(60) {
                continue;
            }
            if self.random.chance(4) {
                self.records.add(name, json!({ "MX": [0, "."] }));
                continue;
            }
            let count = [1, 2, 3, 9, 10, 11, 12][self.random.weighted(&[50, 30, 10, 2, 3, 3, 2])];
            for index in 0..count {
                let host = if count > 3 && self.random.chance(70) {
                    format!("m{index}.example")
                } else {
                    self.random.pick(&HOSTS).to_owned()
                };
                self.records.add(name, json!({ "MX": [10 * index, host] }));
            }
        }
        for prefix in PREFIXES {
            if self.random.chance(45) {
                let base = self.random.pick(&DOMAINS[..3]);
                for record in self.addresses() {
                    self.records.add(&format!("*.{prefix}.{base}"), record);
                }
            }
        }
    }

    fn pointers(&mut self) {
        if self.random.chance(40) {
            return;
        }
        let name = reverse_name(self.ip);
        if let Some(outage) = self.outage() {
            self.records.add(&name, outage);
            return;
        }
        let count = [1, 2, 3, 10, 11, 12][self.random.weighted(&[60, 20, 8, 4, 4, 4])];
        for index in 0..count {
            let host = if count > 3 && self.random.chance(70) {
                format!("p{index}.d0.example")
            } else if self.random.chance(60) {
                self.random.pick(&HOSTS).to_owned()
            } else {
                self.random.pick(&DOMAINS).to_owned()
            };
            if self.random.chance(50) {
                let address = self.ip.to_canonical().to_string();
                self.records
                    .add(&host, json!({ if self.ip.to_canonical().is_ipv4() { "A" } else { "AAAA" }: address }));
            }
            self.records.add(&name, json!({ "PTR": host }));
        }
    }

    /// A record whose terms come close to one of the limits of RFC 7208 section 4.6.4, at the sender's domain.
    fn domain_near_a_limit(&mut self, mail_from: &str, helo: &str) {
        let domain = mail_from.rsplit_once('@').map_or(helo, |(_, domain)| domain).trim_end_matches('.');
        let mut record = "v=spf1".to_owned();
        match self.random.below(4) {
            0 => {
                for index in 0..self.random.between(8, 12) {
                    let name = format!("lim{index}.example");
                    let mechanism = self.random.pick(&["a:", "mx:", "include:"]);
                    self.records.add(&name, json!({ "A": "203.0.113.9" }));
                    self.records.add(&name, json!({ "MX": [1, &name] }));
                    self.records.add_text(&name, "v=spf1 ip4:203.0.113.9");
                    let _ = write!(record, " {mechanism}{name}");
                }
            }
            1 => {
                for index in 0..self.random.between(1, 4) {
                    let _ = write!(record, " {}void{index}.example", self.random.pick(&["a:", "mx:", "exists:"]));
                }
            }
            2 => {
                let depth = self.random.between(8, 12);
                for index in 0..depth {
                    let text = if index + 1 == depth {
                        "v=spf1 +all".to_owned()
                    } else {
                        let link = self.random.pick(&["include:", "redirect="]);
                        format!("v=spf1 {link}chain{}.example", index + 1)
                    };
                    self.records.add_text(&format!("chain{index}.example"), &text);
                }
                record.push_str(" include:chain0.example");
            }
            _ => {
                let count = self.random.between(9, 12);
                for index in 0..count {
                    let host = format!("mxlim{index}.example");
                    self.records.add("mxlimit.example", json!({ "MX": [index, &host] }));
                    self.records.add(&host, json!({ "A": "203.0.113.9" }));
                }
                record.push_str(" mx:mxlimit.example");
            }
        }
        record.push_str(self.random.pick(&["", " -all", " ?all", " ip4:192.0.0.0/16 -all"]));
        if let Ok(domain) = mailproof_proto::dns::Name::parse(domain) {
            self.domains.extend(DOMAINS.iter().filter(|it| domain.to_string().eq_ignore_ascii_case(it)));
            self.records.add_text(&domain.to_string(), &record);
        }
    }

    fn policies(&mut self) {
        for (index, domain) in DOMAINS.iter().enumerate() {
            if self.domains.contains(domain) || self.random.chance(if index == 0 { 4 } else { 30 }) {
                continue;
            }
            let alias =
                self.records.0.iter().any(|(it, list)| it == domain && list.iter().any(|r| !r["CNAME"].is_null()));
            if alias {
                continue;
            }
            if self.random.chance(12) {
                self.records.add_text(domain, "site-verification=0123456789abcdef");
            }
            let record = self.record();
            self.add_policy(domain, record);
            if self.random.chance(3) {
                let second = self.record();
                self.records.add_text(domain, &second);
            }
        }
        for host in ["h0.example", "mx.d1.example"] {
            if self.random.chance(40) && !self.records.has(host) {
                let record = self.record();
                self.records.add_text(host, &record);
            }
        }
        if self.random.chance(30) {
            let text = self.explanation();
            self.records.add_text("exp.d0.example", &text);
        }
    }

    fn add_policy(&mut self, domain: &str, mut record: String) {
        match self.random.below(100) {
            0 => record = record.replacen("v=spf1", "v=spf10", 1),
            1 => record = record.replacen("v=spf1", "V=SPF1", 1),
            2 => record = record.replacen("v=spf1", " v=spf1", 1),
            3 => record = record.replacen(' ', "  ", 2) + "  ",
            4 => record = record.replacen(' ', "\t", 1),
            5 => record = format!("{record} \u{e9}"),
            6..=12 => {
                let middle = record.len() / 2;
                if record.is_char_boundary(middle) {
                    let (first, second) = record.split_at(middle);
                    self.records.add(domain, json!({ "TXT": [first, second] }));
                    return;
                }
            }
            _ => {}
        }
        self.records.add_text(domain, &record);
    }

    fn record(&mut self) -> String {
        let mut record = "v=spf1".to_owned();
        let count = [0, 1, 2, 3, 4, 5, 8][self.random.weighted(&[4, 22, 26, 22, 14, 8, 4])];
        for _ in 0..count {
            record.push(' ');
            let term = self.term();
            record.push_str(&term);
        }
        match self.random.weighted(&[62, 12, 26]) {
            0 => {
                let _ = write!(record, " {}all", self.random.pick(&["-", "~", "?", "", "+"]));
                if self.random.chance(4) {
                    record.push_str(" ip4:192.0.2.0/24");
                }
            }
            1 => {
                let target = self.domain_spec();
                let _ = write!(record, " redirect={target}");
            }
            _ => {}
        }
        if self.random.chance(12) {
            let target = if self.random.chance(70) { "exp.d0.example".to_owned() } else { self.domain_spec() };
            let _ = write!(record, " exp={target}");
        }
        if self.random.chance(5) {
            let modifier =
                self.random.pick(&["x-note=hello", "ra=postmaster", "rp=50", "foo=%{l}", "op=auth", "a-b.c_d=%{i}/%%"]);
            let _ = write!(record, " {modifier}");
        }
        if self.random.chance(6) {
            record.push(' ');
            record.push_str(self.random.pick(MALFORMED_TERMS));
        }
        record
    }

    fn term(&mut self) -> String {
        let qualifier = QUALIFIERS[self.random.weighted(&QUALIFIER_WEIGHTS)];
        let body = match self.random.weighted(&[20, 9, 18, 12, 20, 9, 4, 2]) {
            0 => {
                let prefix = self.random.pick(&["", "", "/32", "/24", "/16", "/0", "/31", "/8"]);
                format!("ip4:{}{prefix}", self.random.pick(&IPV4))
            }
            1 => {
                let prefix = self.random.pick(&["", "", "/128", "/64", "/32", "/0", "/127"]);
                format!("ip6:{}{prefix}", self.random.pick(&IPV6))
            }
            2 => self.with_cidr("a"),
            3 => self.with_cidr("mx"),
            4 => {
                let target = if self.random.chance(85) { self.domain_name() } else { self.domain_spec() };
                format!("include:{target}")
            }
            5 => format!("exists:{}", self.domain_spec()),
            6 if self.random.chance(50) => "ptr".to_owned(),
            6 => format!("ptr:{}", self.domain_spec()),
            _ => "all".to_owned(),
        };
        let body = if self.random.chance(3) { body.to_uppercase() } else { body };
        format!("{qualifier}{body}")
    }

    fn with_cidr(&mut self, mechanism: &str) -> String {
        let target = if self.random.chance(40) { String::new() } else { format!(":{}", self.domain_spec()) };
        let cidr = if self.random.chance(70) {
            ""
        } else {
            self.random.pick(&["/24", "/16", "/32", "//64", "//128", "/24//64", "/0", "//0", "/31//127"])
        };
        format!("{mechanism}{target}{cidr}")
    }

    fn domain_name(&mut self) -> String {
        let name = if self.random.chance(60) { self.random.pick(&DOMAINS) } else { self.random.pick(&HOSTS) };
        match self.random.below(20) {
            0 => format!("{name}."),
            1 => name.to_uppercase(),
            _ => name.to_owned(),
        }
    }

    fn domain_spec(&mut self) -> String {
        if self.random.chance(60) {
            return self.domain_name();
        }
        if self.random.chance(4) {
            return self.random.pick(ODD_DOMAINS).to_owned();
        }
        let base = self.random.pick(&DOMAINS[..3]);
        let prefix = self.random.pick(&PREFIXES);
        match self.random.weighted(&[50, 10, 10, 30]) {
            0 => {
                let letters = self.macro_term();
                format!("{letters}.{prefix}.{base}")
            }
            1 => format!("%{{ir}}.%{{v}}._spf.{base}"),
            2 => self.random.pick(&["%{d}", "%{o}", "%{h}", "%{d2}", "x.%{d}", "%{o2}", "mail.%{o}"]).to_owned(),
            _ => {
                let (one, two) = (self.macro_term(), self.macro_term());
                format!("{one}{}{two}.{prefix}.{base}", self.random.pick(&[".", "-", "%%", "._."]))
            }
        }
    }

    fn macro_term(&mut self) -> String {
        let letter = ["l", "s", "o", "d", "i", "v", "h", "p", "L", "S", "H"]
            [self.random.weighted(&[20, 14, 14, 14, 20, 6, 8, 3, 3, 3, 1])];
        let digits = ["", "1", "2", "3", "12", "127"][self.random.weighted(&[60, 14, 12, 8, 4, 2])];
        let reverse = if self.random.chance(30) { "r" } else { "" };
        let delimiters = ["", "-", "+", ".-", "_", "=/", "+,-"][self.random.weighted(&[70, 12, 6, 4, 4, 2, 2])];
        format!("%{{{letter}{digits}{reverse}{delimiters}}}")
    }

    fn explanation(&mut self) -> String {
        self.random
            .pick(&[
                "%{i} is not one of %{d}'s designated mail servers",
                "See http://%{d}/why.html?s=%{S}&i=%{C}&r=%{R}",
                "%(bad)",
                "100%% no",
                "not ascii: \u{e9}",
                "at %{t}",
            ])
            .to_owned()
    }
}

/// Terms that break the grammar, or come close to it.
const MALFORMED_TERMS: &[&str] = &[
    "ip4:192.0.2.256",
    "ip4:192.0.2",
    "ip4:192.0.2.1/33",
    "ip4:192.0.2.1/024",
    "ip4:192.0.2.1//64",
    "ip4:",
    "ip4",
    "ip6:2001:db8:::1",
    "ip6:2001:db8::1/129",
    "ip6:192.0.2.1",
    "ip6:::ffff:192.0.2.1/96",
    "a:",
    "a/33",
    "a//129",
    "a/",
    "a//",
    "a:d0.example/24/64",
    "a:d0.example:8025",
    "a=d0.example",
    "mx:",
    "mx/-1",
    "include",
    "include:",
    "include=d1.example",
    "include:d1.example/24",
    "exists",
    "exists:d1.example/8",
    "ptr:",
    "ptr/24",
    "all:d1.example",
    "all/8",
    "all.",
    "-",
    "--all",
    "redirect=",
    "redirect:d1.example",
    "redirect=d1.example redirect=d2.example",
    "exp=",
    "exp=exp.d0.example exp=exp.d0.example",
    "foo",
    "foo:bar",
    "foo=%",
    "foo=%{x}",
    "=foo",
    "1x=foo",
    "exists:%{d0}.example",
    "exists:%{q}.example",
    "exists:%{c}.d0.example",
    "exists:%{d.example",
    "exists:%(d).example",
    "exists:%{dr-x}.example",
    "a:%%.%-.%_.d0.example",
    "v=spf1",
    "a,mx",
    "ptr.",
];

/// Names that no one can ask for, or that only look odd.
const ODD_DOMAINS: &[&str] = &[
    "example",
    "d0..example",
    ".d0.example",
    "d0.example..",
    "d0.123",
    "d0.-example",
    "d0.example-",
    "d0.e-x",
    "d_0.example",
    "aaaaaaaaaabbbbbbbbbbccccccccccddddddddddeeeeeeeeeeffffffffffgggg.example",
    "a!b.example",
    "d0.example,",
    "%{d}.%{d}.%{d}.%{d}.%{d}.%{d}.%{d}.%{d}.%{d}.%{d}.%{d}.%{d}.%{d}.%{d}.%{d}.%{d}.%{d}.%{d}.%{d}.%{d}.%{d}.%{d}.%{d}.%{d}.d0.example",
    "%{l}",
    "%{i}",
    "d0.%{v}",
    "%{s}",
    "%{h}",
];

/// The name under which the host names of an address stand.
#[must_use]
pub fn reverse_name(ip: IpAddr) -> String {
    match ip.to_canonical() {
        IpAddr::V4(ip) => {
            let [a, b, c, d] = ip.octets();
            format!("{d}.{c}.{b}.{a}.in-addr.arpa")
        }
        IpAddr::V6(ip) => {
            let mut name = String::new();
            for octet in ip.octets().iter().rev() {
                let _ = write!(name, "{:x}.{:x}.", octet & 15, octet >> 4);
            }
            name + "ip6.arpa"
        }
    }
}

impl SpfCase {
    /// Smaller cases, for shrinking a disagreement.
    #[must_use]
    pub fn smaller(&self) -> Vec<Self> {
        let mut all: Vec<Self> =
            self.records.smaller().into_iter().map(|records| Self { records, ..self.clone() }).collect();
        let with = |helo: &str, mail_from: &str| Self {
            helo: helo.to_owned(),
            mail_from: mail_from.to_owned(),
            ..self.clone()
        };
        let domain = self.mail_from.rsplit_once('@').map_or("", |(_, domain)| domain);
        for smaller in [with("h9.example", &self.mail_from), with(&self.helo, &format!("user@{domain}"))] {
            if smaller != *self && (!self.mail_from.is_empty()) {
                all.push(smaller);
            }
        }
        all
    }
}
