//! `halligan tasks`: everything that waits for the person.

use anyhow::Context as _;
use halligan_client::types::Tasks;

use super::desk::Desk;
use super::statements;
use super::views::{BOLT, request_table, review_table};
use crate::output::{Look, printable};

/// Carries it out.
pub async fn run(desk: &Desk) -> anyhow::Result<()> {
    let tasks = desk.client()?.tasks().await.context("failed to ask what waits for you")?;
    desk.print(&tasks, |look| page(look, &tasks))
}

/// All tasks, by kind.
pub fn page(look: &Look, tasks: &Tasks) -> String {
    let mut parts = Vec::new();
    if !tasks.decisions.is_empty() {
        parts
            .push(format!("To decide (halligan approve | deny):\n{}", request_table(look, &tasks.decisions)));
    }
    if !tasks.statements.is_empty() {
        let statements = statements::page(look, &tasks.statements);
        parts.push(format!("Statements that wait (halligan statements allow | deny):\n{statements}"));
    }
    if !tasks.reviews.is_empty() {
        parts.push(format!("To review (halligan review judge):\n{}", review_table(look, &tasks.reviews)));
    }
    if !tasks.changes.is_empty() {
        let mut table = look.table(&["incident", "change", "what", "session"]);
        for task in &tasks.changes {
            table.add_row([
                format!("{BOLT} INC-{}", task.number),
                task.index.to_string(),
                printable(&task.change.what),
                task.change.session.to_string(),
            ]);
        }
        parts.push(format!("Changes to judge (halligan incident judge-change):\n{}", table.trim_fmt()));
    }
    if !tasks.actions.is_empty() {
        let mut table = look.table(&["review", "action", "what", "due"]);
        for task in &tasks.actions {
            table.add_row([
                task.review.to_string(),
                task.index.to_string(),
                printable(&task.action.what),
                look.when(task.action.due_at),
            ]);
        }
        parts.push(format!("Actions to do (halligan review action --done):\n{}", table.trim_fmt()));
    }
    if parts.is_empty() { "Nothing waits for you.".to_owned() } else { parts.join("\n\n") }
}
