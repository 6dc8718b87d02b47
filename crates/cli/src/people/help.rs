//! The help texts as a golden file: what people learn by heart does not change silently.

use clap::{Command, CommandFactory as _, Subcommand as _};

fn tree(command: &mut Command, path: &str, text: &mut String) {
    let path = format!("{path} {}", command.get_name()).trim().to_owned();
    text.push_str(&format!("=== {path}\n{}\n", command.render_long_help()));
    for below in command.get_subcommands_mut().filter(|below| below.get_name() != "help") {
        tree(below, &path, text);
    }
}

fn trimmed(text: &str) -> String {
    text.lines().map(str::trim_end).collect::<Vec<_>>().join("\n")
}

#[test]
fn the_verbs_of_people() {
    let mut command = super::Verb::augment_subcommands(Command::new("halligan")).term_width(100);
    command.build();
    let mut text = String::new();
    tree(&mut command, "", &mut text);
    insta::assert_snapshot!(trimmed(&text));
}

#[test]
fn the_whole_program_can_be_parsed() {
    crate::Cli::command().debug_assert();
}

#[test]
fn arguments_after_the_entitlement_belong_to_ssh() {
    use clap::Parser as _;
    for (typed, wanted) in [
        (vec!["-L", "8080:localhost:80", "uptime", "-v"], vec!["-L", "8080:localhost:80", "uptime", "-v"]),
        (vec!["--", "-o", "LogLevel=DEBUG"], vec!["-o", "LogLevel=DEBUG"]),
    ] {
        let line = [vec!["halligan", "ssh", "orders-host/root"], typed].concat();
        let parsed = format!("{:?}", crate::Cli::parse_from(line));
        assert!(parsed.contains(&format!("arguments: {wanted:?}")), "{parsed}");
    }
}

#[test]
fn an_emergency_names_its_severity_and_scenario() {
    use clap::Parser as _;
    let ask = |more: &[&str]| {
        let line = ["halligan", "request", "a/b", "--reason", "x"].iter().chain(more).copied();
        crate::Cli::try_parse_from(line).is_ok()
    };
    assert!(ask(&[]));
    assert!(ask(&["--emergency", "--severity", "sev1", "--scenario", "db-locked"]));
    assert!(!ask(&["--emergency", "--severity", "sev1"]));
    assert!(!ask(&["--severity", "sev1"]));
    assert!(!ask(&["--for", "1 hour"]));
}

#[test]
fn revoking_names_exactly_one_kind_of_target() {
    use clap::Parser as _;
    let revoke = |more: &[&str]| {
        let line = ["halligan", "revoke", "--reason", "x"].iter().chain(more).copied();
        crate::Cli::try_parse_from(line).is_ok()
    };
    assert!(revoke(&["--person", "anna"]));
    assert!(revoke(&["grt_00000000000000000000000001"]));
    assert!(!revoke(&[]));
    assert!(!revoke(&["--person", "anna", "--system", "orders-host"]));
}
