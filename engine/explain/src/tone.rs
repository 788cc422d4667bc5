//! How words are to be taken, in colour where there is a terminal; never said by colour alone.

use anstyle::{AnsiColor, Style};
use mailproof_proto::arc::ArcResult;
use mailproof_proto::dkim::DkimResult;
use mailproof_proto::dmarc::DmarcResult;
use mailproof_proto::spf::SpfResult;
use mailproof_proto::verdict::Action;

/// How a text is to be taken; only ever repeats in colour what its words say.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Tone {
    /// Nothing to remark.
    #[default]
    Plain,
    /// As it should be.
    Good,
    /// Worth a look.
    Doubtful,
    /// Wrong.
    Bad,
    /// Beside the point.
    Quiet,
    /// A heading.
    Strong,
}

impl Tone {
    /// Its style.
    #[must_use]
    pub fn style(self) -> Style {
        match self {
            Self::Plain => Style::new(),
            Self::Good => AnsiColor::Green.on_default(),
            Self::Doubtful => AnsiColor::Yellow.on_default(),
            Self::Bad => AnsiColor::Red.on_default(),
            Self::Quiet => Style::new().dimmed(),
            Self::Strong => Style::new().bold(),
        }
    }

    /// The text in this tone. A stream that is no terminal takes the escapes out again.
    #[must_use]
    pub fn paint(self, text: &str) -> String {
        let style = self.style();
        format!("{style}{text}{style:#}")
    }
}

/// How a result of DKIM is to be taken.
#[must_use]
pub fn dkim_tone(result: DkimResult) -> Tone {
    match result {
        DkimResult::Pass => Tone::Good,
        DkimResult::Fail | DkimResult::PermError => Tone::Bad,
        DkimResult::None => Tone::Quiet,
        DkimResult::Policy | DkimResult::Neutral | DkimResult::TempError => Tone::Doubtful,
    }
}

/// How a result of SPF is to be taken.
#[must_use]
pub fn spf_tone(result: SpfResult) -> Tone {
    match result {
        SpfResult::None => Tone::Quiet,
        SpfResult::Pass => Tone::Good,
        SpfResult::Fail | SpfResult::PermError => Tone::Bad,
        SpfResult::Neutral | SpfResult::SoftFail | SpfResult::TempError => Tone::Doubtful,
    }
}

/// How a result of DMARC is to be taken.
#[must_use]
pub fn dmarc_tone(result: DmarcResult) -> Tone {
    match result {
        DmarcResult::None => Tone::Quiet,
        DmarcResult::Pass => Tone::Good,
        DmarcResult::Fail | DmarcResult::PermError => Tone::Bad,
        DmarcResult::TempError => Tone::Doubtful,
    }
}

/// How a result of ARC is to be taken.
#[must_use]
pub fn arc_tone(result: ArcResult) -> Tone {
    match result {
        ArcResult::None => Tone::Quiet,
        ArcResult::Pass => Tone::Good,
        ArcResult::Fail => Tone::Bad,
    }
}

/// How an action is to be taken.
#[must_use]
pub fn action_tone(action: Action) -> Tone {
    match action {
        Action::Accept => Tone::Plain,
        Action::Quarantine | Action::Defer => Tone::Doubtful,
        Action::Reject => Tone::Bad,
    }
}
