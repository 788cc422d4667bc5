//! Drives an evaluation to its end over a zone, in several orders of answers.

use mailproof::zone::Zone;
use mailproof_proto::dns::{Answers, NoSource, Question, Transcript};

/// How the answers reach the evaluation; the outcome must be the same in each.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Order {
    /// Every answer is at hand when it is asked for.
    AtHand,
    /// One answer at a time, the oldest question first.
    OldestFirst,
    /// One answer at a time, the newest question first.
    NewestFirst,
}

/// Every order.
pub const ORDERS: [Order; 3] = [Order::AtHand, Order::OldestFirst, Order::NewestFirst];

/// Runs `evaluate` until it has an outcome; gives the questions it asked beside it.
///
/// # Panics
/// When the evaluation waits without having asked a question: a defect of the evaluation.
pub fn drive<T>(zone: &Zone, order: Order, mut evaluate: impl FnMut(&mut Answers<'_>) -> Option<T>) -> (T, Transcript) {
    let mut transcript = Transcript::new();
    if order == Order::AtHand {
        let mut source = zone;
        let outcome = evaluate(&mut Answers::new(&mut transcript, &mut source));
        return (outcome.expect("every answer was at hand"), transcript);
    }
    let mut open: Vec<Question> = Vec::new();
    loop {
        let mut source = NoSource;
        if let Some(outcome) = evaluate(&mut Answers::new(&mut transcript, &mut source)) {
            return (outcome, transcript);
        }
        while let Some(question) = transcript.next_question() {
            open.push(question);
        }
        let question = if order == Order::OldestFirst && !open.is_empty() { Some(open.remove(0)) } else { open.pop() };
        let question = question.expect("an evaluation that waits has asked");
        transcript.learn(&question, zone.lookup(&question));
    }
}
