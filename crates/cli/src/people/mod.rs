//! What people type: `halligan request`, `approve`, `ssh`, … Each verb is one call of the API, or a few.
//!
//! A verb never decides: the server does, and says why not. Nothing from the server reaches the terminal unescaped, no
//! secret is taken from arguments or environment. Start reading at `request.rs`; tables and cards are in `views/`.

mod ask;
mod catalog;
mod client_certificate;
mod connect;
mod decide;
mod desk;
mod doctor;
mod enrol;
mod evidence;
pub mod failure;
mod grants;
#[cfg(test)]
mod help;
mod incident;
mod keys;
pub mod ledger;
mod nodes;
mod password;
mod request;
mod review;
mod sessions;
mod show;
mod sign_in;
pub mod ssh;
mod statements;
mod tasks;
mod views;

use std::process::ExitCode;

use clap::Subcommand;

use self::desk::Desk;
use crate::output::Format;

/// A person's verbs.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Signs in, and gets the certificates (SSH, TLS) by which gateways know you.
    Login(sign_in::Login),
    /// Ends this machine's sign-in.
    Logout,
    /// Says who you are to the server.
    Whoami,
    /// Turns an enrolment into your password and authenticator.
    Enrol(enrol::Enrol),
    /// Your SSH public keys.
    #[command(subcommand)]
    Keys(keys::Keys),
    /// Where you are signed in.
    #[command(subcommand, name = "sign-ins")]
    SignIns(sign_in::SignIns),
    /// API tokens for programs. They never approve, ask in emergency, review or release.
    #[command(subcommand)]
    Tokens(keys::Tokens),
    /// Accounts of others, for administrators.
    #[command(subcommand)]
    People(enrol::People),
    /// Asks for access: standard, or ⚡ with --emergency.
    Request(request::Ask),
    /// Says yes to a request, or to a whole batch by one code.
    Approve(decide::Decide),
    /// Says no to a request or a batch.
    Deny(decide::Decide),
    /// Takes your own approval back, as long as the grant is not active.
    TakeBack(decide::One),
    /// Takes your own request back.
    Withdraw(decide::One),
    /// ⚡ Turns a pending request into an emergency, or into a graver one.
    Escalate(decide::Escalate),
    /// ⚡ Goes in without waiting for approval: loud, and reviewed.
    Bypass(decide::Bypass),
    /// Vouches for the severity that somebody else claims.
    AttestSeverity(decide::One),
    /// Everything that waits for you: decisions, held statements, reviews, changes to judge, actions.
    Tasks,
    /// Shows anything by its id, or an incident by its number.
    Show(show::Show),
    /// Requests that you made or may see.
    #[command(subcommand)]
    Requests(request::Requests),
    /// Grants: access in force, or once in force.
    #[command(subcommand)]
    Grants(grants::Grants),
    /// Asks for more time on a grant.
    Extend(grants::Extend),
    /// Ends your own access, because you are done.
    GiveBack(grants::GiveBack),
    /// Ends somebody's access: one grant, or all of a person, a system or an incident.
    Revoke(grants::Revoke),
    /// Says, as one of two, that a grant need not be proved to have ended.
    WaiveProof(grants::WithReason),
    /// Attests, as owner, that a grant's target is gone.
    TargetGone(grants::WithReason),
    /// Keeps a grant beyond the mitigation of its incident.
    Keep(grants::Keep),
    /// Sessions and their recordings.
    #[command(subcommand)]
    Sessions(sessions::Sessions),
    /// Statements in databases that wait for a second person.
    #[command(subcommand)]
    Statements(statements::Statements),
    /// Incidents: what groups one emergency.
    #[command(subcommand)]
    Incident(incident::Verb),
    /// Looking back, blamelessly.
    #[command(subcommand)]
    Review(review::Verb),
    /// What one can get into, and the rules.
    #[command(subcommand)]
    Catalog(catalog::Verb),
    /// One file that proves an incident.
    #[command(subcommand)]
    Evidence(evidence::Evidence),
    /// Checks an evidence bundle, or a ledger's folder, offline.
    Verify(evidence::Verify),
    /// Gateways and connectors.
    #[command(subcommand)]
    Nodes(nodes::Nodes),
    /// Looks at every part of the way from here to a session.
    Doctor(doctor::Doctor),
    /// Opens a session with the stock `ssh`.
    Ssh(ssh::Ssh),
    /// Opens a database with the stock `psql`.
    Psql(connect::Psql),
    /// Keeps a private socket open by which any tool reaches a database without a password.
    Connect(connect::Connect),
    /// Prints the lines for `~/.ssh/config` by which plain `ssh role+system@halligan` works.
    SshConfig,
    /// Makes a password for tools that know neither keys nor certificates: for one login, or for a database's connections.
    Password(password::Password),
}

