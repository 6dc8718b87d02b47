//! The thirteen rules of the design, each as stories that somebody could tell, and what holds for held statements.
#![expect(clippy::unwrap_used, reason = "tests may fail loudly")]

mod held_statements;
mod rule_01_access;
mod rule_02_separation;
mod rule_03_steps;
mod rule_04_approvers;
mod rule_05_clock;
mod rule_06_bypass;
mod rule_07_total;
mod rule_08_counted;
mod rule_09_closing;
mod rule_10_reviews;
mod rule_11_changes;
mod rule_12_same_machines;
mod rule_13_need_to_know;
mod size;
