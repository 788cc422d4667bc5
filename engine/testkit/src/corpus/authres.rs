//! The set `authres`: fields of other implementations, read and written again.

use std::path::Path;

use mailproof_proto::authres::{self, AuthenticationResults, Layout, Resinfo, Version, Writer};
use mailproof_proto::message::HeaderIndex;
use mailproof_proto::message::address::{Author, author};
use serde_json::Value;

use super::{CaseOutcome, SetRunner, read_cases, text};

/// The runner for a set of this kind.
#[must_use]
pub fn runner(set: &str) -> Option<SetRunner> {
    (set == "authres").then_some(run as SetRunner)
}

fn run(dir: &Path) -> Result<Vec<CaseOutcome>, String> {
    let outcome = |case: &Value| CaseOutcome::new(text(case, "id"), judge(case).err());
    Ok(read_cases(dir)?.iter().map(outcome).collect())
}

fn judge(case: &Value) -> Result<(), String> {
    let kind = text(case, "kind");
    let keys: &[&str] = match kind {
        "parse" => &["id", "kind", "description", "value", "valid", "lenient", "authserv_id", "results"],
        "format" => &["id", "kind", "description", "value", "valid"],
        "from-domain" => &["id", "kind", "description", "headers", "domain"],
        other => return Err(format!("unknown kind {other}")),
    };
    let object = case.as_object().ok_or("a case that is no mapping")?;
    if let Some(unknown) = object.keys().find(|key| !keys.contains(&key.as_str())) {
        return Err(format!("unknown key {unknown}"));
    }
    if kind == "from-domain" {
        return judge_from_domain(case);
    }
    let value = case.get("value").and_then(Value::as_str).ok_or("no value")?;
    let valid = case.get("valid").and_then(Value::as_bool).ok_or("valid is neither true nor false")?;
    let (payload, read) = read(value);
    // A reader that refuses unknown versions and one that sets them apart say the same.
    let unsupported =
        |found: &AuthenticationResults<'_>| matches!(found.version, Version::Number(number) if number != 1);
    let found = match read {
        Ok(found) if unsupported(&found) && valid => return Err("of a version that nobody knows".to_owned()),
        Ok(found) if !unsupported(&found) && !valid => return Err(format!("read although it is not valid: {found:?}")),
        Err(problem) if valid => return Err(format!("not read: {problem}")),
        Ok(found) if valid => found,
        _ => return Ok(()),
    };
    if kind == "format" {
        return judge_format(payload, &found);
    }
    if let Some(wanted) = case.get("authserv_id").and_then(Value::as_str)
        && found.authserv_id != wanted
    {
        return Err(format!("authserv-id {:?}, not {wanted:?}", found.authserv_id));
    }
    if let Some(wanted) = case.get("results") {
        judge_results(wanted.as_array().ok_or("results is no list")?, &found)?;
    }
    if found.regular { judge_round_trip(&found) } else { Ok(()) }
}

type Read<'a> = Result<AuthenticationResults<'a>, authres::AuthresProblem>;

/// Reads a field body, or a whole field when the text begins with its name; gives the body beside it.
fn read(value: &str) -> (&str, Read<'_>) {
    let (name, body) = value.split_once(':').unwrap_or_default();
    let named = |wanted: &str| name.trim_end().eq_ignore_ascii_case(wanted);
    if named("Authentication-Results") {
        return (body, authres::parse(body.as_bytes()));
    }
    let body = if named("ARC-Authentication-Results") { body } else { value };
    if body != value || authres::arc_instance(value.as_bytes()).is_ok() {
        return (body, authres::parse_arc(body.as_bytes()).map(|(_, payload)| payload));
    }
    (body, authres::parse(body.as_bytes()))
}

/// What another implementation wrote for its own objects, we write alike.
fn judge_format(payload: &str, found: &AuthenticationResults<'_>) -> Result<(), String> {
    let mut written = String::new();
    Writer::write(&mut written, found, Layout::OneLine);
    let same = written == payload.split_whitespace().collect::<Vec<_>>().join(" ");
    same.then_some(()).ok_or_else(|| format!("written as {written:?}"))
}

fn judge_round_trip(found: &AuthenticationResults<'_>) -> Result<(), String> {
    let mut written = String::new();
    Writer::write(&mut written, found, Layout::Folded);
    match authres::parse(written.as_bytes()) {
        Ok(again) if again.results == found.results && again.authserv_id == found.authserv_id => Ok(()),
        other => Err(format!("written as {written:?}, which reads {other:?}")),
    }
}

