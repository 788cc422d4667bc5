//! The filters that are compared, each with a configuration that lets it do what it claims and nothing else.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::world::{self, Program, World};
use crate::target::{Address, Claims, Leg};

/// Some programs that together are one row.
pub(crate) struct Stack {
    pub(crate) programs: Vec<Program>,
    pub(crate) legs: Vec<Leg>,
    pub(crate) claims: Claims,
}

/// The name under which results are written, and believed.
const AUTHSERV: &str = "mx.receiver.example";
/// Processes of policyd-spf, of which each serves one connection.
pub(crate) const POLICYD_PROCESSES_MAX: usize = 16;

/// A filter on libmilter that does nothing.
pub(crate) fn null(world: &World) -> io::Result<Stack> {
    let library = world.rival(&format!("{}/libmilter.so", world::library_folder())).display().to_string();
    let program = compiled(world, "null_milter", include_str!("../../null/null_milter.c"), &[&library])?;
    let address = world.socket("null");
    let mut running = world.spawn("null", &program, &[&address.to_string()], &world.places.target)?;
    running.wait_for_milter(&address)?;
    Ok(Stack { programs: vec![running], legs: vec![Leg::Milter(address)], claims: Claims::NONE })
}

/// A C program or library that belongs to the comparison.
fn compiled(world: &World, name: &str, source: &str, more: &[&str]) -> io::Result<PathBuf> {
    let (program, source) = (world.folder.join(name), world.file(&format!("{name}.c"), source)?);
    let mut compiler = Command::new("cc");
    compiler.args(["-O2", "-o"]).arg(&program).arg("-I").arg(world.rival("usr/include")).arg(source).args(more);
    let output = compiler.args(["-ldl", "-lpthread"]).output()?;
    if output.status.success() {
        return Ok(program);
    }
    Err(io::Error::other(format!("cc: {}", String::from_utf8_lossy(&output.stderr))))
}

/// OpenDKIM: DKIM alone.
pub(crate) fn opendkim(world: &World) -> io::Result<Stack> {
    let address = world.socket("opendkim");
    // Debian's has libunbound in it, which asks the root unless told otherwise, and never a server on loopback.
    let resolver = format!(
        "server:\n  do-not-query-localhost: no\nforward-zone:\n  name: \".\"\n  forward-addr: {}\n",
        World::resolver_address().ip()
    );
    let resolver = world.file("opendkim-unbound.conf", &resolver)?;
    let text = format!(
        "Mode v\nSocket {}\nUMask 000\nAuthservID {AUTHSERV}\nSyslog no\nBackground no\nAutoRestart no\n\
         PidFile {}/opendkim.pid\nResolverConfiguration {}\n",
        local(&address),
        world.folder.display(),
        resolver.display(),
    );
    let config = world.file("opendkim.conf", &text)?;
    let program = world.rival("usr/sbin/opendkim");
    let one_reader =
        compiled(world, "one_reader.so", include_str!("../../rivals/one_reader.c"), &["-shared", "-fPIC"])?;
    let preload = format!("LD_PRELOAD={}", one_reader.display());
    let arguments = [&preload, &program.display().to_string(), "-f", "-x", &config.display().to_string()];
    let mut running = world.spawn("opendkim", Path::new("env"), &arguments, &world.places.target)?;
    running.wait_for_milter(&address)?;
    let claims = Claims { dkim: true, ..Claims::NONE };
    Ok(Stack { programs: vec![running], legs: vec![Leg::Milter(address)], claims })
}

/// OpenDKIM, and OpenDMARC behind it, which finds out SPF itself or takes it from a policy server's field.
pub(crate) fn opendmarc(world: &World, checks_spf: bool) -> io::Result<Stack> {
    let mut stack = opendkim(world)?;
    let address = world.socket("opendmarc");
    let spf = if checks_spf { "SPFSelfValidate true\nSPFIgnoreResults true\n" } else { "SPFSelfValidate false\n" };
    let text = format!(
        "Socket {}\nUMask 0000\nAuthservID {AUTHSERV}\nTrustedAuthservIDs {AUTHSERV}\nSyslog false\nBackground false\n\
         AutoRestart false\nRejectFailures false\nHoldQuarantinedMessages false\nIgnoreAuthenticatedClients false\n\
         PidFile {}/opendmarc.pid\nPublicSuffixList {}\n{spf}",
        local(&address),
        world.folder.display(),
        world.rival("usr/share/publicsuffix/public_suffix_list.dat").display(),
    );
    let config = world.file("opendmarc.conf", &text)?;
    let program = world.rival("usr/sbin/opendmarc");
    let mut running =
        world.spawn("opendmarc", &program, &["-f", "-c", &config.display().to_string()], &world.places.target)?;
    running.wait_for_milter(&address)?;
    stack.programs.push(running);
    stack.legs.push(Leg::Milter(address));
    stack.claims = Claims { spf: true, dkim: true, dmarc: true, arc: false };
    Ok(stack)
}

