//! The record of one evaluation's questions: what is known, what is missing.

use super::{Answer, Failure, Question};
use crate::limits::QUESTIONS_MAX;

/// Where answers may be found without waiting: a cache, a zone file.
pub trait AnswerSource {
    /// The answer if it is at hand now.
    fn answer(&mut self, question: &Question) -> Option<Answer>;
}

/// A source that knows nothing: every question goes out to the driver.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoSource;

impl AnswerSource for NoSource {
    fn answer(&mut self, _: &Question) -> Option<Answer> {
        None
    }
}

/// Every question one evaluation asked, with its answer once known. An answer never changes within an evaluation.
#[derive(Clone, Debug, Default)]
pub struct Transcript {
    entries: Vec<Entry>,
}

#[derive(Clone, Debug)]
struct Entry {
    question: Question,
    state: State,
}

#[derive(Clone, Debug)]
enum State {
    /// Wanted; the driver has not been told.
    Wanted,
    /// The driver was told.
    Asked,
    Known(Answer),
}

impl Transcript {
    /// An empty record.
    #[must_use]
    pub const fn new() -> Self {
        Self { entries: Vec::new() }
    }

    /// Notes the answer to a question; the first one counts, and an answer to a question not asked is ignored.
    pub fn learn(&mut self, question: &Question, answer: Answer) {
        let entry = self.entries.iter_mut().find(|entry| entry.question == *question);
        if let Some(entry) = entry
            && !matches!(entry.state, State::Known(_))
        {
            entry.state = State::Known(answer);
        }
    }

    /// The next question the driver has not been told of yet.
    pub fn next_question(&mut self) -> Option<Question> {
        let entry = self.entries.iter_mut().find(|entry| matches!(entry.state, State::Wanted))?;
        entry.state = State::Asked;
        Some(entry.question.clone())
    }

    /// Answers everything still open with `failure`: what a deadline does.
    pub fn fail_open(&mut self, failure: Failure) {
        for entry in &mut self.entries {
            if !matches!(entry.state, State::Known(_)) {
                entry.state = State::Known(Answer::failed(failure));
            }
        }
    }

    /// Every question with its answer, in the order first asked.
    pub fn iter(&self) -> impl Iterator<Item = (&Question, Option<&Answer>)> {
        self.entries.iter().map(|entry| match &entry.state {
            State::Known(answer) => (&entry.question, Some(answer)),
            State::Wanted | State::Asked => (&entry.question, None),
        })
    }

    /// Questions asked so far.
    #[must_use]
    pub fn question_count(&self) -> usize {
        self.entries.len()
    }

    /// True while an answer is missing.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        self.entries.iter().any(|entry| !matches!(entry.state, State::Known(_)))
    }

    /// Forgets everything, keeping its memory for the next evaluation.
    pub fn clear(&mut self) {
        self.entries.clear();
    }
}

/// What an evaluation asks its questions of: the transcript first, then the source, then the driver.
pub struct Answers<'a> {
    transcript: &'a mut Transcript,
    source: &'a mut dyn AnswerSource,
}

impl<'a> Answers<'a> {
    /// A view for one step of an evaluation.
    pub fn new(transcript: &'a mut Transcript, source: &'a mut dyn AnswerSource) -> Self {
        Self { transcript, source }
    }

    /// The answer, or `None` when it has to be waited for; the question is noted then. Over [`QUESTIONS_MAX`]
    /// questions the answer is a failure, so no input can ask without end.
    pub fn ask(&mut self, question: &Question) -> Option<Answer> {
        if let Some(entry) = self.transcript.entries.iter().find(|entry| entry.question == *question) {
            return match &entry.state {
                State::Known(answer) => Some(answer.clone()),
                State::Wanted | State::Asked => None,
            };
        }
        if self.transcript.entries.len() >= QUESTIONS_MAX {
            return Some(Answer::failed(Failure::OverLimit));
        }
        let answer = self.source.answer(question);
        let state = answer.clone().map_or(State::Wanted, State::Known);
        self.transcript.entries.push(Entry { question: question.clone(), state });
        answer
    }
}
