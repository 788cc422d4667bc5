//! A program for each connection, with the connection as its standard input and output: what Postfix's spawn(8) does for
//! policy servers that are scripts.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::thread;

/// Serves until the process is ended. Connections are served at once, whatever their number: whoever connects keeps to a
/// limit of its own.
///
/// # Errors
/// When the socket can not be had, or is lost.
pub fn serve(socket: &Path, program: &[String]) -> io::Result<()> {
    let listener = UnixListener::bind(socket)?;
    fs::set_permissions(socket, fs::Permissions::from_mode(0o666))?;
    let program: Arc<[String]> = program.into();
    for stream in listener.incoming() {
        let (stream, program) = (stream?, Arc::clone(&program));
        thread::spawn(move || {
            if let Err(error) = run(stream, &program) {
                eprintln!("{}: {error}", program.first().map_or("", String::as_str));
            }
        });
    }
    Ok(())
}

fn run(stream: UnixStream, program: &[String]) -> io::Result<()> {
    let Some((name, arguments)) = program.split_first() else { return Ok(()) };
    let input = OwnedFd::from(stream.try_clone()?);
    let child =
        Command::new(name).args(arguments).stdin(Stdio::from(input)).stdout(Stdio::from(OwnedFd::from(stream))).spawn();
    // It is waited for, so that what it has used is counted.
    child?.wait().map(drop)
}
