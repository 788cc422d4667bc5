//! Keys, tables and signatures, verified by the engine.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use mailproof::zone::Zone;
use mailproof::{Engine, Envelope};
use mailproof_milter::signing::{
    KeyFileError, KeyKind, PublishedKey, Signer, SigningError, SigningSettings, check_published, generate,
    key_question, read_key_file, zone_line,
};
use mailproof_proto::dkim::{BodyHashes, SigningKey};
use mailproof_proto::dns::Name;
use mailproof_proto::message::HeaderIndex;
use mailproof_proto::time::Timestamp;

const NOW: Timestamp = Timestamp::from_seconds(1_795_392_000);

/// A folder of one test, removed at its end.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("mailproof-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn write(&self, name: &str, text: &str, mode: u32) -> PathBuf {
        let path = self.0.join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        path
    }

    fn keys(&self) -> (PathBuf, PathBuf) {
        let ed25519 = generate(KeyKind::Ed25519).unwrap();
        let rsa = fs::read_to_string(testkit_key("rsa-2048-a.pem")).unwrap();
        (self.write("rsa.pem", &rsa, 0o640), self.write("ed25519.pem", &ed25519.pem, 0o600))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn testkit_key(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../engine/testkit/keys").join(name)
}

fn settings(text: &str) -> SigningSettings {
    toml::from_str(text).unwrap()
}

/// The signing domains for a message by this author; none when it is not signed.
fn signed_by(signer: &Signer, from: &str) -> Vec<String> {
    sign(signer, from).iter().map(|field| tag(field, "d=")).collect()
}

fn sign(signer: &Signer, from: &str) -> Vec<String> {
    let header = format!("From: {from}\r\nSubject: hello\r\n");
    let mut index = HeaderIndex::new();
    let headers = index.scan(header.as_bytes());
    let Some(selection) = signer.select(headers) else { return Vec::new() };
    let mut bodies = BodyHashes::new();
    signer.want_body(&mut bodies);
    bodies.update(b"Hello.\r\n");
    bodies.finish();
    let fields = signer.sign(&selection, headers, &bodies, NOW).unwrap();
    fields.into_iter().map(|(_, field)| field).collect()
}

fn tag(field: &str, name: &str) -> String {
    let field = field.replace("\r\n\t", " ");
    let start = field.find(&format!(" {name}")).unwrap() + name.len() + 1;
    field[start..].split(';').next().unwrap().to_owned()
}

#[test]
fn both_algorithms_side_by_side_verify() {
    let folder = Folder::new("side-by-side");
    let (rsa, ed25519) = folder.keys();
    let signer = Signer::load(&settings(&format!(
        "expire-seconds = 86400\n\
         [[key]]\ndomain = 'example.org'\nselector = 'r1'\nfile = '{}'\n\
         [[key]]\ndomain = 'example.org'\nselector = 'e1'\nfile = '{}'\n",
        rsa.display(),
        ed25519.display()
    )))
    .unwrap();
    let fields = sign(&signer, "Ann <ann@example.org>");
    assert_eq!(fields.iter().map(|field| tag(field, "s=")).collect::<Vec<_>>(), ["r1", "e1"]);
    let zone: String = signer
        .keys()
        .iter()
        .map(|key| {
            let record = key.private.record().unwrap();
            format!("{}._domainkey.example.org: [{{TXT: \"{record}\"}}]\n", key.selector)
        })
        .collect();
    let zone = Zone::from_yaml(&zone).unwrap();
    for key in signer.keys() {
        let question = key_question(key.domain.as_ref().unwrap(), &key.selector).unwrap();
        assert_eq!(check_published(&key.private, &zone.lookup(&question)), PublishedKey::Matches);
        let other = key_question(key.domain.as_ref().unwrap(), "other").unwrap();
        assert_eq!(check_published(&key.private, &zone.lookup(&other)), PublishedKey::Missing);
    }
    let first = key_question(signer.keys()[0].domain.as_ref().unwrap(), "r1").unwrap();
    assert_eq!(check_published(&signer.keys()[1].private, &zone.lookup(&first)), PublishedKey::Differs);
    let engine = Engine::builder().zone(zone).fixed_time(NOW).build().unwrap();
    let message = [fields.concat(), "From: Ann <ann@example.org>\r\nSubject: hello\r\n\r\nHello.\r\n".to_owned()];
    let verdict = engine.verify(message.concat().as_bytes(), Envelope::default());
    let results: Vec<_> = verdict.dkim.iter().map(|it| (it.result.word(), it.expires_at)).collect();
    assert_eq!(results, [("pass", Some(NOW.seconds() + 86400)); 2]);
    // Oversigned: another Subject spoils both.
    let forged = [message[0].clone(), "Subject: other\r\n".to_owned(), message[1].clone()].concat();
    let verdict = engine.verify(forged.as_bytes(), Envelope::default());
    assert!(verdict.dkim.iter().all(|it| it.result.word() == "fail"));
}

#[test]
fn patterns_choose_the_key() {
    let folder = Folder::new("patterns");
    let (_, key) = folder.keys();
    let signer = Signer::load(&settings(&format!(
        "[[key]]\ndomain = 'example.org'\nselector = 's'\nfile = '{0}'\n\
         [[key]]\ndomain = 'news.example.org'\nselector = 's'\nfile = '{0}'\nsenders = ['news@example.org', '*@*.example.org']\n",
        key.display()
    )))
    .unwrap();
    assert_eq!(signed_by(&signer, "ann@example.org"), ["example.org"]);
    assert_eq!(signed_by(&signer, "NEWS@Example.ORG"), ["example.org", "news.example.org"]);
    assert_eq!(signed_by(&signer, "x@a.example.org"), ["news.example.org"]);
    assert!(signed_by(&signer, "ann@example.com").is_empty());
    assert!(signed_by(&signer, "not an address").is_empty());
}

#[test]
fn tables_of_opendkim_are_read() {
    let folder = Folder::new("opendkim");
    let (rsa, ed25519) = folder.keys();
    let key_table = format!(
        "# keys\nmain example.org:s1:{}\n\nsecond\texample.org:e1:{}\nany %:s1:{}\n",
        rsa.display(),
        ed25519.display(),
        ed25519.display()
    );
    let key_table = folder.write("KeyTable", &key_table, 0o644);
    let with = |form: &str, lines: &str, more: &str| {
        let senders = folder.write("SigningTable", lines, 0o644);
        Signer::load(&settings(&format!(
            "opendkim-key-table = '{}'\nopendkim-signing-table = '{form}{}'\n{more}",
            key_table.display(),
            senders.display()
        )))
    };
    let lines = "*@example.org main\n*@example.org second\n*@*.example.com any\n";
    let first_only = with("refile:", lines, "").unwrap();
    assert_eq!(sign(&first_only, "a@example.org").len(), 1);
    assert_eq!(signed_by(&first_only, "a@b.example.com"), ["b.example.com"]);
    let every = with("refile:", lines, "opendkim-multiple-signatures = true").unwrap();
    assert_eq!(sign(&every, "a@example.org").len(), 2);
    let plain = with("file:", "example.org main\n.example.org second\n", "").unwrap();
    assert_eq!(signed_by(&plain, "a@example.org"), ["example.org"]);
    assert_eq!(sign(&plain, "a@x.example.org").len(), 1);
    for (lines, message) in [
        ("a@b.example nobody\n", ":1: `nobody` is not in the key table"),
        ("#\na@b.example\n", ":2: expected a name and a value"),
    ] {
        let error = with("refile:", lines, "").unwrap_err().to_string();
        assert!(error.ends_with(message), "{error}");
    }
    folder.write("KeyTable", "a example.org:s1\n", 0o644);
    assert!(with("", "", "").unwrap_err().to_string().ends_with("KeyTable:1: expected DOMAIN:SELECTOR:FILE"));
    folder.write("KeyTable", "a example.org:s1:/k\na example.org:s1:/k\n", 0o644);
    assert!(with("", "", "").unwrap_err().to_string().ends_with("KeyTable:2: `a` stands here twice"));
    assert!(matches!(Signer::load(&settings("opendkim-key-table = '/x'")), Err(SigningError::OneTable)));
}

/// OpenDKIM's documentation, form by form (opendkim.conf(5), KeyTable and SigningTable; opendkim(8), data sets).
#[test]
fn every_form_of_opendkims_tables_means_what_it_means_there() {
    let folder = Folder::new("opendkim-forms");
    let (rsa, ed25519) = folder.keys();
    let (rsa, ed25519) = (rsa.display(), ed25519.display());
    let at = folder.0.display();
    for domain in ["a.example", "b.example"] {
        fs::create_dir_all(folder.0.join(format!("keys/{domain}"))).unwrap();
        fs::copy(folder.0.join("ed25519.pem"), folder.0.join(format!("keys/{domain}/{domain}.pem"))).unwrap();
    }
    fs::create_dir_all(folder.0.join("keys/empty.example")).unwrap();
    let load = |keys: &str, senders: &str| {
        Signer::load(&settings(&format!("opendkim-key-table = '{keys}'\nopendkim-signing-table = '{senders}'")))
    };
    let keys = |mode: u32, lines: &str| folder.write("keys.table", lines, mode).display().to_string();
    let senders = |lines: &str| folder.write("senders.table", lines, 0o644).display().to_string();
    let selectors = |signer: &Signer, from: &str| -> Vec<String> {
        sign(signer, from).iter().map(|field| tag(field, "s=")).collect()
    };

    // Flat tables are searched by the address, not by the order of their lines.
    let names = ["all", "any", "below", "host", "user-below", "user-any", "user"];
    let table: String = names.iter().map(|name| format!("{name} x.example:{name}:{ed25519}   # {name}\n")).collect();
    let lines = "* all\nann@* user-any\n.example below\n.b.example any\nann@.b.example user-below\nb.example host\n\
                 ann@b.example user\n";
    let signer = load(&keys(0o644, &table), &format!("file:{}", senders(lines))).unwrap();
    for (from, selector) in [
        ("ann@b.example", "user"),
        ("eve@b.example", "host"),
        ("ann@c.b.example", "user-below"),
        ("eve@c.b.example", "any"),
        ("ann@d.example", "below"),
        ("ann@d.test", "user-any"),
        ("eve@d.test", "all"),
    ] {
        assert_eq!(selectors(&signer, from), [selector], "{from}");
    }

    // `%` for the domain of the author: as `d=`, in the path, as the name of the key, in the identity.
    let table = format!("every %:s:{at}/keys/%/%.pem\nb.example b.example:own:{rsa}\n");
    let lines = "*@*.example every:%\n";
    let signer = load(&keys(0o644, &table), &format!("refile:{}", senders(lines))).unwrap();
    for domain in ["a.example", "b.example"] {
        let fields = sign(&signer, &format!("ann@{domain}"));
        assert_eq!(
            (fields.len(), tag(&fields[0], "d="), tag(&fields[0], "i=")),
            (1, domain.into(), format!("@{domain}"))
        );
    }
    assert!(sign(&signer, "ann@empty.example").is_empty() && sign(&signer, "ann@c.example").is_empty());
    let domains: Vec<String> = signer.keys().iter().filter_map(|it| Some(it.record_domain()?.to_string())).collect();
    assert_eq!(domains, ["a.example", "b.example", "b.example"]);
    let by_name = load(&keys(0o644, &table), &senders("* %:list@b.example\n")).unwrap();
    assert_eq!(selectors(&by_name, "ann@B.example"), ["own"]);
    assert_eq!(tag(&sign(&by_name, "ann@b.example")[0], "i="), "list@b.example");
    assert!(sign(&by_name, "ann@a.example").is_empty());

    // An identity of another domain is left out.
    let foreign = load(&keys(0o644, &table), &senders("* b.example:list@a.example\n")).unwrap();
    assert!(!sign(&foreign, "ann@b.example")[0].contains("i=list"));

    // Lists, with and without `csl:`; a key in the table itself.
    let listed = load(&format!("csl:k=x.example:s:{rsa},l=x.example:t:{rsa}"), "a.example=k, *=l").unwrap();
    assert_eq!(
        (selectors(&listed, "ann@a.example"), selectors(&listed, "ann@b.example")),
        (vec!["s".into()], vec!["t".into()])
    );
    let pem = fs::read_to_string(folder.0.join("ed25519.pem")).unwrap();
    let text: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
    let table = format!("k x.example:s:{text}\n");
    assert_eq!(selectors(&load(&keys(0o640, &table), "*=k").unwrap(), "ann@a.example"), ["s"]);

    for (error, message) in [
        (load(&keys(0o644, &table), "*=k"), "mode 644 lets others at the key"),
        (load(&format!("k=x.example:s:{text}"), "*=k"), "csl:1: a key has no place in the configuration"),
        (load("k=x.example:s:/k", "*@b.example=k"), "csl:1: `*@b.example` has a wildcard; name the table as `refile:`"),
        (load("k=x.example:s:/k", "*=k:a;b"), "csl:1: `a;b` is no identity"),
        (load(&format!("k=%:s:{at}/none/%.pem"), "*=k"), "csl:1: No such file"),
    ] {
        let error = error.unwrap_err().to_string();
        assert!(error.contains(message), "{error}");
    }
    for form in ["db:/x", "/x.db", "mdb:/x", "lua:/x", "dsn:mysql://x"] {
        let error = toml::from_str::<SigningSettings>(&format!("opendkim-key-table = '{form}'")).unwrap_err();
        assert!(error.to_string().contains("is a database; write the table to a file"), "{error}");
    }
}

#[test]
fn key_files_are_checked() {
    let folder = Folder::new("key-files");
    let pem = generate(KeyKind::Ed25519).unwrap().pem;
    assert!(read_key_file(&folder.write("safe", &pem, 0o640), true).is_ok());
    for mode in [0o644, 0o660, 0o604] {
        let path = folder.write("open", &pem, mode);
        assert!(matches!(read_key_file(&path, true), Err(KeyFileError::TooOpen { mode: found }) if found == mode));
        assert!(read_key_file(&path, false).is_ok());
    }
    assert!(matches!(read_key_file(&folder.0, true), Err(KeyFileError::NotAFile)));
    let long = folder.write("long", &"x".repeat(64 * 1024 + 1), 0o600);
    assert!(matches!(read_key_file(&long, true), Err(KeyFileError::NotAFile)));
    let other = folder.write("other", "no key", 0o600);
    assert!(matches!(read_key_file(&other, true), Err(KeyFileError::NoKey(_))));
    assert!(matches!(read_key_file(&folder.0.join("none"), true), Err(KeyFileError::Io(_))));
    let without_from = Signer::load(&settings("headers = ['Subject']"));
    assert!(matches!(without_from, Err(SigningError::FromNotSigned)));
}

#[test]
fn new_keys_can_sign_and_be_published() {
    for (kind, prefix) in [(KeyKind::Ed25519, "v=DKIM1; k=ed25519; p="), (KeyKind::Rsa2048, "v=DKIM1; k=rsa; p=")] {
        let key = generate(kind).unwrap();
        assert_eq!(SigningKey::read(key.pem.as_bytes()).unwrap().record().unwrap(), key.record);
        assert!(key.record.starts_with(prefix) && key.pem.lines().all(|line| line.len() <= 64));
        let line = zone_line(&Name::parse_domain("example.org").unwrap(), "s1", &key.record);
        assert!(line.starts_with("s1._domainkey.example.org. IN TXT ( \"v=DKIM1;"));
        let strings: Vec<&str> = line.split('"').skip(1).step_by(2).collect();
        assert_eq!(strings.concat(), key.record);
        assert!(strings.iter().all(|string| string.len() <= 255));
    }
}