/// Carries a verb out. What fails is said here, so that it reads alike everywhere.
pub async fn run(verb: Verb, format: Format) -> anyhow::Result<ExitCode> {
    let outcome = match Desk::new(format) {
        Ok(desk) => carry_out(verb, &desk).await,
        Err(error) => Err(error),
    };
    Ok(outcome.unwrap_or_else(|error| {
        failure::print(&error);
        ExitCode::FAILURE
    }))
}

async fn carry_out(verb: Verb, desk: &Desk) -> anyhow::Result<ExitCode> {
    match verb {
        Verb::Login(login) => login.run(desk).await?,
        Verb::Logout => sign_in::log_out(desk).await?,
        Verb::Whoami => sign_in::who_am_i(desk).await?,
        Verb::Enrol(enrol) => enrol.run(desk).await?,
        Verb::Keys(keys) => keys.run(desk).await?,
        Verb::SignIns(sign_ins) => sign_ins.run(desk).await?,
        Verb::Tokens(tokens) => tokens.run(desk).await?,
        Verb::People(people) => people.run(desk).await?,
        Verb::Request(ask) => return ask.run(desk).await,
        Verb::Approve(decide) => decide.approve(desk).await?,
        Verb::Deny(decide) => decide.deny(desk).await?,
        Verb::TakeBack(one) => one.take_back(desk).await?,
        Verb::Withdraw(one) => one.withdraw(desk).await?,
        Verb::Escalate(escalate) => escalate.run(desk).await?,
        Verb::Bypass(bypass) => bypass.run(desk).await?,
        Verb::AttestSeverity(one) => one.attest_severity(desk).await?,
        Verb::Tasks => tasks::run(desk).await?,
        Verb::Show(show) => show.run(desk).await?,
        Verb::Requests(requests) => requests.run(desk).await?,
        Verb::Grants(grants) => grants.run(desk).await?,
        Verb::Extend(extend) => extend.run(desk).await?,
        Verb::GiveBack(give_back) => give_back.run(desk).await?,
        Verb::Revoke(revoke) => return revoke.run(desk).await,
        Verb::WaiveProof(waive) => waive.waive_proof(desk).await?,
        Verb::TargetGone(gone) => gone.target_gone(desk).await?,
        Verb::Keep(keep) => keep.run(desk).await?,
        Verb::Sessions(sessions) => return sessions.run(desk).await,
        Verb::Statements(statements) => statements.run(desk).await?,
        Verb::Incident(verb) => return verb.run(desk).await,
        Verb::Review(verb) => verb.run(desk).await?,
        Verb::Catalog(verb) => return verb.run(desk).await,
        Verb::Evidence(evidence) => evidence.run(desk).await?,
        Verb::Verify(verify) => return verify.run(desk),
        Verb::Nodes(nodes) => nodes.run(desk).await?,
        Verb::Psql(psql) => return psql.run(desk).await,
        Verb::Connect(connect) => connect.run(desk).await?,
        Verb::Doctor(doctor) => return doctor.run(desk).await,
        Verb::Ssh(ssh) => return ssh.run(desk).await,
        Verb::SshConfig => ssh::config(desk).await?,
        Verb::Password(password) => password.run(desk).await?,
    }
    Ok(ExitCode::SUCCESS)
}
