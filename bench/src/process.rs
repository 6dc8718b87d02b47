//! What the kernel says of a process: processor time and memory.

use std::fs;

use anyhow::{Context as _, Result};

/// Clock ticks a second in `/proc/PID/stat`: 100 on every Linux that this runs on (`getconf CLK_TCK`).
const TICKS: f64 = 100.0;

/// Seconds of processor time of the process itself, all its threads.
pub fn seconds(pid: u32) -> Result<f64> {
    Ok((field(pid, 14)? + field(pid, 15)?) / TICKS)
}

/// Seconds of processor time of its children that have ended, and theirs.
pub fn seconds_of_children(pid: u32) -> Result<f64> {
    Ok((field(pid, 16)? + field(pid, 17)?) / TICKS)
}

/// Fields are counted from 1, as proc(5) does; the name in brackets may hold spaces.
fn field(pid: u32, number: usize) -> Result<f64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let (_, rest) = stat.rsplit_once(')').context("a stat without a name")?;
    let word = rest.split_whitespace().nth(number - 3).context("a short stat")?;
    Ok(word.parse()?)
}

/// KiB of memory that is resident.
pub fn resident_kib(pid: u32) -> Result<f64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no resident size")?;
    Ok(line.trim().trim_end_matches("kB").trim().parse()?)
}
