//! What stands behind the outcome of a signature, for people: its tags, the octets its hashes are made of, and the
//! hashes. Nothing here decides anything.

use aws_lc_rs::digest::{SHA256, digest};

use super::canonical::{FieldsByName, write_field};
use super::signature::{Form, Signature, signed_names};
use super::verify::{B_START_CHARACTERS, text};
use super::{BodyHashes, Canonicalization, base64};
use crate::dns::Question;
use crate::message::{Field, FieldKind, Headers};
use crate::tag_list::TagList;

/// One DKIM-Signature or ARC-Message-Signature field, taken apart.
#[derive(Clone, Debug)]
pub struct Explanation {
    /// Position of the field from the top of the header.
    pub position: usize,
    /// The tags as written, white space at folds reduced; empty when the field is no tag list.
    pub tags: Vec<(String, String)>,
    /// The first characters of `b=`, as in [`super::SignatureOutcome::b`].
    pub b: String,
    /// Form of the header.
    pub header_form: Canonicalization,
    /// Form of the body.
    pub body_form: Canonicalization,
    /// Where the key is; `None` when selector or domain can not be read.
    pub question: Option<Question>,
    /// The names of `h=`, each with how many fields of that name there were left to take.
    pub signed: Vec<SignedName>,
    /// The octets that are signed: the canonical fields and the signature itself without the value of its `b=`.
    pub header: Vec<u8>,
    /// SHA-256 of these octets, in base64.
    pub header_hash: String,
    /// `bh=` without white space.
    pub body_hash_signed: String,
    /// What the body has, in base64; `None` when `l=` counts more octets than there are.
    pub body_hash_found: Option<String>,
    /// Octets of the canonical body that are hashed, and their total number.
    pub body_octets: (u64, u64),
}

/// One name of `h=`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SignedName {
    /// As written.
    pub name: String,
    /// Whether an instance was left to sign; if not, the name keeps others from being added (RFC 6376 section 5.4).
    pub found: bool,
}

/// Takes every signature field of one kind apart, from top to bottom. `body` is the whole body with CRLF line ends.
#[must_use]
pub fn explain(headers: Headers<'_>, kind: FieldKind, body: &[u8]) -> Vec<Explanation> {
    let form = if kind == FieldKind::DkimSignature { Form::Dkim } else { Form::ArcMessage };
    let mut octets = Vec::new();
    let fields: Vec<(Field<'_>, Signature)> =
        headers.of_kind(kind).map(|field| (field, Signature::read(&field, form, &mut octets))).collect();
    let mut bodies = BodyHashes::new();
    for (_, signature) in &fields {
        bodies.want(signature.body_form, signature.length);
    }
    bodies.update(body);
    bodies.finish();
    fields.iter().map(|(field, signature)| explain_one(headers, field, signature, &bodies)).collect()
}

fn explain_one(headers: Headers<'_>, field: &Field<'_>, signature: &Signature, bodies: &BodyHashes) -> Explanation {
    let tags = TagList::parse(field.value)
        .map_or_else(|_| Vec::new(), |tags| tags.iter().map(|tag| (tag.name.to_owned(), reduced(tag.value))).collect());
    let tag = |name: &str| tags.iter().find(|(it, _)| it == name).map_or("", |(_, value)| value.as_str());
    let body_hash_signed = tag("bh").split(' ').collect();
    let mut by_name = FieldsByName::default();
    by_name.index(headers);
    let (mut signed, mut header) = (Vec::new(), Vec::new());
    for name in signed_names(text(field, &signature.places.names)).filter(|name| !name.is_empty()) {
        let found = by_name.next(headers, name.as_bytes(), signature.position);
        signed.push(SignedName { name: name.to_owned(), found: found.is_some() });
        if let Some(found) = found {
            write_field(&mut header, signature.header_form, &found, found.value.len()..found.value.len());
            header.extend_from_slice(b"\r\n");
        }
    }
    write_field(&mut header, signature.header_form, field, signature.places.b_slot.clone());
    let hash = bodies.hash(signature.body_form, signature.length);
    Explanation {
        position: signature.position,
        b: text(field, &signature.places.b)
            .chars()
            .filter(|character| !character.is_ascii_whitespace())
            .take(B_START_CHARACTERS)
            .collect(),
        header_form: signature.header_form,
        body_form: signature.body_form,
        question: signature.question.clone(),
        signed,
        header_hash: base64::encode(digest(&SHA256, &header).as_ref()),
        header,
        body_hash_signed,
        body_hash_found: hash.as_ref().and_then(|hash| hash.digest).map(base64::encode),
        body_octets: hash.map_or((0, 0), |hash| (hash.covered_bytes, hash.total_bytes)),
        tags,
    }
}

/// A value on one line: runs of white space become one space.
fn reduced(value: &str) -> String {
    value.split_ascii_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::HeaderIndex;

    #[test]
    fn a_signature_taken_apart() {
        let block = b"DKIM-Signature: v=1; a=rsa-sha256; c=relaxed/simple; d=a.example; s=s1;\r\n\
            \th=From:To:From; bh=frcCV1k9oG9oKj3dpU\r\n qdJg1PxRT2RSN/XKdLCPjaYaY=; b=QUJD\r\n REVGR0hJSktM\r\n\
            From:  x@a.example\r\n";
        let mut index = HeaderIndex::new();
        let found = explain(index.scan(block), FieldKind::DkimSignature, b"").remove(0);
        assert_eq!(found.b, "QUJDREVG");
        assert_eq!(found.body_hash_signed, "frcCV1k9oG9oKj3dpUqdJg1PxRT2RSN/XKdLCPjaYaY=");
        assert_eq!(found.body_hash_found.as_deref(), Some(found.body_hash_signed.as_str()));
        assert_eq!(found.signed.iter().map(|it| it.found).collect::<Vec<_>>(), [true, false, false]);
        let header = String::from_utf8(found.header).unwrap();
        assert_eq!(
            header,
            "from:x@a.example\r\ndkim-signature:v=1; a=rsa-sha256; c=relaxed/simple; d=a.example; s=s1; \
             h=From:To:From; bh=frcCV1k9oG9oKj3dpU qdJg1PxRT2RSN/XKdLCPjaYaY=; b="
        );
        assert_eq!(found.question.unwrap().to_string(), "s1._domainkey.a.example TXT");
    }

    #[test]
    fn what_is_no_signature_has_no_tags() {
        let mut index = HeaderIndex::new();
        let found = explain(index.scan(b"DKIM-Signature: hello; hello\r\n"), FieldKind::DkimSignature, b"x");
        assert_eq!((found[0].tags.len(), found[0].question.is_none()), (0, true));
    }
}