/// policyd-spf, OpenDKIM and OpenDMARC: SPF, DKIM and DMARC as many receivers have them today.
pub(crate) fn policyd_stack(world: &World) -> io::Result<Stack> {
    let config = policyd_config(world)?;
    let address = world.socket("policyd-spf");
    let program = std::env::current_exe()?;
    let (listen, policyd) = (address.to_string(), world.rival("usr/bin/policyd-spf"));
    let arguments = ["spawn", "--listen", &listen, "--", "/usr/bin/python3", &policyd.display().to_string(), &config];
    let mut spawner = world.spawn("policyd-spf", &program, &arguments, &world.places.target)?;
    let Address::Unix(path) = &address else { return Err(io::ErrorKind::InvalidInput.into()) };
    spawner.wait_for(|| path.exists())?;
    let mut stack = opendmarc(world, false)?;
    stack.programs.insert(0, spawner);
    stack.legs.insert(0, Leg::Policy(address));
    Ok(stack)
}

/// The configuration file of policyd-spf: it adds a field, and refuses nothing.
pub(crate) fn policyd_config(world: &World) -> io::Result<String> {
    let text = format!(
        "debugLevel = 0\nTestOnly = 0\nHELO_reject = False\nMail_From_reject = False\nPermError_reject = False\n\
         TempError_Defer = False\nskip_addresses = 127.0.0.0/8\nHeader_Type = AR\nAuthserv_Id = {AUTHSERV}\n"
    );
    Ok(world.file("policyd-spf.conf", &text)?.display().to_string())
}

/// rspamd with the modules spf, dkim, dmarc and arc, and the field that says what they found.
pub(crate) fn rspamd(world: &World) -> io::Result<Stack> {
    let address = world.socket("rspamd");
    let Address::Unix(path) = &address else { return Err(io::ErrorKind::InvalidInput.into()) };
    let (folder, rivals) = (world.folder.display().to_string(), world.rivals.display().to_string());
    fs::create_dir_all(world.folder.join("rspamd"))?;
    // The domains of the stream are below a name that no list of public suffixes has, and which rspamd takes for none then.
    let suffixes = fs::read_to_string(world.rival("usr/share/rspamd/effective_tld_names.dat"))?;
    world.file("rspamd/suffixes.dat", &format!("{suffixes}\nexample\n"))?;
    let text = include_str!("../../rivals/rspamd.conf")
        .replace("{folder}", &folder)
        .replace("{rivals}", &rivals)
        .replace("{socket}", &path.display().to_string())
        .replace("{resolver}", &World::resolver_address().ip().to_string())
        .replace("{authserv}", AUTHSERV);
    let config = world.file("rspamd.conf", &text)?.display().to_string();
    let variables = [
        ("CONFDIR", format!("{rivals}/etc/rspamd")),
        ("LOCAL_CONFDIR", format!("{folder}/rspamd")),
        ("RULESDIR", format!("{rivals}/usr/share/rspamd/rules")),
        ("LUALIBDIR", format!("{rivals}/usr/share/rspamd/lualib")),
        ("PLUGINSDIR", format!("{rivals}/usr/share/rspamd/plugins")),
        ("SHAREDIR", format!("{rivals}/usr/share/rspamd")),
        ("DBDIR", format!("{folder}/rspamd")),
        ("RUNDIR", format!("{folder}/rspamd")),
        ("LOGDIR", format!("{folder}/rspamd")),
    ];
    let variables: Vec<String> = variables.iter().map(|(name, value)| format!("--var={name}={value}")).collect();
    let mut arguments = vec!["-f", "-i", "-c", &config];
    arguments.extend(variables.iter().map(String::as_str));
    let mut running = world.spawn("rspamd", &world.rival("usr/bin/rspamd"), &arguments, &world.places.target)?;
    running.wait_for_milter(&address)?;
    Ok(Stack { programs: vec![running], legs: vec![Leg::Milter(address)], claims: Claims::ALL })
}

/// Our own milter, on one thread.
pub(crate) fn mailproof(world: &World, program: &Path, backend: &str) -> io::Result<Stack> {
    let address = world.socket("mailproof");
    let text = format!(
        "authserv-id = '{AUTHSERV}'\nlisten = ['{address}']\nsocket-mode = '0666'\nthreads = 1\nio-backend = '{backend}'\n\
         resolvers = ['{}']\n",
        World::resolver_address(),
    );
    let config = world.file("mailproof.toml", &text)?;
    let program = program.canonicalize()?;
    let mut running = world.spawn(
        "mailproof",
        &program,
        &["milter", "--config", &config.display().to_string()],
        &world.places.target,
    )?;
    running.wait_for_milter(&address)?;
    Ok(Stack { programs: vec![running], legs: vec![Leg::Milter(address)], claims: Claims::ALL })
}

/// An address as libmilter's programs write it.
fn local(address: &Address) -> String {
    match address {
        Address::Unix(path) => format!("local:{}", path.display()),
        Address::Tcp(address) => format!("inet:{}@{}", address.port(), address.ip()),
    }
}
