//! The project's own commands: `cargo xtask setup | test | demo | bench | openapi | man`.
//!
//! It starts cargo and programs that cargo has built, and nothing else: it depends on no crate of the
//! product, so that it is ready in a second on a fresh clone. Each step says what it does and how long
//! it took. Start with [`check`], which is what CI runs.

mod check;
mod demo;
mod regress_suite;
mod run;
mod setup;

use std::process::ExitCode;

use anyhow::{Result, bail};

const HELP: &str = "\
cargo xtask COMMAND

  setup                 install what the tests and the demo need (Debian), and say what that is
  test                  everything that CI checks: format, lints, dependencies, tests, documentation
  demo [OPTIONS]        start a whole installation to look at
  demo --check [--layout one|three] [--store sqlite|postgres]
                        play a whole emergency, unattended, and fail at the first step that fails
  demo --crash-sweep [--seed N] [--rounds N] [--only N] [--store sqlite|postgres]
                        play short emergencies while processes are killed, and check that nothing is lost
  bench [core|store|control|verify|ssh|postgres …] [--json] [--quick]
                        measure, with optimisation
  openapi               write docs/openapi.json anew
  man                   write the manual pages to target/man
";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match dispatch(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn dispatch(arguments: &[String]) -> Result<()> {
    let Some((command, rest)) = arguments.split_first() else {
        print!("{HELP}");
        return Ok(());
    };
    match (command.as_str(), rest) {
        ("setup", []) => setup::setup(),
        ("test", []) => check::test(),
        ("demo", rest) => demo::demo(rest),
        ("bench", rest) => demo::bench(rest),
        ("openapi", []) => demo::openapi(),
        ("man", []) => demo::man(),
        ("help" | "--help" | "-h", []) => {
            print!("{HELP}");
            Ok(())
        }
        _ => bail!("there is no command {:?}\n\n{HELP}", arguments.join(" ")),
    }
}
