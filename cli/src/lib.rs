//! The library behind the command `mailproof`; the program is a thin `main` over it.
#![forbid(unsafe_code)]

mod arguments;
mod batch;
mod explain;
mod failure;
pub mod input;
mod judge;
mod measure;
mod milter;
mod pipeline;
mod report;
mod resolve;
mod second_opinion;
mod sign;
mod spf;
mod table;
mod trace;
mod verify;
mod words;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::Parser;
use clap::error::ErrorKind;

use self::arguments::{Arguments, Command};
use self::failure::Failure;
use self::words::note;

/// EX_USAGE of sysexits.
const EX_USAGE: u8 = 64;

/// Runs the command with these words, the first of them its own name, and says how it ended.
pub fn run(words: impl IntoIterator<Item = OsString>) -> ExitCode {
    let arguments = match Arguments::try_parse_from(words) {
        Ok(arguments) => arguments,
        Err(error) => {
            // Where nobody reads the help there is nothing left to say.
            let _ = error.print();
            let asked_for = matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
            return ExitCode::from(if asked_for { 0 } else { EX_USAGE });
        }
    };
    if let Some(code) = milter::run(&arguments.command) {
        return code;
    }
    match dispatch(&arguments.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            if !failure.is_quiet() {
                note(format_args!("mailproof: {failure}"));
            }
            ExitCode::from(failure.code())
        }
    }
}

fn dispatch(command: &Command) -> Result<(), Failure> {
    match command {
        Command::Verify(arguments) => match &arguments.batch.batch {
            Some(stream) => batch::run(arguments, stream),
            None => verify::run(arguments),
        },
        Command::Explain(arguments) => explain::run(arguments),
        Command::Spf(arguments) => spf::run(arguments),
        Command::Resolve(arguments) => resolve::run(arguments),
        Command::Sign(arguments) => sign::run(arguments),
        // They have run already, with exit codes of their own.
        Command::Milter(_) | Command::CheckConfig(_) | Command::Keygen(_) => Ok(()),
    }
}
