//! The program `halligan`: configuration and wiring of the three roles (`server/`), and what people type (`people/`).
//!
//! No rule lives here. Start reading at `server/one.rs` (control, gateway and connector in one process).

mod config;
mod output;
mod people;
mod profile;
mod server;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{CommandFactory as _, Parser, Subcommand};

/// Emergency access: the right person into the right system in minutes, and proof afterwards.
#[derive(Debug, Parser)]
#[command(name = "halligan", version, max_term_width = 100)]
struct Cli {
    /// How answers are printed.
    #[arg(short, long, global = true, value_enum, default_value_t)]
    output: output::Format,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs control, and gateway and connector beside it; or asks a running one.
    Server(server::commands::Server),
    /// Runs a gateway in a process of its own.
    Gateway(server::commands::Role),
    /// Runs a connector in a process of its own, or asks a running one.
    Connector(server::commands::Connector),
    /// Makes this machine a node.
    Node(server::commands::Node),
    /// Looks at the server's configuration.
    Config(server::commands::Config),
    /// Copies the running server's store into a file.
    Backup(server::commands::Backup),
    /// Looks after control's ledger when the server does not start.
    Ledger(server::commands::Ledger),
    /// Prints the description of the API.
    Openapi,
    /// Writes the manual pages into a folder.
    Man {
        /// Where to.
        folder: PathBuf,
    },
    /// Prints the completion script of a shell.
    Completion {
        /// Which.
        shell: clap_complete::Shell,
    },
    /// Says which version this is.
    Version,
    #[command(flatten)]
    People(people::Verb),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    // One provider for all TLS of this program. It can only be set once; here it always is the first time.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: failed to start the program's threads: {error}");
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(run(cli)) {
        Ok(code) => code,
        Err(error) => {
            let text = format!("error: {error:#}");
            for line in text.lines() {
                eprintln!("{}", output::printable(line));
            }
            ExitCode::FAILURE
        }
    }
}

async fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    let format = cli.output;
    match cli.command {
        Command::Server(command) => server::commands::server(command, format).await?,
        Command::Gateway(command) => server::commands::gateway(command).await?,
        Command::Connector(command) => server::commands::connector(command, format).await?,
        Command::Node(command) => server::commands::node(command, format).await?,
        Command::Config(command) => return server::commands::config(command, format),
        Command::Backup(command) => server::commands::backup(command, format).await?,
        Command::Ledger(command) => return server::commands::ledger(command, format).await,
        Command::Openapi => print!("{}", halligan_api::openapi_text()),
        Command::Man { folder } => server::manual::pages(Cli::command(), &folder)?,
        Command::Completion { shell } => {
            clap_complete::generate(shell, &mut Cli::command(), "halligan", &mut std::io::stdout());
        }
        Command::Version => version(format)?,
        Command::People(verb) => return people::run(verb, format).await,
    }
    Ok(ExitCode::SUCCESS)
}

fn version(format: output::Format) -> anyhow::Result<()> {
    let version = env!("CARGO_PKG_VERSION");
    match format {
        output::Format::Table => println!("halligan {version}"),
        output::Format::Json => output::json(&serde_json::json!({ "name": "halligan", "version": version }))?,
    }
    Ok(())
}
