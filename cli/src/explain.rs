//! `mailproof explain`: one message, every question, hash and decision, and why it ended so.

use std::io::Write as _;

use mailproof_explain::page;

use crate::arguments::ExplainArguments;
use crate::failure::Failure;
use crate::input;
use crate::judge;
use crate::verify::given;

/// Runs the subcommand.
///
/// # Errors
/// What ends the run.
pub(crate) fn run(arguments: &ExplainArguments) -> Result<(), Failure> {
    let engine = judge::engine(&arguments.dns, judge::options(&arguments.judge), arguments.judge.now, 1)?;
    let message = input::one(&arguments.file, arguments.number)?;
    let envelope = given(&arguments.envelope).envelope(&message, arguments.envelope.from_trace);
    write!(anstream::stdout(), "{}", page(&engine, &message, &envelope, arguments.full)).map_err(Failure::Output)?;
    judge::end(&engine)
}
