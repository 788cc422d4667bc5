//! `mailproof-loadtest`: see `--help`.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use clap::Parser;
use clap::error::ErrorKind;
use mailproof_loadtest::arguments::Arguments;
use mailproof_loadtest::command;

fn main() -> ExitCode {
    match Arguments::try_parse() {
        Ok(arguments) => command::run(arguments),
        Err(error) => {
            let is_help = matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
            // Nobody reads it where it can not be written.
            let _ = error.print();
            if is_help { ExitCode::SUCCESS } else { ExitCode::from(64) }
        }
    }
}