/// Two forms: `method`, `value`, `fields` for every result in order, or `key`, `value` for some of what must be there.
fn judge_results(wanted: &[Value], found: &AuthenticationResults<'_>) -> Result<(), String> {
    let in_order = wanted.iter().all(|it| it.get("method").is_some());
    if in_order && wanted.len() != found.results.len() {
        return Err(format!("{} results, not {}", found.results.len(), wanted.len()));
    }
    for (position, entry) in wanted.iter().enumerate() {
        let object = entry.as_object().ok_or("a result that is no mapping")?;
        if let Some(unknown) = object.keys().find(|key| !["method", "key", "value", "fields"].contains(&key.as_str())) {
            return Err(format!("unknown key {unknown}"));
        }
        let value = text(entry, "value");
        if !in_order {
            judge_entry(text(entry, "key"), value, found)?;
            continue;
        }
        let resinfo = found.results.get(position).ok_or("a result is missing")?;
        if resinfo.method != text(entry, "method") || resinfo.result != value {
            return Err(format!("result {position} is {}={}", resinfo.method, resinfo.result));
        }
        for (name, value) in entry.get("fields").and_then(Value::as_object).into_iter().flatten() {
            judge_field(name, value, entry, resinfo)?;
        }
    }
    Ok(())
}

/// `spf` stands for a method with its result, `header.i` for a property with its value.
fn judge_entry(key: &str, value: &str, found: &AuthenticationResults<'_>) -> Result<(), String> {
    let there = match key.split_once('.') {
        None => found.results.iter().any(|it| it.method == key && it.result == value),
        Some((ptype, name)) => found
            .results
            .iter()
            .flat_map(|it| &it.properties)
            .any(|it| it.ptype == ptype && it.name == name && it.value == value),
    };
    there.then_some(()).ok_or_else(|| format!("no {key}={value} in {found:?}"))
}

/// One field of the structures of go-msgauth.
fn judge_field(name: &str, value: &Value, entry: &Value, resinfo: &Resinfo<'_>) -> Result<(), String> {
    let header_key = entry.get("fields").map_or("", |fields| text(fields, "HeaderKey"));
    let (ptype, property) = match (name, &*resinfo.method) {
        ("Reason", _) => ("", "reason"),
        ("Domain", _) => ("header", "d"),
        ("Identifier", _) => ("header", "i"),
        ("Auth", _) => ("smtp", "auth"),
        ("From", "spf" | "auth") => ("smtp", "mailfrom"),
        ("From", _) => ("header", "from"),
        ("Helo", _) => ("smtp", "helo"),
        ("Sender", _) => ("header", "sender"),
        ("IP", _) => ("policy", "iprev"),
        ("HeaderKey" | "HeaderValue", _) => ("header", header_key),
        ("Params", _) => {
            let mut parameters = value.as_object().into_iter().flatten();
            return parameters.try_for_each(|(key, value)| {
                let (ptype, property) = key.split_once('.').unwrap_or(("", key));
                same(key, value.as_str().unwrap_or_default(), property_or_reason(resinfo, ptype, property))
            });
        }
        _ => return Err(format!("unknown field {name}")),
    };
    let found = property_or_reason(resinfo, ptype, property);
    match name {
        "HeaderKey" => found.map(drop).ok_or_else(|| format!("no header.{property}")),
        _ => same(name, value.as_str().ok_or("a field that is no text")?, found),
    }
}

fn property_or_reason<'a>(resinfo: &'a Resinfo<'_>, ptype: &str, name: &str) -> Option<&'a str> {
    if ptype.is_empty() && name == "reason" { resinfo.reason.as_deref() } else { resinfo.property(ptype, name) }
}

fn same(name: &str, wanted: &str, found: Option<&str>) -> Result<(), String> {
    (found.unwrap_or_default() == wanted).then_some(()).ok_or_else(|| format!("{name} is {found:?}, not {wanted:?}"))
}

/// The responsible mailbox of RFC 5322 section 3.6.2: the one in From, or Sender where From names several.
fn judge_from_domain(case: &Value) -> Result<(), String> {
    let wanted = case.get("domain").and_then(Value::as_str).ok_or("no domain")?;
    let fields = case.get("headers").and_then(Value::as_array).ok_or("no headers")?;
    let field = |name: &str| {
        let named = fields.iter().find(|it| text(it, "name").eq_ignore_ascii_case(name));
        named.map(|it| text(it, "value"))
    };
    let from = field("From").filter(|from| mailbox_count(from) == 1);
    let responsible = from.or_else(|| field("Sender")).unwrap_or_default();
    let block = format!("From: {}\r\n", responsible.trim_end());
    let mut index = HeaderIndex::new();
    match author(index.scan(block.as_bytes())) {
        Author::One(domain) if domain.to_string() == wanted => Ok(()),
        other => Err(format!("{other:?}, not {wanted}")),
    }
}

/// Mailboxes of an address list: the commas outside comments, quoted strings and angle brackets, plus one.
fn mailbox_count(list: &str) -> usize {
    let (mut count, mut depth, mut quoted, mut escaped) = (1, 0_usize, false, false);
    for character in list.chars() {
        match character {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' if depth == 0 => quoted = !quoted,
            '(' | '<' if !quoted => depth += 1,
            ')' | '>' if !quoted => depth = depth.saturating_sub(1),
            ',' if !quoted && depth == 0 => count += 1,
            _ => {}
        }
    }
    count
}
