//! Every scenario of the project, in every order of answers and every cut of the message.

use mailproof_testkit::scenario;

#[test]
fn scenarios_end_as_expected() {
    let scenarios = scenario::load_all(&scenario::directory()).unwrap();
    assert!(!scenarios.is_empty(), "no scenario found");
    let failures: Vec<String> =
        scenarios.iter().filter_map(|it| it.run().err().map(|error| format!("{}: {error}", it.name))).collect();
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    println!("{} scenarios ran", scenarios.len());
}
