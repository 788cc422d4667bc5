//! Makes a run that goes wrong smaller, as long as it goes wrong in the same way.

use super::plan::{Cuts, Plain, Plan, Trouble};
use super::run::Stage;
use super::{Invariant, Ran, Violation, run};

/// The cuts that leave a run in which the same thing does not hold; those to begin with among them.
#[must_use]
pub fn shrink(stage: &Stage, seed: u64, cuts: &Cuts, invariant: Invariant) -> Cuts {
    let fails = |cuts: &Cuts| {
        let ran = run(stage, seed, cuts, false);
        match invariant {
            // Nothing is wrong with the run, until there is a second one.
            Invariant::SameRun => ran.violation.is_none() && unlike(&ran, &run(stage, seed, cuts, false)).is_some(),
            _ => ran.violation.is_some_and(|violation| violation.invariant == invariant),
        }
    };
    smallest(cuts, &Plan::draw(seed, &Cuts::default()), fails)
}

/// What is wrong with two runs of one seed that are not the same.
pub(super) fn unlike(ran: &Ran, again: &Ran) -> Option<Violation> {
    let detail =
        format!("hash {:016x} after {} turns, then {:016x} after {}", ran.hash, ran.turns, again.hash, again.turns);
    (again != ran).then_some(Violation { invariant: Invariant::SameRun, detail })
}

/// Cuts one thing after the other while the rest still fails, until nothing more can go.
fn smallest(start: &Cuts, plan: &Plan, fails: impl Fn(&Cuts) -> bool) -> Cuts {
    let mut kept = start.clone();
    loop {
        let before = kept.clone();
        for change in changes(plan) {
            let mut smaller = kept.clone();
            change(&mut smaller);
            if smaller != kept && fails(&smaller) {
                kept = smaller;
            }
        }
        if kept == before {
            return kept;
        }
    }
}

type Change = Box<dyn Fn(&mut Cuts)>;

/// Everything that can be left out, the largest first.
fn changes(plan: &Plan) -> Vec<Change> {
    let mut changes: Vec<Change> = vec![Box::new(|cuts| cuts.jobs = true)];
    for connection in &plan.connections {
        let number = connection.number;
        changes.push(Box::new(move |cuts| {
            cuts.connections.insert(number);
        }));
    }
    for trouble in Trouble::ALL.into_iter().filter(|trouble| plan.rate(*trouble) > 0) {
        changes.push(Box::new(move |cuts| {
            cuts.off.insert(trouble);
        }));
    }
    for connection in &plan.connections {
        for message in &connection.messages {
            let place = (connection.number, message.number);
            changes.push(Box::new(move |cuts| {
                cuts.messages.insert(place);
            }));
        }
    }
    changes.push(Box::new(|cuts| cuts.short = true));
    for plain in Plain::ALL {
        let with = Cuts { plain: [plain].into(), ..Cuts::default() };
        if Plan::draw(plan.seed, &with) != *plan {
            changes.push(Box::new(move |cuts| {
                cuts.plain.insert(plain);
            }));
        }
    }
    changes
}

#[cfg(test)]
mod tests {
    use super::super::plan::Limits;
    use super::*;

    #[test]
    fn a_second_run_that_differs_is_a_violation() {
        let ran = run(&Stage::new(), 1, &Cuts::default(), false);
        assert!(unlike(&ran, &ran.clone()).is_none());
        let other = Ran { turns: ran.turns + 1, ..ran.clone() };
        assert_eq!(unlike(&ran, &other).unwrap().invariant, Invariant::SameRun);
    }

    #[test]
    fn what_is_not_needed_goes_and_what_is_stays() {
        let plan = (0..)
            .map(|seed| Plan::draw(seed, &Cuts::default()))
            .find(|plan| plan.connections.len() == 3 && plan.rate(Trouble::Loss) > 0 && plan.rate(Trouble::Delay) > 0);
        let plan = plan.unwrap();
        // It needs the second connection and lost datagrams.
        let fails = |cuts: &Cuts| !cuts.connections.contains(&1) && !cuts.off.contains(&Trouble::Loss);
        let cuts = smallest(&Cuts::default(), &plan, fails);
        assert_eq!(cuts.connections.iter().copied().collect::<Vec<_>>(), [0, 2]);
        assert!(cuts.jobs && cuts.short && !cuts.off.contains(&Trouble::Loss) && cuts.off.contains(&Trouble::Delay));
        assert!(fails(&cuts));
        assert_eq!(Plan::draw(plan.seed, &cuts).limits, Limits::ROOMY);
    }

    #[test]
    fn what_is_plain_already_is_not_named_and_what_a_failure_needs_is_kept() {
        let draw = |seed| Plan::draw(seed, &Cuts::default());
        let is_fit = |plan: &Plan| plan.workers > 1 && plan.servers == 1 && plan.revoked_ms.is_some();
        let plan = (0..).map(draw).find(is_fit).unwrap();
        let cuts = smallest(&Cuts::default(), &plan, |cuts| Plan::draw(plan.seed, cuts).workers > 1);
        assert!(cuts.plain.contains(&Plain::Withdrawal), "{cuts}");
        assert!(!cuts.plain.contains(&Plain::Workers) && !cuts.plain.contains(&Plain::Servers), "{cuts}");
        let words = cuts.to_string();
        let list = words.split(" --plain ").nth(1).unwrap();
        assert!(list.split(',').all(|word| cuts.plain.contains(&word.parse().unwrap())), "{words}");
    }
}
