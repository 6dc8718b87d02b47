//! Everything that must hold before a change is taken: what CI runs, and nothing that CI alone can run.

use anyhow::Result;

use crate::demo;
use crate::run::{Steps, cargo, run, works};
use crate::setup;

/// Goes on after a failure, so that one run shows all that is wrong, and fails at the end.
pub fn test() -> Result<()> {
    let mut steps = Steps::default();
    steps.step("set-up", setup::setup);
    steps.step("format", || run(&mut cargo(&["fmt", "--all", "--check"])));
    steps.step("lints", || {
        run(&mut cargo(&["clippy", "--locked", "--workspace", "--all-targets", "--", "-D", "warnings"]))
    });
    if works(&mut cargo(&["deny", "--version"])) {
        steps.step("dependencies", || {
            run(&mut cargo(&["deny", "--locked", "check", "bans", "licenses", "sources"]))
        });
    } else {
        steps.skip("dependencies", "cargo-deny is not installed (`cargo install cargo-deny --locked`)");
    }
    // End-to-end tests start the programs themselves: build them first, or they would find none, or old ones.
    // The whole workspace, as the tests build it: a part would resolve features anew and compile twice.
    if steps.step("programs", || run(&mut cargo(&["build", "--locked", "--workspace", "--bins"]))) {
        steps.step("tests", tests);
        // The whole story with the stock tools: both layouts on the embedded store, then on PostgreSQL.
        steps.step("one emergency", || demo::play(&["--check"]));
        steps.step("one emergency on PostgreSQL", || {
            demo::play(&["--check", "--layout", "one", "--store", "postgres"])
        });
        // `kill -9` of any role at any moment. The same blows every time, so that a failure is the change's own;
        // `cargo xtask demo --crash-sweep` draws new ones.
        steps.step("crash sweep", || demo::play(&["--crash-sweep", "--seed", "304693095"]));
        steps.step("documentation tests", || run(&mut cargo(&["test", "--locked", "--workspace", "--doc"])));
    } else {
        steps.skip("tests", "the programs do not build");
    }
    steps.finish()
}

fn tests() -> Result<()> {
    if works(&mut cargo(&["nextest", "--version"])) {
        return run(&mut cargo(&["nextest", "run", "--locked", "--workspace"]));
    }
    println!("cargo-nextest is not installed; `cargo test` does it, more slowly");
    run(&mut cargo(&["test", "--locked", "--workspace", "--lib", "--bins", "--tests"]))
}
